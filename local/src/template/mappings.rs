//! `AWS::Lambda::EventSourceMapping`: of a queue, of a stream, of a topic of Kafka. What it reads
//! from decides which.

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::Problem;
use super::model::{KafkaSource, StreamSource};
use super::properties::Properties;
use super::queues::Mapping;
use super::scope::{Located, Scope};
use super::streams::{MAPPING, Reader};
use super::{arn, kafka, queues, streams};

/// What the mappings of a template amount to.
#[derive(Default)]
pub(super) struct Read {
    pub(super) queues: Vec<Mapping>,
    pub(super) streams: Vec<StreamSource>,
    pub(super) topics: Vec<KafkaSource>,
}

/// Every [`MAPPING`]. `functions` leads from ARNs to short names.
pub(super) fn read(scope: &Scope<'_>, functions: &BTreeMap<String, String>) -> Result<Read, Located> {
    let mut all = Read::default();
    for (id, resource) in scope.of_type(MAPPING) {
        one(id, resource, scope, functions, &mut all).map_err(|problem| (id.to_owned(), problem))?;
    }
    kafka::check_groups(&all.topics)?;
    Ok(all)
}

fn one(
    id: &str,
    resource: &Value,
    scope: &Scope<'_>,
    functions: &BTreeMap<String, String>,
    all: &mut Read,
) -> Result<(), Problem> {
    let properties = Properties::of(resource, scope);
    let reader = reader(properties, functions)?;
    if properties.raw("SelfManagedEventSource").is_some() {
        all.topics.push(kafka::mapping(properties, reader.function)?);
        return Ok(());
    }
    let source = properties.text("EventSourceArn")?;
    if arn::is_queue(&source) {
        all.queues.push(queues::plain_mapping(id, properties, &source, reader.function)?);
    } else {
        all.streams.push(streams::mapping(properties, &reader)?);
    }
    Ok(())
}

fn reader<'a>(
    mapping: Properties<'_>,
    functions: &'a BTreeMap<String, String>,
) -> Result<Reader<'a>, Problem> {
    let named = mapping.text("FunctionName")?;
    let by_name = |arn: &str| arn == named || arn == mapping.scope().arns().function(&named);
    let found = functions.iter().find(|(arn, _)| by_name(arn));
    let (arn, function) = found.ok_or_else(|| Problem::Unsupported {
        what: format!("a mapping for {named}, which is no function of this template,"),
        instead: "name one of its functions, by !Ref Function or !GetAtt Function.Arn",
    })?;
    Ok(Reader { function, arn })
}
