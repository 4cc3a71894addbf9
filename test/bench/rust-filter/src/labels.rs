//! Facts -> Istio's 25 labels. Once for each label set.

use std::borrow::Cow;

use crate::facts::{Facts, Route};
use crate::peer::{Peer, Workload};

const FLAGS: [&str; 30] = [
    "LH", "UH", "UT", "LR", "UR", "UF", "UC", "UO", "NR", "DI", "FI", "RL", "UAEX", "RLSE", "DC", "URX", "SI", "IH",
    "DPE", "UMSDR", "RFCF", "NFCF", "DT", "UPE", "NC", "OM", "DF", "DO", "DR", "UDO",
];
const MAX_VALUE_BYTES: usize = 255;

/// Names and values, in Istio's order.
pub type Labels = [(&'static str, String); 25];

/// Clean: each value survives Envoy's stat names as it is.
pub fn labels(facts: &Facts, peer: Option<&Peer>, own: &Workload) -> Labels {
    let own_side = own_side(facts, own);
    let peer_side = peer_side(facts, peer);
    let service = Service::of(facts, own, &peer_side.namespace);
    let (source, destination) = if facts.is_inbound { (peer_side, own_side) } else { (own_side, peer_side) };
    let policy = match (facts.is_inbound, &facts.peer_principal, &facts.own_principal) {
        (false, _, _) => "unknown",
        (true, Some(_), Some(_)) => "mutual_tls",
        _ => "none",
    };
    let labels: Labels = [
        ("reporter", if facts.is_inbound { "destination" } else { "source" }.to_string()),
        ("source_workload", source.workload),
        ("source_canonical_service", source.canonical_service),
        ("source_canonical_revision", source.canonical_revision),
        ("source_workload_namespace", source.namespace),
        ("source_principal", source.principal),
        ("source_app", source.app),
        ("source_version", source.version),
        ("source_cluster", source.cluster),
        ("destination_workload", destination.workload),
        ("destination_workload_namespace", destination.namespace),
        ("destination_principal", destination.principal),
        ("destination_app", destination.app),
        ("destination_version", destination.version),
        ("destination_service", service.host),
        ("destination_canonical_service", destination.canonical_service),
        ("destination_canonical_revision", destination.canonical_revision),
        ("destination_service_name", service.name),
        ("destination_service_namespace", service.namespace),
        ("destination_cluster", destination.cluster),
        ("request_protocol", if facts.is_grpc { "grpc" } else { "http" }.to_string()),
        ("response_code", facts.code.to_string()),
        ("grpc_response_status", facts.grpc_status.map_or(String::new(), |status| status.to_string())),
        ("response_flags", flag_names(facts.flags)),
        ("connection_security_policy", policy.to_string()),
    ];
    labels.map(|(label, value)| (label, clean(&value)))
}

/// The labels of one end of the call.
struct Side {
    workload: String,
    canonical_service: String,
    canonical_revision: String,
    namespace: String,
    principal: String,
    app: String,
    version: String,
    cluster: String,
}

/// Node metadata as it is.
fn own_side(facts: &Facts, own: &Workload) -> Side {
    Side {
        workload: own.workload_name.clone(),
        canonical_service: own.canonical_name.clone(),
        canonical_revision: own.canonical_revision.clone(),
        namespace: own.namespace.clone(),
        principal: or_unknown(&text(&facts.own_principal)),
        app: own.app.clone(),
        version: own.version.clone(),
        cluster: own.cluster_id.clone(),
    }
}

/// What the peer told us, else what the endpoint's metadata says, else `unknown`.
fn peer_side(facts: &Facts, peer: Option<&Peer>) -> Side {
    let endpoint = endpoint_workload(&text(&facts.endpoint));
    let workload = peer.map_or(&endpoint, |peer| &peer.workload);
    let principal = text(&facts.peer_principal);
    let identity = if facts.is_inbound { "" } else { &workload.identity };
    let revision = &workload.canonical_revision;
    Side {
        workload: or_unknown(&workload.workload_name),
        canonical_service: or_unknown(&workload.canonical_name),
        canonical_revision: if revision.is_empty() { "latest".to_string() } else { revision.clone() },
        namespace: or_unknown(spiffe_namespace(&principal).unwrap_or(&workload.namespace)),
        principal: or_unknown(if principal.is_empty() { identity } else { &principal }),
        app: or_unknown(workload.recommended_app()),
        version: or_unknown(workload.recommended_version()),
        cluster: or_unknown(&workload.cluster_id),
    }
}

struct Service {
    host: String,
    name: String,
    namespace: String,
}

impl Service {
    /// Route, then cluster metadata, with the authority as fall-back.
    fn of(facts: &Facts, own: &Workload, peer_namespace: &str) -> Service {
        let mut host = text(&facts.host).into_owned();
        let mut name = host.clone();
        let mut namespace = peer_namespace.to_string();
        match (&facts.route, &facts.cluster) {
            (Route::BlockAll, _) => name = "BlackHoleCluster".to_string(),
            (Route::AllowAny, _) => name = "PassthroughCluster".to_string(),
            (Route::Ordinary, Some(key)) if key.0.facts.is_catch_all => name = key.0.facts.name.clone(),
            (Route::Ordinary, Some(key)) => {
                let cluster = &key.0.facts;
                if let Some(service_host) = &cluster.service_host {
                    host = service_host.clone();
                    name = host.split('.').next().unwrap_or_default().to_string();
                }
                if let Some(service_name) = &cluster.service_name {
                    name = service_name.clone();
                }
                if let Some(service_namespace) = &cluster.service_namespace {
                    namespace = service_namespace.clone();
                }
            }
            _ => {}
        }
        if facts.is_inbound {
            let or_own = |text: String| if text.is_empty() { own.canonical_name.clone() } else { text };
            return Service { host: or_own(host), name: or_own(name), namespace: own.namespace.clone() };
        }
        Service { host: or_unknown(&host), name: or_unknown(&name), namespace }
    }
}

/// `workload;namespace;canonical-name;canonical-revision;cluster`; nothing for fewer parts.
fn endpoint_workload(text: &str) -> Workload {
    let parts: Vec<&str> = text.split(';').collect();
    let [workload_name, namespace, canonical_name, canonical_revision, cluster_id, ..] = parts[..] else {
        return Workload::default();
    };
    Workload {
        workload_name: workload_name.to_string(),
        namespace: namespace.to_string(),
        canonical_name: canonical_name.to_string(),
        canonical_revision: canonical_revision.to_string(),
        cluster_id: cluster_id.to_string(),
        ..Workload::default()
    }
}

/// `ns1` of `spiffe://cluster.local/ns/ns1/sa/default`.
fn spiffe_namespace(principal: &str) -> Option<&str> {
    Some(principal.split_once("/ns/")?.1.split_once("/sa/")?.0)
}

fn flag_names(flags: u64) -> String {
    let name = |bit: usize| FLAGS.get(bit).map_or_else(|| bit.to_string(), |name| name.to_string());
    let names: Vec<String> = (0..64).filter(|bit| flags >> bit & 1 == 1).map(name).collect();
    if names.is_empty() {
        "-".to_string()
    } else {
        names.join(",")
    }
}

/// The form that survives Envoy's stat names: no separators, no control characters, no trailing dots, not too long.
fn clean(value: &str) -> String {
    let safe: String = value.chars().map(|char| if char.is_ascii_control() { '_' } else { char }).collect();
    let safe = safe.replace(";.;", ";_;").replace("=.=", "=_=");
    let mut end = safe.len().min(MAX_VALUE_BYTES);
    while !safe.is_char_boundary(end) {
        end -= 1;
    }
    safe[..end].trim_end_matches('.').to_string()
}

fn text(bytes: &Option<Vec<u8>>) -> Cow<'_, str> {
    bytes.as_deref().map_or(Cow::Borrowed(""), String::from_utf8_lossy)
}

fn or_unknown(text: &str) -> String {
    if text.is_empty() { "unknown" } else { text }.to_string()
}
