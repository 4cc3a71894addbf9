//! What the metadata of an upstream cluster says of the service behind it, read once for each cluster.

use std::rc::Rc;

use hashbrown::HashMap;
use proxy_wasm::types::Bytes;

use crate::host;

const MAX_CLUSTERS: usize = 2000;
const PASSTHROUGH: &str = "PassthroughCluster";
const CATCH_ALL: [&str; 5] = [
    "BlackHoleCluster",
    PASSTHROUGH,
    "InboundPassthroughCluster",
    "InboundPassthroughClusterIpv4",
    "InboundPassthroughClusterIpv6",
];

pub struct Cluster {
    /// Stands for the cluster in keys.
    pub serial: u32,
    pub name: String,
    pub is_catch_all: bool,
    /// No metadata of ours may go there.
    pub is_outside: bool,
    pub service_host: Option<String>,
    pub service_name: Option<String>,
    pub service_namespace: Option<String>,
}

#[derive(Default)]
pub struct Clusters {
    by_name: HashMap<Bytes, Rc<Cluster>>,
    last_serial: u32,
}

impl Clusters {
    /// The cluster chosen for the current stream.
    pub fn current(&mut self) -> Option<Rc<Cluster>> {
        let name = host::property(&["xds", "cluster_name"])?;
        if let Some(cluster) = self.by_name.get(&name) {
            return Some(cluster.clone());
        }
        if self.by_name.len() >= MAX_CLUSTERS {
            self.by_name.clear();
        }
        self.last_serial += 1;
        let cluster = Rc::new(Cluster::read(self.last_serial, &name));
        self.by_name.insert(name, cluster.clone());
        Some(cluster)
    }
}

impl Cluster {
    fn read(serial: u32, name: &[u8]) -> Cluster {
        let name = String::from_utf8_lossy(name).into_owned();
        let istio = ["xds", "cluster_metadata", "filter_metadata", "istio"];
        let service = |field| host::text(&[&istio[..], &["services", "0", field]].concat());
        let flag = |field| host::flag(&[&istio[..], &[field]].concat());
        Cluster {
            serial,
            is_catch_all: CATCH_ALL.contains(&name.as_str()),
            is_outside: name == PASSTHROUGH || flag("disable_mx") || flag("external"),
            service_host: service("host"),
            service_name: service("name"),
            service_namespace: service("namespace"),
            name,
        }
    }
}
