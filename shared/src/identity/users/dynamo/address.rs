//! Sign-up in several regions: an address has one account in the world.
//!
//! Two regions may receive sign-ups with one address at the same time, and the users table of each
//! would accept its own. So the address is claimed in the agreement table:
//!
//! 0. An address with an account in this region is taken.
//! 1. *Profile*: the account's own row is put in this region's users table. Nothing points to it
//!    yet.
//! 2. *Claim*: one conditional put of `email#<address>` with the account's id, in the agreement
//!    table. The first one wins for ever. Its repetition after a lost answer finds its own id.
//! 3. *Pointer*: the row that points from the address to the account is put in this region's users
//!    table, and replicates. Its content follows from the claim, so every region writes the same
//!    row.
//!
//! A sign-up that finds the address claimed by another account empties the profile of step 1,
//! repeats step 3 for the owner, and answers that the address is taken. So a sign-up that died
//! between 2 and 3 is completed by its repetition.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;
use serde::Deserialize;

use super::{DynamoUsers, IS_NEW, SignUp, User, pointer, pointer_key, profile_key, target};
use crate::core::deadline::Deadline;
use crate::core::ids::UserId;
use crate::core::retry::Backoff;
use crate::identity::email::Email;
use crate::platform::dynamo::{Agreement, DynamoError, Item, Write, WriteOutcome, text};
use crate::platform::tables;

/// The address is free, or an earlier try whose answer was lost claimed it for this account.
const IS_FREE: &str = "attribute_not_exists(subject) OR accountId = :account";

const EMPTY: &str = "REMOVE email, passwordHash";

/// An address and its account, in the agreement table.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AddressClaim {
    account_id: UserId,
}

impl DynamoUsers {
    /// Stores an account, unless its address is claimed by another one.
    pub(super) async fn create_in_all_regions(
        &self,
        agreement: &Agreement,
        user: &User,
        profile: Item,
        deadline: Deadline,
    ) -> Result<SignUp, DynamoError> {
        if self.account_of(&user.email).await?.is_some_and(|owner| owner != user.id) {
            return Ok(SignUp::EmailTaken);
        }
        self.put_if_new(user.id.as_str(), profile).await?;
        let owner = claim(agreement, &user.email, &user.id, deadline).await?;
        let is_ours = owner == user.id;
        if !is_ours {
            self.empty_profile(&user.id).await?;
        }
        self.put_if_new(&pointer_key(&user.email), pointer(&user.email, &owner)).await?;
        Ok(if is_ours { SignUp::Created(user.clone()) } else { SignUp::EmailTaken })
    }

    /// An existing row was put by an earlier try, and is the same.
    async fn put_if_new(&self, key: &str, row: Item) -> Result<(), DynamoError> {
        let put = self.client.put_item().table_name(&self.table).set_item(Some(row));
        let sent = Box::pin(put.condition_expression(IS_NEW).send()).await;
        match sent.outcome("PutItem", &target(key))? {
            Write::Done(_) | Write::Refused(_) => Ok(()),
            Write::Conflict => Err(DynamoError::contended("PutItem", target(key))),
        }
    }

    /// Removes personal data from the profile of an account that no address will ever point to. The
    /// function may not delete accounts, so the row stays.
    async fn empty_profile(&self, account: &UserId) -> Result<(), DynamoError> {
        let update = self.client.update_item().table_name(&self.table);
        let update = update.set_key(Some(profile_key(account))).update_expression(EMPTY);
        let sent = Box::pin(update.send()).await;
        let failed = |error| DynamoError::new("UpdateItem", target(account.as_str()), error);
        sent.map(drop).map_err(failed)
    }
}

/// Claims an address for `account`. Returns the account that owns it.
async fn claim(
    agreement: &Agreement,
    email: &Email,
    account: &UserId,
    deadline: Deadline,
) -> Result<UserId, DynamoError> {
    let key = pointer_key(email);
    let target = target(&key);
    let ask = |client: Client| {
        let put = client
            .put_item()
            .table_name(&agreement.table)
            .item(tables::AGREEMENT.key.hash, text(key.as_str()))
            .item("accountId", text(account.as_str()))
            .condition_expression(IS_FREE)
            .expression_attribute_values(":account", text(account.as_str()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send();
        async { Box::pin(put).await.outcome("PutItem", &target) }
    };
    let mut backoff = Backoff::within(deadline);
    loop {
        match agreement.replicas.ask(ask).await? {
            Write::Done(_) => return Ok(account.clone()),
            Write::Refused(row) => {
                let claim: AddressClaim = serde_dynamo::from_item(row)
                    .map_err(|error| DynamoError::unreadable("PutItem", target.as_str(), error))?;
                return Ok(claim.account_id);
            }
            // Another region is claiming the same address.
            Write::Conflict if backoff.wait().await => {}
            Write::Conflict => return Err(DynamoError::contended("PutItem", target.as_str())),
        }
    }
}
