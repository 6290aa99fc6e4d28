//! Deleting objects and buckets.
//!
//! 1. An object is deleted in its turn, on its conditions.
//! 2. What is not there is deleted: there is nothing to tell.
//! 3. A bucket is deleted when it is empty.

use s3s::dto::{
    DeleteBucketInput, DeleteBucketOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput,
    DeleteObjectsOutput, DeletedObject, ETagCondition, Error, ListObjectsV2Input,
};
use s3s::{S3, S3Request, S3Result, s3_error};

use super::conditions::{is, refused};
use super::{Store, internal_request};

impl Store {
    pub(super) async fn delete(&self, input: DeleteObjectInput) -> S3Result<DeleteObjectOutput> {
        if input.version_id.is_some()
            || input.if_match_last_modified_time.is_some()
            || input.if_match_size.is_some()
        {
            return Err(not_served());
        }
        self.remove(input.bucket, input.key, input.if_match.as_ref()).await?;
        Ok(DeleteObjectOutput::default())
    }

    /// Each is deleted or not, whatever becomes of the others.
    pub(super) async fn delete_all(&self, input: DeleteObjectsInput) -> S3Result<DeleteObjectsOutput> {
        let is_quiet = input.delete.quiet == Some(true);
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for object in input.delete.objects {
            if object.version_id.is_some() || object.last_modified_time.is_some() || object.size.is_some() {
                return Err(not_served());
            }
            let condition = object.e_tag.map(ETagCondition::ETag);
            match self.remove(input.bucket.clone(), object.key.clone(), condition.as_ref()).await {
                Ok(()) if is_quiet => {}
                Ok(()) => deleted.push(DeletedObject { key: Some(object.key), ..Default::default() }),
                Err(error) => errors.push(Error {
                    code: Some(error.code().as_str().to_owned()),
                    key: Some(object.key),
                    message: error.message().map(str::to_owned),
                    version_id: None,
                }),
            }
        }
        Ok(DeleteObjectsOutput { deleted: Some(deleted), errors: Some(errors), ..Default::default() })
    }

    async fn remove(&self, bucket: String, key: String, condition: Option<&ETagCondition>) -> S3Result<()> {
        let _turn = self.objects.of((&bucket, &key)).write().await;
        if let Some(condition) = condition {
            let current = self.e_tag(&bucket, &key).await?;
            if !current.is_some_and(|current| is(&current, condition)) {
                return Err(refused());
            }
        }
        if self.is_folder(&bucket, &key) {
            return Ok(());
        }
        let input = DeleteObjectInput { bucket, key, ..Default::default() };
        self.files.delete_object(internal_request(input)).await?;
        Ok(())
    }

    pub(super) async fn delete_bucket(
        &self,
        request: S3Request<DeleteBucketInput>,
    ) -> S3Result<DeleteBucketOutput> {
        let bucket = request.input.bucket.clone();
        let list = ListObjectsV2Input { bucket, max_keys: Some(1), ..Default::default() };
        let listed = self.files.list_objects_v2(internal_request(list)).await?.output;
        if listed.contents.is_some_and(|objects| !objects.is_empty()) {
            return Err(s3_error!(BucketNotEmpty, "The bucket you tried to delete is not empty"));
        }
        Ok(self.files.delete_bucket(request).await?.output)
    }
}

fn not_served() -> s3s::S3Error {
    s3_error!(NotImplemented, "versions, and conditions on time or size, are not served here")
}
