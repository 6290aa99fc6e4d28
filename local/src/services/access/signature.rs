//! Reads who signed a request from its `Authorization` header (AWS Signature Version 4).

use http::HeaderMap;
use http::header::AUTHORIZATION;

/// Why a request has no caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unauthenticated {
    /// Not signed at all.
    #[error("Request is missing Authentication Token")]
    Unsigned,
    /// Signed with a key that this region never gave out.
    #[error("The security token included in the request is invalid.")]
    UnknownKey,
}

impl Unauthenticated {
    /// The error type by which the JSON services name it.
    pub fn error_type(self) -> &'static str {
        match self {
            Self::Unsigned => "MissingAuthenticationTokenException",
            Self::UnknownKey => "UnrecognizedClientException",
        }
    }
}

/// The access key id of `AWS4-HMAC-SHA256 Credential=<id>/<date>/<region>/<service>/aws4_request, ...`.
pub fn access_key_id(headers: &HeaderMap) -> Result<&str, Unauthenticated> {
    headers
        .get(AUTHORIZATION)
        .and_then(|header| header.to_str().ok())
        .and_then(|header| header.strip_prefix("AWS4-HMAC-SHA256 "))
        .and_then(|fields| fields.split(',').find_map(|field| field.trim().strip_prefix("Credential=")))
        .and_then(|credential| credential.split_once('/'))
        .map(|(id, _)| id)
        .ok_or(Unauthenticated::Unsigned)
}
