//! A label set: its four metrics, and the observation that tells the access loggers what was counted
//! (filter/vocabulary/observation.ts).

use std::cell::RefCell;
use std::fmt::Write;
use std::time::UNIX_EPOCH;

use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;

use crate::facts::Sizes;
use crate::labels::Labels;

const OBSERVATION: &str = "meshtally.observation";
const VERSION: u8 = 1;
const START: usize = 8;
const DURATION: usize = 16;
const REQUEST_BYTES: usize = 24;
const RESPONSE_BYTES: usize = 32;
const LABELS: usize = 40;

pub struct LabelSet {
    requests: u32,
    duration: u32,
    request_bytes: u32,
    response_bytes: u32,
    /// Its labels stay; its numbers are written anew for each request.
    observation: RefCell<Vec<u8>>,
}

impl LabelSet {
    pub fn define(labels: &Labels) -> LabelSet {
        let prefix = stat_name_prefix(labels);
        let define = |kind, name| hostcalls::define_metric(kind, &format!("{prefix}{name}")).unwrap_or(0);
        LabelSet {
            requests: define(MetricType::Counter, "istio_requests_total"),
            duration: define(MetricType::Histogram, "istio_request_duration_milliseconds"),
            request_bytes: define(MetricType::Histogram, "istio_request_bytes"),
            response_bytes: define(MetricType::Histogram, "istio_response_bytes"),
            observation: RefCell::new(observation(labels)),
        }
    }

    /// A metric that the host refuses is not counted; the request goes on.
    pub fn record(&self, sizes: &Sizes, start_time_ms: u64) {
        let _ = hostcalls::increment_metric(self.requests, 1);
        if let Some(duration_ms) = sizes.duration_ms {
            let _ = hostcalls::record_metric(self.duration, duration_ms);
        }
        let _ = hostcalls::record_metric(self.request_bytes, sizes.request_bytes);
        let _ = hostcalls::record_metric(self.response_bytes, sizes.response_bytes);

        let mut observation = self.observation.borrow_mut();
        observation[START..DURATION].copy_from_slice(&start_time_ms.to_le_bytes());
        observation[DURATION..REQUEST_BYTES].copy_from_slice(&sizes.duration_ms.unwrap_or(u64::MAX).to_le_bytes());
        observation[REQUEST_BYTES..RESPONSE_BYTES].copy_from_slice(&sizes.request_bytes.to_le_bytes());
        observation[RESPONSE_BYTES..LABELS].copy_from_slice(&sizes.response_bytes.to_le_bytes());
        let _ = hostcalls::set_property(vec![OBSERVATION], Some(&observation));
    }
}

/// When this Envoy process first ran a filter, in Unix milliseconds: a gauge that its VMs share.
pub fn start_time_ms() -> u64 {
    let Ok(gauge) = hostcalls::define_metric(MetricType::Gauge, "meshtally_filter_start_time_milliseconds") else {
        return 0;
    };
    let shown = hostcalls::get_metric(gauge).unwrap_or(0);
    if shown != 0 {
        return shown;
    }
    let now = hostcalls::get_current_time().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let now_ms = now.map_or(0, |time| time.as_millis() as u64);
    let _ = hostcalls::record_metric(gauge, now_ms);
    now_ms
}

/// `reporter=.=source;.;source_workload=.=web;.;...`
fn stat_name_prefix(labels: &Labels) -> String {
    labels.iter().fold(String::new(), |mut name, (label, value)| {
        let _ = write!(name, "{label}=.={value};.;"); // a String takes all
        name
    })
}

fn observation(labels: &Labels) -> Vec<u8> {
    let mut bytes = vec![0; LABELS];
    bytes[0] = VERSION;
    bytes[2] = labels.len() as u8;
    for (_, value) in labels {
        bytes.push(value.len() as u8); // clean values are short enough
        bytes.extend_from_slice(value.as_bytes());
    }
    bytes
}
