//! Route selection: which route key a message asks for.
//!
//! `$request.body.action` (any dotted path, also written `${request.body.action}`) is looked up in
//! the message as JSON. No JSON, no such field, or a field that is neither text, number nor boolean
//! selects nothing, and `$default` takes the message. A message can't select `$connect` or
//! `$disconnect`: those are the gateway's to send.

use serde_json::Value;

const BODY: &str = "request.body.";

/// A parsed route selection expression.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RouteSelection {
    path: Vec<String>,
}

/// An expression other than a field of the message.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "route selection expression `{0}`: only a field of the message can be selected, `$request.body.action`"
)]
pub struct SelectionError(String);

impl RouteSelection {
    pub(super) fn parse(expression: &str) -> Result<Self, SelectionError> {
        let inner = expression
            .strip_prefix('$')
            .map(|rest| rest.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(rest));
        let path: Vec<String> = inner
            .and_then(|inner| inner.strip_prefix(BODY))
            .map(|path| path.split('.').map(str::to_owned).collect())
            .unwrap_or_default();
        if path.is_empty() || path.iter().any(String::is_empty) {
            return Err(SelectionError(expression.to_owned()));
        }
        Ok(Self { path })
    }

    /// The route key that `message` asks for.
    pub(super) fn select(&self, message: &str) -> Option<String> {
        let document: Value = serde_json::from_str(message).ok()?;
        let field = self.path.iter().try_fold(&document, |value, name| value.get(name))?;
        let key = match field {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(boolean) => boolean.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        (!key.starts_with('$')).then_some(key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn select(expression: &str, message: &str) -> Option<String> {
        RouteSelection::parse(expression).unwrap().select(message)
    }

    #[test]
    fn a_field_of_the_message_selects_the_route() {
        assert_eq!(select("$request.body.action", r#"{"action":"send"}"#).as_deref(), Some("send"));
        assert_eq!(select("${request.body.action}", r#"{"action":"send"}"#).as_deref(), Some("send"));
        assert_eq!(select("$request.body.meta.kind", r#"{"meta":{"kind":7}}"#).as_deref(), Some("7"));
    }

    #[test]
    fn what_has_no_such_field_selects_nothing() {
        for message in
            ["", "ping", "[]", "{}", r#"{"action":null}"#, r#"{"action":{}}"#, r#"{"action":"send""#]
        {
            assert_eq!(select("$request.body.action", message), None, "{message}");
        }
    }

    #[test]
    fn a_message_cannot_pretend_to_be_a_connection_event() {
        assert_eq!(select("$request.body.action", r#"{"action":"$connect"}"#), None);
        assert_eq!(select("$request.body.action", r#"{"action":"$disconnect"}"#), None);
    }

    #[test]
    fn other_expressions_are_refused() {
        for expression in
            ["", "$request.header.x", "request.body.action", "$request.body.", "$request.body.a..b"]
        {
            assert_eq!(RouteSelection::parse(expression), Err(SelectionError(expression.into())));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_either_routed_or_not(message in ".{0,300}") {
            let key = select("$request.body.action", &message);
            prop_assert!(key.is_none_or(|key| !key.starts_with('$')));
        }
    }
}
