//! This proxy's own node and what it sends to peers.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use prost::Message;
use prost_types::value::Kind;
use prost_types::{Struct, Value};

use crate::host;
use crate::peer::Workload;

/// The fields in use of `envoy.config.core.v3.Node`.
#[derive(Message)]
struct NodeMessage {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "3")]
    metadata: Option<Struct>,
}

pub struct Node {
    pub workload: Workload,
    pub id_header: String,
    /// Base64 of the reduced Struct that Istio's proxies send each other.
    pub metadata_header: String,
}

impl Node {
    pub fn read() -> Node {
        let bytes = host::property(&["xds", "node"]).unwrap_or_default();
        let node = NodeMessage::decode(&*bytes).unwrap_or_default();
        let workload = Workload::from_struct(node.metadata.unwrap_or_default());
        let metadata_header = STANDARD.encode(encode(&workload).encode_to_vec());
        Node { workload, id_header: node.id, metadata_header }
    }
}

fn encode(own: &Workload) -> Struct {
    let mut labels = Struct::default();
    put(&mut labels, "app", own.recommended_app());
    put(&mut labels, "service.istio.io/canonical-name", &own.canonical_name);
    put(&mut labels, "service.istio.io/canonical-revision", &own.canonical_revision);
    put(&mut labels, "version", own.recommended_version());
    let mut fields = Struct::default();
    put(&mut fields, "NAME", &own.name);
    put(&mut fields, "NAMESPACE", &own.namespace);
    put(&mut fields, "WORKLOAD_NAME", &own.workload_name);
    put(&mut fields, "CLUSTER_ID", &own.cluster_id);
    put(&mut fields, "IDENTITY", &own.identity);
    put(&mut fields, "OWNER", &owner_reference(own));
    fields.fields.insert("LABELS".into(), Value { kind: Some(Kind::StructValue(labels)) });
    fields
}

fn put(into: &mut Struct, key: &str, text: &str) {
    if !text.is_empty() {
        into.fields.insert(key.into(), Value { kind: Some(Kind::StringValue(text.into())) });
    }
}

/// OWNER is made again from the workload's type; a type that is not exchanged gives "".
fn owner_reference(own: &Workload) -> String {
    let suffix = format!("s/{}", own.workload_name);
    let owner_type = own.owner.strip_suffix(&suffix).and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    match owner_type {
        "pod" | "deployment" | "job" | "cronjob" => {
            format!("kubernetes://apis/apps/v1/namespaces/{}/{owner_type}{suffix}", own.namespace)
        }
        _ => String::new(),
    }
}
