//! JSON merge patch (RFC 7396): an object that names what changes, and says `null` for what goes.
//!
//! Recursion is as deep as the patch, so whoever takes one bounds its depth.

use serde_json::{Map, Value};

/// Changes `target` as `patch` says.
fn merge(target: &mut Value, patch: Value) {
    match patch {
        Value::Object(changes) => {
            let mut members = match target.take() {
                Value::Object(members) => members,
                _ => Map::new(),
            };
            merge_members(&mut members, changes);
            *target = Value::Object(members);
        }
        replacement => *target = replacement,
    }
}

/// Changes an object's members: the case that starts all others.
pub(super) fn merge_members(members: &mut Map<String, Value>, changes: Map<String, Value>) {
    for (name, change) in changes {
        if change.is_null() {
            members.remove(&name);
        } else {
            merge(members.entry(name).or_insert(Value::Null), change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_examples_of_the_rfc_come_out_as_it_says() {
        // RFC 7396, appendix A: original, patch, result.
        let table = [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "b"}), json!(["c"]), json!(["c"])),
            (json!({"a": "foo"}), json!(null), json!(null)),
            (json!({"a": "foo"}), json!("bar"), json!("bar")),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ];
        for (original, patch, result) in table {
            let mut target = original.clone();
            merge(&mut target, patch.clone());
            assert_eq!(target, result, "{original} patched with {patch}");
        }
    }
}
