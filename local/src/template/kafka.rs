//! `AWS::Lambda::EventSourceMapping` of a topic of a Kafka cluster of one's own
//! (`SelfManagedEventSource`).
//!
//! By Lambda's API reference (`CreateEventSourceMapping`, `SelfManagedEventSource`,
//! `SelfManagedKafkaEventSourceConfig`) and its developer guide ("Configuring self-managed Apache
//! Kafka event sources for Lambda"):
//!
//! 1. One topic, 1 to 10 bootstrap servers, a starting position, a batch of 1 to 10,000 records.
//! 2. A batch that is not full waits for half a second, or for 0 to 300 seconds if the template
//!    says so.
//! 3. Two mappings share no consumer group.
//!
//! A property that is not understood is an error. So are those of provisioned pollers: retries that
//! end, halves of batches, and partial batch responses exist with these only. Access to the cluster
//! by secrets is not run: the brokers of a laptop take everybody. Subnets and security groups mean
//! nothing here.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::Value;

use super::error::Problem;
use super::model::{KafkaSource, StartingPosition};
use super::properties::{Properties, unexpected};
use super::queues::{refuse_others, size, within};
use super::scope::Located;

/// What is understood.
const PROPERTIES: &[&str] = &[
    "FunctionName",
    "SelfManagedEventSource",
    "SelfManagedKafkaEventSourceConfig",
    "SourceAccessConfigurations",
    "Topics",
    "StartingPosition",
    "BatchSize",
    "MaximumBatchingWindowInSeconds",
    "Enabled",
];

const BATCH_SIZE: RangeInclusive<u64> = 1..=10_000;
const DEFAULT_BATCH_SIZE: u64 = 100;
const WINDOW_SECONDS: RangeInclusive<u64> = 0..=300;

/// Without a window in the template. Developer guide, "Batching behavior": 500 ms for Kafka.
const DEFAULT_WINDOW: Duration = Duration::from_millis(500);

const MAX_SERVERS: usize = 10;
const MAX_GROUP_CHARS: usize = 200;
const MAX_TOPIC_CHARS: usize = 249;

/// A mapping that has a `SelfManagedEventSource`.
pub(super) fn mapping(mapping: Properties<'_>, function: &str) -> Result<KafkaSource, Problem> {
    refuse_others(mapping, &[PROPERTIES])?;
    let [cluster, config] =
        [mapping.part("SelfManagedEventSource")?, mapping.part("SelfManagedKafkaEventSourceConfig")?];
    access(&mapping.part("SourceAccessConfigurations")?)?;
    let topic = match mapping.texts("Topics")?.as_slice() {
        [topic] if is_topic(topic) => topic.clone(),
        _ => {
            return Err(unexpected(
                "Topics",
                "a list of one topic: letters, digits, dots, hyphens and underscores",
            ));
        }
    };
    let window = mapping.number("MaximumBatchingWindowInSeconds")?;
    Ok(KafkaSource {
        bootstrap_servers: servers(&cluster)?,
        topic,
        consumer_group: group(Properties::within(&config, mapping.scope()))?,
        function: function.to_owned(),
        starting_position: match mapping.text("StartingPosition")?.as_str() {
            "TRIM_HORIZON" => StartingPosition::TrimHorizon,
            "LATEST" => StartingPosition::Latest,
            _ => return Err(unexpected("StartingPosition", "TRIM_HORIZON or LATEST")),
        },
        batch_size: size(within(mapping, "BatchSize", BATCH_SIZE, DEFAULT_BATCH_SIZE)?),
        batching_window: match window {
            None => DEFAULT_WINDOW,
            Some(_) => {
                Duration::from_secs(within(mapping, "MaximumBatchingWindowInSeconds", WINDOW_SECONDS, 0)?)
            }
        },
        enabled: mapping.flag("Enabled")?.unwrap_or(true),
    })
}

/// API reference, `CreateEventSourceMapping`, `Topics`: at most 249 characters of
/// `[a-zA-Z0-9\\-_.]`, and not `.`.
fn is_topic(topic: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=MAX_TOPIC_CHARS).contains(&topic.len())
        && topic.bytes().all(fits)
        && topic.bytes().any(|byte| byte != b'.')
}

fn servers(cluster: &Value) -> Result<Vec<String>, Problem> {
    let wrong = || {
        unexpected(
            "SelfManagedEventSource",
            "Endpoints with KafkaBootstrapServers, a list of 1 to 10 texts of the form host:port",
        )
    };
    let only = |value: &Value, name: &str| match value.as_object() {
        Some(members) if members.len() == 1 => members.get(name).cloned().ok_or_else(wrong),
        _ => Err(wrong()),
    };
    let Value::Array(servers) = only(&only(cluster, "Endpoints")?, "KafkaBootstrapServers")? else {
        return Err(wrong());
    };
    let servers: Vec<String> = servers
        .iter()
        .map(|server| server.as_str().map(str::to_owned))
        .collect::<Option<_>>()
        .ok_or_else(wrong)?;
    let fits = (1..=MAX_SERVERS).contains(&servers.len()) && servers.iter().all(|server| is_server(server));
    if fits { Ok(servers) } else { Err(wrong()) }
}

fn is_server(server: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_port =
        |port: &str| (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    server.len() <= 300
        && server.split_once(':').is_some_and(|(host, port)| host.split('.').all(is_label) && is_port(port))
}

/// The cloud makes a group if the template has none. Here it would be another one after each start,
/// so one must be named.
fn group(config: Properties<'_>) -> Result<String, Problem> {
    let group = config.optional_text("ConsumerGroupId")?.ok_or_else(|| Problem::Missing {
        property: "SelfManagedKafkaEventSourceConfig.ConsumerGroupId".to_owned(),
    })?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-/*:_+=.@".contains(&byte);
    if (1..=MAX_GROUP_CHARS).contains(&group.len()) && group.bytes().all(fits) {
        Ok(group)
    } else {
        let wanted = "1 to 200 letters, digits and -/*:_+=.@";
        Err(unexpected("SelfManagedKafkaEventSourceConfig.ConsumerGroupId", wanted))
    }
}

fn access(configurations: &Value) -> Result<(), Problem> {
    let all = match configurations {
        Value::Null => return Ok(()),
        Value::Array(all) => all,
        _ => return Err(unexpected("SourceAccessConfigurations", "a list")),
    };
    for kind in all.iter().map(|configuration| configuration.get("Type").and_then(Value::as_str)) {
        match kind {
            Some("VPC_SUBNET" | "VPC_SECURITY_GROUP") => {}
            Some(other) => {
                return Err(Problem::Unsupported {
                    what: format!("SourceAccessConfigurations of type {other}"),
                    instead: "use brokers that take everybody on this machine",
                });
            }
            None => {
                return Err(unexpected(
                    "SourceAccessConfigurations",
                    "a list of objects with a Type and a URI",
                ));
            }
        }
    }
    Ok(())
}

/// API reference, `SelfManagedKafkaEventSourceConfig`: "The value that you specify for Kafka
/// consumer group ID must be unique among all your Kafka event sources."
pub(super) fn check_groups(sources: &[KafkaSource]) -> Result<(), Located> {
    let twice = sources.iter().enumerate().find(|(index, source)| {
        sources[..*index].iter().any(|other| other.consumer_group == source.consumer_group)
    });
    match twice {
        None => Ok(()),
        Some((_, source)) => Err((
            source.function.clone(),
            unexpected("ConsumerGroupId", "another one for each mapping: Lambda refuses the second"),
        )),
    }
}
