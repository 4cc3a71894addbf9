//! The other end of a call, as its metadata header tells it. Cached by the peer's id, as Istio does.

use std::rc::Rc;

use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};
use hashbrown::HashMap;
use prost::Message;
use prost_types::value::Kind;
use prost_types::Struct;
use proxy_wasm::types::Bytes;

const MAX_PEERS: usize = 500;
const PEERS_EVICTED: usize = 125;

/// With or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub struct Peer {
    /// Stands for the peer in keys.
    pub serial: u32,
    pub workload: Workload,
    /// For access loggers: the Struct as it came.
    pub state: Vec<u8>,
}

#[derive(Default)]
pub struct Peers {
    by_id: HashMap<Bytes, Rc<Peer>>,
    last_serial: u32,
}

impl Peers {
    /// The peer with that id; without an id, or at first sight, what its metadata says. `None` when that is malformed or absent.
    pub fn resolve(&mut self, id: Option<Bytes>, metadata: impl FnOnce() -> Option<Bytes>) -> Option<Rc<Peer>> {
        if let Some(peer) = id.as_ref().and_then(|id| self.by_id.get(id)) {
            return Some(peer.clone());
        }
        let state = BASE64.decode(metadata()?).ok()?;
        let workload = Workload::from_struct(Struct::decode(&*state).ok()?);
        self.last_serial += 1;
        let peer = Rc::new(Peer { serial: self.last_serial, workload, state });
        if let Some(id) = id {
            if self.by_id.len() >= MAX_PEERS {
                let evicted: Vec<Bytes> = self.by_id.keys().take(PEERS_EVICTED).cloned().collect();
                evicted.iter().for_each(|id| drop(self.by_id.remove(id)));
            }
            self.by_id.insert(id, peer.clone());
        }
        Some(peer)
    }
}

/// The identity that is exchanged and becomes labels; absent text is "".
#[derive(Default)]
pub struct Workload {
    pub name: String,
    pub namespace: String,
    pub workload_name: String,
    pub cluster_id: String,
    pub identity: String,
    pub owner: String,
    pub app: String,
    pub version: String,
    pub app_kubernetes_name: String,
    pub app_kubernetes_version: String,
    pub canonical_name: String,
    pub canonical_revision: String,
}

impl Workload {
    /// Takes what it knows; other keys and kinds of values are left aside.
    pub fn from_struct(message: Struct) -> Workload {
        let mut workload = Workload::default();
        for (key, value) in message.fields {
            match (key.as_str(), value.kind) {
                ("NAME", Some(Kind::StringValue(text))) => workload.name = text,
                ("NAMESPACE", Some(Kind::StringValue(text))) => workload.namespace = text,
                ("WORKLOAD_NAME", Some(Kind::StringValue(text))) => workload.workload_name = text,
                ("CLUSTER_ID", Some(Kind::StringValue(text))) => workload.cluster_id = text,
                ("IDENTITY", Some(Kind::StringValue(text))) => workload.identity = text,
                ("OWNER", Some(Kind::StringValue(text))) => workload.owner = text,
                ("LABELS", Some(Kind::StructValue(labels))) => workload.take_labels(labels),
                _ => {}
            }
        }
        workload
    }

    fn take_labels(&mut self, labels: Struct) {
        for (key, value) in labels.fields {
            let Some(Kind::StringValue(text)) = value.kind else { continue };
            match key.as_str() {
                "app" => self.app = text,
                "version" => self.version = text,
                "app.kubernetes.io/name" => self.app_kubernetes_name = text,
                "app.kubernetes.io/version" => self.app_kubernetes_version = text,
                "service.istio.io/canonical-name" => self.canonical_name = text,
                "service.istio.io/canonical-revision" => self.canonical_revision = text,
                _ => {}
            }
        }
    }

    pub fn recommended_app(&self) -> &str {
        if self.app_kubernetes_name.is_empty() {
            &self.app
        } else {
            &self.app_kubernetes_name
        }
    }

    pub fn recommended_version(&self) -> &str {
        if self.app_kubernetes_version.is_empty() {
            &self.version
        } else {
            &self.app_kubernetes_version
        }
    }
}
