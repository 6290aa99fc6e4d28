//! The objects: `s3s-fs` keeps them, each as a file, and lists and deletes them. Where it differs
//! from AWS's S3, this module replaces it: writing, copying, uploads in parts and versions.
//!
//! Limits: a key can't be an object and at the same time a prefix of others, as no path is a file
//! and a folder; an object has the checksums that its writer asked for and no other, and one that
//! came in parts has none until it is copied.

mod checksums;
mod conditions;
mod copy;
mod declared;
mod deletion;
mod description;
mod index;
mod listing;
mod multipart;
mod objects;
mod replicas;
mod staged;
mod turns;
mod uploads;
mod version_list;
mod versions;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, BucketVersioningStatus,
    CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CopyObjectInput, CopyObjectOutput,
    CreateBucketInput, CreateBucketOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput,
    DeleteBucketInput, DeleteBucketOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput,
    DeleteObjectsOutput, GetBucketLocationInput, GetBucketLocationOutput, GetBucketVersioningInput,
    GetBucketVersioningOutput, GetObjectInput, GetObjectOutput, HeadBucketInput, HeadBucketOutput,
    HeadObjectInput, HeadObjectOutput, ListBucketsInput, ListBucketsOutput, ListMultipartUploadsInput,
    ListMultipartUploadsOutput, ListObjectVersionsInput, ListObjectVersionsOutput, ListObjectsInput,
    ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, ListPartsInput, ListPartsOutput,
    PutObjectInput, PutObjectOutput, UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput,
    UploadPartOutput,
};
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;

use crate::template::model::{Bucket, BucketReplication, Versioning};
pub(super) use conditions::SetAside;
use index::Index;
pub(super) use index::Waiting;
pub(super) use replicas::Way;
use turns::Turns;
use uploads::Uploads;

/// Where the bytes of versions are, a folder for each bucket, and the index of them.
const VERSIONS: &str = ".versions";

/// All buckets.
#[derive(Debug)]
pub(super) struct Store {
    root: PathBuf,
    files: FileSystem,
    versions: FileSystem,
    index: Index,
    /// Where bytes wait until they are complete.
    staging: PathBuf,
    objects: Turns,
    uploads: Uploads,
    /// The buckets whose `VersioningConfiguration` is enabled, or was.
    versioned: HashSet<String>,
    replications: HashMap<String, BucketReplication>,
    /// Smallest size of every part but the last.
    pub(super) min_part_bytes: AtomicU64,
}

/// Why a store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Files(#[from] io::Error),
    /// The index of versions.
    #[error(transparent)]
    Index(#[from] rusqlite::Error),
}

impl Store {
    /// The store in `root`, where `buckets` come to be. No bucket's name begins with a dot: the
    /// store's own folders do.
    pub(super) fn open(root: &Path, buckets: &[Bucket]) -> Result<Self, OpenError> {
        let folder = root.join(VERSIONS);
        for name in buckets.iter().map(|bucket| &bucket.name) {
            std::fs::create_dir_all(root.join(name))?;
            std::fs::create_dir_all(folder.join(name))?;
        }
        std::fs::create_dir_all(&folder)?;
        let files =
            |root: &Path| FileSystem::new(root).map_err(|error| io::Error::other(format!("{error:?}")));
        let versioned = buckets.iter().filter(|bucket| bucket.versioning == Versioning::On);
        let replications =
            buckets.iter().filter_map(|bucket| Some((bucket.name.clone(), bucket.replication.clone()?)));
        let index = Index::open(&folder.join("index.sqlite3"))?;
        let keys = index.keys()?;
        let store = Self {
            root: root.to_owned(),
            files: files(root)?,
            versions: files(&folder)?,
            index,
            staging: uploads::emptied(root.join(".staging"))?,
            objects: Turns::new(),
            uploads: Uploads::open(root.join(".uploads"))?,
            versioned: versioned
                .map(|bucket| &bucket.name)
                .chain(keys.iter().map(|(bucket, _)| bucket))
                .cloned()
                .collect(),
            replications: replications.collect(),
            min_part_bytes: AtomicU64::new(multipart::MIN_PART_BYTES),
        };
        for (bucket, key) in keys {
            store.show(&bucket, &key).map_err(|error| io::Error::other(error.to_string()))?;
        }
        Ok(store)
    }

    fn versioning(&self, bucket: &str) -> GetBucketVersioningOutput {
        let enabled = BucketVersioningStatus::from_static(BucketVersioningStatus::ENABLED);
        let status = self.is_versioned(bucket).then_some(enabled);
        GetBucketVersioningOutput { status, ..Default::default() }
    }

    fn bucket_exists(&self, bucket: &str) -> S3Result<()> {
        if self.root.join(bucket).is_dir() {
            return Ok(());
        }
        Err(s3_error!(NoSuchBucket, "The specified bucket does not exist"))
    }
}

/// What the store asks of the files itself.
fn internal_request<T>(input: T) -> S3Request<T> {
    S3Request {
        input,
        method: http::Method::default(),
        uri: http::Uri::default(),
        headers: http::HeaderMap::new(),
        extensions: http::Extensions::new(),
        credentials: None,
        region: None,
        service: None,
        trailing_headers: None,
    }
}

/// Serves a store that others use too.
pub(super) struct Served(pub(super) Arc<Store>);

/// Which operations are served here, in a bucket that must exist, and which by the files as they
/// are.
macro_rules! operations {
    (
        here { $($operation:ident($input:ty) -> $output:ty: |$store:ident, $request:ident| $answer:expr;)* }
        files { $($delegated:ident($delegated_input:ty) -> $delegated_output:ty;)* }
    ) => {
        #[async_trait::async_trait]
        impl S3 for Served {
            $(async fn $operation(&self, $request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                let $store = &*self.0;
                $store.bucket_exists(&$request.input.bucket)?;
                $answer.map(S3Response::new)
            })*

            $(async fn $delegated(
                &self,
                request: S3Request<$delegated_input>,
            ) -> S3Result<S3Response<$delegated_output>> {
                self.0.files.$delegated(request).await
            })*
        }
    };
}

operations! {
    here {
        abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput:
            |store, request| store.abort(request.input).await;
        complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput:
            |store, request| store.complete(request.input).await;
        copy_object(CopyObjectInput) -> CopyObjectOutput: |store, request| store.copy(request.input).await;
        create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput:
            |store, request| store.create_upload(request.input);
        delete_bucket(DeleteBucketInput) -> DeleteBucketOutput: |store, request| store.delete_bucket(request).await;
        delete_object(DeleteObjectInput) -> DeleteObjectOutput: |store, request| store.delete(request.input).await;
        delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput:
            |store, request| store.delete_all(request.input).await;
        get_bucket_versioning(GetBucketVersioningInput) -> GetBucketVersioningOutput:
            |store, request| Ok(store.versioning(&request.input.bucket));
        get_object(GetObjectInput) -> GetObjectOutput: |store, request| store.get(request).await;
        head_object(HeadObjectInput) -> HeadObjectOutput: |store, request| store.head(request).await;
        list_object_versions(ListObjectVersionsInput) -> ListObjectVersionsOutput:
            |store, request| store.list_versions(request.input).await;
        list_objects(ListObjectsInput) -> ListObjectsOutput: |store, request| store.list(request).await;
        list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output:
            |store, request| store.list_v2(request).await;
        list_multipart_uploads(ListMultipartUploadsInput) -> ListMultipartUploadsOutput:
            |store, request| store.uploads_under_way(request.input);
        list_parts(ListPartsInput) -> ListPartsOutput: |store, request| store.parts(request.input);
        put_object(PutObjectInput) -> PutObjectOutput: |store, request| store.put(request).await;
        upload_part(UploadPartInput) -> UploadPartOutput: |store, request| store.upload(request).await;
        upload_part_copy(UploadPartCopyInput) -> UploadPartCopyOutput:
            |store, request| store.upload_copy(request.input).await;
    }
    files {
        create_bucket(CreateBucketInput) -> CreateBucketOutput;
        get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput;
        head_bucket(HeadBucketInput) -> HeadBucketOutput;
        list_buckets(ListBucketsInput) -> ListBucketsOutput;
    }
}
