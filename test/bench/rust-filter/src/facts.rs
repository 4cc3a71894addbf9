//! The facts of one finished request: those that decide its labels, which are also the key of its metrics, and those that are recorded.

use std::hash::{Hash, Hasher};
use std::rc::Rc;

use proxy_wasm::hostcalls;
use proxy_wasm::types::Bytes;

use crate::cluster::Cluster;
use crate::host;
use crate::peer::Peer;

#[derive(PartialEq, Eq, Hash)]
pub enum Route {
    Ordinary,
    BlockAll,
    AllowAny,
}

#[derive(PartialEq, Eq, Hash)]
pub struct Facts {
    pub is_inbound: bool,
    pub is_grpc: bool,
    /// 0 when there was no response.
    pub code: u64,
    pub flags: u64,
    pub grpc_status: Option<u64>,
    pub peer_serial: Option<u32>,
    pub cluster: Option<ClusterKey>,
    pub route: Route,
    /// The SPIFFE ids of the peer and of ourselves on this hop.
    pub peer_principal: Option<Bytes>,
    pub own_principal: Option<Bytes>,
    /// Authority, only where it may become the service's name.
    pub host: Option<Bytes>,
    /// Endpoint metadata `istio.workload`, only for a client without a peer.
    pub endpoint: Option<Bytes>,
}

/// A cluster that is compared by its serial.
pub struct ClusterKey(pub Rc<Cluster>);

impl PartialEq for ClusterKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.serial == other.0.serial
    }
}

impl Eq for ClusterKey {}

impl Hash for ClusterKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.serial.hash(state);
    }
}

impl Facts {
    pub fn read(is_inbound: bool, peer: Option<&Peer>, cluster: Option<Rc<Cluster>>) -> Facts {
        let content_type = hostcalls::get_map_value_bytes(host::REQUEST_HEADERS, "content-type").ok().flatten();
        let is_grpc = content_type.is_some_and(|value| is_grpc_content_type(&value));
        let (peer_principal, own_principal) = principals(is_inbound);
        let route = match host::property(&["xds", "route_name"]).as_deref() {
            Some(b"block_all") => Route::BlockAll,
            Some(b"allow_any") => Route::AllowAny,
            _ => Route::Ordinary,
        };
        // As in Istio's own configuration, the authority names the service only to a client.
        let names_service = |cluster: &Rc<Cluster>| !cluster.facts.is_catch_all && cluster.facts.service_host.is_some();
        let uses_host = !is_inbound && (route != Route::Ordinary || !cluster.as_ref().is_some_and(names_service));
        let workload = ["xds", "upstream_host_metadata", "filter_metadata", "istio", "workload"];
        Facts {
            is_inbound,
            is_grpc,
            code: host::number(&["response", "code"]).unwrap_or(0),
            flags: host::number(&["response", "flags"]).unwrap_or(0),
            grpc_status: is_grpc.then(|| host::number(&["response", "grpc_status"])).flatten(),
            peer_serial: peer.map(|peer| peer.serial),
            cluster: cluster.map(ClusterKey),
            route,
            peer_principal,
            own_principal,
            host: uses_host.then(|| host::property(&["request", "host"])).flatten(),
            endpoint: (!is_inbound && peer.is_none()).then(|| host::property(&workload)).flatten(),
        }
    }
}

/// What Istio's authentication left of both ends for a server, else the first URI SANs of the certificates.
fn principals(is_inbound: bool) -> (Option<Bytes>, Option<Bytes>) {
    if is_inbound {
        let peer = host::property(&["filter_state", "io.istio.peer_principal"]);
        let own = host::property(&["filter_state", "io.istio.local_principal"]);
        if peer.is_some() || own.is_some() {
            return (peer, own);
        }
    }
    let connection = if is_inbound { "connection" } else { "upstream" };
    let peer = host::property(&[connection, "uri_san_peer_certificate"]);
    (peer, host::property(&[connection, "uri_san_local_certificate"]))
}

/// `application/grpc`, alone or followed by `+`.
fn is_grpc_content_type(value: &[u8]) -> bool {
    value.strip_prefix(b"application/grpc").is_some_and(|rest| rest.is_empty() || rest[0] == b'+')
}

/// What the metrics record.
pub struct Sizes {
    /// `None` when the request did not finish.
    pub duration_ms: Option<u64>,
    pub request_bytes: u64,
    pub response_bytes: u64,
}

impl Sizes {
    pub fn read() -> Sizes {
        Sizes {
            duration_ms: host::number(&["request", "duration"]).map(|nanoseconds| nanoseconds / 1_000_000),
            request_bytes: host::number(&["request", "total_size"]).unwrap_or(0),
            response_bytes: host::number(&["response", "total_size"]).unwrap_or(0),
        }
    }
}
