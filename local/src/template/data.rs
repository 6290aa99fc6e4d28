//! Tables and secrets.

use std::collections::BTreeMap;

use super::error::Problem;
use super::model::Table;
use super::properties::{Properties, unexpected};
use super::scope::{Located, Scope};

/// What a stream may show.
const VIEWS: [&str; 4] = ["KEYS_ONLY", "NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES"];

pub(super) fn tables(scope: &Scope<'_>) -> Result<Vec<Table>, Located> {
    scope
        .of_type("AWS::DynamoDB::Table")
        .map(|(id, resource)| {
            let table = |properties: Properties<'_>| -> Result<Table, Problem> {
                check_view(properties)?;
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

/// The region keeps both images of every record and hides what the view does not show. So it must
/// know the view.
pub(super) fn check_view(table: Properties<'_>) -> Result<(), Problem> {
    let Some(specification) = table.raw("StreamSpecification") else { return Ok(()) };
    let view = Properties::within(specification, table.scope()).text("StreamViewType")?;
    if VIEWS.contains(&view.as_str()) {
        return Ok(());
    }
    Err(unexpected(
        "StreamSpecification.StreamViewType",
        "KEYS_ONLY, NEW_IMAGE, OLD_IMAGE or NEW_AND_OLD_IMAGES",
    ))
}

pub(super) fn ttl_attribute(table: Properties<'_>) -> Result<Option<String>, Problem> {
    let Some(specification) = table.raw("TimeToLiveSpecification") else { return Ok(None) };
    let specification = Properties::within(specification, table.scope());
    if specification.flag("Enabled")? == Some(true) {
        return specification.text("AttributeName").map(Some);
    }
    Ok(None)
}

/// The values that the template gives to secrets, by their names. `GenerateSecretString` is not
/// read.
pub(super) fn secret_strings(scope: &Scope<'_>) -> Result<BTreeMap<String, String>, Located> {
    let mut values = BTreeMap::new();
    for (id, resource) in scope.of_type("AWS::SecretsManager::Secret") {
        let located = |problem| (id.to_owned(), problem);
        let value = Properties::of(resource, scope).optional_text("SecretString").map_err(located)?;
        if let Some(value) = value {
            values.insert(scope.physical_name(id).map_err(located)?, value);
        }
    }
    Ok(values)
}

/// Physical names of all resources of `kind`.
pub(super) fn names(kind: &str, scope: &Scope<'_>) -> Result<Vec<String>, Located> {
    scope
        .of_type(kind)
        .map(|(id, _)| scope.physical_name(id).map_err(|problem| (id.to_owned(), problem)))
        .collect()
}
