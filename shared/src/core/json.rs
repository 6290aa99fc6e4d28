//! Strict JSON parsing, where `serde_json` and RFC 8259 leave a choice.
//!
//! 1. Member names are unique: [`parse`] refuses duplicates, since readers disagree on which value
//!    counts.
//! 2. An integer may be written `2`, `2.0` or `2e0`: JSON Schema (2020-12, core, section 4.2.3)
//!    calls each of them an integer. Fields with integers are read by [`integer`].
//! 3. Numbers in free-form values keep their digits: `serde_json` is built with
//!    `arbitrary_precision`, so that a [`Value`] keeps the text of its numbers.
//! 4. A byte order mark is refused with its own error (RFC 8259, section 8.1).
//!
//! `arbitrary_precision` has two consequences. A number of a `Value` is a number in JSON only, so
//! values for DynamoDB are written by [`plain`]. And serde cannot read numbers in `untagged`,
//! internally tagged or flattened types from JSON text, but can from a [`Value`], so such types are
//! parsed in two steps.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{Error as _, Serialize, Serializer};
use serde_json::{Number, Value};

/// U+FEFF in UTF-8.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Most digits of an integer that is computed with: those of an `i128`, less one.
const MAX_INTEGER_DIGITS: usize = 38;

/// Longest run of zeros that a canonical number spells out: every reader takes `1e20` for an
/// integer, not `1e400`.
const MAX_SPELT_ZEROS: usize = 20;

/// Text that is not the expected JSON. 400.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    #[error("it begins with a byte order mark (U+FEFF); remove it")]
    ByteOrderMark,
    /// Not JSON, a duplicate name, or a value of another form.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// Parses JSON text; refuses objects with duplicate names.
pub fn parse<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, ParseError> {
    if text.starts_with(BYTE_ORDER_MARK) {
        return Err(ParseError::ByteOrderMark);
    }
    serde_json::from_slice::<UniqueNames>(text)?;
    Ok(serde_json::from_slice(text)?)
}

/// Any JSON without duplicate names.
struct UniqueNames;

impl<'de> Deserialize<'de> for UniqueNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for UniqueNames {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    /// Objects, and numbers too: with `arbitrary_precision` a number is an object of one member.
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            members.next_value::<Self>()?;
            if let Some(name) = names.replace(name) {
                return Err(A::Error::custom(format_args!("the member {name:?} occurs twice")));
            }
        }
        Ok(self)
    }
}

/// Reads an integer in any notation. For `#[serde(deserialize_with)]`.
pub fn integer<'de, D: Deserializer<'de>, T: TryFrom<i128>>(deserializer: D) -> Result<T, D::Error> {
    let number = Number::deserialize(deserializer)?;
    let whole = Decimal::of(&number).and_then(|decimal| decimal.whole());
    let whole = whole.ok_or_else(|| D::Error::custom("invalid type: the number is not an integer"))?;
    T::try_from(whole).map_err(|_| D::Error::custom("the integer is out of range"))
}

/// Writes a value for a format other than JSON. For `#[serde(serialize_with)]`. Only for values of
/// the service itself, whose numbers are integers and floats of the machine.
pub fn plain<S: Serializer>(value: &Value, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), ..) => serializer.serialize_u64(number),
            (_, Some(number), _) => serializer.serialize_i64(number),
            (.., Some(number)) => serializer.serialize_f64(number),
            _ => Err(S::Error::custom("a number that no machine has")),
        },
        Value::Array(items) => serializer.collect_seq(items.iter().map(Plain)),
        Value::Object(members) => {
            serializer.collect_map(members.iter().map(|(name, value)| (name, Plain(value))))
        }
        Value::Null | Value::Bool(_) | Value::String(_) => value.serialize(serializer),
    }
}

/// A value that is serialised by [`plain`].
#[derive(Debug, Clone, Copy)]
pub struct Plain<'a>(pub &'a Value);

impl Serialize for Plain<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        plain(self.0, serializer)
    }
}

/// The canonical spelling of a number: `2`, `2.0` and `20e-1` are the same.
pub fn canonical(number: &Number) -> String {
    Decimal::of(number).map_or_else(|| number.to_string(), |decimal| decimal.to_string())
}

/// A number: `digits` times ten to the power of `exponent`. The first and the last digit are not 0.
struct Decimal {
    is_negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// `None` for a number whose exponent has more than 18 digits.
    fn of(number: &Number) -> Option<Self> {
        let text = number.to_string();
        let (is_negative, text) = text.strip_prefix('-').map_or((false, text.as_str()), |rest| (true, rest));
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let exponent: i64 = exponent.parse().ok()?;
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        let digits = all.trim_end_matches('0');
        let places = i64::try_from(all.len() - digits.len()).ok()? - i64::try_from(fraction.len()).ok()?;
        let digits = digits.trim_start_matches('0').to_owned();
        if digits.is_empty() {
            return Some(Self { is_negative: false, digits, exponent: 0 });
        }
        Some(Self { is_negative, digits, exponent: exponent.checked_add(places)? })
    }

    /// The number, if it is an integer of at most [`MAX_INTEGER_DIGITS`] digits.
    fn whole(&self) -> Option<i128> {
        let zeros = usize::try_from(self.exponent).ok()?;
        if self.digits.is_empty() {
            return Some(0);
        }
        if self.digits.len().checked_add(zeros)? > MAX_INTEGER_DIGITS {
            return None;
        }
        let absolute: i128 = format!("{}{}", self.digits, "0".repeat(zeros)).parse().ok()?;
        Some(if self.is_negative { -absolute } else { absolute })
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.is_negative { "-" } else { "" };
        match usize::try_from(self.exponent) {
            _ if self.digits.is_empty() => f.write_str("0"),
            Ok(zeros @ 0..=MAX_SPELT_ZEROS) => write!(f, "{sign}{}{}", self.digits, "0".repeat(zeros)),
            _ => write!(f, "{sign}{}e{}", self.digits, self.exponent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read<T: TryFrom<i128>>(text: &str) -> Result<T, String> {
        integer(&mut serde_json::Deserializer::from_str(text)).map_err(|error| error.to_string())
    }

    fn written_once(text: &str) -> String {
        canonical(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn an_integer_is_one_however_it_is_written() {
        for two in ["2", "2.0", "2e0", "2E+0", "20e-1", "0.2e1", "2.000000000000000000000000"] {
            assert_eq!(read::<u32>(two), Ok(2), "{two}");
        }
        for zero in ["0", "-0", "0.0", "-0e9", "0e-9"] {
            assert_eq!(read::<u32>(zero), Ok(0), "{zero}");
        }
        assert_eq!(read::<i64>("-1.5e1"), Ok(-15));
        assert_eq!(read::<u64>("9007199254740993.0"), Ok(9_007_199_254_740_993), "no detour by a float");
    }

    #[test]
    fn what_is_no_integer_or_too_large_is_refused() {
        for fraction in ["2.5", "1e-1", "2.0000000000000000000000001"] {
            assert!(read::<u32>(fraction).unwrap_err().contains("not an integer"), "{fraction}");
        }
        for large in ["4294967296", "-1", "1e10"] {
            assert!(read::<u32>(large).unwrap_err().contains("out of range"), "{large}");
        }
        for huge in ["1e39", "1e400", "1e99999999999999999999", "\"2\"", "true", "null", "[2]"] {
            assert!(read::<u32>(huge).is_err(), "{huge}");
        }
    }

    #[test]
    fn a_name_that_is_there_twice_is_refused_at_any_depth() {
        for twice in [r#"{"a":1,"a":1}"#, r#"{"b":[{"a":1,"\u0061":2}]}"#, r#"{"":{},"":{}}"#] {
            assert!(parse::<Value>(twice.as_bytes()).unwrap_err().to_string().contains("twice"), "{twice}");
        }
        for once in [r#"{"a":{"a":1},"b":[{"a":1},{"a":1.5}]}"#, "[1,1e+400,-2.50,null,true,\"a\"]", "7"] {
            assert_eq!(parse::<Value>(once.as_bytes()).unwrap().to_string(), *once);
        }
    }

    #[test]
    fn a_byte_order_mark_is_refused_by_name() {
        let refusal = parse::<Value>("\u{feff}{}".as_bytes()).unwrap_err().to_string();
        assert!(refusal.contains("byte order mark"), "{refusal}");
    }

    #[test]
    fn numbers_keep_their_digits_in_free_form_values() {
        for text in ["1.50", "1e400", "123456789012345678901234567890", "-0.0", "1E5"] {
            let value: Value = parse(text.as_bytes()).unwrap();
            assert_eq!(value.to_string(), text.replace("1E5", "1e+5").replace("1e400", "1e+400"));
        }
    }

    #[test]
    fn a_value_can_be_written_into_dynamodb() {
        let value = serde_json::json!({"a": [1, -2, 1.5, null, true], "b": {"c": "d"}});
        let written =
            serde_dynamo::to_attribute_value::<_, serde_dynamo::AttributeValue>(Plain(&value)).unwrap();
        assert_eq!(serde_dynamo::from_attribute_value::<_, Value>(written).unwrap(), value);
    }

    #[test]
    fn every_number_has_one_canonical_spelling() {
        for (text, once) in [
            ("2.0", "2"),
            ("20e-1", "2"),
            ("-0.0", "0"),
            ("100", "100"),
            ("1e2", "100"),
            ("1.50", "15e-1"),
            ("-2.5e-3", "-25e-4"),
            ("1e400", "1e400"),
            ("10e399", "1e400"),
        ] {
            assert_eq!(written_once(text), once, "{text}");
        }
    }

    proptest! {
        #[test]
        fn integers_are_their_own_canonical_spelling(number: i64, zeros in 1_usize..5) {
            let fraction = "0".repeat(zeros);
            prop_assert_eq!(written_once(&number.to_string()), number.to_string());
            prop_assert_eq!(written_once(&format!("{number}.{fraction}")), number.to_string());
            prop_assert_eq!(read::<i64>(&format!("{number}{fraction}e-{zeros}")), Ok(number));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "[-+.eE0-9]{0,30}|\\PC{0,40}") {
            let _: Result<i64, String> = read(&text);
            let _ = parse::<Value>(text.as_bytes());
        }
    }
}
