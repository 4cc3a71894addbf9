//! Properties of the current stream as values. What is absent, or what the host cannot give, is `None`.

use proxy_wasm::hostcalls;
use proxy_wasm::types::{Bytes, MapType};

pub const REQUEST_HEADERS: MapType = MapType::HttpRequestHeaders;
pub const RESPONSE_HEADERS: MapType = MapType::HttpResponseHeaders;

pub fn property(path: &[&str]) -> Option<Bytes> {
    hostcalls::get_property(path.to_vec()).ok().flatten()
}

pub fn text(path: &[&str]) -> Option<String> {
    property(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Integers and durations (nanoseconds) are 8 bytes, little-endian.
pub fn number(path: &[&str]) -> Option<u64> {
    property(path)?.try_into().ok().map(u64::from_le_bytes)
}

/// A bool is one byte; a control plane may also write the text `true`.
pub fn flag(path: &[&str]) -> bool {
    property(path).is_some_and(|bytes| bytes == [1] || bytes == b"true")
}
