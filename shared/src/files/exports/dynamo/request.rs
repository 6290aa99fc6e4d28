//! Requests for exports.

use aws_sdk_dynamodb::types::{Put, TransactWriteItem};
use jiff::Timestamp;
use serde_dynamo::aws_sdk_dynamodb_1::to_item;

use super::slots;
use crate::coordination::idempotency::dynamo::atomic::{Decision, DecisionOf, Effect, Refused};
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{ExportId, SharedIds, UserId};
use crate::files::exports::{Export, ExportRequest, ExportSlot, InvalidPeriod, Period, TooManyOpen};
use crate::identity::principal::Principal;
use crate::platform::dynamo::{Actions, DynamoError, Item, Reasons, RowKey, Rows};
use crate::platform::outbox::{self, Event, EventType};
use crate::platform::tables;

/// Export ids are new. An existing row is the same export, written by an earlier try whose answer
/// was lost.
const IS_NEW: &str = "attribute_not_exists(exportId)";

/// The tables that a request writes to.
#[derive(Debug, Clone)]
pub struct ExportTables {
    pub(super) exports: String,
    outbox: String,
    region: String,
    ids: SharedIds,
}

impl ExportTables {
    /// The tables that `EXPORTS_TABLE` and `OUTBOX_TABLE` name, in the region `AWS_REGION`.
    pub fn from_env(env: &Env, ids: SharedIds) -> Result<Self, ConfigError> {
        Ok(Self {
            exports: tables::EXPORTS.name(env)?,
            outbox: tables::OUTBOX.name(env)?,
            region: crate::platform::aws::region(env)?,
            ids,
        })
    }

    /// An event of this kind about `export`, with additional data.
    pub(super) fn event(
        &self,
        kind: EventType,
        export: &Export,
        more: impl IntoIterator<Item = (&'static str, serde_json::Value)>,
        now: Timestamp,
    ) -> Result<TransactWriteItem, DynamoError> {
        let mut data = export.summary();
        for (member, value) in more {
            data[member] = value;
        }
        let event = Event {
            event_id: self.ids.next(),
            kind,
            occurred_at: now,
            region: self.region.clone(),
            subject: export.export_id.to_string(),
            data,
        };
        outbox::dynamo::put(&self.outbox, &event)
    }

    fn put(&self, export: &Export) -> Result<TransactWriteItem, DynamoError> {
        let mut item: Item = to_item(export)
            .map_err(|error| DynamoError::unreadable("write", export.export_id.as_str(), error))?;
        item.extend(super::key(&export.export_id));
        let put = Put::builder()
            .table_name(&self.exports)
            .set_item(Some(item))
            .condition_expression(IS_NEW)
            .build()
            .map_err(|error| DynamoError::unreadable("build", &self.exports, error))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }
}

/// A request for an export as a transaction: the row, the slot, and the event. The caller sends the
/// queue message.
#[derive(Debug)]
pub struct RequestExport<'a> {
    pub tables: &'a ExportTables,
    /// The id of the new export.
    pub export_id: ExportId,
    /// Which of the caller's orders.
    pub request: &'a ExportRequest,
}

/// Why an export was not requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExportRefusal {
    /// Its period can contain no orders. Final.
    #[error(transparent)]
    Period(InvalidPeriod),
    /// The customer has the maximum of open exports.
    #[error(transparent)]
    TooManyOpen(TooManyOpen),
}

impl Effect for RequestExport<'_> {
    type Outcome = Export;
    type Refusal = ExportRefusal;
    type Action = &'static str;

    fn rows(&self, customer_id: &UserId) -> Vec<RowKey<'_>> {
        let slot =
            |slot: ExportSlot| RowKey { table: &self.tables.exports, key: slots::key(customer_id, &slot) };
        ExportSlot::all(&self.tables.region).map(slot).collect()
    }

    async fn decide(
        &self,
        caller: &Principal,
        mut rows: Rows,
        now: Timestamp,
    ) -> Result<DecisionOf<Self>, DynamoError> {
        let period = match Period::of(self.request, now) {
            Ok(period) => period,
            Err(invalid) => return Ok(Decision::Refuse(Refused::ForGood(ExportRefusal::Period(invalid)))),
        };
        let held = rows.take(&self.tables.exports);
        let Some(slot) = slots::free(&held, &self.tables.region, &self.export_id, now) else {
            return Ok(Decision::Refuse(Refused::ForNow(ExportRefusal::TooManyOpen(TooManyOpen))));
        };
        let customer_id = caller.user_id().clone();
        let export = Export::requested(self.export_id.clone(), customer_id, period, slot, now);
        let actions = Actions::from([
            ("export", self.tables.put(&export)?),
            ("slot", slots::take(&self.tables.exports, &export, now)?),
            ("event", self.tables.event(EventType::ExportRequested, &export, [], now)?),
        ]);
        Ok(Decision::Commit { outcome: export, actions })
    }

    /// The id is new. If the slot is taken by now, another request of the customer was faster;
    /// another slot may be free.
    fn explain(&self, _: &Export, _: &Reasons<&'static str>) -> Option<Refused<ExportRefusal>> {
        None
    }

    fn committed(&self) {
        tracing::info!(export_id = %self.export_id, "export requested");
    }
}
