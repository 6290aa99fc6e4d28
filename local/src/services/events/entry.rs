//! An entry of `PutEvents`: its checks, and the event made from it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Number, Value};

use crate::clock;
use crate::services::faults::EntryFault;
use crate::template::arn::Arns;
use crate::template::model::{ACCOUNT, DEFAULT_BUS};

/// The size of a time in an entry.
const TIME_BYTES: usize = 14;

/// Sources that only AWS's own services have begin with this.
const OF_AWS: &str = "aws.";

/// As it came.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    source: Option<String>,
    detail_type: Option<String>,
    detail: Option<String>,
    event_bus_name: Option<String>,
    #[serde(default)]
    resources: Option<Vec<String>>,
    /// Seconds since 1970.
    time: Option<Number>,
    /// What a fault rule has it fail with.
    #[serde(skip)]
    injected: Option<EntryError>,
}

/// Why an entry failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct EntryError {
    pub(super) error_code: String,
    pub(super) error_message: String,
}

/// What goes to targets, member by member as `EventBridge` orders them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Event<'a> {
    version: &'static str,
    pub(super) id: String,
    pub(super) detail_type: &'a str,
    pub(super) source: &'a str,
    account: &'static str,
    time: String,
    region: &'a str,
    resources: &'a [String],
    /// As it came, to the last digit.
    pub(super) detail: Box<RawValue>,
}

impl Entry {
    /// The name of its bus, which it may name by its ARN.
    pub(super) fn bus(&self, arns: &Arns) -> &str {
        let name = self.event_bus_name.as_deref().unwrap_or(DEFAULT_BUS);
        name.strip_prefix(&arns.event_bus("")).unwrap_or(name)
    }

    /// As `EventBridge` counts it.
    pub(super) fn size_bytes(&self) -> usize {
        let texts = [&self.source, &self.detail_type, &self.detail].into_iter().flatten();
        let texts = texts.chain(self.resources.iter().flatten()).map(String::len);
        texts.sum::<usize>() + if self.time.is_some() { TIME_BYTES } else { 0 }
    }

    /// Has the entry fail if `fault` hits it.
    pub(super) fn fail(&mut self, position: usize, fault: &EntryFault) {
        if fault.hits(position, self.detail.as_deref().unwrap_or_default()) {
            let message = "a fault rule of the local region has it fail";
            self.injected = Some(EntryError::new(fault.code("InternalFailure"), message));
        }
    }

    /// The event, with a new id.
    pub(super) fn event<'a>(&'a self, arns: &'a Arns) -> Result<Event<'a>, EntryError> {
        if let Some(error) = &self.injected {
            return Err(error.clone());
        }
        let source = required("Source", self.source.as_ref())?;
        let detail_type = required("DetailType", self.detail_type.as_ref())?;
        let detail = required("Detail", self.detail.as_ref())?;
        if source.starts_with(OF_AWS) {
            return Err(EntryError::new("NotAuthorizedForSourceException", "Not authorized for the source."));
        }
        let malformed = || EntryError::new("MalformedDetail", "Detail is malformed.");
        let value: Value = serde_json::from_str(detail).map_err(|_| malformed())?;
        if !value.is_object() {
            return Err(malformed());
        }
        if has_large_integer(&value) {
            return Err(EntryError::new(
                "MalformedDetail",
                "Detail is malformed: an integer is outside of -9223372036854775808 to 9223372036854775807.",
            ));
        }
        Ok(Event {
            version: "0",
            id: uuid::Uuid::new_v4().to_string(),
            detail_type,
            source,
            account: ACCOUNT,
            time: self.time()?,
            region: arns.region(),
            resources: self.resources.as_deref().unwrap_or_default(),
            detail: RawValue::from_string(detail.trim().to_owned()).map_err(|_| malformed())?,
        })
    }

    /// To the second, as events have it.
    fn time(&self) -> Result<String, EntryError> {
        let at = match &self.time {
            None => clock::now(),
            Some(seconds) => seconds
                .as_f64()
                .and_then(|seconds| jiff::SignedDuration::try_from_secs_f64(seconds).ok())
                .and_then(|duration| Timestamp::from_duration(duration).ok())
                .ok_or_else(|| EntryError::argument("Time", "Time is not a time"))?,
        };
        Ok(at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
    }
}

impl EntryError {
    pub(super) fn new(code: &str, message: &str) -> Self {
        Self { error_code: code.to_owned(), error_message: message.to_owned() }
    }

    pub(super) fn argument(parameter: &str, reason: &str) -> Self {
        Self::new("InvalidArgument", &format!("Parameter {parameter} is not valid. Reason: {reason}."))
    }
}

fn required<'a>(name: &str, value: Option<&'a String>) -> Result<&'a str, EntryError> {
    let value = value.map(String::as_str).filter(|value| !value.is_empty());
    value.ok_or_else(|| EntryError::argument(name, &format!("{name} is a required argument")))
}

/// Whether an integer has more than 64 bits, which `PutEvents` does not take.
fn has_large_integer(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_i64().is_none() && !number.to_string().contains(['.', 'e', 'E']),
        Value::Array(items) => items.iter().any(has_large_integer),
        Value::Object(members) => members.values().any(has_large_integer),
        _ => false,
    }
}
