//! The parts of a request's signature (AWS Signature Version 4), and those that S3 refuses although
//! the signature is right.
//!
//! 1. A URL is valid for a week at most.
//! 2. The signature is for this region.
//! 3. Every `x-amz-*` header is signed.

use http::header::{AUTHORIZATION, HeaderMap, HeaderName};
use http::{StatusCode, Uri};
use s3s::{S3Error, S3ErrorCode, S3Result};
use url::form_urlencoded;

/// The longest validity of a presigned URL, by the API reference, "Authenticating Requests: Using
/// Query Parameters".
const MAX_EXPIRES_SECONDS: u64 = 604_800;

/// The scope of a signature.
#[derive(Debug, Default)]
pub(super) struct Signed {
    region: String,
    headers: Vec<String>,
    /// Of a presigned URL.
    expires_seconds: Option<u64>,
}

impl Signed {
    /// What the request says; `None` if it is not signed.
    pub(super) fn of(uri: &Uri, headers: &HeaderMap) -> Option<Self> {
        let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        match authorization {
            Some(authorization) => Self::in_header(authorization),
            None => Self::in_query(uri.query()?),
        }
    }

    fn in_header(authorization: &str) -> Option<Self> {
        let (_, fields) = authorization.split_once(' ')?;
        let fields = fields.split(',').filter_map(|field| field.trim().split_once('='));
        let field = |name: &str| fields.clone().find(|(own, _)| *own == name).map(|(_, value)| value);
        Some(Self {
            region: region(field("Credential")?),
            headers: names(field("SignedHeaders")?),
            expires_seconds: None,
        })
    }

    fn in_query(query: &str) -> Option<Self> {
        let field = |name: &str| {
            form_urlencoded::parse(query.as_bytes()).find(|(own, _)| own == name).map(|(_, value)| value)
        };
        Some(Self {
            region: region(&field("X-Amz-Credential")?),
            headers: names(&field("X-Amz-SignedHeaders")?),
            expires_seconds: Some(field("X-Amz-Expires")?.parse().ok()?),
        })
    }

    /// The region that is meant.
    pub(super) fn region(&self) -> &str {
        &self.region
    }

    /// Whether the header is part of what was signed.
    pub(super) fn covers(&self, name: &HeaderName) -> bool {
        self.headers.iter().any(|own| own == name.as_str())
    }

    /// Refuses what S3 refuses.
    pub(super) fn check(&self, headers: &HeaderMap, region: &str) -> S3Result<()> {
        if self.expires_seconds.is_some_and(|seconds| seconds > MAX_EXPIRES_SECONDS) {
            return Err(self.malformed(
                "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less \
                 than 604800 seconds",
            ));
        }
        if self.region != region {
            let wrong = &self.region;
            return Err(self.malformed(&format!("the region '{wrong}' is wrong; expecting '{region}'")));
        }
        match headers.keys().find(|name| name.as_str().starts_with("x-amz-") && !self.covers(name)) {
            Some(name) => Err(S3Error::with_message(
                S3ErrorCode::AccessDenied,
                format!("There were headers present in the request which were not signed: {name}"),
            )),
            None => Ok(()),
        }
    }

    fn malformed(&self, message: &str) -> S3Error {
        let name = match self.expires_seconds {
            Some(_) => "AuthorizationQueryParametersError",
            None => "AuthorizationHeaderMalformed",
        };
        let code = S3ErrorCode::from_bytes(name.as_bytes()).unwrap_or(S3ErrorCode::InvalidRequest);
        let mut error = S3Error::with_message(code, message.to_owned());
        error.set_status_code(StatusCode::BAD_REQUEST);
        error
    }
}

/// Of a credential: `key id/date/region/service/aws4_request`.
fn region(credential: &str) -> String {
    credential.rsplit('/').nth(2).unwrap_or_default().to_owned()
}

fn names(list: &str) -> Vec<String> {
    list.split(';').map(str::to_ascii_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_signature_is_read_from_the_header_and_from_the_query() {
        let mut headers = HeaderMap::new();
        let query = "X-Amz-Credential=K%2F20261120%2Ftokyo%2Fs3%2Faws4_request&X-Amz-Expires=60\
                     &X-Amz-SignedHeaders=host%3Brange";
        let uri = format!("/b/k?{query}").parse().unwrap();
        let of_query = Signed::of(&uri, &headers).unwrap();
        let authorization = "AWS4-HMAC-SHA256 Credential=K/20261120/tokyo/s3/aws4_request, \
                             SignedHeaders=host;range,Signature=abc";
        headers.insert(AUTHORIZATION, HeaderValue::from_static(authorization));
        let of_header = Signed::of(&uri, &headers).unwrap();
        for signed in [&of_query, &of_header] {
            assert_eq!(signed.region, "tokyo");
            assert!(signed.covers(&http::header::RANGE) && !signed.covers(&http::header::IF_MATCH));
        }
        assert_eq!((of_query.expires_seconds, of_header.expires_seconds), (Some(60), None));
        assert!(Signed::of(&Uri::from_static("/b/k"), &HeaderMap::new()).is_none());
    }
}
