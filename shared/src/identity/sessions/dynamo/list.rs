//! A user's sessions, newest first.
//!
//! 1. The index gives the ids of a page. It follows the table by milliseconds.
//! 2. The rows are read by key, consistently, so that a session does not show after its revocation.
//! 3. A batch is no snapshot: sessions that may be torn from their user's version ([`SessionRows::may_be_torn`]) are read
//!    once more, as the check does.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::payload::{is_payload, payload_name};
use super::{DynamoSessions, is_session, key, parse, parse_payload, parse_session, payload_key, version_key};
use crate::core::cursor::{self, Page};
use crate::core::date_time::{as_rfc3339, rfc3339};
use crate::core::deadline::Deadline;
use crate::core::ids::{SessionId, UserId};
use crate::identity::seal::SealingKeys;
use crate::identity::sessions::{Device, SealedPayload, Session, SessionError, SessionRows};
use crate::platform::dynamo::{DynamoError, Item, RowKey, read_rows, text};
use crate::platform::tables;
use crate::platform::telemetry::chain;

/// Name of the listing in its cursors.
const LISTING: &str = "sessions";

/// The index by user, which has the keys alone.
const BY_USER: &str = "byUser";

/// Sessions of one user.
const OF_USER: &str = "userId = :user";

/// Sessions in one batch: two rows each and the token version, of the 100 rows that `BatchGetItem` takes.
const BATCH: usize = 49;

/// A session in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedSession {
    /// What it is checked with.
    pub rows: SessionRows,
    /// What only the keys open: the device's name.
    pub payload: SealedPayload,
}

impl ListedSession {
    /// Which session it is.
    fn id(&self) -> Option<&SessionId> {
        self.rows.session.as_ref().map(|session| &session.id)
    }

    /// The session, unless it has ended.
    pub fn live(&self, user: &UserId, now: Timestamp) -> Option<&Session> {
        self.rows.live(self.id()?, user, now)
    }

    /// What the user calls the device. A session whose payload cannot be opened is listed without it: its user may want to
    /// end that one in particular.
    pub async fn device(&self, keys: &SealingKeys) -> Option<Device> {
        let session = self.rows.session.as_ref()?;
        match self.payload.open(keys, &session.id, &session.user_id).await {
            Ok(payload) => payload.device,
            Err(error) => {
                tracing::error!(error = chain(&error), "a session is listed without its device");
                None
            }
        }
    }
}

/// A session in the index, and the place behind it in its user's list. The user is never part of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Indexed {
    session_id: SessionId,
    #[serde(with = "as_rfc3339")]
    created_at: Timestamp,
}

impl DynamoSessions {
    /// The sessions of a page, and one more if there is another page.
    async fn indexed(
        &self,
        user: &UserId,
        behind: Option<Indexed>,
        limit: usize,
    ) -> Result<Vec<Indexed>, DynamoError> {
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

    /// The sessions as they are now, in the order of `ids`. Those that are gone are left out.
    async fn listed(
        &self,
        user: &UserId,
        ids: &[SessionId],
        deadline: Deadline,
    ) -> Result<Vec<ListedSession>, DynamoError> {
        let keys = ids.iter().flat_map(|id| [key(id), payload_key(id)]).chain([version_key(user)]);
        let keys = keys.map(|key| RowKey { table: &self.table, key }).collect();
        let rows = read_rows(&self.client, keys, deadline).await?.take(&self.table);
        let (payloads, rows): (Vec<Item>, Vec<Item>) = rows.into_iter().partition(is_payload);
        let (sessions, version): (Vec<Item>, Vec<Item>) = rows.into_iter().partition(is_session);
        let token_version = parse(version)?.token_version;
        let mut payloads = payloads.iter().map(named).collect::<Result<HashMap<_, _>, _>>()?;
        let mut sessions = sessions
            .into_iter()
            .map(|row| parse_session(row).map(|session| (session.id.clone(), session)))
            .collect::<Result<HashMap<SessionId, Session>, _>>()?;
        let listed = ids.iter().filter_map(|id| {
            let session = sessions.remove(id)?;
            let payload = payloads.remove(&payload_name(id))?;
            Some(ListedSession { rows: SessionRows { session: Some(session), token_version }, payload })
        });
        Ok(listed.collect())
    }

    /// The same, with those that may be torn read once more.
    async fn listed_untorn(
        &self,
        user: &UserId,
        ids: &[SessionId],
        deadline: Deadline,
    ) -> Result<Vec<ListedSession>, DynamoError> {
        let mut listed = self.listed(user, ids, deadline).await?;
        let torn = listed.iter().filter(|listed| listed.rows.may_be_torn());
        let torn: Vec<SessionId> = torn
            .filter_map(|listed| listed.rows.session.as_ref())
            .map(|session| session.id.clone())
            .collect();
        if !torn.is_empty() {
            for again in self.listed(user, &torn, deadline).await? {
                let is_same = |listed: &&mut ListedSession| listed.id() == again.id();
                if let Some(listed) = listed.iter_mut().find(is_same) {
                    *listed = again;
                }
            }
        }
        Ok(listed)
    }

    /// A page of the sessions of `user`, newest first, behind `cursor`; those that have ended among them. Consistent: one
    /// whose revocation was acknowledged shows as revoked. `current` is listed also when it began a moment ago.
    pub async fn list(
        &self,
        user: &UserId,
        current: &SessionId,
        cursor: Option<&str>,
        limit: u32,
        deadline: Deadline,
    ) -> Result<Page<ListedSession>, SessionError> {
        let behind = cursor.map(|cursor| cursor::decode::<Indexed>(LISTING, cursor)).transpose()?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let is_first_page = behind.is_none();
        let mut page = self.indexed(user, behind, limit).await?;
        let has_next = page.len() > limit;
        page.truncate(limit);
        let next_cursor = page.last().filter(|_| has_next).map(next_cursor).transpose()?;
        let mut ids: Vec<SessionId> = page.into_iter().map(|indexed| indexed.session_id).collect();
        // The index may not have the caller's own session yet. Ids rise with time: an older one is on a later page.
        let is_newer = ids.first().is_none_or(|newest| newest < current);
        if is_first_page && is_newer && !ids.contains(current) {
            ids.insert(0, current.clone());
        }
        let mut items = Vec::with_capacity(ids.len());
        for ids in ids.chunks(BATCH) {
            items.extend(self.listed_untorn(user, ids, deadline).await?);
        }
        Ok(Page { items, next_cursor })
    }
}

/// A payload under its row's name.
fn named(row: &Item) -> Result<(String, SealedPayload), DynamoError> {
    let name = row.get(tables::SESSIONS.key.hash).and_then(|name| name.as_s().ok());
    Ok((name.cloned().unwrap_or_default(), parse_payload(row)?))
}

fn next_cursor(last: &Indexed) -> Result<String, DynamoError> {
    cursor::encode(LISTING, last)
        .map_err(|error| DynamoError::unreadable("Query", "the end of a page of sessions", error))
}
