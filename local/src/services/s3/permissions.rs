//! Which permission an S3 operation needs. A version that is named needs one of its own.

use http::Uri;
use s3s::path::S3Path;
use url::form_urlencoded;

use crate::services::access::Permission;
use crate::template::arn;

/// Whether a request is for one version of an object, or for the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Version,
    Current,
}

impl Of {
    pub(super) fn request(uri: &Uri) -> Self {
        let query = uri.query().unwrap_or_default();
        let names_version = form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "versionId");
        if names_version { Self::Version } else { Self::Current }
    }

    pub(super) fn named<T>(version_id: Option<T>) -> Self {
        version_id.map_or(Self::Current, |_| Self::Version)
    }

    /// What reading it needs.
    pub(super) fn get(self) -> &'static str {
        match self {
            Self::Version => "s3:GetObjectVersion",
            Self::Current => "s3:GetObject",
        }
    }

    /// What deleting it needs.
    pub(super) fn delete(self) -> &'static str {
        match self {
            Self::Version => "s3:DeleteObjectVersion",
            Self::Current => "s3:DeleteObject",
        }
    }
}

/// The permission that an operation needs.
pub(super) fn needed(operation: &str, path: &S3Path, of: Of) -> Permission {
    let action = match operation {
        "GetObject" | "HeadObject" => return Permission::new(of.get(), resource(path)),
        "DeleteObject" => return Permission::new(of.delete(), resource(path)),
        // A multipart upload is a put in pieces.
        "PutObject"
        | "PostObject"
        | "CopyObject"
        | "CreateMultipartUpload"
        | "UploadPart"
        | "UploadPartCopy"
        | "CompleteMultipartUpload" => "PutObject",
        "ListObjects" | "ListObjectsV2" | "HeadBucket" => "ListBucket",
        "ListParts" => "ListMultipartUploadParts",
        "ListMultipartUploads" => "ListBucketMultipartUploads",
        "ListObjectVersions" => "ListBucketVersions",
        "ListBuckets" => "ListAllMyBuckets",
        // AbortMultipartUpload, CreateBucket and most others are called what they are.
        other => other,
    };
    Permission::new(format!("s3:{action}"), resource(path))
}

fn resource(path: &S3Path) -> String {
    match path {
        S3Path::Root => "*".to_owned(),
        S3Path::Bucket { bucket } => arn::bucket(bucket),
        S3Path::Object { bucket, key } => arn::object(bucket, key),
    }
}

/// What fault rules and usage call it: `bucket/key`.
pub(super) fn subject(path: &S3Path) -> Vec<String> {
    match path {
        S3Path::Root => Vec::new(),
        S3Path::Bucket { bucket } => vec![bucket.to_string()],
        S3Path::Object { bucket, key } => vec![format!("{bucket}/{key}")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_an_upload_need_what_the_upload_needs() {
        let path = S3Path::object("files", "uploads/a");
        let put = Permission::new("s3:PutObject", "arn:aws:s3:::files/uploads/a");
        for operation in ["PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"] {
            assert_eq!(needed(operation, &path, Of::Current), put);
        }
        assert_eq!(needed("AbortMultipartUpload", &path, Of::Current).action, "s3:AbortMultipartUpload");
    }

    #[test]
    fn listing_is_needed_on_the_bucket() {
        let listing = Permission::new("s3:ListBucket", "arn:aws:s3:::files");
        assert_eq!(needed("ListObjectsV2", &S3Path::bucket("files"), Of::Current), listing);
    }

    #[test]
    fn a_version_needs_a_permission_of_its_own() {
        let path = S3Path::object("files", "uploads/a");
        let needed = |operation, uri: &'static str| {
            needed(operation, &path, Of::request(&Uri::from_static(uri))).action
        };
        assert_eq!(needed("GetObject", "/files/uploads/a?versionId=1"), "s3:GetObjectVersion");
        assert_eq!(needed("DeleteObject", "/files/uploads/a?versionId=1"), "s3:DeleteObjectVersion");
        assert_eq!(needed("HeadObject", "/files/uploads/a?partNumber=1"), "s3:GetObject");
    }
}
