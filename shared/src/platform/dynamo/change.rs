//! Conditional updates as constants: what is written and on what condition, side by side.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update};

use super::{AttributeValue, DynamoError, Item};

/// One kind of update of one kind of row. Adapters declare them as constants, with the reason.
#[derive(Debug, Clone, Copy)]
pub struct RowUpdate {
    pub update: &'static str,
    pub condition: Option<&'static str>,
    /// Placeholders for attributes whose names are reserved words.
    pub names: &'static [(&'static str, &'static str)],
}

impl RowUpdate {
    /// The update of the row `key`, as an action of a transaction.
    pub fn action<const N: usize>(
        &self,
        table: &str,
        key: Item,
        values: [(&str, AttributeValue); N],
    ) -> Result<TransactWriteItem, DynamoError> {
        let update = Update::builder()
            .table_name(table)
            .set_key(Some(key))
            .update_expression(self.update)
            .set_condition_expression(self.condition.map(str::to_owned))
            .set_expression_attribute_names(self.names())
            .set_expression_attribute_values(named(values))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build();
        let update = update.map_err(|error| DynamoError::unreadable("build", table, error))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }

    /// The update of the row `key`, as a single request.
    pub fn request<const N: usize>(
        &self,
        client: &Client,
        table: &str,
        key: Item,
        values: [(&str, AttributeValue); N],
    ) -> UpdateItemFluentBuilder {
        client
            .update_item()
            .table_name(table)
            .set_key(Some(key))
            .update_expression(self.update)
            .set_condition_expression(self.condition.map(str::to_owned))
            .set_expression_attribute_names(self.names())
            .set_expression_attribute_values(named(values))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
    }

    fn names(&self) -> Option<HashMap<String, String>> {
        named(self.names.iter().map(|(name, attribute)| (*name, (*attribute).to_owned())))
    }
}

/// DynamoDB refuses an empty map, so an empty one is left out.
fn named<'a, V>(pairs: impl IntoIterator<Item = (&'a str, V)>) -> Option<HashMap<String, V>> {
    let map: HashMap<_, _> = pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    (!map.is_empty()).then_some(map)
}
