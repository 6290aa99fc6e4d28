//! Presigned links to files in the bucket, so that no file content passes a function.
//!
//! 1. A link is a presigned URL ([`s3::Presigner`]): it has the permissions of the function that
//!    signed it, for one key, one method and the signed headers. Signing needs no call.
//! 2. It ends [`LINK_LIFETIME`] after it was made, or sooner with its file or with the credentials
//!    that signed it ([`expiry`]): S3 refuses a link whose credentials have expired.
//! 3. A download sets the file's name and whether it may be shown ([`disposition`]). Everything
//!    else is saved: HTML from the bucket's address must not run.
//! 4. A file of another region may not be replicated yet: then its link leads there
//!    ([`downloads`]).
//!
//! Possession of a link grants access to the file. So a link is a [`SignedUrl`], whose `Debug`
//! shows nothing, and must not be logged.
//!
//! Limits: a link cannot be revoked; the file has to be deleted instead. The environment of a
//! Lambda function does not contain the expiry of its credentials, so there an hour is the only
//! bound of 2.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::redacted::Redacted;

pub mod disposition;
pub mod downloads;
pub mod expiry;
pub mod s3;

/// Longest lifetime of a link. Long enough to transfer gigabytes, short enough for a link that
/// leaks.
pub const LINK_LIFETIME: Duration = Duration::from_hours(1);

/// A presigned URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedUrl(Redacted<String>);

impl SignedUrl {
    /// Hides `url`.
    pub fn new(url: String) -> Self {
        Self(Redacted::new(url))
    }

    /// The URL, for the client that asked for it.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// S3's id of a multipart upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MultipartId(String);

impl MultipartId {
    /// An id from S3.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A file could not be reached, or a link could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A call failed. 503 if a retry may succeed, else 500.
    #[error("S3 {operation} of {key} failed{}", code.as_ref().map(|c| format!(" ({c})")).unwrap_or_default())]
    Store {
        operation: &'static str,
        key: String,
        /// S3's error code. Answers to HEAD have no body with a code: then it is their HTTP status,
        /// `403`. `None`: no answer came, and a retry may succeed.
        code: Option<String>,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There are no credentials to sign with. 503: Lambda renews them.
    #[error("no credentials to sign links with")]
    NoCredentials(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The credentials, or the file, expire within a second. 503.
    #[error("a link would expire at once")]
    NoTimeLeft,
    /// The link could not be signed. 500.
    #[error("the link to {key} was not signed")]
    NotSigned {
        key: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
