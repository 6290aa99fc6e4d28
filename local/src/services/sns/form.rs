//! A request of AWS's query protocol: a form whose keys are paths, such as
//! `PublishBatchRequestEntries.member.1.MessageAttributes.entry.2.Value.DataType`.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::services::sqs::{MessageAttribute, MessageAttributes};

/// The form's fields, by their keys.
#[derive(Debug)]
pub(super) struct Form(BTreeMap<String, String>);

/// The fields whose keys begin with a prefix, which is empty or ends with a dot.
#[derive(Debug)]
pub(super) struct Part<'a> {
    form: &'a Form,
    prefix: String,
}

impl Form {
    /// Reads a body. Anything is a form: what a request lacks is found out when it is asked for.
    pub(super) fn parse(body: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(body).into_owned().collect())
    }

    /// The whole form.
    pub(super) fn root(&self) -> Part<'_> {
        Part { form: self, prefix: String::new() }
    }

    fn has_any(&self, prefix: &str) -> bool {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        self.0.range::<str, _>(from).next().is_some_and(|(key, _)| key.starts_with(prefix))
    }
}

impl<'a> Part<'a> {
    /// A field.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.form.0.get(&format!("{}{name}", self.prefix)).map(String::as_str)
    }

    /// The elements of a list or the entries of a map: `name` is what stands before their numbers,
    /// which begin at 1.
    pub(super) fn numbered(&self, name: &str) -> impl Iterator<Item = Part<'a>> {
        let (form, path) = (self.form, format!("{}{name}", self.prefix));
        (1..)
            .map(move |number: usize| Part { form, prefix: format!("{path}.{number}.") })
            .take_while(move |part| form.has_any(&part.prefix))
    }

    /// `MessageAttributes`. Two of one name are `Err`, with that name.
    pub(super) fn attributes(&self) -> Result<MessageAttributes, String> {
        let mut attributes = MessageAttributes::new();
        for entry in self.numbered("MessageAttributes.entry") {
            let name = entry.get("Name").unwrap_or_default().to_owned();
            let attribute = MessageAttribute {
                data_type: entry.get("Value.DataType").unwrap_or_default().to_owned(),
                string_value: entry.get("Value.StringValue").map(str::to_owned),
                binary_value: entry.get("Value.BinaryValue").map(str::to_owned),
            };
            if attributes.insert(name.clone(), attribute).is_some() {
                return Err(name);
            }
        }
        Ok(attributes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_their_attributes_are_read_in_their_order() {
        let form = Form::parse(
            b"E.member.1.Id=a&E.member.2.Id=b%20c&E.member.2.MessageAttributes.entry.1.Name=n\
              &E.member.2.MessageAttributes.entry.1.Value.DataType=String\
              &E.member.2.MessageAttributes.entry.1.Value.StringValue=v&E.member.4.Id=d",
        );
        let entries: Vec<_> = form.root().numbered("E.member").collect();
        let ids: Vec<_> = entries.iter().map(|entry| entry.get("Id")).collect();
        assert_eq!(ids, [Some("a"), Some("b c")], "a list ends where a number is missing");
        let attributes = entries[1].attributes().unwrap();
        assert_eq!(attributes["n"].string_value.as_deref(), Some("v"));
    }

    #[test]
    fn an_attribute_that_comes_twice_is_named() {
        let form = Form::parse(b"MessageAttributes.entry.1.Name=n&MessageAttributes.entry.2.Name=n");
        assert_eq!(form.root().attributes(), Err("n".to_owned()));
    }
}
