//! Stores a message in the inbox of a user whom no socket reached.

use super::{Frame, Message};
use crate::core::deadline::Deadline;
use crate::core::ids::UserId;
use crate::platform::dynamo::DynamoError;
use crate::sockets::inbox::{Inbox, StoreOutcome, UndeliveredMessage};

/// A message, and the inboxes that may store it.
#[derive(Debug, Clone, Copy)]
pub(super) struct InboxFallback<'a> {
    pub(super) inbox: &'a Inbox,
    pub(super) message: &'a Message,
    pub(super) frame: &'a Frame,
    pub(super) deadline: Deadline,
}

impl InboxFallback<'_> {
    /// Stores the message for `user`.
    pub(super) async fn store(&self, user: &UserId) -> Result<StoreOutcome, DynamoError> {
        let Message { message_id, from, .. } = self.message;
        let message = UndeliveredMessage { message_id, from: from.as_ref(), frame: self.frame.as_str() };
        let store = self.inbox.store(user, message, self.deadline);
        match self.deadline.cut_off(store).await {
            Ok(stored) => stored,
            Err(passed) => {
                let target = format!("the inbox of {user}");
                let (operation, code, source) = ("TransactWriteItems", None, Box::new(passed));
                Err(DynamoError { operation, target, code, source })
            }
        }
    }
}
