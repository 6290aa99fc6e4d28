//! `AWS::DynamoDB::GlobalTable`: the tables of global.yaml, which regions share.
//!
//! 1. A property that is not understood is an error, of a table and of a replica. So is a resource
//!    of another type.
//! 2. What AWS refuses when the stack is deployed is refused here. Replicas with eventual
//!    consistency need streams with both images. Strong consistency needs three replicas, or two
//!    and a witness, and has no TTL (`CloudFormation` reference, `AWS::DynamoDB::GlobalTable`;
//!    DynamoDB developer guide, "How DynamoDB global tables work").
//! 3. `LocalSecondaryIndexes` are refused, and capacity that is provisioned: no table here has
//!    them.
//!
//! Limits: which regions of AWS may hold a strongly consistent table together is not checked, since
//! AWS adds to them. Encryption, recovery and deletion protection are for the cloud.

use std::collections::BTreeSet;

use serde_json::Value;

use super::data;
use super::error::Problem;
use super::model::Table;
use super::properties::{Properties, unexpected};
use super::scope::{Located, Scope};
use super::topics::unsupported;

/// The type of a global table.
pub(super) const GLOBAL_TABLE: &str = "AWS::DynamoDB::GlobalTable";

const TTL: &str = "TimeToLiveSpecification";

/// What is understood of a table.
const PROPERTIES: [&str; 11] = [
    "AttributeDefinitions",
    "BillingMode",
    "GlobalSecondaryIndexes",
    "GlobalTableWitnesses",
    "KeySchema",
    "MultiRegionConsistency",
    "Replicas",
    "SSESpecification",
    "StreamSpecification",
    "TableName",
    TTL,
];

/// What is understood of a replica.
const REPLICA_PROPERTIES: [&str; 4] =
    ["DeletionProtectionEnabled", "PointInTimeRecoverySpecification", "Region", "SSESpecification"];

/// What regions share.
#[derive(Debug, Clone, Default)]
pub struct GlobalStack {
    /// In the order of their logical ids.
    pub tables: Vec<GlobalTable>,
}

impl GlobalStack {
    /// The tables that have a replica in the region that AWS calls `region`.
    pub fn replicas_in(&self, region: &str) -> Vec<Table> {
        let here = |table: &&GlobalTable| table.replicas.iter().any(|replica| replica == region);
        self.tables.iter().filter(here).map(|table| table.table.clone()).collect()
    }

    /// The tables of a region that stands for all of them.
    pub fn of_one_region(&self) -> Vec<Table> {
        self.tables.iter().map(|table| table.table.clone()).collect()
    }
}

/// A table with a replica in each of several regions.
#[derive(Debug, Clone)]
pub struct GlobalTable {
    /// What each replica is.
    pub table: Table,
    /// AWS's names of the regions that have one, in the template's order.
    pub replicas: Vec<String>,
    pub consistency: Consistency,
}

/// `MultiRegionConsistency`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Consistency {
    /// Replication is asynchronous, and the last writer of an item wins.
    Eventual,
    /// A write is accepted by a majority of the three regions, and a consistent read sees every
    /// accepted write.
    Strong {
        /// The region that votes and has no replica, if there are two of them.
        witness: Option<String>,
    },
}

/// All of a template.
pub(super) fn stack(scope: &Scope<'_>) -> Result<GlobalStack, Located> {
    if let Some((id, kind)) = scope.types().find(|(_, kind)| *kind != GLOBAL_TABLE) {
        let problem = unsupported(&format!("{kind} in a template of what regions share"), "move it");
        return Err((id.to_owned(), problem));
    }
    let read = |(id, resource): (&str, &Value)| {
        table(id, Properties::of(resource, scope)).map_err(|problem| (id.to_owned(), problem))
    };
    Ok(GlobalStack { tables: scope.of_type(GLOBAL_TABLE).map(read).collect::<Result<_, _>>()? })
}

fn table(id: &str, table: Properties<'_>) -> Result<GlobalTable, Problem> {
    refuse_others(table, &PROPERTIES, GLOBAL_TABLE)?;
    if table.text("BillingMode")? != "PAY_PER_REQUEST" {
        return Err(unexpected("BillingMode", "PAY_PER_REQUEST"));
    }
    data::check_view(table)?;
    let replicas = replicas(table)?;
    let consistency = consistency(table, &replicas)?;
    let table = Table {
        logical_id: id.to_owned(),
        name: table.text("TableName")?,
        create: table.all()?,
        ttl_attribute: data::ttl_attribute(table)?,
    };
    Ok(GlobalTable { table, replicas, consistency })
}

fn replicas(table: Properties<'_>) -> Result<Vec<String>, Problem> {
    let listed = table.part("Replicas")?;
    let listed = listed.as_array().ok_or_else(|| unexpected("Replicas", "a list"))?;
    let region = |value| {
        let replica = Properties::within(value, table.scope());
        refuse_others(replica, &REPLICA_PROPERTIES, "a replica")?;
        replica.text("Region")
    };
    let regions: Vec<String> = listed.iter().map(region).collect::<Result<_, _>>()?;
    let different: BTreeSet<&String> = regions.iter().collect();
    if regions.is_empty() || different.len() < regions.len() {
        return Err(unexpected("Replicas", "a list of different regions"));
    }
    Ok(regions)
}

fn consistency(table: Properties<'_>, replicas: &[String]) -> Result<Consistency, Problem> {
    let witness = witness(table)?;
    match table.optional_text("MultiRegionConsistency")?.as_deref() {
        None | Some("EVENTUAL") => {
            if witness.is_some() {
                return Err(unsupported("a witness without MultiRegionConsistency STRONG", "leave it out"));
            }
            check_stream(table, replicas)?;
            Ok(Consistency::Eventual)
        }
        Some("STRONG") => {
            if table.raw(TTL).is_some() {
                return Err(unsupported("TTL of a strongly consistent table", "remove items otherwise"));
            }
            let is_apart = witness.as_ref().is_none_or(|witness| !replicas.contains(witness));
            if replicas.len() + usize::from(witness.is_some()) != 3 || replicas.len() < 2 || !is_apart {
                let wanted = "three different regions, one of which may be a witness";
                return Err(unexpected("Replicas and GlobalTableWitnesses", wanted));
            }
            Ok(Consistency::Strong { witness })
        }
        Some(_) => Err(unexpected("MultiRegionConsistency", "EVENTUAL or STRONG")),
    }
}

fn witness(table: Properties<'_>) -> Result<Option<String>, Problem> {
    match table.part("GlobalTableWitnesses")? {
        Value::Null => Ok(None),
        Value::Array(witnesses) if witnesses.len() == 1 => {
            let witness = Properties::within(&witnesses[0], table.scope());
            refuse_others(witness, &["Region"], "a witness")?;
            witness.text("Region").map(Some)
        }
        _ => Err(unexpected("GlobalTableWitnesses", "a list of one region")),
    }
}

/// Replication reads the table's own stream.
fn check_stream(table: Properties<'_>, replicas: &[String]) -> Result<(), Problem> {
    let stream = table.part("StreamSpecification")?;
    let view = stream.get("StreamViewType").and_then(Value::as_str);
    if replicas.len() > 1 && view != Some("NEW_AND_OLD_IMAGES") {
        return Err(unexpected(
            "StreamSpecification.StreamViewType",
            "NEW_AND_OLD_IMAGES, which replication needs",
        ));
    }
    Ok(())
}

/// Refuses what is not understood.
pub(super) fn refuse_others(properties: Properties<'_>, known: &[&str], of: &str) -> Result<(), Problem> {
    match properties.names().find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(other) => Err(unsupported(&format!("{other} of {of}"), "leave it out")),
    }
}
