//! How large a request's line and headers may be.

use http::{HeaderMap, Method, Uri};

/// Request line and headers, in bytes: API Gateway's quota "Total combined size of request line and
/// header values". Names are counted here too.
pub(super) const MAX_REQUEST_BYTES: usize = 10_240;

/// The bytes of request line and headers as HTTP/1.1 writes them.
pub(super) fn request_bytes(method: &Method, target: &Uri, headers: &HeaderMap) -> usize {
    const REQUEST_LINE: usize = "  HTTP/1.1\r\n".len();
    const HEADER_LINE: usize = ": \r\n".len();
    let target = target.path_and_query().map_or(0, |target| target.as_str().len());
    let headers = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + HEADER_LINE);
    method.as_str().len() + target + REQUEST_LINE + headers.sum::<usize>()
}
