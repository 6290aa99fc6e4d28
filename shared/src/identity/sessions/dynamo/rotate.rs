//! Refresh tokens, exchanged by compare-and-swap.

use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;
use jiff::Timestamp;

use super::{DynamoSessions, key, parse_session};
use crate::core::date_time::rfc3339;
use crate::core::ids::SessionId;
use crate::identity::secret::SecretHash;
use crate::identity::sessions::{Session, SessionError, TokenFamily};
use crate::platform::dynamo::{DynamoError, Write, WriteOutcome, text};

/// The token that was shown still is the present one. Of many exchanges at once one meets this condition.
const IS_CURRENT: &str = "#tokens.currentHash = :from AND attribute_not_exists(revokedAt)";

/// Somebody refreshes, so the session is in use.
const ROTATE: &str = "SET #tokens = :family, lastActivity = :now";

/// Outcome of the compare-and-swap of a refresh token.
#[derive(Debug, Clone, PartialEq)]
pub enum Exchange {
    /// Done.
    Done,
    /// Somebody was faster: this is the session as it is now.
    Overtaken(Box<Session>),
    /// The session is not there any more.
    Gone,
    /// A transaction is at the row. Nothing happened; try again.
    Conflict,
}

impl DynamoSessions {
    /// A session by its id alone: a refresh token does not say whose it is.
    pub async fn find(&self, id: &SessionId) -> Result<Option<Session>, SessionError> {
        let request =
            self.client.get_item().table_name(&self.table).set_key(Some(key(id))).consistent_read(true);
        let answer = Box::pin(request.send())
            .await
            .map_err(|error| DynamoError::new("GetItem", format!("session {id}"), error))?;
        Ok(answer.item.map(parse_session).transpose()?)
    }

    /// Replaces the session's tokens with `family`, if `from` still is the hash of the present one and the session was
    /// not revoked.
    pub async fn rotate(
        &self,
        id: &SessionId,
        from: &SecretHash,
        family: &TokenFamily,
        now: Timestamp,
    ) -> Result<Exchange, SessionError> {
        let target = format!("session {id}");
        let family = serde_dynamo::to_attribute_value(family)
            .map_err(|error| DynamoError::unreadable("UpdateItem", target.as_str(), error))?;
        let request = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(id)))
            .update_expression(ROTATE)
            .condition_expression(IS_CURRENT)
            .expression_attribute_names("#tokens", "tokens")
            .expression_attribute_values(":from", text(from.to_text()))
            .expression_attribute_values(":family", family)
            .expression_attribute_values(":now", text(rfc3339(now)))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        Ok(match Box::pin(request.send()).await.outcome("UpdateItem", &target)? {
            Write::Done(_) => Exchange::Done,
            Write::Refused(item) if item.is_empty() => Exchange::Gone,
            Write::Refused(item) => Exchange::Overtaken(Box::new(parse_session(item)?)),
            Write::Conflict => Exchange::Conflict,
        })
    }
}
