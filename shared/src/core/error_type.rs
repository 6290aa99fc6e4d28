//! The stable name of an error, for metrics, alarms and log searches.

/// An error that fails an invocation or a queue message.
pub trait ErrorType: std::error::Error {
    /// The name of the case. Alarms and searches refer to it, so a name never changes.
    fn error_type(&self) -> &'static str;
}

impl ErrorType for std::convert::Infallible {
    fn error_type(&self) -> &'static str {
        match *self {}
    }
}
