//! Problem details (RFC 9457): every refusal that a client sees.
//!
//! [`ProblemType`] is the whole list; `docs/problems.md` explains each at the anchor that its
//! `type` points to. A capability's error becomes a `Problem` by a `From` in `edge::mapping`. The
//! text for the client is written there. The error's own text is kept as the
//! [`cause`](Problem::cause), for the log line of the edge that answers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::core::precondition::EntityTag;
use crate::core::reply::Reply;

macro_rules! problem_types {
    ($($(#[$doc:meta])* $name:ident = $status:literal $slug:literal $title:literal,)*) => {
        /// Every kind of problem: a stable name, a status, a title.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ProblemType { $($(#[$doc])* $name,)* }

        impl ProblemType {
            /// All of them, in the order of their statuses.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Last segment of `type`, and the `error_type` of logs and metrics.
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug,)* }
            }

            /// HTTP status.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// The title: the same for every occurrence.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

problem_types! {
    /// The request cannot be read: not JSON, an unknown field, a value out of its range.
    InvalidRequest = 400 "invalid-request" "The request is not valid",
    /// `Idempotency-Key` is required and absent.
    IdempotencyKeyMissing = 400 "idempotency-key-missing" "An Idempotency-Key header is required",
    /// `Idempotency-Key` is present and malformed.
    IdempotencyKeyInvalid = 400 "idempotency-key-invalid" "The Idempotency-Key header is malformed",
    /// No credentials, or credentials that do not verify.
    Unauthenticated = 401 "unauthenticated" "Authentication is required",
    /// E-mail and password do not belong together.
    WrongCredentials = 401 "wrong-credentials" "E-mail or password is wrong",
    /// The provider declined the payment.
    PaymentDeclined = 402 "payment-declined" "The payment was declined",
    /// Signed in, but the role is missing.
    Forbidden = 403 "forbidden" "A required role is missing",
    /// A browser's page of another site.
    OriginNotAllowed = 403 "origin-not-allowed" "This origin is not allowed",
    /// The request came around the trusted proxy.
    DirectRequest = 403 "direct-request" "Requests must come through the proxy",
    /// There is no such thing, or it is somebody else's.
    NotFound = 404 "not-found" "Not found",
    /// The same key is still being worked on.
    IdempotencyInProgress = 409 "idempotency-in-progress" "The first request with this key is still running",
    /// The e-mail address has an account.
    EmailTaken = 409 "email-taken" "The e-mail address already has an account",
    /// Fewer units are left than were ordered.
    OutOfStock = 409 "out-of-stock" "Not enough units in stock",
    /// The customer has as many unpaid orders, or units in them, as is allowed.
    UnpaidLimit = 409 "unpaid-limit" "Too many unpaid orders or units",
    /// The change would make the stock negative.
    StockBelowZero = 409 "stock-below-zero" "The stock cannot go below zero",
    /// The order's status does not allow this.
    OrderStateConflict = 409 "order-state-conflict" "The order's status does not allow this",
    /// Another payment of the same order has not ended yet.
    PaymentInProgress = 409 "payment-in-progress" "Another payment of this order is in progress",
    /// The file has not been sent, or not all of it.
    UploadIncomplete = 409 "upload-incomplete" "The file has not been sent yet",
    /// The caller's files would take more than they may.
    UploadQuotaExceeded = 409 "upload-quota-exceeded" "The upload quota is exceeded",
    /// The receiver is not connected, and the inbox has no room for the message.
    InboxFull = 409 "inbox-full" "The receiver's inbox is full",
    /// What `If-Match` or `If-None-Match` asks for is not so.
    StaleVersion = 412 "stale-version" "The precondition failed",
    /// The body is larger than the limit.
    BodyTooLarge = 413 "body-too-large" "The body is too large",
    /// The body is not JSON by its own declaration.
    UnsupportedMediaType = 415 "unsupported-media-type" "The body must be application/json",
    /// The body is compressed.
    UnsupportedContentEncoding = 415 "unsupported-content-encoding" "The body must have no Content-Encoding",
    /// The key was used with another payload.
    IdempotencyKeyReused = 422 "idempotency-key-reused" "The Idempotency-Key was used with another request",
    /// The request is well formed and names things that do not fit together.
    Unprocessable = 422 "unprocessable" "The request cannot be processed",
    /// The password is one of those that are tried first.
    CommonPassword = 422 "common-password" "The password is too easy to guess",
    /// What was sent is not what was announced.
    UploadMismatch = 422 "upload-mismatch" "The file does not match its declaration",
    /// Too many at once, or too many lately.
    TooManyRequests = 429 "too-many-requests" "Too many requests",
    /// The caller has as many exports open as there may be.
    TooManyOpenExports = 429 "too-many-open-exports" "Too many exports are open",
    /// The user has as many sockets open as there may be.
    TooManyOpenSockets = 429 "too-many-open-sockets" "Too many sockets are open",
    /// Something failed inside. The log has the rest.
    Internal = 500 "internal-error" "Internal error",
    /// A dependency did not answer in time; nothing was changed.
    Unavailable = 503 "unavailable" "Temporarily unavailable",
    /// The payment provider did not tell how it went. Asking again with the same key settles it.
    PaymentOutcomeUnknown = 503 "payment-outcome-unknown" "The payment's outcome is unknown",
}

/// One refusal.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    pub kind: ProblemType,
    /// What went wrong this time, for the client's developer. Nothing internal.
    pub detail: String,
    /// Further members of the problem document.
    pub extensions: BTreeMap<&'static str, Value>,
    /// `Retry-After`, rounded up to whole seconds.
    pub retry_after: Option<Duration>,
    /// The current tag: the header `ETag`, and if it is a version, `version` in the document.
    pub tag: Option<EntityTag>,
    /// The error behind it, with the chain of its causes. For the log only.
    pub cause: Option<String>,
}

impl Problem {
    /// A refusal of the given kind.
    pub fn new(kind: ProblemType, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            extensions: BTreeMap::new(),
            retry_after: None,
            tag: None,
            cause: None,
        }
    }

    /// This refusal with one more member.
    #[must_use]
    pub fn with(mut self, member: &'static str, value: impl Into<Value>) -> Self {
        self.extensions.insert(member, value.into());
        self
    }

    /// This refusal with the time after which another try makes sense.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// This refusal with the error behind it, for the log.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// A failed precondition. `tag` is the current tag.
    pub fn stale(tag: EntityTag) -> Self {
        let detail = match &tag {
            EntityTag::Version(version) => {
                format!("the current version is {version}; read it and retry")
            }
            EntityTag::Versions(_) | EntityTag::Content(_) => {
                "the resource has changed; read it and retry".to_owned()
            }
        };
        Self { tag: Some(tag), ..Self::new(ProblemType::StaleVersion, detail) }
    }

    /// The members of the problem document.
    pub fn document(&self) -> Value {
        let mut document = json!({
            "type": format!("/problems/{}", self.kind.slug()),
            "title": self.kind.title(),
            "status": self.kind.status(),
            "detail": self.detail,
        });
        if let Some(EntityTag::Version(version)) = self.tag {
            document["version"] = version.into();
        }
        for (member, value) in &self.extensions {
            document[*member] = value.clone();
        }
        document
    }

    /// The HTTP answer.
    pub fn into_reply(self) -> Reply {
        let reply = Reply::json(self.kind.status(), self.document())
            .header("content-type", "application/problem+json");
        // RFC 9110, section 15.5.2: a 401 names the scheme that would do.
        let reply = if reply.status == 401 { reply.header("www-authenticate", "Bearer") } else { reply };
        // Section 15.5.16: distinguishes an unsupported coding from an unsupported type.
        let reply = match self.kind {
            ProblemType::UnsupportedContentEncoding => reply.header("accept-encoding", "identity"),
            _ => reply,
        };
        let reply = match self.tag {
            Some(tag) => reply.header("etag", tag.to_string()),
            None => reply,
        };
        match self.retry_after {
            Some(wait) => reply.header("retry-after", wait.as_secs_f64().ceil().max(1.0).to_string()),
            None => reply,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn slugs_are_unique() {
        let slugs: HashSet<_> = ProblemType::ALL.iter().map(|kind| kind.slug()).collect();
        assert_eq!(slugs.len(), ProblemType::ALL.len());
    }

    #[test]
    fn a_401_names_the_scheme_that_would_do_and_no_other_status_does() {
        for kind in ProblemType::ALL {
            let challenge = Problem::new(*kind, "").into_reply().headers.get("www-authenticate").cloned();
            assert_eq!(challenge, (kind.status() == 401).then(|| "Bearer".to_owned()), "{kind:?}");
        }
    }

    #[test]
    fn only_a_coding_that_is_not_taken_names_the_one_that_is() {
        for kind in ProblemType::ALL {
            let named = Problem::new(*kind, "").into_reply().headers.get("accept-encoding").cloned();
            let is_coding = *kind == ProblemType::UnsupportedContentEncoding;
            assert_eq!(named, is_coding.then(|| "identity".to_owned()), "{kind:?}");
        }
    }

    #[test]
    fn a_stale_write_is_told_the_version_that_stands() {
        let reply = Problem::stale(EntityTag::Version(7)).into_reply();
        assert_eq!((reply.status, reply.headers["etag"].as_str()), (412, "\"7\""));
        assert_eq!(reply.body.unwrap()["version"], 7);
    }

    #[test]
    fn retry_after_is_whole_seconds_rounded_up() {
        let problem = Problem::new(ProblemType::Unavailable, "").retry_after(Duration::from_millis(1_200));
        assert_eq!(problem.into_reply().headers["retry-after"], "2");
    }
}
