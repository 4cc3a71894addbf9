//! What the metadata of an upstream cluster says of the service behind it. Read once for each cluster and then again every few seconds,
//! since the control plane may change it under the same name.

use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hashbrown::HashMap;
use proxy_wasm::hostcalls;
use proxy_wasm::types::Bytes;

use crate::host;

const MAX_CLUSTERS: usize = 2000;
const REFRESH: Duration = Duration::from_secs(5);
const PASSTHROUGH: &str = "PassthroughCluster";
const CATCH_ALL: [&str; 5] = [
    "BlackHoleCluster",
    PASSTHROUGH,
    "InboundPassthroughCluster",
    "InboundPassthroughClusterIpv4",
    "InboundPassthroughClusterIpv6",
];

pub struct Cluster {
    /// Stands for the facts in keys: changes when they do.
    pub serial: u32,
    pub facts: ClusterFacts,
}

#[derive(PartialEq)]
pub struct ClusterFacts {
    pub name: String,
    pub is_catch_all: bool,
    /// No metadata of ours may go there.
    pub is_outside: bool,
    pub service_host: Option<String>,
    pub service_name: Option<String>,
    pub service_namespace: Option<String>,
}

struct Known {
    cluster: Rc<Cluster>,
    read_at: SystemTime,
}

#[derive(Default)]
pub struct Clusters {
    by_name: HashMap<Bytes, Known>,
    last_serial: u32,
}

impl Clusters {
    /// The cluster chosen for the current stream.
    pub fn current(&mut self) -> Option<Rc<Cluster>> {
        let name = host::property(&["xds", "cluster_name"])?;
        let now = hostcalls::get_current_time().unwrap_or(UNIX_EPOCH);
        if let Some(known) = self.by_name.get_mut(&name) {
            if now.duration_since(known.read_at).is_ok_and(|age| age < REFRESH) {
                return Some(known.cluster.clone());
            }
            let facts = ClusterFacts::read(&name);
            if facts == known.cluster.facts {
                known.read_at = now;
                return Some(known.cluster.clone());
            }
        }
        if self.by_name.len() >= MAX_CLUSTERS {
            self.by_name.clear();
        }
        self.last_serial += 1;
        let cluster = Rc::new(Cluster { serial: self.last_serial, facts: ClusterFacts::read(&name) });
        self.by_name.insert(name, Known { cluster: cluster.clone(), read_at: now });
        Some(cluster)
    }
}

impl ClusterFacts {
    fn read(name: &[u8]) -> ClusterFacts {
        let name = String::from_utf8_lossy(name).into_owned();
        let istio = ["xds", "cluster_metadata", "filter_metadata", "istio"];
        let service = |field| host::text(&[&istio[..], &["services", "0", field]].concat());
        let flag = |field| host::flag(&[&istio[..], &[field]].concat());
        ClusterFacts {
            is_catch_all: CATCH_ALL.contains(&name.as_str()),
            is_outside: name == PASSTHROUGH || flag("disable_mx") || flag("external"),
            service_host: service("host"),
            service_name: service("name"),
            service_namespace: service("namespace"),
            name,
        }
    }
}
