//! A message: body and attributes, within SQS's limits, and their digests.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::RangeInclusive;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

/// Attributes of one message.
const MAX_ATTRIBUTES: usize = 10;

/// Characters of an attribute's name.
const MAX_NAME_CHARACTERS: usize = 256;

/// A message's attributes by name.
pub type MessageAttributes = BTreeMap<String, MessageAttribute>;

/// One attribute of a message, as the API writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MessageAttribute {
    /// `String`, `Number` or `Binary`, each perhaps with a label of its own: `Number.cents`.
    pub data_type: String,
    /// The value of a text or number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub string_value: Option<String>,
    /// The value of a binary, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary_value: Option<String>,
}

/// Why a message is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error("The request must contain the parameter MessageBody.")]
    Empty,
    /// Body and attributes together.
    #[error("One or more parameters are invalid. Reason: Message must be shorter than {limit} bytes.")]
    TooLong {
        /// The queue's `MaximumMessageSize`.
        limit: usize,
    },
    /// Characters that XML 1.0 does not know.
    #[error(
        "Invalid characters were found. Valid unicode characters are: #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF"
    )]
    Characters,
    #[error("The message attribute '{name}' is invalid: {reason}.")]
    Attribute {
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    #[error("Number of message attributes [{count}] exceeds the allowed maximum [{MAX_ATTRIBUTES}].")]
    Attributes {
        /// How many there are.
        count: usize,
    },
}

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    body: String,
    attributes: MessageAttributes,
}

impl Message {
    /// A message that a queue of that `MaximumMessageSize` accepts.
    pub fn new(body: String, attributes: MessageAttributes, limit: usize) -> Result<Self, MessageError> {
        if body.is_empty() {
            return Err(MessageError::Empty);
        }
        if attributes.len() > MAX_ATTRIBUTES {
            return Err(MessageError::Attributes { count: attributes.len() });
        }
        for (name, attribute) in &attributes {
            attribute.check(name).map_err(|reason| MessageError::Attribute { name: name.clone(), reason })?;
        }
        let message = Self { body, attributes };
        if message.size_bytes() > limit {
            return Err(MessageError::TooLong { limit });
        }
        let texts = message.attributes.values().filter_map(|attribute| attribute.string_value.as_deref());
        if !texts.chain([message.body.as_str()]).all(|text| text.chars().all(is_allowed)) {
            return Err(MessageError::Characters);
        }
        Ok(message)
    }

    /// What it says.
    pub fn body(&self) -> &str {
        &self.body
    }

    /// What is said about it.
    pub fn attributes(&self) -> &MessageAttributes {
        &self.attributes
    }

    /// Body and attributes, as the limits count them.
    pub fn size_bytes(&self) -> usize {
        Self::size_of(&self.body, &self.attributes)
    }

    /// The size of a message that may be none.
    pub(in crate::services) fn size_of(body: &str, attributes: &MessageAttributes) -> usize {
        let attributes = attributes
            .iter()
            .map(|(name, attribute)| name.len() + attribute.data_type.len() + attribute.bytes().len());
        body.len() + attributes.sum::<usize>()
    }
}

impl MessageAttribute {
    fn is_binary(&self) -> bool {
        self.data_type == "Binary" || self.data_type.starts_with("Binary.")
    }

    /// What was checked before is never without a value.
    fn bytes(&self) -> Vec<u8> {
        match (&self.binary_value, &self.string_value) {
            (Some(binary), _) if self.is_binary() => STANDARD.decode(binary).unwrap_or_default(),
            (_, text) => text.clone().unwrap_or_default().into_bytes(),
        }
    }

    /// Whether a queue or a topic takes it under that name.
    pub(in crate::services) fn check(&self, name: &str) -> Result<(), &'static str> {
        let is_name = |character: char| character.is_ascii_alphanumeric() || "_-.".contains(character);
        let reserved = ["aws.", "amazon."].iter().any(|prefix| name.to_ascii_lowercase().starts_with(prefix));
        let is_dotted = name.starts_with('.') || name.ends_with('.') || name.contains("..");
        let is_short = (1..=MAX_NAME_CHARACTERS).contains(&name.len());
        if !is_short || !name.chars().all(is_name) || reserved || is_dotted {
            return Err(
                "its name must be 1 to 256 letters, digits, _, - and single . between them, and not begin \
                        with AWS. or Amazon.",
            );
        }
        if self.data_type.len() > MAX_NAME_CHARACTERS {
            return Err("its type must have 256 characters at most");
        }
        let kind = self.data_type.split('.').next().unwrap_or_default();
        let valid = match kind {
            "String" => self.string_value.as_ref().is_some_and(|text| !text.is_empty()),
            "Number" => self.string_value.as_ref().is_some_and(|text| is_number(text)),
            "Binary" => self
                .binary_value
                .as_ref()
                .is_some_and(|binary| STANDARD.decode(binary).is_ok_and(|bytes| !bytes.is_empty())),
            _ => return Err("its type must be String, Number or Binary"),
        };
        if valid { Ok(()) } else { Err("it must have a value of its type") }
    }
}

/// Digits of a number, and its size but for 0: by the developer guide, "Amazon SQS message
/// metadata".
const MAX_DIGITS: usize = 38;
const NUMBERS: RangeInclusive<f64> = 1e-128..=1e126;

/// Whether a text is a number that an attribute may have.
fn is_number(text: &str) -> bool {
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let digits = mantissa.trim_start_matches(['+', '-', '0', '.']);
    digits.chars().filter(char::is_ascii_digit).count() <= MAX_DIGITS
        && text.chars().all(|character| character.is_ascii_digit() || "+-.eE".contains(character))
        && text.parse::<f64>().is_ok_and(|number| number == 0.0 || NUMBERS.contains(&number.abs()))
}

fn is_allowed(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

/// `MD5OfMessageBody`.
pub fn body_digest(body: &str) -> String {
    hex(Md5::digest(body))
}

/// `MD5OfMessageAttributes`; nothing without attributes. By the developer guide, "Calculating the
/// MD5 message digest for message attributes": each in the order of the names, every part after its
/// length.
pub fn attributes_digest(attributes: &MessageAttributes) -> Option<String> {
    let mut digest = Md5::new();
    for (name, attribute) in attributes {
        for part in [name.as_bytes(), attribute.data_type.as_bytes()] {
            update(&mut digest, part);
        }
        digest.update([if attribute.is_binary() { 2 } else { 1 }]);
        update(&mut digest, &attribute.bytes());
    }
    (!attributes.is_empty()).then(|| hex(digest.finalize()))
}

fn update(digest: &mut Md5, part: &[u8]) {
    // No part is longer than a message.
    digest.update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
    digest.update(part);
}

fn hex(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        // Writing to a `String` has no failure to report.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}
