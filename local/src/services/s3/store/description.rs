//! What is kept about an object besides its bytes.

use s3s::dto::{
    CopyObjectInput, CreateMultipartUploadInput, GetObjectOutput, Metadata, PutObjectInput, Timestamp,
};
use s3s::{S3Result, s3_error};
use serde::{Deserialize, Serialize};

/// AWS's bound on what a client says of an object in headers of its own: names and values together.
const MAX_METADATA_BYTES: usize = 2 * 1024;

pub(super) fn check_metadata(metadata: Option<&Metadata>) -> S3Result<()> {
    let bytes: usize = metadata.into_iter().flatten().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MAX_METADATA_BYTES {
        return Err(s3_error!(
            MetadataTooLarge,
            "Your metadata headers exceed the maximum allowed metadata size"
        ));
    }
    Ok(())
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Description {
    cache_control: Option<String>,
    content_disposition: Option<String>,
    content_encoding: Option<String>,
    content_language: Option<String>,
    content_type: Option<String>,
    expires: Option<Timestamp>,
    metadata: Option<Metadata>,
    website_redirect_location: Option<String>,
}

/// From inputs and outputs with the same fields.
macro_rules! described_by {
    ($($type:ty),*) => {
        $(impl From<&$type> for Description {
            fn from(other: &$type) -> Self {
                Self {
                    cache_control: other.cache_control.clone(),
                    content_disposition: other.content_disposition.clone(),
                    content_encoding: other.content_encoding.clone(),
                    content_language: other.content_language.clone(),
                    content_type: other.content_type.clone(),
                    expires: other.expires.clone(),
                    metadata: other.metadata.clone(),
                    website_redirect_location: other.website_redirect_location.clone(),
                }
            }
        })*
    };
}

described_by!(CopyObjectInput, CreateMultipartUploadInput, GetObjectOutput);

impl Description {
    /// An object of that description, its bytes still to come.
    pub(super) fn object(self, bucket: String, key: String) -> PutObjectInput {
        PutObjectInput {
            bucket,
            key,
            cache_control: self.cache_control,
            content_disposition: self.content_disposition,
            content_encoding: self.content_encoding,
            content_language: self.content_language,
            content_type: self.content_type,
            expires: self.expires,
            metadata: self.metadata,
            website_redirect_location: self.website_redirect_location,
            ..Default::default()
        }
    }
}
