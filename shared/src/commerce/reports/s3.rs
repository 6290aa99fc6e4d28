//! Reports in S3, written so that the report of an earlier run never replaces that of a later one.
//!
//! | key | written |
//! |---|---|
//! | `reports/<date>/runs/<fence>-<owner>/daily.json`, `.csv` | once |
//! | `reports/<date>/daily.json`, `.csv` | by each run of the slot, fences rising |
//!
//! S3 has no transactions with DynamoDB, so the lock cannot guard these writes. Conditional writes
//! do:
//!
//! 1. A run first writes objects whose names contain its fence and its owner, with
//!    `If-None-Match: *`. No other run uses these names. The lock's completion, which only the
//!    holder can make, records them: the slot's item permanently names the valid report.
//! 2. Then it puts its report under the day's plain names by compare-and-swap. `If-None-Match: *`
//!    creates the object if there is none. Otherwise it reads the fence and the `ETag` of the
//!    current one. A fence that is not smaller than its own means that a later run was here:
//!    [`Publication::Superseded`]. A smaller one is replaced under `If-Match: <that ETag>`; if that
//!    fails, another write was faster, and the run looks again.
//! 3. So each replacement is decided on the object that it replaces, and the fence under a plain
//!    name only rises. A paused run that wakes up between reading and writing has the `ETag` of an
//!    object that is gone, for good: the bytes contain the fence and the owner, so no two runs
//!    write the same bytes, and an `ETag` stands for one run.
//! 4. A repeated request (an answer was lost) fails its own condition; the object then has the
//!    run's own fence and owner, which counts as written.
//!
//! The CSV is written first: a reader who sees a run's JSON under the plain name finds the CSV of
//! that run, or a later one's.
//!
//! Limits: deleting the plain objects deletes their fence too, and a paused run could write once
//! more; the objects under `runs/` and the slot's item stay right. The `HEAD` of step 2 follows a
//! refusal that proved that the object exists, since without the permission to list the bucket S3
//! answers 403 for an absent one.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_runtime_api::http::Response;

use super::{DailyReport, Publication, ReportError, ReportKeys};
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::retry::Backoff;

/// The metadata with the run's fence and owner.
const FENCE: &str = "fence";
const OWNER: &str = "owner";

/// Reports in a bucket. Calls `PutObject` and `HeadObject` (which needs `s3:GetObject`) under
/// `reports/`.
#[derive(Debug, Clone)]
pub struct S3Reports {
    client: Client,
    bucket: String,
}

struct Document<'a> {
    report: &'a DailyReport,
    name: &'static str,
    content_type: &'static str,
    body: String,
}

/// The result of a conditional put.
enum Put {
    Written,
    /// 412: the condition failed.
    ConditionFailed,
    /// 409: a conflict with another conditional write.
    InProgress,
    /// 404: there is no object whose `ETag` could match. Without one in the condition, there is no
    /// bucket.
    Absent(ReportError),
}

/// Which run wrote the object under a plain name.
enum Present {
    Ours,
    Later { fence: u64 },
    Earlier { etag: String },
    Gone,
}

impl Document<'_> {
    fn run_key(&self) -> String {
        let DailyReport { date, fence, owner, .. } = self.report;
        // Fixed width, so that a listing is in the order of the runs.
        format!("reports/{date}/runs/{fence:010}-{owner}/{}", self.name)
    }

    fn plain_key(&self) -> String {
        format!("reports/{}/{}", self.report.date, self.name)
    }
}

impl S3Reports {
    /// Reports in the bucket that `FILES_BUCKET` names.
    pub fn from_env(client: Client, env: &Env) -> Result<Self, ConfigError> {
        Ok(Self { client, bucket: env.required("FILES_BUCKET")?.to_owned() })
    }

    fn put(&self, key: &str, document: &Document<'_>) -> PutObjectFluentBuilder {
        self.client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .content_type(document.content_type)
            .metadata(FENCE, document.report.fence.to_string())
            .metadata(OWNER, document.report.owner.as_str())
            .body(ByteStream::from(document.body.clone().into_bytes()))
    }

    async fn put_new(&self, key: &str, document: &Document<'_>) -> Result<Put, ReportError> {
        outcome(key, Box::pin(self.put(key, document).if_none_match("*").send()).await)
    }

    /// Step 1. Only this run uses the name, so an existing object is its own.
    async fn put_for_good(&self, document: &Document<'_>, deadline: Deadline) -> Result<(), ReportError> {
        let key = document.run_key();
        let mut backoff = Backoff::within(deadline);
        loop {
            match self.put_new(&key, document).await? {
                Put::Written | Put::ConditionFailed => return Ok(()),
                Put::Absent(error) => return Err(error),
                Put::InProgress if backoff.wait().await => {}
                Put::InProgress => return Err(ReportError::Contended { key }),
            }
        }
    }

    /// Step 2. Returns the fence of the later run, if there was one.
    async fn put_latest(
        &self,
        document: &Document<'_>,
        deadline: Deadline,
    ) -> Result<Option<u64>, ReportError> {
        let key = document.plain_key();
        let mut backoff = Backoff::within(deadline);
        loop {
            match self.put_new(&key, document).await? {
                Put::Written => return Ok(None),
                Put::Absent(error) => return Err(error),
                Put::ConditionFailed | Put::InProgress => {}
            }
            match self.present(&key, document.report).await? {
                Present::Ours => return Ok(None),
                Present::Later { fence } => return Ok(Some(fence)),
                Present::Earlier { etag } => {
                    let replacement = Box::pin(self.put(&key, document).if_match(etag).send()).await;
                    if let Put::Written = outcome(&key, replacement)? {
                        return Ok(None);
                    }
                }
                Present::Gone => {}
            }
            if !backoff.wait().await {
                return Err(ReportError::Contended { key });
            }
        }
    }

    async fn present(&self, key: &str, report: &DailyReport) -> Result<Present, ReportError> {
        let head = match Box::pin(self.client.head_object().bucket(&self.bucket).key(key).send()).await {
            Ok(head) => head,
            Err(error) if status(&error) == Some(404) => return Ok(Present::Gone),
            Err(error) => return Err(failed("HeadObject", key, error)),
        };
        let tag = |name| head.metadata().and_then(|metadata| metadata.get(name));
        // An object without a fence was put there manually; every run is later than that.
        let fence = tag(FENCE).and_then(|fence| fence.parse::<u64>().ok()).unwrap_or(0);
        if fence == report.fence && tag(OWNER).is_some_and(|owner| owner == report.owner.as_str()) {
            return Ok(Present::Ours);
        }
        if fence >= report.fence {
            return Ok(Present::Later { fence });
        }
        Ok(head.e_tag().map_or(Present::Gone, |etag| Present::Earlier { etag: etag.to_owned() }))
    }
}

impl S3Reports {
    /// Publishes a report, unless a run with a larger fence has.
    pub async fn publish(
        &self,
        report: &DailyReport,
        deadline: Deadline,
    ) -> Result<Publication, ReportError> {
        let json = Document {
            report,
            name: "daily.json",
            content_type: "application/json",
            body: report.to_json()?,
        };
        let csv = Document {
            report,
            name: "daily.csv",
            content_type: "text/csv; charset=utf-8; header=present",
            body: report.to_csv(),
        };
        futures::try_join!(self.put_for_good(&json, deadline), self.put_for_good(&csv, deadline))?;
        for document in [&csv, &json] {
            if let Some(by) = self.put_latest(document, deadline).await? {
                return Ok(Publication::Superseded { by });
            }
        }
        Ok(Publication::Published(ReportKeys {
            json: json.run_key(),
            csv: csv.run_key(),
            latest_json: json.plain_key(),
            latest_csv: csv.plain_key(),
        }))
    }
}

fn outcome<T, E>(key: &str, result: Result<T, SdkError<E, Response>>) -> Result<Put, ReportError>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let Err(error) = result else { return Ok(Put::Written) };
    match status(&error) {
        Some(412) => Ok(Put::ConditionFailed),
        Some(409) => Ok(Put::InProgress),
        Some(404) => Ok(Put::Absent(failed("PutObject", key, error))),
        _ => Err(failed("PutObject", key, error)),
    }
}

fn status<E>(error: &SdkError<E, Response>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

fn failed<E>(operation: &'static str, key: &str, error: SdkError<E, Response>) -> ReportError
where
    E: std::error::Error + Send + Sync + 'static,
{
    ReportError::Store { operation, key: key.to_owned(), source: Box::new(error) }
}
