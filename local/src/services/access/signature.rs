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
    /// Signed for another region.
    #[error("Credential should be scoped to a valid region.")]
    OtherRegion,
}

impl Unauthenticated {
    /// The error type by which the JSON services name it.
    pub fn error_type(self) -> &'static str {
        match self {
            Self::Unsigned => "MissingAuthenticationTokenException",
            Self::UnknownKey => "UnrecognizedClientException",
            Self::OtherRegion => "InvalidSignatureException",
        }
    }
}

/// What a signature says of itself: `<id>/<date>/<region>/<service>/aws4_request`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credential<'a> {
    pub access_key_id: &'a str,
    pub region: &'a str,
}

/// The credential of `AWS4-HMAC-SHA256 Credential=..., SignedHeaders=..., Signature=...`.
pub fn credential(headers: &HeaderMap) -> Result<Credential<'_>, Unauthenticated> {
    headers
        .get(AUTHORIZATION)
        .and_then(|header| header.to_str().ok())
        .and_then(|header| header.strip_prefix("AWS4-HMAC-SHA256 "))
        .and_then(|fields| fields.split(',').find_map(|field| field.trim().strip_prefix("Credential=")))
        .and_then(|credential| {
            let mut parts = credential.split('/');
            Some(Credential { access_key_id: parts.next()?, region: parts.nth(1)? })
        })
        .ok_or(Unauthenticated::Unsigned)
}
