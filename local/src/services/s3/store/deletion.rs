//! Deleting objects and buckets.
//!
//! 1. Deletions of an object are serialized, and depend on its conditions.
//! 2. The deletion of a missing object succeeds.
//! 3. In a bucket with versions a deletion is one more version (see `versions`), unless it names
//!    the version that is to go.
//! 4. A bucket is deleted when it is empty.

use s3s::dto::{
    DeleteBucketInput, DeleteBucketOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput,
    DeleteObjectsOutput, DeletedObject, ETagCondition, Error, ListObjectsV2Input,
};
use s3s::{S3, S3Request, S3Result, s3_error};

use super::conditions::{is, refused};
use super::versions::{NULL, unreadable};
use super::{Store, internal_request};

/// What a deletion did in a bucket with versions.
#[derive(Default)]
struct Deletion {
    /// Of the version that is gone, or of the delete marker that was added.
    version_id: Option<String>,
    /// Whether that is a delete marker.
    is_marker: Option<bool>,
}

impl Store {
    pub(super) async fn delete(&self, input: DeleteObjectInput) -> S3Result<DeleteObjectOutput> {
        if input.if_match_last_modified_time.is_some() || input.if_match_size.is_some() {
            return Err(not_served());
        }
        let Deletion { version_id, is_marker } = self
            .remove(&input.bucket, &input.key, input.version_id.as_deref(), input.if_match.as_ref())
            .await?;
        Ok(DeleteObjectOutput { delete_marker: is_marker, version_id, ..Default::default() })
    }

    /// Each is deleted or not, independent of the others.
    pub(super) async fn delete_all(&self, input: DeleteObjectsInput) -> S3Result<DeleteObjectsOutput> {
        let is_quiet = input.delete.quiet == Some(true);
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for object in input.delete.objects {
            if object.last_modified_time.is_some() || object.size.is_some() {
                return Err(not_served());
            }
            let condition = object.e_tag.map(ETagCondition::ETag);
            let version = object.version_id.as_deref();
            match self.remove(&input.bucket, &object.key, version, condition.as_ref()).await {
                Ok(_) if is_quiet => {}
                Ok(Deletion { version_id, is_marker }) => deleted.push(DeletedObject {
                    key: Some(object.key),
                    delete_marker_version_id: version_id.filter(|_| is_marker.is_some()),
                    delete_marker: is_marker,
                    version_id: object.version_id,
                }),
                Err(error) => errors.push(Error {
                    code: Some(error.code().as_str().to_owned()),
                    key: Some(object.key),
                    message: error.message().map(str::to_owned),
                    version_id: object.version_id,
                }),
            }
        }
        Ok(DeleteObjectsOutput { deleted: Some(deleted), errors: Some(errors), ..Default::default() })
    }

    async fn remove(
        &self,
        bucket: &str,
        key: &str,
        version_id: Option<&str>,
        condition: Option<&ETagCondition>,
    ) -> S3Result<Deletion> {
        if condition.is_some() && version_id.is_some() {
            return Err(not_served());
        }
        let _turn = self.objects.of((bucket, key)).write().await;
        if let Some(condition) = condition {
            let current = self.e_tag(bucket, key).await?;
            if !current.is_some_and(|current| is(&current, condition)) {
                return Err(refused());
            }
        }
        if let Some(id) = version_id {
            let gone = self.remove_version(bucket, key, id)?;
            let is_marker = gone.as_ref().map(|version| version.content.is_none());
            if gone.is_some() || id != NULL {
                let is_marker = is_marker.filter(|is_marker| *is_marker);
                return Ok(Deletion { version_id: Some(id.to_owned()), is_marker });
            }
        } else if self.is_versioned(bucket) {
            let marker = self.mark_deleted(bucket, key).await?;
            return Ok(Deletion { version_id: Some(marker), is_marker: Some(true) });
        }
        if !self.is_folder(bucket, key) && !self.has_versions(bucket, key) {
            let input =
                DeleteObjectInput { bucket: bucket.to_owned(), key: key.to_owned(), ..Default::default() };
            self.files.delete_object(internal_request(input)).await?;
        }
        Ok(Deletion { version_id: version_id.map(str::to_owned), is_marker: None })
    }

    pub(super) async fn delete_bucket(
        &self,
        request: S3Request<DeleteBucketInput>,
    ) -> S3Result<DeleteBucketOutput> {
        let bucket = request.input.bucket.clone();
        let list = ListObjectsV2Input { bucket: bucket.clone(), max_keys: Some(1), ..Default::default() };
        if !self.index.all(&bucket).map_err(unreadable)?.is_empty() {
            return Err(not_empty());
        }
        let listed = self.files.list_objects_v2(internal_request(list)).await?.output;
        if listed.contents.is_some_and(|objects| !objects.is_empty()) {
            return Err(not_empty());
        }
        Ok(self.files.delete_bucket(request).await?.output)
    }
}

fn not_empty() -> s3s::S3Error {
    s3_error!(BucketNotEmpty, "The bucket you tried to delete is not empty")
}

fn not_served() -> s3s::S3Error {
    s3_error!(NotImplemented, "conditions on time or size, or on a version, are not served here")
}
