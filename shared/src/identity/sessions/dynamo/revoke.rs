//! Revocations as transactions.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::TransactWriteItem;
use jiff::Timestamp;

use super::writes::SessionWrites;
use crate::core::deadline::Deadline;
use crate::core::ids::{SessionId, UserId};
use crate::core::retry::Backoff;
use crate::identity::sessions::{Revocation, SessionError, SessionRevoker};
use crate::platform::dynamo::{CancellationReason, Transaction, transact};

/// Revokes sessions in the sessions table, with events in the outbox.
#[derive(Debug, Clone)]
pub struct DynamoRevocations {
    client: Client,
    writes: SessionWrites,
}

impl DynamoRevocations {
    /// Revocations through `client`.
    pub fn new(client: Client, writes: SessionWrites) -> Self {
        Self { client, writes }
    }

    async fn commit(
        &self,
        target: &str,
        actions: Vec<TransactWriteItem>,
        deadline: Deadline,
    ) -> Result<Revocation, SessionError> {
        let mut backoff = Backoff::within(deadline);
        loop {
            match transact(&self.client, target, actions.clone()).await? {
                Transaction::Committed => return Ok(Revocation::Revoked),
                Transaction::Cancelled(reasons)
                    if matches!(reasons.first(), Some(CancellationReason::ConditionFailed(_))) =>
                {
                    return Ok(Revocation::NotThere);
                }
                Transaction::Cancelled(_) if backoff.wait().await => {}
                Transaction::Cancelled(_) => return Err(SessionError::Busy),
            }
        }
    }
}

impl SessionRevoker for DynamoRevocations {
    async fn revoke(
        &self,
        id: &SessionId,
        user: &UserId,
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<Revocation, SessionError> {
        self.commit(&format!("session {id}"), self.writes.one(id, user, now)?, deadline).await
    }

    async fn revoke_all(
        &self,
        user: &UserId,
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<(), SessionError> {
        self.commit(&format!("sessions of {user}"), self.writes.all(user, now)?, deadline).await?;
        Ok(())
    }
}
