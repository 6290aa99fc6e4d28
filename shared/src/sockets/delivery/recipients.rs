//! Whom a user may write to, and to how many users in a minute.
//!
//! # Protocol
//! 1. With [`MessagesFrom::Parties`], users write to themselves and to the customer of an order
//!    that they may see, and operators write to everybody. With [`MessagesFrom::Everybody`], all
//!    users write to everybody.
//! 2. A message to another user by a sender who is not an operator is counted: one conditional
//!    update adds the receiver to the set of the sender's receivers in this minute. A receiver who
//!    is in the set already does not count again.
//! 3. If the set is full ([`RecipientsPerMinute`]), the message is refused until the minute is
//!    over.
//!
//! The update runs concurrently with the check of the sender's session.
//!
//! # Limits
//! Minutes are those of the clock: within 60 seconds across two minutes, a user may reach twice as
//! many receivers. The limit holds per region. A message that is refused for another reason counts
//! too.

use std::str::FromStr;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;

use super::{Recipient, SendError};
use crate::commerce::orders::dynamo::DynamoOrders;
use crate::core::bounded::Bounded;
use crate::core::clock::SharedClock;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::UserId;
use crate::identity::principal::Role;
use crate::platform::dynamo::{DynamoError, Item, RowUpdate, Write, WriteOutcome, number, text};
use crate::platform::tables;
use crate::platform::telemetry::{self, Metric};
use crate::sockets::connections::{Audience, Connection};

/// Most other users whom one user may write to in a minute. The set is read and written with each
/// message: a thousand ids are 30 KB.
pub type RecipientsPerMinute = Bounded<1, 1000>;

const MINUTE: i64 = 60;

/// Adds a receiver if there is room, or if the receiver is in the set already.
const COUNT: RowUpdate = RowUpdate {
    update: "ADD receivers :added SET expiresAt = :expiresAt",
    condition: Some(
        "attribute_not_exists(receivers) OR size(receivers) < :most OR contains(receivers, :receiver)",
    ),
    names: &[],
};

/// Who may write to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessagesFrom {
    /// Every user to every other.
    Everybody,
    /// Users to themselves and about their own orders, operators to everybody.
    Parties,
}

/// Text that names none of [`MessagesFrom`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is \"everybody\" or \"parties\"")]
pub struct InvalidMessagesFrom;

impl FromStr for MessagesFrom {
    type Err = InvalidMessagesFrom;

    fn from_str(text: &str) -> Result<Self, InvalidMessagesFrom> {
        match text {
            "everybody" => Ok(Self::Everybody),
            "parties" => Ok(Self::Parties),
            _ => Err(InvalidMessagesFrom),
        }
    }
}

/// Decides who may receive a message.
#[derive(Debug)]
pub struct Recipients {
    orders: DynamoOrders,
    client: Client,
    table: String,
    clock: SharedClock,
    from: MessagesFrom,
    most: RecipientsPerMinute,
}

impl Recipients {
    /// Reads the table of `ORDERS_TABLE` and counts in that of `SOCKET_LIMITS_TABLE`, with the
    /// limits of `MESSAGES_FROM` and `RECIPIENTS_PER_MINUTE`.
    pub fn from_env(client: Client, env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        Ok(Self {
            orders: DynamoOrders::from_env(client.clone(), env)?,
            table: tables::SOCKET_LIMITS.name(env)?,
            from: env.parse("MESSAGES_FROM")?,
            most: env.parse("RECIPIENTS_PER_MINUTE")?,
            client,
            clock,
        })
    }

    /// The receivers of a message by `sender`. For a sender who may not see an order, the order
    /// does not exist.
    pub(super) async fn audience(&self, sender: &Connection, to: &Recipient) -> Result<Audience, SendError> {
        match to {
            Recipient::UserId(user) if self.may_write(sender, user) => Ok(Audience::User(user.clone())),
            Recipient::UserId(_) => Err(SendError::NotAParty),
            Recipient::Broadcast if sender.has_role(Role::Operator) => Ok(Audience::Everyone),
            Recipient::Broadcast => Err(SendError::BroadcastForbidden),
            Recipient::OrderId(order_id) => match self.orders.owner(order_id).await? {
                Some(owner) if owner == sender.user_id || sender.has_role(Role::Operator) => {
                    Ok(Audience::User(owner))
                }
                _ => Err(SendError::NoSuchOrder(order_id.clone())),
            },
        }
    }

    /// Whether `sender` may write to `receiver` at all.
    fn may_write(&self, sender: &Connection, receiver: &UserId) -> bool {
        self.from == MessagesFrom::Everybody || *receiver == sender.user_id || sender.has_role(Role::Operator)
    }

    /// Counts the receiver of a message by `sender`, if necessary.
    pub(super) async fn count(&self, sender: &Connection, to: &Recipient) -> Result<(), SendError> {
        let Recipient::UserId(receiver) = to else { return Ok(()) };
        let is_free = *receiver == sender.user_id || sender.has_role(Role::Operator);
        if is_free || !self.may_write(sender, receiver) {
            return Ok(());
        }
        let now = self.clock.now().as_second();
        let minute_end = (now.div_euclid(MINUTE) + 1) * MINUTE;
        let subject = format!("{}#{minute_end}", sender.user_id);
        let target = format!("{} {subject}", self.table);
        let key = Item::from([(tables::SOCKET_LIMITS.key.hash.to_owned(), text(subject))]);
        let values = [
            (":added", AttributeValue::Ss(vec![receiver.to_string()])),
            (":receiver", text(receiver.as_str())),
            (":most", number(self.most.get())),
            (":expiresAt", number(minute_end)),
        ];
        let request = COUNT.request(&self.client, &self.table, key, values);
        match Box::pin(request.send()).await.outcome("UpdateItem", &target)? {
            Write::Done(_) => Ok(()),
            Write::Refused(_) => {
                telemetry::count_case(Metric::SocketLimits, "recipients", 1);
                let left = u64::try_from(minute_end - now).unwrap_or_default();
                Err(SendError::TooManyReceivers { retry_after: Duration::from_secs(left) })
            }
            // No transaction writes to these rows.
            Write::Conflict => Err(DynamoError::contended("UpdateItem", target).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_write_to_whom_has_two_settings() {
        assert_eq!("everybody".parse(), Ok(MessagesFrom::Everybody));
        assert_eq!("parties".parse(), Ok(MessagesFrom::Parties));
        for text in ["", "nobody", "Parties"] {
            assert_eq!(text.parse::<MessagesFrom>(), Err(InvalidMessagesFrom), "{text}");
        }
    }
}
