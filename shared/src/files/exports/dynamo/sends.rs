//! Which repetition of a request sends the export's message once more.
//!
//! 1. *Claim*: a repeated request writes `sendClaimedAt`, on the condition that the export is `QUEUED` and that nobody has
//!    claimed within [`SEND_EVERY`]. So many repetitions at once send one message.
//! 2. *Send*, and then write `sentAt`.
//! 3. An export is worked on in one region, whose queue has its message. A repetition in another region sends nothing. If that region has
//!    not heard of a worker, nothing is acknowledged: the first request may have died before it sent.
//! 4. A request that finds a fresh claim reads whether its holder has sent. If not, the holder is about to send, or has died:
//!    it is unknown whether there is a message, and nothing may be acknowledged. When the claim is old enough, the next
//!    repetition takes it over.

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
use crate::files::exports::{ExportSlot, Status};
use crate::platform::dynamo::{DynamoError, Item, RowUpdate, Write, WriteOutcome, text};
use crate::platform::{aws, tables};

/// At most one repetition within this time sends a message. Longer than sending takes, and short enough for a client to wait
/// whose request died.
pub const SEND_EVERY: Duration = Duration::from_secs(10);

/// No worker has started, the export is this region's, and no other repetition may be about to send. Times have one width, so that their texts sort as the
/// times do.
const CLAIM: RowUpdate = RowUpdate {
    update: "SET sendClaimedAt = :now",
    condition: Some(
        "#status = :queued AND begins_with(slot, :slots) \
         AND (attribute_not_exists(sendClaimedAt) OR sendClaimedAt <= :lapsed)",
    ),
    names: &[("#status", "status")],
};

/// The message was sent. The row is still there, whatever the status.
const SENT: RowUpdate =
    RowUpdate { update: "SET sentAt = :now", condition: Some("attribute_exists(exportId)"), names: &[] };

/// Outcome of asking whether to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendClaim {
    Claimed,
    /// A message was sent lately, or the export is beyond needing one.
    NotNeeded,
    /// Another repetition may be sending.
    BeingSent,
    /// The export is this other region's, and no worker has started as far as this region has heard.
    Elsewhere(String),
}

/// The stamps of the exports table. Calls `UpdateItem`, nothing else.
#[derive(Debug, Clone)]
pub struct DynamoSends {
    client: Client,
    table: String,
    region: String,
    clock: SharedClock,
}

/// What a row that refused a claim says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    status: Status,
    slot: ExportSlot,
    #[serde(default, with = "as_rfc3339_if_any")]
    send_claimed_at: Option<Timestamp>,
    #[serde(default, with = "as_rfc3339_if_any")]
    sent_at: Option<Timestamp>,
}

impl DynamoSends {
    /// Stamps of the region `AWS_REGION`, in the table that `EXPORTS_TABLE` names.
    pub fn from_env(client: Client, env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        Ok(Self { client, table: tables::EXPORTS.name(env)?, region: aws::region(env)?, clock })
    }

    /// Asks whether to send a message about the export, which `region` works on.
    pub async fn claim(&self, id: &ExportId, region: Option<&str>) -> Result<SendClaim, DynamoError> {
        let now = self.clock.now();
        let lapsed = now.checked_sub(SEND_EVERY).unwrap_or(Timestamp::MIN);
        let values = [
            (":now", text(rfc3339(now))),
            (":lapsed", text(rfc3339(lapsed))),
            (":queued", text(Status::Queued.as_str())),
            (":slots", text(ExportSlot::prefix(&self.region))),
        ];
        let request = CLAIM.request(&self.client, &self.table, key(id), values);
        match Box::pin(request.send()).await.outcome("UpdateItem", id.as_str())? {
            Write::Done(_) => Ok(SendClaim::Claimed),
            // A worker's first write, or another repetition's claim.
            Write::Conflict => Ok(SendClaim::BeingSent),
            // The record of the first request has arrived here, and the row has not.
            Write::Refused(row) if row.is_empty() => Ok(match region {
                Some(region) if region != self.region => SendClaim::Elsewhere(region.to_owned()),
                _ => SendClaim::NotNeeded,
            }),
            Write::Refused(row) => judge(row, &self.region),
        }
    }

    /// Writes down that the message was sent.
    pub async fn sent(&self, id: &ExportId) -> Result<(), DynamoError> {
        let values = [(":now", text(rfc3339(self.clock.now())))];
        let request = SENT.request(&self.client, &self.table, key(id), values);
        // Refused: the row has expired. A conflict: the worker that got the message has started.
        Box::pin(request.send()).await.outcome("UpdateItem", id.as_str()).map(drop)
    }
}

/// What the row that refused a claim says.
fn judge(row: Item, here: &str) -> Result<SendClaim, DynamoError> {
    let row: Row = from_item(row).map_err(|error| DynamoError::unreadable("read", "an export", error))?;
    if row.status == Status::Queued && row.slot.region() != here {
        return Ok(SendClaim::Elsewhere(row.slot.region().to_owned()));
    }
    let is_sent = row.sent_at.is_some() && row.sent_at >= row.send_claimed_at;
    Ok(if row.status == Status::Queued && !is_sent { SendClaim::BeingSent } else { SendClaim::NotNeeded })
}
