//! Identifiers and times as API Gateway writes them.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

/// A request or connection id: 11 random bytes in base64, so 15 characters and a `=`
/// (`L0SM9cOFvHcCIhw=`).
///
/// The standard alphabet is AWS's: an id may hold `/`, `+` and always holds `=`, so whoever puts it
/// into a URL has to encode it, here as there.
pub(crate) fn short_id() -> String {
    STANDARD.encode(rand::random::<[u8; 11]>())
}

/// A new `X-Amzn-Trace-Id`: `Root=1-<epoch seconds>-<96 bits>`, in hexadecimal.
pub(crate) fn trace_id(at: Timestamp) -> String {
    let mut id = format!("Root=1-{:08x}-", at.as_second());
    for byte in rand::random::<[u8; 12]>() {
        // Writing to a `String` has no failure to report.
        write!(id, "{byte:02x}").unwrap_or_default();
    }
    id
}

/// `requestContext.time`: the Common Log Format's, `12/Mar/2020:19:03:58 +0000`.
pub(crate) fn log_time(at: Timestamp) -> String {
    at.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_the_shape_of_awss_ids() {
        let id = short_id();
        assert_eq!(id.len(), 16);
        assert!(id.ends_with('=') && !id.ends_with("=="), "{id}");
        assert_ne!(id, short_id());
    }

    #[test]
    fn times_are_written_as_the_common_log_format_does() {
        let at: Timestamp = "2020-03-12T19:03:58.390Z".parse().unwrap();
        assert_eq!(log_time(at), "12/Mar/2020:19:03:58 +0000");
        assert!(trace_id(at).starts_with("Root=1-5e6a879e-"), "{}", trace_id(at));
        assert_eq!(trace_id(at).len(), "Root=1-5759e988-bd862e3fe1be46a994272793".len());
    }
}
