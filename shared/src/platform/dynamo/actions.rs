//! Transactions whose actions have names, so that cancellation reasons are found by name and not by
//! position.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::TransactWriteItem;

use super::{CancellationReason, DynamoError, Item, Transaction};

/// The actions of a `TransactWriteItems` (at most 100), each with the name of its reason. `N` is
/// usually an enum of the module that builds the transaction.
#[derive(Debug, Clone)]
pub struct Actions<N>(Vec<(N, TransactWriteItem)>);

/// Why a transaction was cancelled: one reason for each action.
#[derive(Debug, Clone, PartialEq)]
pub struct Reasons<N>(Vec<(N, CancellationReason)>);

impl<N, const C: usize> From<[(N, TransactWriteItem); C]> for Actions<N> {
    fn from(actions: [(N, TransactWriteItem); C]) -> Self {
        Self(actions.into())
    }
}

impl<N> FromIterator<(N, TransactWriteItem)> for Actions<N> {
    fn from_iter<I: IntoIterator<Item = (N, TransactWriteItem)>>(actions: I) -> Self {
        Self(actions.into_iter().collect())
    }
}

impl<N> Extend<(N, TransactWriteItem)> for Actions<N> {
    fn extend<I: IntoIterator<Item = (N, TransactWriteItem)>>(&mut self, actions: I) {
        self.0.extend(actions);
    }
}

impl<N> IntoIterator for Actions<N> {
    type Item = (N, TransactWriteItem);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<N: Clone> Actions<N> {
    /// Runs the transaction on `target`. A cancellation for anything but conditions and conflicts
    /// is an error.
    pub async fn commit(
        &self,
        client: &Client,
        target: &str,
    ) -> Result<Transaction<Reasons<N>>, DynamoError> {
        let outcome = self.send(client, target).await?;
        if let Transaction::Cancelled(reasons) = &outcome {
            reasons.require_no_error(target)?;
        }
        Ok(outcome)
    }

    /// Runs the transaction on `target`. The caller handles all reasons of a cancellation.
    pub async fn send(&self, client: &Client, target: &str) -> Result<Transaction<Reasons<N>>, DynamoError> {
        let items = self.0.iter().map(|(_, item)| item.clone()).collect();
        let request = client.transact_write_items().set_transact_items(Some(items));
        Ok(match Transaction::outcome(Box::pin(request.send()).await, target)? {
            Transaction::Committed => Transaction::Committed,
            Transaction::Cancelled(reasons) => {
                // Without a reason for each action, the same transaction is still running: all its
                // rows are in use.
                let mut reasons = if reasons.len() == self.0.len() { reasons } else { Vec::new() };
                reasons.resize(self.0.len(), CancellationReason::Conflict);
                let names = self.0.iter().map(|(name, _)| name.clone());
                Transaction::Cancelled(Reasons(names.zip(reasons).collect()))
            }
        })
    }
}

impl<N> Reasons<N> {
    /// The actions whose conditions failed, each with its current row, empty if there is none.
    pub fn refused(&self) -> impl Iterator<Item = (&N, &Item)> {
        self.0.iter().filter_map(|(name, reason)| match reason {
            CancellationReason::ConditionFailed(row) => Some((name, row)),
            _ => None,
        })
    }

    /// Whether conflicts are the only reasons: the same transaction can be sent again.
    pub fn are_conflicts(&self) -> bool {
        use CancellationReason::{Conflict, None};

        self.0.iter().any(|(_, reason)| *reason == Conflict)
            && self.0.iter().all(|(_, reason)| matches!(reason, None | Conflict))
    }

    /// An error, if there is a reason that is neither a condition nor a conflict: throttling,
    /// validation.
    pub fn require_no_error(&self, target: &str) -> Result<(), DynamoError> {
        match self.0.iter().find_map(|(_, reason)| reason.error_code()) {
            Some(code) => Err(DynamoError::cancelled(target, code)),
            None => Ok(()),
        }
    }

    /// The reasons under other names. Actions without a new name are dropped.
    pub fn renamed<M>(self, name: impl Fn(N) -> Option<M>) -> Reasons<M> {
        let renamed = self.0.into_iter().filter_map(|(old, reason)| Some((name(old)?, reason)));
        Reasons(renamed.collect())
    }
}

impl<N: PartialEq> Reasons<N> {
    /// The reason of an action; [`CancellationReason::None`] if there is no such action.
    pub fn of(&self, name: &N) -> &CancellationReason {
        let found = self.0.iter().find(|(of, _)| of == name);
        found.map_or(&CancellationReason::None, |(_, reason)| reason)
    }

    /// The row that failed the condition of an action, if it failed. Empty if there is no row.
    pub fn row_refusing(&self, name: &N) -> Option<&Item> {
        match self.of(name) {
            CancellationReason::ConditionFailed(row) => Some(row),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(list: &[(&'static str, CancellationReason)]) -> Reasons<&'static str> {
        Reasons(list.to_vec())
    }

    #[test]
    fn a_reason_is_found_by_the_name_of_its_action() {
        let row = Item::from([("version".to_owned(), super::super::number(3))]);
        let refused = CancellationReason::ConditionFailed(row.clone());
        let reasons = reasons(&[("record", CancellationReason::None), ("order", refused)]);
        assert_eq!(reasons.row_refusing(&"order"), Some(&row));
        assert_eq!(reasons.row_refusing(&"record"), None);
        assert_eq!(*reasons.of(&"no such action"), CancellationReason::None);
        assert_eq!(reasons.refused().collect::<Vec<_>>(), [(&"order", &row)]);
        assert!(!reasons.are_conflicts());
    }

    #[test]
    fn throttling_is_an_error_and_a_conflict_is_none() {
        let conflict = ("order", CancellationReason::Conflict);
        let throttled = ("stock", CancellationReason::Other("ThrottlingError".to_owned()));
        assert!(reasons(std::slice::from_ref(&conflict)).require_no_error("an order").is_ok());
        assert!(reasons(std::slice::from_ref(&conflict)).are_conflicts());
        let both = reasons(&[conflict, throttled]);
        assert!(!both.are_conflicts());
        let error = both.require_no_error("an order").unwrap_err();
        assert_eq!(error.code.as_deref(), Some("ThrottlingError"));
    }
}
