//! Tables, buckets and secrets.

use super::Problem;
use super::model::Table;
use super::properties::Properties;
use super::scope::{Located, Scope};

pub(super) fn tables(scope: &Scope<'_>) -> Result<Vec<Table>, Located> {
    scope
        .of_type("AWS::DynamoDB::Table")
        .map(|(id, resource)| {
            let table = |properties: Properties<'_>| -> Result<Table, Problem> {
                Ok(Table {
                    logical_id: id.to_owned(),
                    name: scope.physical_name(id)?,
                    create: properties.all()?,
                    ttl_attribute: ttl_attribute(properties)?,
                })
            };
            table(Properties::of(resource, scope)).map_err(|problem| (id.to_owned(), problem))
        })
        .collect()
}

fn ttl_attribute(table: Properties<'_>) -> Result<Option<String>, Problem> {
    let Some(specification) = table.raw("TimeToLiveSpecification") else { return Ok(None) };
    let specification = Properties::within(specification, table.scope());
    if specification.flag("Enabled")? == Some(true) {
        return specification.text("AttributeName").map(Some);
    }
    Ok(None)
}

/// Physical names of all resources of `kind`.
pub(super) fn names(kind: &str, scope: &Scope<'_>) -> Result<Vec<String>, Located> {
    scope
        .of_type(kind)
        .map(|(id, _)| scope.physical_name(id).map_err(|problem| (id.to_owned(), problem)))
        .collect()
}
