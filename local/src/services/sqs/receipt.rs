//! Receipt handles: which message, and which receive of it.

use ulid::Ulid;

/// A receipt handle that was never given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// A receipt handle: `message id/ULID`, whose time is that of the receive. Opaque to clients.
#[derive(Debug)]
pub(super) struct Receipt<'a> {
    pub(super) handle: &'a str,
    pub(super) message_id: &'a str,
    pub(super) received_ms: i64,
}

impl<'a> Receipt<'a> {
    pub(super) fn parse(handle: &'a str) -> Result<Self, Malformed> {
        let (message_id, receive) = handle.split_once('/').ok_or(Malformed)?;
        let receive = Ulid::from_string(receive).map_err(|_| Malformed)?;
        Ok(Self {
            handle,
            message_id,
            received_ms: receive.timestamp_ms().try_into().map_err(|_| Malformed)?,
        })
    }

    pub(super) fn generate(message_id: &str, now: i64) -> String {
        let receive = Ulid::from_parts(now.unsigned_abs(), Ulid::generate().random());
        format!("{message_id}/{receive}")
    }
}
