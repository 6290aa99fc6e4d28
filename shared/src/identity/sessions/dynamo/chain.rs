//! Chains of refresh tokens: the number of the latest token that each region has issued.

use jiff::Timestamp;

use super::{
    DynamoSessions, HAS_NO_END, PATIENCE, RowKind, STAMP, SessionAction, end_key, key, key_of, kind_of,
    name_of, row_expiry,
};
use crate::core::date_time::rfc3339;
use crate::core::deadline::Deadline;
use crate::core::ids::{SessionId, UserId};
use crate::identity::sessions::{FIRST_NUMBER, Session, SessionError, SessionRows};
use crate::platform::dynamo::{Actions, DynamoError, Item, RowUpdate, Transaction, number, text};

/// The region's number only rises. Of many concurrent exchanges of one token, one writes.
const RAISE: RowUpdate = RowUpdate {
    update: "SET #number = :next, expiresAt = :expiresAt",
    condition: Some("attribute_not_exists(#number) OR #number < :next"),
    names: &[("#number", "number")],
};

/// The result of recording an issued token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeOutcome {
    Done,
    /// Another exchange was faster, or the session's row has arrived. Nothing was changed; read
    /// again.
    Overtaken,
    /// The session has an end. Nothing was changed.
    Ended,
    /// A conflict with another transaction. Nothing was changed; retry.
    Conflict,
}

/// The key of the row in which `region` records the number of its latest token.
fn refreshes_key(id: &SessionId, region: &str) -> Item {
    key_of(format!("{id}#refresh#{region}"))
}

fn number_of(row: &Item) -> Result<u64, DynamoError> {
    let number = row.get("number").and_then(|number| number.as_n().ok()?.parse().ok());
    number.ok_or_else(|| DynamoError::unreadable("read", name_of(row), "it has no number"))
}

impl DynamoSessions {
    /// The rows for the check of a session of `user`, and the highest number of a refresh token
    /// that any region has issued, as far as this region knows. One call, consistent.
    pub async fn read_chain(
        &self,
        id: &SessionId,
        user: &UserId,
    ) -> Result<(SessionRows, u64), SessionError> {
        let keys = self.regions().map(|region| refreshes_key(id, region));
        let (rows, items) = self.read_beside(id, user, keys, Deadline::after(PATIENCE)).await?;
        let mut latest = FIRST_NUMBER;
        for row in items.iter().filter(|row| kind_of(row) == Some(RowKind::Refreshes)) {
            latest = latest.max(number_of(row)?);
        }
        Ok((rows, latest))
    }

    /// Records that this region issues the token with the number `next`, and stamps the session,
    /// unless it has an end. `rows` is what was read. If the session's row is missing there, it is
    /// written from `began`.
    pub async fn exchange(
        &self,
        rows: &SessionRows,
        began: &Session,
        next: u64,
        now: Timestamp,
    ) -> Result<ExchangeOutcome, SessionError> {
        let id = &began.id;
        let session = match rows.session {
            Some(_) => STAMP.action(&self.table, key(id), [(":now", text(rfc3339(now)))])?,
            None => self.put_session(&Session { last_activity: now, ..began.clone() })?,
        };
        let raise = [(":next", number(next)), (":expiresAt", row_expiry(now))];
        let actions = Actions::from([
            (SessionAction::End, self.require(end_key(id), HAS_NO_END, [])?),
            (SessionAction::Refreshes, RAISE.action(&self.table, refreshes_key(id, &self.region), raise)?),
            (SessionAction::Session, session),
        ]);
        let reasons = match actions.commit(&self.client, &format!("session {id}")).await? {
            Transaction::Committed => return Ok(ExchangeOutcome::Done),
            Transaction::Cancelled(reasons) => reasons,
        };
        Ok(if reasons.row_refusing(&SessionAction::End).is_some() {
            ExchangeOutcome::Ended
        } else if reasons.refused().next().is_some() {
            ExchangeOutcome::Overtaken
        } else {
            ExchangeOutcome::Conflict
        })
    }
}
