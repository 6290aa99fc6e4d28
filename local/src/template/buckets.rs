//! `AWS::S3::Bucket`: its name, CORS rules, versioning and replication.
//!
//! What S3 refuses of a `ReplicationConfiguration` when the stack is deployed is refused here at
//! the start (user guide, "Replication configuration file elements"):
//!
//! - rules without versioning, no rule at all, or two rules of one priority;
//! - a rule with `Filter` and without `Priority` or `DeleteMarkerReplication`;
//! - the bucket itself as a destination.
//!
//! Limits: what S3 would copy otherwise is refused too: rules by tags, rules of the earlier schema
//! (`Prefix` outside of `Filter`), destinations with another owner, storage class or key, and
//! existing replicas' changes. The role must be of the same template.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::arn;
use super::error::Problem;
use super::global::refuse_others;
use super::model::{Bucket, BucketReplication, CorsRule, DeleteMarkers, ReplicationRule, Versioning};
use super::policy;
use super::properties::{Properties, unexpected};
use super::scope::{Located, Scope};

/// The type.
pub(super) const BUCKET: &str = "AWS::S3::Bucket";

const RULE_PROPERTIES: [&str; 6] =
    ["Id", "Status", "Priority", "Filter", "DeleteMarkerReplication", "Destination"];

pub(super) fn buckets(scope: &Scope<'_>) -> Result<Vec<Bucket>, Located> {
    scope
        .of_type(BUCKET)
        .map(|(id, resource)| {
            let bucket = |properties: Properties<'_>| -> Result<Bucket, Problem> {
                let (name, versioning) = (scope.physical_name(id)?, versioning(properties)?);
                let replication = replication(properties, &name, versioning)?;
                Ok(Bucket { name, cors: cors_rules(properties)?, versioning, replication })
            };
            bucket(Properties::of(resource, scope)).map_err(|problem| (id.to_owned(), problem))
        })
        .collect()
}

fn cors_rules(bucket: Properties<'_>) -> Result<Vec<CorsRule>, Problem> {
    let Some(configuration) = bucket.raw("CorsConfiguration") else { return Ok(Vec::new()) };
    let rules = Properties::within(configuration, bucket.scope()).raw("CorsRules");
    let rules = rules.and_then(|rules| rules.as_array()).ok_or_else(|| unexpected("CorsRules", "a list"))?;
    rules.iter().map(|rule| cors_rule(Properties::within(rule, bucket.scope()))).collect()
}

fn cors_rule(rule: Properties<'_>) -> Result<CorsRule, Problem> {
    Ok(CorsRule {
        allowed_origins: rule.texts("AllowedOrigins")?,
        allowed_methods: rule.texts("AllowedMethods")?,
        allowed_headers: rule.texts("AllowedHeaders")?,
        exposed_headers: rule.texts("ExposedHeaders")?,
        max_age: rule.number("MaxAge")?.map(Duration::from_secs),
    })
}

fn versioning(bucket: Properties<'_>) -> Result<Versioning, Problem> {
    let configuration = bucket.part("VersioningConfiguration")?;
    if configuration.is_null() {
        return Ok(Versioning::Off);
    }
    let configuration = Properties::within(&configuration, bucket.scope());
    refuse_others(configuration, &["Status"], "VersioningConfiguration")?;
    match configuration.text("Status")?.as_str() {
        "Enabled" => Ok(Versioning::On),
        "Suspended" => Ok(Versioning::Off),
        _ => Err(unexpected("VersioningConfiguration.Status", "Enabled or Suspended")),
    }
}

fn replication(
    bucket: Properties<'_>,
    name: &str,
    versioning: Versioning,
) -> Result<Option<BucketReplication>, Problem> {
    // Resolved as a whole: a rule may stand behind a condition.
    let configuration = bucket.part("ReplicationConfiguration")?;
    if configuration.is_null() {
        return Ok(None);
    }
    if versioning == Versioning::Off {
        return Err(unexpected("VersioningConfiguration.Status", "Enabled, which replication needs"));
    }
    let configuration = Properties::within(&configuration, bucket.scope());
    refuse_others(configuration, &["Role", "Rules"], "ReplicationConfiguration")?;
    let policy = policy::of_role(&role(configuration)?, bucket.scope())?;
    let listed = configuration.part("Rules")?;
    let listed = listed.as_array().filter(|rules| !rules.is_empty());
    let listed = listed.ok_or_else(|| unexpected("ReplicationConfiguration.Rules", "a list of rules"))?;
    let (mut priorities, mut rules) = (BTreeSet::new(), Vec::new());
    for listed in listed {
        let (priority, rule) = rule(Properties::within(listed, bucket.scope()), name)?;
        if !priorities.insert(priority) {
            return Err(unexpected("Priority", "another one in every rule"));
        }
        rules.extend(rule.map(|rule| (priority, rule)));
    }
    rules.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
    let rules = rules.into_iter().map(|(_, rule)| rule).collect();
    Ok(Some(BucketReplication { policy, rules }))
}

/// The logical id of the role that S3 copies as.
fn role(configuration: Properties<'_>) -> Result<String, Problem> {
    let role = configuration.text("Role")?;
    let id = role.strip_prefix(&arn::role("")).filter(|id| configuration.scope().resource(id).is_ok());
    id.map(str::to_owned)
        .ok_or_else(|| unexpected("ReplicationConfiguration.Role", "the ARN of a role of this template"))
}

/// Its priority, and what it says if it is enabled.
fn rule(rule: Properties<'_>, bucket: &str) -> Result<(u64, Option<ReplicationRule>), Problem> {
    let missing = |property: &str| Problem::Missing { property: property.to_owned() };
    refuse_others(rule, &RULE_PROPERTIES, "a replication rule")?;
    let priority = rule.number("Priority")?.ok_or_else(|| missing("Priority"))?;
    let filter = rule.value("Filter")?.ok_or_else(|| missing("Filter"))?;
    let filter = Properties::within(&filter, rule.scope());
    refuse_others(filter, &["Prefix"], "the Filter of a replication rule")?;
    let markers = rule.value("DeleteMarkerReplication")?.ok_or_else(|| missing("DeleteMarkerReplication"))?;
    let markers = is_enabled(Properties::within(&markers, rule.scope()), "DeleteMarkerReplication.Status")?;
    let destination = destination(&rule.part("Destination")?, rule.scope())?;
    if destination == bucket {
        return Err(unexpected("Destination.Bucket", "another bucket"));
    }
    let prefix = filter.optional_text("Prefix")?.unwrap_or_default();
    let delete_markers = if markers { DeleteMarkers::Copied } else { DeleteMarkers::Kept };
    let enabled = is_enabled(rule, "Status")?;
    Ok((priority, enabled.then_some(ReplicationRule { prefix, destination, delete_markers })))
}

fn destination(destination: &Value, scope: &Scope<'_>) -> Result<String, Problem> {
    let destination = Properties::within(destination, scope);
    refuse_others(destination, &["Bucket"], "the Destination of a replication rule")?;
    let arn = destination.text("Bucket")?;
    let name = arn.strip_prefix(&arn::bucket("")).filter(|name| !name.is_empty() && !name.contains('/'));
    name.map(str::to_owned).ok_or_else(|| unexpected("Destination.Bucket", "the ARN of a bucket"))
}

fn is_enabled(properties: Properties<'_>, name: &'static str) -> Result<bool, Problem> {
    match properties.text("Status")?.as_str() {
        "Enabled" => Ok(true),
        "Disabled" => Ok(false),
        _ => Err(unexpected(name, "Enabled or Disabled")),
    }
}
