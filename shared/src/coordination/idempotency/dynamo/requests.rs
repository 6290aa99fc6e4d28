//! The first and last step of both forms: the first read, and the record of a final refusal.

use std::fmt;

use aws_sdk_dynamodb::Client;
use jiff::Timestamp;

use super::{done_item, key, parse, put_if_claimable};
use crate::coordination::idempotency::{
    IdempotencyCheck, KeyedRequest, KeyedRequestError, Record, count_mismatch, count_replay,
};
use crate::core::clock::SharedClock;
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::SessionId;
use crate::core::reply::Reply;
use crate::core::retry::Backoff;
use crate::identity::principal::{Credential, Principal};
use crate::identity::sessions;
use crate::identity::sessions::dynamo::DynamoSessions;
use crate::platform::dynamo::{RowKey, Rows, Write};
use crate::platform::tables;

/// Runs requests with idempotency keys.
///
/// Calls `BatchGetItem` on records, sessions and the effects' rows; `PutItem` on records;
/// `UpdateItem` on sessions (the activity stamp); in transactions the actions of the effects.
#[derive(Clone)]
pub struct KeyedRequests {
    pub(super) client: Client,
    pub(super) records: String,
    pub(super) clock: SharedClock,
    sessions: DynamoSessions,
}

/// The result of the first read.
#[derive(Debug)]
pub enum FirstRead {
    /// There is no answer yet.
    New {
        /// The caller, whose session is live.
        caller: Principal,
        /// The rows that the effect asked for.
        rows: Rows,
        /// The stamp to send beside the write.
        stamp: Stamp,
    },
    /// The recorded answer.
    Answered(Reply),
}

/// The activity stamp of the caller's session, if one is due. It is sent beside a write, so that
/// the write does not wait for it. A replay sends none.
#[derive(Debug)]
#[must_use]
pub struct Stamp(Option<(DynamoSessions, SessionId, Timestamp)>);

impl Stamp {
    /// Stamps the session if a stamp is due. Gives up when it takes too long.
    pub async fn send(self) {
        if let Some((sessions, id, now)) = self.0 {
            sessions::stamp(sessions.touch(&id, now)).await;
        }
    }
}

impl KeyedRequests {
    /// Records in `IDEMPOTENCY_TABLE`, sessions in `SESSIONS_TABLE`.
    pub fn from_env(client: Client, env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        let records = tables::IDEMPOTENCY.name(env)?;
        let sessions = DynamoSessions::from_env(client.clone(), env)?;
        Ok(Self { client, records, clock, sessions })
    }

    /// Checks the caller's session, and reads `keys` and the request's record in the same round
    /// trip. A session that has ended is refused before any data is returned.
    pub async fn open<R>(
        &self,
        credential: &Credential,
        request: &KeyedRequest,
        mut keys: Vec<RowKey<'_>>,
        deadline: Deadline,
    ) -> Result<FirstRead, KeyedRequestError<R>> {
        keys.push(RowKey { table: &self.records, key: key(&request.scope) });
        let (id, user) = (credential.session_id(), credential.user_id());
        let (session, mut rows) = self.sessions.read_with(id, user, keys, deadline).await?;
        let now = self.clock.now();
        let caller =
            sessions::check(credential, &session, now).map_err(|_| KeyedRequestError::SessionEnded)?;
        let record = rows.take_one(&self.records).map(parse).transpose()?;
        if let Some(reply) = self.admitted(record, request)? {
            return Ok(FirstRead::Answered(reply));
        }
        let is_due = session.is_quiet(now);
        let due = is_due.then(|| (self.sessions.clone(), caller.session_id().clone(), now));
        Ok(FirstRead::New { caller, rows, stamp: Stamp(due) })
    }

    /// Records the final `refusal` with its answer, and returns it as an error. If a duplicate has
    /// recorded an answer meanwhile, returns that answer.
    pub async fn refuse<R>(
        &self,
        request: &KeyedRequest,
        refusal: R,
        reply: &Reply,
        deadline: Deadline,
    ) -> Result<Reply, KeyedRequestError<R>> {
        let mut backoff = Backoff::of_conflicts(deadline);
        loop {
            let now = self.clock.now();
            // Claimable rather than free: the refusal replaces the request's own lapsed claim.
            let item = done_item(request, reply, now)?;
            match put_if_claimable(&self.client, &self.records, request, item, now).await? {
                Write::Done(()) => return Err(KeyedRequestError::Refused(refusal)),
                Write::Refused(item) => {
                    if let Some(reply) = self.admitted(Some(parse(item)?), request)? {
                        return Ok(reply);
                    }
                }
                Write::Conflict => {}
            }
            if !backoff.wait().await {
                return Err(KeyedRequestError::Contended);
            }
        }
    }

    /// The recorded answer; `None` if the request may start.
    pub fn admitted<R>(
        &self,
        record: Option<Record>,
        request: &KeyedRequest,
    ) -> Result<Option<Reply>, KeyedRequestError<R>> {
        match Record::admit(record, request.fingerprint, self.clock.now()) {
            IdempotencyCheck::Start(()) => Ok(None),
            IdempotencyCheck::Replay(reply) => {
                count_replay(&request.scope);
                Ok(Some(reply))
            }
            IdempotencyCheck::InProgress { retry_after } => {
                Err(KeyedRequestError::InProgress { retry_after })
            }
            IdempotencyCheck::Mismatch => {
                count_mismatch(&request.scope);
                Err(KeyedRequestError::Mismatch)
            }
        }
    }

    /// The table of records, for the caller's own transactions.
    pub fn records(&self) -> &str {
        &self.records
    }
}

impl fmt::Debug for KeyedRequests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedRequests").field("records", &self.records).finish_non_exhaustive()
    }
}
