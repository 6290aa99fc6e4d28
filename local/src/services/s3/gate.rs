//! The checks before an S3 operation: the caller's key, its policy, and fault rules.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use http::StatusCode;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{Credentials, S3Auth, SecretKey};
use s3s::dto::{CopyObjectInput, CopySource, DeleteObjectsInput, UploadPartCopyInput};
use s3s::path::S3Path;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result, s3_error};

use super::permissions::{self, Of};
use super::signed::Signed;
use crate::services::access::Caller;
use crate::services::call::{Call, Service};
use crate::services::faults::Failure;
use crate::services::pipeline::{Controls, Passage, Refusal};
use crate::template::arn;

/// AWS's bound on the keys of one `DeleteObjects`.
const MAX_DELETED: usize = 1_000;

/// The longest name of a file.
const MAX_FILE_NAME_BYTES: usize = 255;

/// What `s3s-fs` makes of a key, its bytes in base64, besides the bucket's name, in the names of
/// two files.
const FILE_NAME_OVERHEAD_BYTES: usize = ".bucket-.object-.metadata.json".len();

/// What the gate learned about a request, for the endpoint that put the slot into it.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// When the request was received.
    start: Instant,
    content: Arc<Mutex<Option<Content>>>,
}

#[derive(Debug)]
pub(super) struct Content {
    pub(super) passage: Passage,
    /// What is read: of a copy, the source's.
    pub(super) bucket: Option<String>,
}

impl Slot {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), content: Arc::default() }
    }

    pub(super) fn take(&self) -> Option<Content> {
        self.lock().take()
    }

    fn reads_from(&self, bucket: &str) {
        if let Some(content) = self.lock().as_mut() {
            content.bucket = Some(bucket.to_owned());
        }
    }

    /// What the lock guards is replaced whole, so a panic elsewhere doesn't spoil it.
    fn lock(&self) -> MutexGuard<'_, Option<Content>> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(super) struct Gate {
    controls: Controls,
}

impl Gate {
    pub(super) fn new(controls: Controls) -> Self {
        Self { controls }
    }

    fn caller(&self, credentials: Option<&Credentials>) -> S3Result<Caller> {
        let credentials = credentials.ok_or_else(|| s3_error!(AccessDenied, "Access Denied"))?;
        self.controls.access.caller(&credentials.access_key).ok_or_else(unknown_key)
    }

    fn check(&self, caller: &Caller, action: &str, resource: &str) -> S3Result<()> {
        self.controls.access.check(caller, action, resource).map_err(|denied| {
            tracing::warn!(function = caller.name(), "{denied}");
            S3Error::with_message(S3ErrorCode::AccessDenied, denied.to_string())
        })
    }

    fn check_source(&self, credentials: Option<&Credentials>, source: &CopySource) -> S3Result<()> {
        match source {
            CopySource::Bucket { bucket, key, version_id } => {
                check_key(bucket, key)?;
                let action = Of::named(version_id.as_ref()).get();
                self.check(&self.caller(credentials)?, action, &arn::object(bucket, key))
            }
            _ => Err(s3_error!(NotImplemented, "copying from an access point is not served here")),
        }
    }
}

/// Refuses keys that S3 would take and a folder of files can't hold.
fn check_key(bucket: &str, key: &str) -> S3Result<()> {
    let base64_bytes = |text: &str| (text.len() * 4).div_ceil(3);
    let is_long = base64_bytes(bucket) + base64_bytes(key) + FILE_NAME_OVERHEAD_BYTES > MAX_FILE_NAME_BYTES;
    // A key that ends with a slash is a folder here, as in the console.
    let mut names = key.strip_suffix('/').unwrap_or(key).split('/');
    if is_long || names.any(|name| matches!(name, "" | "." | "..")) {
        return Err(s3_error!(
            NotImplemented,
            "A key of more than about 150 bytes, or with an empty part or one of dots, can't be kept on this machine."
        ));
    }
    Ok(())
}

fn unknown_key() -> S3Error {
    s3_error!(InvalidAccessKeyId, "The AWS Access Key Id you provided does not exist in our records.")
}

#[async_trait::async_trait]
impl S3Auth for Gate {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let access = &self.controls.access;
        // Every caller of this start signs with the same secret; the key id tells them apart.
        access.caller(access_key).ok_or_else(unknown_key)?;
        Ok(SecretKey::from(access.operator().secret_access_key.clone()))
    }
}

#[async_trait::async_trait]
impl S3Access for Gate {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let caller = self.caller(context.credentials())?;
        if let Some(signed) = Signed::of(context.uri(), context.headers()) {
            signed.check(context.headers(), self.controls.access.arns.region())?;
        }
        if let S3Path::Object { bucket, key } = context.s3_path() {
            check_key(bucket, key)?;
        }
        let operation = context.s3_op().name().to_owned();
        let path = context.s3_path();
        let permissions = match operation.as_str() {
            // Its keys are in its body: see `delete_objects`.
            "DeleteObjects" => Vec::new(),
            _ => vec![permissions::needed(&operation, path, Of::request(context.uri()))],
        };
        let bucket = path.get_bucket_name().map(str::to_owned);
        let resources = permissions::subject(path);
        let slot = context.extensions_mut().get::<Slot>().cloned().unwrap_or_else(Slot::new);
        let call = Call { caller, service: Service::S3, operation, resources };
        let (passage, entered) = self.controls.enter(call, slot.start, &permissions).await;
        *slot.lock() = Some(Content { passage, bucket });
        entered.map_err(s3_error_of)
    }

    async fn delete_objects(&self, request: &mut S3Request<DeleteObjectsInput>) -> S3Result<()> {
        let caller = self.caller(request.credentials.as_ref())?;
        let DeleteObjectsInput { bucket, delete, .. } = &request.input;
        if delete.objects.len() > MAX_DELETED {
            return Err(s3_error!(MalformedXML, "At most 1000 keys can be deleted at once."));
        }
        delete.objects.iter().try_for_each(|object| check_key(bucket, &object.key))?;
        // One key that may not be deleted refuses the whole request; the cloud refuses that key
        // alone.
        delete.objects.iter().try_for_each(|object| {
            let action = Of::named(object.version_id.as_ref()).delete();
            self.check(&caller, action, &arn::object(bucket, &object.key))
        })
    }

    async fn copy_object(&self, request: &mut S3Request<CopyObjectInput>) -> S3Result<()> {
        if let CopySource::Bucket { bucket, .. } = &request.input.copy_source
            && let Some(slot) = request.extensions.get::<Slot>()
        {
            slot.reads_from(bucket);
        }
        self.check_source(request.credentials.as_ref(), &request.input.copy_source)
    }

    async fn upload_part_copy(&self, request: &mut S3Request<UploadPartCopyInput>) -> S3Result<()> {
        self.check_source(request.credentials.as_ref(), &request.input.copy_source)
    }
}

/// A refusal as S3 words it.
fn s3_error_of(refusal: Refusal) -> S3Error {
    match refusal {
        Refusal::Unauthenticated(_) => s3_error!(AccessDenied, "Access Denied"),
        Refusal::Denied(denied) => S3Error::with_message(S3ErrorCode::AccessDenied, denied.to_string()),
        Refusal::Injected(failure) => s3_failure(&failure),
    }
}

fn s3_failure(failure: &Failure) -> S3Error {
    let named = |name: &str, status| {
        let mut error =
            S3Error::new(S3ErrorCode::from_bytes(name.as_bytes()).unwrap_or(S3ErrorCode::InternalError));
        error.set_status_code(status);
        error
    };
    match failure {
        Failure::ThrottlingException | Failure::ProvisionedThroughputExceededException => {
            s3_error!(SlowDown, "Please reduce your request rate.")
        }
        Failure::InternalServerError => {
            s3_error!(InternalError, "We encountered an internal error. Please try again.")
        }
        Failure::TransactionConflict { .. } | Failure::TransactionConflictException => {
            named("OperationAborted", StatusCode::CONFLICT)
        }
        Failure::Gone => named("Gone", StatusCode::GONE),
        Failure::LimitExceeded => named("LimitExceeded", StatusCode::TOO_MANY_REQUESTS),
    }
}
