//! Istio's metadata exchange and HTTP metrics on the proxy-wasm SDK, as one writes them with it: a root context that holds what the
//! worker shares, an HTTP context for each request. Peers, clusters and label sets are cached; a request whose label set is known
//! costs one look-up and no text.
//!
//! The plugin configuration is the word `inbound` or `outbound`.

mod cluster;
mod facts;
mod host;
mod label_set;
mod labels;
mod node;
mod peer;

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

use hashbrown::HashMap;
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};

use cluster::Clusters;
use facts::{Facts, Sizes};
use label_set::LabelSet;
use node::Node;
use peer::{Peer, Peers};

const ID_HEADER: &str = "x-envoy-peer-metadata-id";
const METADATA_HEADER: &str = "x-envoy-peer-metadata";

/// Keys held at most; when there are more, all are forgotten and found again.
const MAX_KEYS: usize = 4096;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root { worker: Rc::default() }));
}}

/// What the requests of one worker share.
#[derive(Default)]
struct Worker {
    is_inbound: bool,
    node: OnceCell<Node>,
    peers: RefCell<Peers>,
    clusters: RefCell<Clusters>,
    label_sets: RefCell<HashMap<Facts, Rc<LabelSet>>>,
    start_time_ms: u64,
}

impl Worker {
    /// Read when the first request needs it: the host does not answer `xds.node` before.
    fn node(&self) -> &Node {
        self.node.get_or_init(Node::read)
    }

    fn label_set(&self, facts: Facts, peer: Option<&Peer>) -> Rc<LabelSet> {
        let mut known = self.label_sets.borrow_mut();
        if let Some(label_set) = known.get(&facts) {
            return label_set.clone();
        }
        if known.len() >= MAX_KEYS {
            known.clear();
        }
        let label_set = Rc::new(LabelSet::define(&labels::labels(&facts, peer, &self.node().workload)));
        known.insert(facts, label_set.clone());
        label_set
    }
}

struct Root {
    worker: Rc<Worker>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let is_inbound = self.get_plugin_configuration().as_deref() == Some(b"inbound");
        self.worker = Rc::new(Worker { is_inbound, start_time_ms: label_set::start_time_ms(), ..Worker::default() });
        true
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        let worker = self.worker.clone();
        Some(Box::new(Stream { worker, peer: None, has_peer_id: false, has_peer_metadata: false }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream {
    worker: Rc<Worker>,
    peer: Option<Rc<Peer>>,
    /// Whether the request carried the peer's headers: then the answer carries ours.
    has_peer_id: bool,
    has_peer_metadata: bool,
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, _is_end: bool) -> Action {
        if self.worker.is_inbound {
            self.receive_request();
        } else {
            self.send_request();
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _count: usize, _is_end: bool) -> Action {
        if self.worker.is_inbound {
            self.send_response();
        } else {
            self.receive_response();
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        let sizes = Sizes::read();
        let cluster = self.worker.clusters.borrow_mut().current();
        let facts = Facts::read(self.worker.is_inbound, self.peer.as_deref(), cluster);
        self.worker.label_set(facts, self.peer.as_deref()).record(&sizes, self.worker.start_time_ms);
    }
}

impl Stream {
    fn receive_request(&mut self) {
        let id = self.get_http_request_header_bytes(ID_HEADER);
        let metadata = self.get_http_request_header_bytes(METADATA_HEADER);
        self.has_peer_id = id.is_some();
        self.has_peer_metadata = metadata.is_some();
        if let Some(metadata) = metadata {
            self.learn_peer(id, || Some(metadata), "wasm.downstream_peer", "downstream_peer");
        }
        self.set_http_request_header(ID_HEADER, None);
        self.set_http_request_header(METADATA_HEADER, None);
    }

    /// Says who we are, unless the cluster is outside the mesh.
    fn send_request(&mut self) {
        let cluster = self.worker.clusters.borrow_mut().current();
        if cluster.is_some_and(|cluster| cluster.facts.is_outside) {
            self.set_http_request_header(ID_HEADER, None);
            self.set_http_request_header(METADATA_HEADER, None);
            return;
        }
        let node = self.worker.node();
        self.set_http_request_header(ID_HEADER, Some(&node.id_header));
        self.set_http_request_header(METADATA_HEADER, Some(&node.metadata_header));
    }

    /// Answers in kind: a caller that sent nothing gets nothing.
    fn send_response(&mut self) {
        let node = self.worker.node();
        self.set_http_response_header(ID_HEADER, self.has_peer_id.then_some(&*node.id_header));
        self.set_http_response_header(METADATA_HEADER, self.has_peer_metadata.then_some(&*node.metadata_header));
    }

    /// The metadata itself is read only when the id is not in the cache.
    fn receive_response(&mut self) {
        let id = self.get_http_response_header_bytes(ID_HEADER);
        let read_metadata = || hostcalls::get_map_value_bytes(host::RESPONSE_HEADERS, METADATA_HEADER).ok().flatten();
        self.learn_peer(id, read_metadata, "wasm.upstream_peer", "upstream_peer");
        self.set_http_response_header(ID_HEADER, None);
        self.set_http_response_header(METADATA_HEADER, None);
    }

    /// Remembers the peer for the labels and tells the access loggers; one that is in filter state already stays there.
    fn learn_peer(
        &mut self,
        id: Option<Vec<u8>>,
        metadata: impl FnOnce() -> Option<Vec<u8>>,
        known_state: &str,
        state: &str,
    ) {
        let Some(peer) = self.worker.peers.borrow_mut().resolve(id, metadata) else { return };
        if host::property(&["filter_state", known_state]).is_none() {
            self.set_property(vec![state], Some(&peer.state));
        }
        self.peer = Some(peer);
    }
}
