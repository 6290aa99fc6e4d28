//! Files in the bucket: links to them that anybody may follow for a while, so that no byte passes a function.
//!
//! 1. A link is a presigned URL ([`s3::Presigner`]): it has the rights of the function that signed it, for one key, one
//!    method and the headers that were signed. Signing calls nobody.
//! 2. It ends [`LINK_LIFETIME`] after it was made, sooner if what it leads to ends sooner, and never promises more than the
//!    credentials that signed it have left ([`expiry`]): S3 refuses a link whose credentials have ended.
//! 3. A download says how its file is called and whether it may be shown ([`disposition`]). All else is saved, not shown:
//!    a page from the bucket's address must not run.
//! 4. A file that was written in another region may not have been copied yet: then its link leads there ([`downloads`]).
//!
//! Whoever has a link has the file. So a link is [`SignedUrl`], whose `Debug` shows nothing, and belongs in no log.
//!
//! Limits: a link cannot be taken back; what must end sooner than the link has to be deleted. The environment of a Lambda
//! does not tell when its credentials end, so there the rule of 2 knows nothing, and an hour is the bound.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::redacted::Redacted;

pub mod disposition;
pub mod downloads;
pub mod expiry;
pub mod s3;

/// How long a link lasts at most. Long enough to move gigabytes, short enough for a link that leaks.
pub const LINK_LIFETIME: Duration = Duration::from_hours(1);

/// A presigned URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedUrl(Redacted<String>);

impl SignedUrl {
    /// Hides `url`.
    pub fn new(url: String) -> Self {
        Self(Redacted::new(url))
    }

    /// The URL, for the one who asked for it.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// S3's name of an upload in parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MultipartId(String);

impl MultipartId {
    /// As S3 told it.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A file that could not be reached, or a link that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A call failed. 503 when it will pass, else 500.
    #[error("S3 {operation} of {key} failed{}", code.as_ref().map(|c| format!(" ({c})")).unwrap_or_default())]
    Store {
        operation: &'static str,
        key: String,
        /// S3's error code. Answers to HEAD have no body to tell one: then it is their HTTP status, `403`. `None`: no answer
        /// came, and another try may get one.
        code: Option<String>,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There are no credentials to sign with. 503: Lambda renews them.
    #[error("no credentials to sign links with")]
    NoCredentials(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The credentials end within a second, or what the link leads to. 503.
    #[error("a link would end as soon as it is made")]
    NoTimeLeft,
    /// The link could not be signed. 500.
    #[error("the link to {key} was not signed")]
    NotSigned {
        key: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
