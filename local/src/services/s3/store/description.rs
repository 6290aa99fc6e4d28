//! The metadata that is stored with an object.

use s3s::dto::{
    CopyObjectInput, CreateMultipartUploadInput, ETag, GetObjectOutput, Metadata, PutObjectInput, Timestamp,
};
use s3s::{S3Result, s3_error};
use serde::{Deserialize, Serialize};

/// AWS's bound on what a client says of an object in headers of its own: names and values together.
const MAX_METADATA_BYTES: usize = 2 * 1024;

/// No header name has a space: this can't be what a client calls its own.
const MULTIPART_E_TAG: &str = "multipart etag";

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

/// `object` with an `ETag` of its own.
pub(super) fn with_e_tag(mut object: PutObjectInput, e_tag: String) -> PutObjectInput {
    object.metadata.get_or_insert_default().insert(MULTIPART_E_TAG.to_owned(), e_tag);
    object
}

/// The `ETag` that [`with_e_tag`] gave it.
pub(super) fn own_e_tag(object: &PutObjectInput) -> Option<String> {
    object.metadata.as_ref()?.get(MULTIPART_E_TAG).cloned()
}

/// The same of what was read. No client sees it among the metadata.
pub(super) fn take_e_tag(metadata: &mut Option<Metadata>) -> Option<ETag> {
    let e_tag = metadata.as_mut()?.remove(MULTIPART_E_TAG).map(ETag::Strong);
    *metadata = metadata.take().filter(|others| !others.is_empty());
    e_tag
}
