//! Which permission an S3 operation needs.

use s3s::path::S3Path;

use crate::services::access::Permission;
use crate::template::arn;

/// The permission that an operation needs.
pub(super) fn needed(operation: &str, path: &S3Path) -> Permission {
    let action = match operation {
        // A multipart upload is a put in pieces.
        "PutObject"
        | "PostObject"
        | "CopyObject"
        | "CreateMultipartUpload"
        | "UploadPart"
        | "UploadPartCopy"
        | "CompleteMultipartUpload" => "PutObject",
        "GetObject" | "HeadObject" => "GetObject",
        "DeleteObject" => "DeleteObject",
        "ListObjects" | "ListObjectsV2" | "HeadBucket" => "ListBucket",
        "ListParts" => "ListMultipartUploadParts",
        "ListMultipartUploads" => "ListBucketMultipartUploads",
        "ListBuckets" => "ListAllMyBuckets",
        // AbortMultipartUpload, CreateBucket and most others are called what they are.
        other => other,
    };
    let resource = match path {
        S3Path::Root => "*".to_owned(),
        S3Path::Bucket { bucket } => arn::bucket(bucket),
        S3Path::Object { bucket, key } => arn::object(bucket, key),
    };
    Permission::new(format!("s3:{action}"), resource)
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
            assert_eq!(needed(operation, &path), put);
        }
        assert_eq!(needed("AbortMultipartUpload", &path).action, "s3:AbortMultipartUpload");
    }

    #[test]
    fn listing_is_needed_on_the_bucket() {
        let listing = Permission::new("s3:ListBucket", "arn:aws:s3:::files");
        assert_eq!(needed("ListObjectsV2", &S3Path::bucket("files")), listing);
    }
}
