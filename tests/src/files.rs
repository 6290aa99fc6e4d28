//! Files, and how clients send them: past the API, to the links that it gives.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_sdk_dynamodb::types::AttributeValue;
use reqwest::header::ETAG;
use serde_json::{Value, json};
use sojourn::core::clock::{Clock, SystemClock};
use sojourn::core::date_time::rfc3339;
use sojourn::platform::tables;

use crate::api::Answer;
use crate::region::TestRegion;
use crate::shop::Customer;

/// A file on a client's side.
#[derive(Debug, Clone)]
pub struct File {
    /// What it is called.
    pub name: String,
    /// What kind of file it is.
    pub content_type: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// What S3 answered to bytes.
#[derive(Debug, Clone)]
pub struct Sent {
    /// HTTP status.
    pub status: u16,
    /// The part's entity tag.
    pub etag: Option<String>,
    /// The body: of a refusal, why.
    pub text: String,
}

impl File {
    /// A text file.
    pub fn text(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), content_type: "text/plain".to_owned(), bytes: text.into() }
    }

    /// A file of this many bytes, none of whose parts are alike.
    pub fn of_size(bytes: usize) -> Self {
        let numbers = (0_u64..).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        let content_type = "application/octet-stream".to_owned();
        Self { name: "journey.bin".to_owned(), content_type, bytes: numbers.take(bytes).collect() }
    }

    /// The checksum that is announced: SHA-256 in lower-case hex.
    pub fn sha256(&self) -> String {
        use std::fmt::Write;
        digest(&SHA256, &self.bytes).as_ref().iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        })
    }

    /// The body of `POST /uploads`.
    pub fn announcement(&self) -> Value {
        json!({
            "fileName": self.name, "contentType": self.content_type,
            "sizeBytes": self.bytes.len(), "sha256": self.sha256(),
        })
    }

    /// The bytes of a part, as an answer's `parts` cut the file.
    pub fn part(&self, offer: &Answer, number: usize) -> &[u8] {
        let size = usize::try_from(offer.body["partSizeBytes"].as_u64().unwrap()).unwrap();
        let end = self.bytes.len().min(number * size);
        &self.bytes[(number - 1) * size..end]
    }
}

impl TestRegion {
    /// Announces a file.
    pub async fn announce(&self, who: &Customer, file: &File) -> Answer {
        self.call_as(who, "POST", "/uploads").json(&file.announcement()).send().await
    }

    /// Sends bytes to the link of an answer, with the headers that it says.
    pub async fn send_whole(&self, offer: &Answer, bytes: &[u8]) -> Sent {
        let headers = offer.body["headers"].as_object().expect("headers to send");
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect();
        self.put(&offer.text_of("url"), &headers, bytes).await
    }

    /// Sends bytes as a part.
    pub async fn send_part(&self, offer: &Answer, number: usize, bytes: &[u8]) -> Sent {
        let part = &offer.body["parts"][number - 1];
        assert_eq!(part["partNumber"], number, "{}", offer.text);
        self.put(part["url"].as_str().expect("a link"), &[], bytes).await
    }

    async fn put(&self, url: &str, headers: &[(&str, &str)], bytes: &[u8]) -> Sent {
        let request = self.plain_http().put(url).body(bytes.to_vec());
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let response = request.send().await.expect("S3 answers");
        let etag = response.headers().get(ETAG).map(|etag| etag.to_str().unwrap().to_owned());
        Sent { status: response.status().as_u16(), etag, text: response.text().await.unwrap() }
    }

    /// Sends a whole file in parts, one after the other, and tells what to complete it with.
    pub async fn send_parts(&self, offer: &Answer, file: &File) -> Value {
        let mut parts = Vec::new();
        for number in 1..=offer.body["parts"].as_array().expect("parts").len() {
            let sent = self.send_part(offer, number, file.part(offer, number)).await;
            assert_eq!(sent.status, 200, "{}", sent.text);
            parts.push(json!({"partNumber": number, "etag": sent.etag}));
        }
        json!({"parts": parts})
    }

    /// Says that a file was sent.
    pub async fn complete(&self, who: &Customer, upload_id: &str, body: &Value) -> Answer {
        self.call_as(who, "POST", &format!("/uploads/{upload_id}/complete")).json(body).send().await
    }

    /// Announces, sends and completes a small file; the upload as it is then.
    pub async fn upload(&self, who: &Customer, file: &File) -> Answer {
        let offer = self.announce(who, file).await.expect(201);
        let sent = self.send_whole(&offer, &file.bytes).await;
        assert_eq!(sent.status, 200, "{}", sent.text);
        self.complete(who, &offer.text_of("uploadId"), &json!({})).await.expect(200)
    }

    /// Follows the link of an upload's document.
    pub async fn download(&self, document: &Value) -> reqwest::Response {
        let url = document["downloadUrl"].as_str().unwrap_or_else(|| panic!("no link in {document}"));
        self.plain_http().get(url).send().await.expect("S3 answers")
    }

    /// The keys of all objects that were uploaded, or are on their way.
    pub async fn uploaded_objects(&self) -> Vec<String> {
        let mut keys = Vec::new();
        for prefix in ["incoming/", "uploads/"] {
            let listing = self.s3().list_objects_v2().bucket(self.bucket().await).prefix(prefix).send();
            keys.extend(
                listing.await.unwrap().contents().iter().filter_map(|object| object.key().map(str::to_owned)),
            );
        }
        keys
    }

    /// How many uploads in parts S3 has open.
    pub async fn open_multipart_uploads(&self) -> usize {
        let listing = self.s3().list_multipart_uploads().bucket(self.bucket().await).send().await.unwrap();
        listing.uploads().len()
    }

    /// The region's only bucket.
    pub async fn bucket(&self) -> String {
        let buckets = self.s3().list_buckets().send().await.unwrap();
        buckets.buckets()[0].name().expect("it has a name").to_owned()
    }

    /// What is counted as taken by a customer in this region: bytes and files.
    pub async fn quota_taken(&self, who: &Customer) -> (u64, u64) {
        let row = self.dynamodb().get_item().table_name(self.table(tables::UPLOADS.logical_id));
        let row = row.key("ownerId", AttributeValue::S(who.user_id.clone()));
        let usage = format!("usage#{}", self.aws_region());
        let row = row.key("uploadId", AttributeValue::S(usage)).consistent_read(true);
        let row = row.send().await.unwrap().item.unwrap_or_default();
        let number = |name: &str| row.get(name).map_or(0, |value| value.as_n().unwrap().parse().unwrap());
        (number("bytes"), number("files"))
    }

    /// Makes the time come at which all that a customer deleted has to be looked after, and has the
    /// clean-up do so.
    pub async fn sweep_deleted_uploads(&self, who: &Customer) {
        /// Each run is a slot of its own.
        static SLOT: AtomicU64 = AtomicU64::new(1);
        let query =
            self.dynamodb().query().table_name(self.table(tables::UPLOADS.logical_id)).consistent_read(true);
        let query =
            query.key_condition_expression("ownerId = :owner").filter_expression("#status = :deleted");
        let query = query.expression_attribute_names("#status", "status");
        let query = query.expression_attribute_values(":owner", AttributeValue::S(who.user_id.clone()));
        let query = query.expression_attribute_values(":deleted", AttributeValue::S("DELETED".to_owned()));
        for row in query.send().await.unwrap().items.unwrap() {
            self.overdue_upload(who, row["uploadId"].as_s().unwrap()).await;
        }
        let seconds = Duration::from_secs(SLOT.fetch_add(1, Ordering::Relaxed));
        let slot = SystemClock.now().checked_add(seconds).unwrap();
        self.fire("upload-cleanup", &rfc3339(slot)).await.expect(200);
    }

    /// Makes a READY upload one of long ago, whose links have ended.
    pub async fn old_upload(&self, who: &Customer, upload_id: &str) {
        let then = SystemClock.now().checked_sub(Duration::from_hours(24)).unwrap();
        let then = AttributeValue::S(rfc3339(then));
        let update = self.dynamodb().update_item().table_name(self.table(tables::UPLOADS.logical_id));
        let update = update.key("ownerId", AttributeValue::S(who.user_id.clone()));
        let update = update.key("uploadId", AttributeValue::S(upload_id.to_owned()));
        let update = update.update_expression("SET createdAt = :then, readyAt = :then");
        let update = update.condition_expression("attribute_exists(readyAt)");
        update.expression_attribute_values(":then", then).send().await.unwrap();
    }

    /// Makes the time come at which an upload has to be looked after.
    pub async fn overdue_upload(&self, who: &Customer, upload_id: &str) {
        let then = SystemClock.now().checked_sub(Duration::from_mins(1)).unwrap();
        let update = self.dynamodb().update_item().table_name(self.table(tables::UPLOADS.logical_id));
        let update = update.key("ownerId", AttributeValue::S(who.user_id.clone()));
        let update = update.key("uploadId", AttributeValue::S(upload_id.to_owned()));
        let update = update.update_expression("SET sweepAt = :then");
        let update = update.condition_expression("attribute_exists(sweepAt)");
        update.expression_attribute_values(":then", AttributeValue::S(rfc3339(then))).send().await.unwrap();
    }
}
