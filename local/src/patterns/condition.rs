//! One condition on one leaf of an event.

use std::net::IpAddr;

use serde_json::Value;

use super::wildcard::Wildcard;
use super::{Dialect, PatternError, invalid};

/// The values that `numeric` takes (`EventBridge` user guide, "Numeric matching"; SNS's are
/// within).
const NUMBERS: std::ops::RangeInclusive<f64> = -5e9..=5e9;
const SNS_NUMBERS: std::ops::RangeInclusive<f64> = -1e9..=1e9;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Condition {
    /// A text, `true`, `false` or `null`; a number by its digits.
    Equals(Value),
    Text(TextTest),
    /// Texts and numbers that must differ.
    AnythingBut(Vec<Value>),
    /// Texts must not meet any.
    AnythingButText(Vec<TextTest>),
    Numeric(Vec<(Comparison, f64)>),
    Cidr(IpAddr, u8),
    Exists,
    /// `{"exists": false}`, which is asked of the whole event.
    Absent,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum TextTest {
    Prefix(String),
    PrefixIgnoreCase(String),
    Suffix(String),
    SuffixIgnoreCase(String),
    EqualsIgnoreCase(String),
    Wildcard(Wildcard),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Condition {
    pub(super) fn read(item: &Value, dialect: Dialect) -> Result<Self, PatternError> {
        let members = match item {
            Value::Object(members) => members,
            Value::Array(_) => return Err(invalid("a list within a list of conditions")),
            Value::Number(number) if dialect == Dialect::Sns => {
                return Ok(Self::Numeric(vec![(Comparison::Equal, in_range(number.as_f64(), dialect)?)]));
            }
            scalar => return Ok(Self::Equals(scalar.clone())),
        };
        let mut members = members.iter();
        let (Some((operator, operand)), None) = (members.next(), members.next()) else {
            return Err(invalid("only one key is allowed in a match expression"));
        };
        match (operator.as_str(), operand) {
            ("exists", Value::Bool(true)) => Ok(Self::Exists),
            ("exists", Value::Bool(false)) => Ok(Self::Absent),
            ("exists", _) => Err(invalid("exists must be true or false")),
            ("anything-but", operand) => anything_but(operand, dialect),
            ("numeric", operand) => numeric(operand, dialect),
            ("cidr", operand) => cidr(operand),
            (operator, operand) => TextTest::read(operator, operand, dialect).map(Self::Text),
        }
    }

    /// Whether a leaf meets the condition.
    pub(super) fn holds(&self, leaf: &Value) -> bool {
        match self {
            Self::Equals(wanted) => wanted == leaf,
            Self::Text(test) => leaf.as_str().is_some_and(|text| test.holds(text)),
            Self::AnythingBut(unwanted) => !unwanted.iter().any(|unwanted| {
                // A number is the same however it is written.
                unwanted == leaf
                    || (leaf.is_number()
                        && unwanted.as_f64().is_some_and(|number| leaf.as_f64() == Some(number)))
            }),
            Self::AnythingButText(tests) => {
                leaf.as_str().is_some_and(|text| !tests.iter().any(|test| test.holds(text)))
            }
            Self::Numeric(bounds) => {
                leaf.is_number().then(|| leaf.as_f64()).flatten().is_some_and(|number| {
                    bounds.iter().all(|(comparison, bound)| comparison.holds(number, *bound))
                })
            }
            Self::Cidr(network, bits) => leaf
                .as_str()
                .and_then(|text| text.parse().ok())
                .is_some_and(|address| network_of(address, *bits) == network_of(*network, *bits)),
            Self::Exists => true,
            Self::Absent => false,
        }
    }
}

impl TextTest {
    fn read(operator: &str, operand: &Value, dialect: Dialect) -> Result<Self, PatternError> {
        let text = |value: &Value| match value.as_str() {
            Some("") if operator != "equals-ignore-case" => {
                Err(invalid(format!("{operator} must not be an empty text")))
            }
            Some(text) => Ok(text.to_owned()),
            None => Err(invalid(format!("{operator} must be a text"))),
        };
        // `{"prefix": {"equals-ignore-case": "a"}}`
        let ignoring_case = match operand.as_object() {
            // SNS does not list it ("String value matching" in its developer guide).
            Some(members) if members.len() == 1 && dialect == Dialect::EventBridge => {
                members.get("equals-ignore-case")
            }
            _ => None,
        };
        match (operator, ignoring_case) {
            ("prefix", Some(inner)) => Ok(Self::PrefixIgnoreCase(text(inner)?.to_lowercase())),
            ("suffix", Some(inner)) => Ok(Self::SuffixIgnoreCase(text(inner)?.to_lowercase())),
            ("prefix", None) => Ok(Self::Prefix(text(operand)?)),
            ("suffix", None) => Ok(Self::Suffix(text(operand)?)),
            ("equals-ignore-case", None) => Ok(Self::EqualsIgnoreCase(text(operand)?.to_lowercase())),
            // SNS has no wildcards.
            ("wildcard", None) if dialect == Dialect::EventBridge => {
                Wildcard::parse(&text(operand)?).map(Self::Wildcard)
            }
            _ => Err(invalid(format!("unrecognized match type {operator}"))),
        }
    }

    fn holds(&self, text: &str) -> bool {
        match self {
            Self::Prefix(prefix) => text.starts_with(prefix),
            Self::PrefixIgnoreCase(prefix) => text.to_lowercase().starts_with(prefix),
            Self::Suffix(suffix) => text.ends_with(suffix),
            Self::SuffixIgnoreCase(suffix) => text.to_lowercase().ends_with(suffix),
            Self::EqualsIgnoreCase(wanted) => text.to_lowercase() == *wanted,
            Self::Wildcard(wildcard) => wildcard.matches(text),
        }
    }
}

impl Comparison {
    fn read(operator: &str) -> Option<Self> {
        Some(match operator {
            "=" => Self::Equal,
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterOrEqual,
            _ => return None,
        })
    }

    #[expect(clippy::float_cmp, reason = "both are the nearest to the digits that were written")]
    fn holds(self, number: f64, bound: f64) -> bool {
        match self {
            Self::Equal => number == bound,
            Self::Less => number < bound,
            Self::LessOrEqual => number <= bound,
            Self::Greater => number > bound,
            Self::GreaterOrEqual => number >= bound,
        }
    }
}

fn anything_but(operand: &Value, dialect: Dialect) -> Result<Condition, PatternError> {
    if let Some(members) = operand.as_object() {
        let mut members = members.iter();
        let (Some((operator, operand)), None) = (members.next(), members.next()) else {
            return Err(invalid("only one key is allowed in anything-but"));
        };
        let operands = match operand {
            Value::Array(items) if items.is_empty() => {
                return Err(invalid("the list of anything-but is empty"));
            }
            Value::Array(items) => items.as_slice(),
            operand => std::slice::from_ref(operand),
        };
        let tests = operands.iter().map(|operand| {
            if operand.is_string() {
                TextTest::read(operator, operand, dialect)
            } else {
                Err(invalid(format!("{operator} in anything-but must be a text or a list of texts")))
            }
        });
        return Ok(Condition::AnythingButText(tests.collect::<Result<_, _>>()?));
    }
    let values = match operand {
        Value::Array(items) => items.clone(),
        value => vec![value.clone()],
    };
    let of_one_kind = values.iter().all(Value::is_string) || values.iter().all(Value::is_number);
    if values.is_empty() || !of_one_kind {
        return Err(invalid(
            "anything-but must be a text, a number, or a list of only texts or only numbers",
        ));
    }
    Ok(Condition::AnythingBut(values))
}

fn in_range(number: Option<f64>, dialect: Dialect) -> Result<f64, PatternError> {
    let range = if dialect == Dialect::Sns { SNS_NUMBERS } else { NUMBERS };
    number.filter(|number| range.contains(number)).ok_or_else(|| {
        invalid(format!("the value of numeric must be a number from {} to {}", range.start(), range.end()))
    })
}

fn numeric(operand: &Value, dialect: Dialect) -> Result<Condition, PatternError> {
    let wrong = || invalid("numeric must be a list of one comparison, or of a lower and then an upper bound");
    let items = operand.as_array().ok_or_else(wrong)?;
    let mut bounds = Vec::new();
    for pair in items.chunks(2) {
        let [Value::String(operator), number] = pair else { return Err(wrong()) };
        let comparison = Comparison::read(operator)
            .ok_or_else(|| invalid(format!("unrecognized numeric range operator {operator}")))?;
        if !number.is_number() {
            return Err(wrong());
        }
        bounds.push((comparison, in_range(number.as_f64(), dialect)?));
    }
    match bounds.as_slice() {
        [_] => Ok(Condition::Numeric(bounds)),
        [
            (Comparison::Greater | Comparison::GreaterOrEqual, bottom),
            (Comparison::Less | Comparison::LessOrEqual, top),
        ] if bottom < top => Ok(Condition::Numeric(bounds)),
        _ => Err(wrong()),
    }
}

fn cidr(operand: &Value) -> Result<Condition, PatternError> {
    let wrong = || invalid("cidr must be an address and a number of bits, such as 10.0.0.0/24");
    let (address, bits) = operand.as_str().and_then(|text| text.split_once('/')).ok_or_else(wrong)?;
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let bits: u8 = bits.parse().map_err(|_| wrong())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    if bits > most {
        return Err(wrong());
    }
    Ok(Condition::Cidr(address, bits))
}

/// The family of an address and its first bits.
fn network_of(address: IpAddr, bits: u8) -> (bool, u128) {
    let (number, width) = match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    let shift = 128_u32.min(width - u32::from(bits).min(width));
    (address.is_ipv4(), number.checked_shr(shift).unwrap_or(0))
}
