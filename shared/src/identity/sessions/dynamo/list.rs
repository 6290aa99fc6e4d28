//! A user's sessions, newest first.
//!
//! 1. The index returns the ids of a page. It lags by milliseconds.
//! 2. The rows are read by key, consistently, so that a session does not show after its revocation.
//! 3. Sessions that seem to have ended with all others may be spared
//!    ([`SessionRows::may_be_spared`]). The rows that say so are read after the others, as in the
//!    check.
//!
//! A session whose row has not arrived from another region is left out.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::payload::payload_name;
use super::{DynamoSessions, end_key, key, name_of, parse, parse_payload, payload_key, spared_key};
use crate::core::cursor::{self, Page};
use crate::core::date_time::{as_rfc3339, rfc3339};
use crate::core::deadline::Deadline;
use crate::core::ids::{SessionId, UserId};
use crate::identity::seal::SealingKeys;
use crate::identity::sessions::{Device, SealedPayload, Session, SessionError, SessionRows};
use crate::platform::dynamo::{DynamoError, Item, RowKey, read_rows, text};
use crate::platform::telemetry::chain;

/// Name of the listing in its cursors.
const LISTING: &str = "sessions";

/// The index by user, which has only the keys.
const BY_USER: &str = "byUser";

/// Sessions of one user.
const OF_USER: &str = "userId = :user";

/// Sessions in one batch: three rows each, and one row per region of their user, of the 100 rows of
/// a `BatchGetItem`.
const BATCH: usize = 30;

/// A session in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedSession {
    /// The rows of the check.
    pub rows: SessionRows,
    /// The payload with the device's name. It may not have arrived from another region.
    pub payload: Option<SealedPayload>,
}

impl ListedSession {
    fn id(&self) -> Option<&SessionId> {
        self.rows.session.as_ref().map(|session| &session.id)
    }

    /// The session, unless it has ended.
    pub fn live(&self, user: &UserId, now: Timestamp) -> Option<&Session> {
        self.rows.live(self.id()?, user, now)
    }

    /// The user's name for the device. A session whose payload cannot be opened is listed without
    /// it, so that its user can end it.
    pub async fn device(&self, keys: &SealingKeys) -> Option<Device> {
        let session = self.rows.session.as_ref()?;
        match self.payload.as_ref()?.open(keys, &session.id, &session.user_id).await {
            Ok(payload) => payload.device,
            Err(error) => {
                tracing::error!(error = chain(&error), "a session is listed without its device");
                None
            }
        }
    }
}

/// A session in the index, and the list's position after it, without the user.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct IndexedSession {
    session_id: SessionId,
    #[serde(with = "as_rfc3339")]
    created_at: Timestamp,
}

impl DynamoSessions {
    /// The sessions of a page, and one more if there is another page.
    async fn indexed(
        &self,
        user: &UserId,
        behind: Option<IndexedSession>,
        limit: usize,
    ) -> Result<Vec<IndexedSession>, DynamoError> {
        let target = format!("sessions of {user}");
        let start = behind.map(|behind| {
            let mut start = key(&behind.session_id);
            start.insert("userId".to_owned(), text(user.as_str()));
            start.insert("createdAt".to_owned(), text(rfc3339(behind.created_at)));
            start
        });
        let request = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(BY_USER)
            .key_condition_expression(OF_USER)
            .expression_attribute_values(":user", text(user.as_str()))
            .scan_index_forward(false)
            .set_exclusive_start_key(start)
            .limit(i32::try_from(limit.saturating_add(1)).unwrap_or(i32::MAX));
        let answer = Box::pin(request.send())
            .await
            .map_err(|error| DynamoError::new("Query", target.as_str(), error))?;
        let read = |item: Item| {
            serde_dynamo::from_item(item)
                .map_err(|error| DynamoError::unreadable("Query", target.as_str(), error))
        };
        answer.items.unwrap_or_default().into_iter().map(read).collect()
    }

    /// The current sessions, in the order of `ids`. Those that are gone are left out.
    async fn listed(
        &self,
        user: &UserId,
        ids: &[SessionId],
        deadline: Deadline,
    ) -> Result<Vec<ListedSession>, DynamoError> {
        let keys = ids.iter().flat_map(|id| [key(id), end_key(id), payload_key(id)]);
        let mut rows = self.named(keys.chain(self.all_ended_keys(user.as_str())), deadline).await?;
        let of_user: Vec<Item> =
            self.all_ended_keys(user.as_str()).filter_map(|key| rows.remove(name_of(&key))).collect();
        let ended_before = parse(&of_user)?.ended_before;
        let mut listed = Vec::with_capacity(ids.len());
        for id in ids {
            let of_check = [id.to_string(), format!("{id}#end")].map(|name| rows.remove(&name));
            let of_check: Vec<Item> = of_check.into_iter().flatten().collect();
            let session = SessionRows { ended_before, ..parse(&of_check)? };
            let payload = rows.remove(&payload_name(id)).as_ref().map(parse_payload).transpose()?;
            if session.session.is_some() {
                listed.push(ListedSession { rows: session, payload });
            }
        }
        Ok(listed)
    }

    /// The same, with the rows of those that may be spared.
    async fn listed_with_spared(
        &self,
        user: &UserId,
        ids: &[SessionId],
        deadline: Deadline,
    ) -> Result<Vec<ListedSession>, DynamoError> {
        let mut listed = self.listed(user, ids, deadline).await?;
        let in_doubt = listed.iter().filter(|listed| listed.rows.may_be_spared());
        let keys: Vec<Item> = in_doubt.filter_map(ListedSession::id).map(spared_key).collect();
        if keys.is_empty() {
            return Ok(listed);
        }
        let mut spared = self.named(keys, deadline).await?;
        for listed in &mut listed {
            let row = listed.id().and_then(|id| spared.remove(&format!("{id}#spared")));
            listed.rows.spared_at = parse(row.as_slice())?.spared_at;
        }
        Ok(listed)
    }

    /// The rows with these keys, by key.
    async fn named(
        &self,
        keys: impl IntoIterator<Item = Item>,
        deadline: Deadline,
    ) -> Result<HashMap<String, Item>, DynamoError> {
        let keys = keys.into_iter().map(|key| RowKey { table: &self.table, key }).collect();
        let rows = read_rows(&self.client, keys, deadline).await?.take(&self.table);
        Ok(rows.into_iter().map(|row| (name_of(&row).to_owned(), row)).collect())
    }

    /// A page of the sessions of `user`, newest first, after `cursor`, including ended ones.
    /// Consistent: an acknowledged revocation is visible. `current` is listed even if it began a
    /// moment ago.
    pub async fn list(
        &self,
        user: &UserId,
        current: &SessionId,
        cursor: Option<&str>,
        limit: u32,
        deadline: Deadline,
    ) -> Result<Page<ListedSession>, SessionError> {
        let behind = cursor.map(|cursor| cursor::decode::<IndexedSession>(LISTING, cursor)).transpose()?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let is_first_page = behind.is_none();
        let mut page = self.indexed(user, behind, limit).await?;
        let has_next = page.len() > limit;
        page.truncate(limit);
        let next_cursor = page.last().filter(|_| has_next).map(next_cursor).transpose()?;
        let mut ids: Vec<SessionId> = page.into_iter().map(|indexed| indexed.session_id).collect();
        // The index may lack the caller's own session. Ids rise with time: an older session is on a
        // later page.
        let is_newer = ids.first().is_none_or(|newest| newest < current);
        if is_first_page && is_newer && !ids.contains(current) {
            ids.insert(0, current.clone());
        }
        let mut items = Vec::with_capacity(ids.len());
        for ids in ids.chunks(BATCH) {
            items.extend(self.listed_with_spared(user, ids, deadline).await?);
        }
        Ok(Page { items, next_cursor })
    }
}

fn next_cursor(last: &IndexedSession) -> Result<String, DynamoError> {
    cursor::encode(LISTING, last)
        .map_err(|error| DynamoError::unreadable("Query", "the end of a page of sessions", error))
}
