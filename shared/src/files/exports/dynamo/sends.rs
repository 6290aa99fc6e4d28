//! Decides which repetition of a request sends the export's message again.
//!
//! 1. *Claim*: a repeated request writes `sendClaimedAt`, on the condition that the export is
//!    `QUEUED` and that nobody has claimed within [`SEND_EVERY`]. So many concurrent repetitions
//!    send one message.
//! 2. *Send*, and then write `sentAt`.
//! 3. One region works on an export: the one whose queue has its message. A repetition in another
//!    region sends nothing. As long as no worker is known there, it is not acknowledged: the first
//!    request may have died before it sent.
//! 4. A request that finds a recent claim checks whether the claim's holder has sent. If not, the
//!    holder is about to send, or has died: it is unknown whether there is a message, and the
//!    request is not acknowledged. When the claim is old enough, the next repetition takes it over.

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

/// At most one repetition within this time sends a message. Longer than sending takes, and short
/// enough for a client to wait.
pub const SEND_EVERY: Duration = Duration::from_secs(10);

/// No worker has started, the export is of this region, and no other repetition may be about to
/// send. Times have a fixed width, so that text sorts as time.
const CLAIM: RowUpdate = RowUpdate {
    update: "SET sendClaimedAt = :now",
    condition: Some(
        "#status = :queued AND begins_with(slot, :slots) \
         AND (attribute_not_exists(sendClaimedAt) OR sendClaimedAt <= :lapsed)",
    ),
    names: &[("#status", "status")],
};

/// The message was sent. The row exists, with any status.
const SENT: RowUpdate =
    RowUpdate { update: "SET sentAt = :now", condition: Some("attribute_exists(exportId)"), names: &[] };

/// The result of claiming.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendClaim {
    Claimed,
    /// A message was sent recently, or the export does not need one any more.
    NotNeeded,
    /// Another repetition may be sending.
    BeingSent,
    /// The export is of this other region, and no worker is known to have started.
    Elsewhere(String),
}

/// The stamps in the exports table. Calls `UpdateItem` only.
#[derive(Debug, Clone)]
pub struct DynamoSends {
    client: Client,
    table: String,
    region: String,
    clock: SharedClock,
}

/// The attributes of a row that refused a claim.
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

    /// Claims the right to send a message about the export, which `region` works on.
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
            // The record of the first request has been replicated, and the row has not.
            Write::Refused(row) if row.is_empty() => Ok(match region {
                Some(region) if region != self.region => SendClaim::Elsewhere(region.to_owned()),
                _ => SendClaim::NotNeeded,
            }),
            Write::Refused(row) => refused_claim(row, &self.region),
        }
    }

    /// Records that the message was sent.
    pub async fn sent(&self, id: &ExportId) -> Result<(), DynamoError> {
        let values = [(":now", text(rfc3339(self.clock.now())))];
        let request = SENT.request(&self.client, &self.table, key(id), values);
        // Refused: the row has expired. A conflict: the worker of the message has started.
        Box::pin(request.send()).await.outcome("UpdateItem", id.as_str()).map(drop)
    }
}

/// The result of a refused claim, from its row.
fn refused_claim(row: Item, here: &str) -> Result<SendClaim, DynamoError> {
    let row: Row = from_item(row).map_err(|error| DynamoError::unreadable("read", "an export", error))?;
    if row.status == Status::Queued && row.slot.region() != here {
        return Ok(SendClaim::Elsewhere(row.slot.region().to_owned()));
    }
    let is_sent = row.sent_at.is_some() && row.sent_at >= row.send_claimed_at;
    Ok(if row.status == Status::Queued && !is_sent { SendClaim::BeingSent } else { SendClaim::NotNeeded })
}
