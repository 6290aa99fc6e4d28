//! Who may send an export's message once more.
//!
//! 1. *Claim*: a repeated request writes `sendClaimedAt`, on the condition that the export is `QUEUED` and that nobody has
//!    claimed within [`SEND_EVERY`]. So many repetitions at once send one message.
//! 2. *Send*, and then write `sentAt`.
//! 3. Who finds a fresh claim looks whether its holder has sent. If not, the holder is at it, or has died: nobody knows whether
//!    there is a message, and nothing may be acknowledged. When the claim is old enough, the next repetition takes it over.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use jiff::Timestamp;
use serde::Deserialize;
use serde_dynamo::aws_sdk_dynamodb_1::from_item;

use super::key;
use crate::core::clock::SharedClock;
use crate::core::date_time::{as_rfc3339_if_any, rfc3339};
use crate::core::env::{ConfigError, Env};
use crate::core::ids::ExportId;
use crate::files::exports::Status;
use crate::platform::dynamo::{Change, DynamoError, Item, Write, WriteOutcome, text};
use crate::platform::tables;

/// At most one repetition within this time sends a message. Longer than sending takes, and not longer than a client whose
/// request died would mind to wait.
pub const SEND_EVERY: Duration = Duration::from_secs(10);

/// Nobody has begun, and nobody else may be about to send. Times have one width, so that text compares as time does.
const CLAIM: Change = Change {
    update: "SET sendClaimedAt = :now",
    condition: Some(
        "#status = :queued AND (attribute_not_exists(sendClaimedAt) OR sendClaimedAt <= :lapsed)",
    ),
    names: &[("#status", "status")],
};

/// There is a message. The row is still there; what has become of the export is all the same.
const SENT: Change =
    Change { update: "SET sentAt = :now", condition: Some("attribute_exists(exportId)"), names: &[] };

/// Outcome of asking whether to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendClaim {
    /// The asker sends.
    Claimed,
    /// A message was sent lately, or the export is beyond needing one.
    NotNeeded,
    /// Somebody else may be sending.
    BeingSent,
}

/// The stamps of the exports table. Calls `UpdateItem`, nothing else.
#[derive(Debug, Clone)]
pub struct DynamoSends {
    client: Client,
    table: String,
    clock: SharedClock,
}

/// An export that did not need a message, or not from the asker.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    status: Status,
    #[serde(default, with = "as_rfc3339_if_any")]
    send_claimed_at: Option<Timestamp>,
    #[serde(default, with = "as_rfc3339_if_any")]
    sent_at: Option<Timestamp>,
}

impl DynamoSends {
    /// Stamps in the table that `EXPORTS_TABLE` names.
    pub fn from_env(client: Client, env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        Ok(Self { client, table: tables::EXPORTS.name(env)?, clock })
    }

    /// Asks whether to send a message about the export.
    pub async fn claim(&self, id: &ExportId) -> Result<SendClaim, DynamoError> {
        let now = self.clock.now();
        let lapsed = now.checked_sub(SEND_EVERY).unwrap_or(Timestamp::MIN);
        let values = [
            (":now", text(rfc3339(now))),
            (":lapsed", text(rfc3339(lapsed))),
            (":queued", text(Status::Queued.as_str())),
        ];
        let request = CLAIM.request(&self.client, &self.table, key(id), values);
        match Box::pin(request.send()).await.outcome("UpdateItem", id.as_str())? {
            Write::Done(_) => Ok(SendClaim::Claimed),
            // A worker's first write, or another repetition's claim.
            Write::Conflict => Ok(SendClaim::BeingSent),
            Write::Refused(row) => judge(row),
        }
    }

    /// Writes down that the message was sent.
    pub async fn sent(&self, id: &ExportId) -> Result<(), DynamoError> {
        let values = [(":now", text(rfc3339(self.clock.now())))];
        let request = SENT.request(&self.client, &self.table, key(id), values);
        // Refused: the row has expired. A conflict: the worker that got the message has begun.
        Box::pin(request.send()).await.outcome("UpdateItem", id.as_str()).map(drop)
    }
}

/// What the row that refused a claim says.
fn judge(row: Item) -> Result<SendClaim, DynamoError> {
    if row.is_empty() {
        return Ok(SendClaim::NotNeeded);
    }
    let row: Row = from_item(row).map_err(|error| DynamoError::unreadable("read", "an export", error))?;
    let is_sent = row.sent_at.is_some() && row.sent_at >= row.send_claimed_at;
    Ok(if row.status == Status::Queued && !is_sent { SendClaim::BeingSent } else { SendClaim::NotNeeded })
}
