//! A payload opens in its own row only, and preferences stay within their bounds.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::super::preferences::{
    InvalidPreferences, MAX_PREFERENCES_BYTES, MAX_PREFERENCES_DEPTH, PreferencesPatch,
};
use super::*;
use crate::core::ids;
use crate::core::redacted::Redacted;
use crate::identity::seal::InvalidCiphertext;

fn keys() -> SealingKeys {
    // 32 times the byte 0.
    let k = "A".repeat(43);
    let set = json!({"keys": [{"kty": "oct", "alg": "A256GCM", "kid": "k", "k": k}]});
    SealingKeys::from_jwks(&Redacted::new(set.to_string())).unwrap()
}

fn patch(value: Value) -> Result<PreferencesPatch, InvalidPreferences> {
    PreferencesPatch::new(serde_json::from_value(value).unwrap())
}

fn preferences(value: Value) -> Preferences {
    let mut preferences = Preferences::default();
    preferences.merge(patch(value).unwrap()).unwrap();
    preferences
}

/// `levels` nested arrays in an object.
fn nested(levels: usize) -> Value {
    json!({"a": (1..levels).fold(json!(0), |inner, _| json!([inner]))})
}

#[test]
fn a_payload_opens_for_its_own_session_user_and_version_only() {
    let ids = ids::random();
    let (session, user) = (ids.next(), ids.next());
    let device = Some("Ann's phone".parse().unwrap());
    let payload = Payload { device, preferences: preferences(json!({"a": [1]})) };
    let sealed = payload.seal(&keys(), &session, &user, 3).unwrap();
    assert_eq!(sealed.open_with(&keys(), &session, &user).unwrap(), payload);
    let renumbered = |version| SealedPayload { version, ..sealed.clone() };
    for opened in [
        sealed.open_with(&keys(), &ids.next(), &user),
        sealed.open_with(&keys(), &session, &ids.next()),
        renumbered(4).open_with(&keys(), &session, &user),
        renumbered(33).open_with(&keys(), &session, &user),
    ] {
        let error = opened.unwrap_err();
        let refused = OpenError::Refused(InvalidCiphertext::Tag);
        assert!(matches!(&error, PayloadError::Foreign { source, .. } if *source == refused), "{error:?}");
    }
}

#[test]
fn what_was_sealed_and_is_no_payload_is_told_without_being_shown() {
    let ids = ids::random();
    let (session, user) = (ids.next(), ids.next());
    let bytes = keys().seal(br#"{"preferences": "darling"}"#, &context(&session, &user, 1)).unwrap();
    let error = SealedPayload { version: 1, bytes }.open_with(&keys(), &session, &user).unwrap_err();
    assert!(matches!(error, PayloadError::Unreadable { line: 1, .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("darling"), "{error:?}");
}

#[test]
fn debug_shows_no_preferences() {
    let secret = json!({"diet": "secret"});
    let payload = Payload { device: None, preferences: preferences(secret.clone()) };
    let shown = format!("{payload:?} {:?}", patch(secret));
    assert!(!shown.contains("diet") && !shown.contains("secret"), "{shown}");
}

#[test]
fn preferences_have_16_kb_and_so_has_a_patch() {
    // With {"a":""} around them.
    let text = |bytes: usize| json!({"a": "x".repeat(bytes - 8)});
    assert!(patch(text(MAX_PREFERENCES_BYTES)).is_ok());
    let too_large = patch(text(MAX_PREFERENCES_BYTES + 1)).unwrap_err();
    assert_eq!(too_large, InvalidPreferences::PatchTooLarge(MAX_PREFERENCES_BYTES + 1));

    let mut full = preferences(text(MAX_PREFERENCES_BYTES));
    let before = full.clone();
    let more = full.merge(patch(json!({"b": 1})).unwrap()).unwrap_err();
    assert_eq!(more, InvalidPreferences::TooLarge(MAX_PREFERENCES_BYTES + 6));
    assert_eq!(full, before);
    full.merge(patch(json!({"a": null, "b": 1})).unwrap()).unwrap();
    assert_eq!(full, preferences(json!({"b": 1})));
}

#[test]
fn the_longest_payload_can_be_sealed() {
    let ids = ids::random();
    let (session, user) = (ids.next(), ids.next());
    let preferences = preferences(json!({"a": "x".repeat(MAX_PREFERENCES_BYTES - 8)}));
    let device = "\u{1F600}".repeat(Device::MAX_CHARS).parse().unwrap();
    let payload = Payload { device: Some(device), preferences };
    let sealed = payload.seal(&keys(), &session, &user, u64::MAX).unwrap();
    assert_eq!(sealed.open_with(&keys(), &session, &user).unwrap(), payload);
}

#[test]
fn a_patch_has_32_levels_at_most() {
    assert!(patch(nested(MAX_PREFERENCES_DEPTH)).is_ok());
    let too_deep = patch(nested(MAX_PREFERENCES_DEPTH + 1)).unwrap_err();
    assert_eq!(too_deep, InvalidPreferences::PatchTooDeep);
    // As deep as JSON text can be read at all.
    assert_eq!(patch(nested(127)).unwrap_err(), InvalidPreferences::PatchTooDeep);
}

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
        json_patch::merge(&mut target, &patch);
        assert_eq!(target, result, "{original} patched with {patch}");
    }
}

/// Any JSON, not very deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            members(inner).prop_map(Value::Object),
        ]
    })
}

fn members(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::btree_map("[a-d]", value, 0..4).prop_map(|members| members.into_iter().collect())
}

proptest! {
    #[test]
    fn applying_a_patch_again_changes_nothing(before in members(any_json()), change in members(any_json())) {
        let change = PreferencesPatch::new(change).unwrap();
        let mut once = Preferences(before);
        once.merge(change.clone()).unwrap();
        let mut twice = once.clone();
        twice.merge(change).unwrap();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn patches_of_different_members_come_out_the_same_in_any_order(
        before in members(any_json()), one in any_json(), other in any_json(),
    ) {
        let change = |name: &str, value: &Value| patch(json!({ name: value })).unwrap();
        let mut there = Preferences(before.clone());
        there.merge(change("a", &one)).unwrap();
        there.merge(change("b", &other)).unwrap();
        let mut back = Preferences(before);
        back.merge(change("b", &other)).unwrap();
        back.merge(change("a", &one)).unwrap();
        prop_assert_eq!(there, back);
    }
}
