use serde_json::{Value, json};

use super::{FilterScope, Pattern};

fn matches(pattern: &Value, event: &Value) -> bool {
    Pattern::parse(pattern).unwrap().matches(event)
}

#[test]
fn every_operator_tells_what_matches_from_what_does_not() {
    for (condition, fitting, unfitting) in [
        (json!("a"), json!("a"), json!("A")),
        (json!(""), json!(""), json!(" ")),
        (json!(null), json!(null), json!("null")),
        (json!(true), json!(true), json!("true")),
        (json!(300), json!(300), json!(301)),
        (json!({"prefix": "ab"}), json!("abc"), json!("cab")),
        (json!({"prefix": {"equals-ignore-case": "AB"}}), json!("abc"), json!("cab")),
        (json!({"suffix": ".png"}), json!("a.png"), json!("a.PNG")),
        (json!({"suffix": {"equals-ignore-case": ".PNG"}}), json!("a.png"), json!("a.jpg")),
        (json!({"equals-ignore-case": "Alice"}), json!("aLICE"), json!("alicf")),
        (json!({"anything-but": "a"}), json!("b"), json!("a")),
        (json!({"anything-but": ["a", "b"]}), json!("c"), json!("b")),
        (json!({"anything-but": [1, 2]}), json!(3), json!(2)),
        (json!({"anything-but": [100]}), json!(1), json!(100.0)),
        (json!({"anything-but": {"prefix": "a"}}), json!("ba"), json!("ab")),
        (json!({"anything-but": {"suffix": ["x", "y"]}}), json!("xa"), json!("ay")),
        (json!({"anything-but": {"equals-ignore-case": ["X", "y"]}}), json!("z"), json!("Y")),
        (json!({"anything-but": {"wildcard": "*/lib/*"}}), json!("a/bin/b"), json!("a/lib/b")),
        (json!({"numeric": ["=", 3.018e2]}), json!(301.8), json!(301.9)),
        (json!({"numeric": [">", 0, "<=", 5]}), json!(5), json!(0)),
        (json!({"numeric": ["<", 10]}), json!(9), json!("9")),
        (json!({"cidr": "10.0.0.0/24"}), json!("10.0.0.255"), json!("10.0.1.0")),
        (json!({"cidr": "2001:db8::/32"}), json!("2001:db8:1::1"), json!("10.0.0.1")),
        (json!({"cidr": "0.0.0.0/0"}), json!("1.2.3.4"), json!("::1")),
        (json!({"exists": true}), json!(null), json!({"leaf": 1})),
        (json!({"exists": false}), json!({"leaf": 1}), json!(null)),
        (json!({"wildcard": "a*c*e"}), json!("abcde"), json!("abde")),
        (json!({"wildcard": "\\*\\\\*"}), json!("*\\rest"), json!("a\\rest")),
        (json!({"wildcard": "ab*ba"}), json!("abba"), json!("aba")),
    ] {
        let pattern = json!({"detail": {"field": [condition]}});
        assert!(matches(&pattern, &json!({"detail": {"field": fitting}})), "{pattern} {fitting}");
        assert!(!matches(&pattern, &json!({"detail": {"field": unfitting}})), "{pattern} {unfitting}");
    }
}

#[test]
fn numbers_are_compared_by_their_digits() {
    let event: Value = serde_json::from_str(r#"{"n": 300.0}"#).unwrap();
    assert!(!matches(&json!({"n": [300]}), &event));
    assert!(matches(&json!({"n": [{"numeric": ["=", 300]}]}), &event));
}

#[test]
fn all_fields_must_match_and_one_condition_of_each() {
    let pattern = json!({"source": ["a", "b"], "detail": {"state": ["on"]}});
    assert!(matches(&pattern, &json!({"source": "b", "detail": {"state": "on", "more": 1}})));
    assert!(!matches(&pattern, &json!({"source": "b", "detail": {"state": "off"}})));
    assert!(!matches(&pattern, &json!({"source": "c", "detail": {"state": "on"}})));
    assert!(!matches(&pattern, &json!({"source": "b"})));
}

#[test]
fn a_list_matches_by_any_element_and_fields_by_the_same_element() {
    assert!(matches(&json!({"tags": ["b"]}), &json!({"tags": ["a", "b"]})));
    assert!(!matches(&json!({"tags": ["c"]}), &json!({"tags": ["a", "b"]})));
    let pattern = json!({"people": {"first": ["Anna"], "last": ["Smith"]}});
    assert!(matches(&pattern, &json!({"people": [{"first": "Bob"}, {"first": "Anna", "last": "Smith"}]})));
    let crossed = json!({"people": [{"first": "Anna", "last": "Jones"}, {"first": "Bob", "last": "Smith"}]});
    assert!(!matches(&pattern, &crossed));
}

#[test]
fn a_field_of_one_element_of_a_list_exists() {
    let pattern = json!({"items": {"a": [{"exists": false}]}});
    assert!(!matches(&pattern, &json!({"items": [{"a": 1}, {"b": 2}]})));
    assert!(matches(&pattern, &json!({"items": [{"b": 2}]})));
    assert!(matches(&pattern, &json!({"other": 1})));
}

#[test]
fn nothing_but_exists_false_matches_a_field_that_is_absent() {
    for condition in [json!({"anything-but": "a"}), json!({"exists": true}), json!(null)] {
        assert!(!matches(&json!({"a": [condition]}), &json!({"b": 1})));
    }
    assert!(matches(&json!({"a": ["x", {"exists": false}]}), &json!({"b": 1})));
}

#[test]
fn one_alternative_is_enough_and_the_other_fields_are_needed() {
    let pattern = json!({"source": ["s"], "detail": {"$or": [{"a": [1]}, {"b": [2], "c": [3]}]}});
    assert!(matches(&pattern, &json!({"source": "s", "detail": {"a": 1}})));
    assert!(matches(&pattern, &json!({"source": "s", "detail": {"b": 2, "c": 3}})));
    assert!(!matches(&pattern, &json!({"source": "s", "detail": {"b": 2}})));
    assert!(!matches(&pattern, &json!({"source": "t", "detail": {"a": 1}})));
}

#[test]
fn what_aws_refuses_is_refused() {
    for wrong in [
        json!([]),
        json!("{"),
        json!({}),
        json!({"a": "text"}),
        json!({"a": []}),
        json!({"a": {}}),
        json!({"a": [["x"]]}),
        json!({"a": [{"prefix": "a", "suffix": "b"}]}),
        json!({"a": [{"like": "x"}]}),
        json!({"a": [{"prefix": 1}]}),
        json!({"a": [{"prefix": {"wildcard": "x"}}]}),
        json!({"a": [{"equals-ignore-case": 5}]}),
        json!({"a": [{"exists": "yes"}]}),
        json!({"a": [{"anything-but": []}]}),
        json!({"a": [{"anything-but": ["a", 1]}]}),
        json!({"a": [{"anything-but": {"prefix": ""}}]}),
        json!({"a": [{"numeric": []}]}),
        json!({"a": [{"numeric": ["<", "5"]}]}),
        json!({"a": [{"numeric": ["<", 5, ">", 1]}]}),
        json!({"a": [{"numeric": [">", 5, "<", 1]}]}),
        json!({"a": [{"numeric": ["~", 5]}]}),
        json!({"a": [{"numeric": ["<", 5_000_000_001_u64]}]}),
        json!({"a": [{"cidr": "10.0.0.0/33"}]}),
        json!({"a": [{"cidr": "10.0.0.0"}]}),
        json!({"a": [{"wildcard": "a**b"}]}),
        json!({"a": [{"wildcard": "a\\b"}]}),
        json!({"$or": [{"a": [1]}]}),
        json!({"$or": [1, 2]}),
        json!({"a": ["x".repeat(2_048)]}),
    ] {
        assert!(Pattern::parse(&wrong).is_err(), "{wrong}");
    }
}

#[test]
fn alternatives_have_a_thousand_combinations_at_most() {
    let or = |count: usize| json!((0..count).map(|n| json!({"a": [n]})).collect::<Vec<_>>());
    let pattern = |last: usize| json!({"$or": or(10), "x": {"$or": or(10)}, "y": {"$or": or(last)}});
    assert!(Pattern::parse(&pattern(10)).is_ok());
    assert!(Pattern::parse(&pattern(11)).is_err());
}

#[test]
fn the_text_of_a_pattern_is_read_like_the_pattern() {
    assert!(matches(&json!(r#"{"a": [1]}"#), &json!({"a": 1})));
}

#[test]
fn a_filter_policy_keeps_the_limits_of_sns() {
    let attributes = |policy: Value| Pattern::parse_filter_policy(&policy, FilterScope::MessageAttributes);
    let body = |policy: Value| Pattern::parse_filter_policy(&policy, FilterScope::MessageBody);
    let values = |count: usize| json!((0..count).map(|value| value.to_string()).collect::<Vec<_>>());
    assert!(attributes(json!({"a": values(15), "b": values(10)})).is_ok());
    assert!(attributes(json!({"a": values(15), "b": values(11)})).is_err());
    assert!(attributes(json!({"a": [1], "b": [1], "c": [1], "d": [1], "e": [1]})).is_ok());
    assert!(attributes(json!({"a": [1], "b": [1], "c": [1], "d": [1], "e": [1], "f": [1]})).is_err());
    assert!(attributes(json!({"a": {"b": [1]}})).is_err());
    assert!(body(json!({"a": {"b": values(75)}})).is_ok());
    assert!(body(json!({"a": {"b": values(76)}})).is_err());
    assert!(body(json!({"a": [{"wildcard": "x*"}]})).is_err());
    assert!(body(json!({"a": [{"prefix": {"equals-ignore-case": "x"}}]})).is_err());
    assert!(body(json!({"a": [1_000_000_001]})).is_err());
    assert!(body(json!({"a": [1]})).unwrap().matches(&json!({"a": 1.0})));
}
