//! YAML to JSON, with `CloudFormation`'s tags in their long form: `!Ref X` becomes `{"Ref": "X"}`,
//! `!GetAtt A.B` `{"Fn::GetAtt": ["A", "B"]}`. From here on there is one form of everything.

use serde_json::{Map, Number, Value};
use serde_yaml_ng::Value as Yaml;

/// The long form of `yaml`.
pub(super) fn to_json(yaml: Yaml) -> Value {
    match yaml {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => Value::Bool(value),
        Yaml::Number(number) => number_to_json(&number),
        Yaml::String(text) => Value::String(text),
        Yaml::Sequence(items) => Value::Array(items.into_iter().map(to_json).collect()),
        Yaml::Mapping(mapping) => {
            Value::Object(mapping.into_iter().map(|(key, value)| (key_text(key), to_json(value))).collect())
        }
        Yaml::Tagged(tagged) => {
            let tag = tagged.tag.to_string();
            long_form(tag.trim_start_matches('!'), to_json(tagged.value))
        }
    }
}

fn long_form(tag: &str, value: Value) -> Value {
    let (name, value) = match (tag, value) {
        ("Ref" | "Condition", value) => (tag.to_owned(), value),
        ("GetAtt", Value::String(text)) => {
            let parts = match text.split_once('.') {
                Some((resource, attribute)) => vec![Value::from(resource), Value::from(attribute)],
                None => vec![Value::from(text)],
            };
            ("Fn::GetAtt".to_owned(), Value::Array(parts))
        }
        (_, value) => (format!("Fn::{tag}"), value),
    };
    Value::Object(Map::from_iter([(name, value)]))
}

fn number_to_json(number: &serde_yaml_ng::Number) -> Value {
    let exact = number.as_i64().map(Number::from).or_else(|| number.as_u64().map(Number::from));
    exact.or_else(|| number.as_f64().and_then(Number::from_f64)).map_or(Value::Null, Value::Number)
}

/// Keys such as `404:` are numbers to YAML and names to `CloudFormation`.
fn key_text(key: Yaml) -> String {
    match to_json(key) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tags_take_their_long_form() {
        let yaml =
            "{a: !Ref X, b: !GetAtt Y.Arn, c: !Join [',', [!Ref X, z]], d: !Condition C, e: !Sub '${X}'}";
        let expected = json!({
            "a": {"Ref": "X"},
            "b": {"Fn::GetAtt": ["Y", "Arn"]},
            "c": {"Fn::Join": [",", [{"Ref": "X"}, "z"]]},
            "d": {"Condition": "C"},
            "e": {"Fn::Sub": "${X}"},
        });
        assert_eq!(to_json(serde_yaml_ng::from_str(yaml).unwrap()), expected);
    }
}
