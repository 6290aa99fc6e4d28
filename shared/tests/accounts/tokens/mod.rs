//! Access tokens: what is signed verifies, and nothing else does (RFC 8725, and RFC 9068 for their
//! type).
//!
//! Each forgery is genuine but for the one thing that its test is about, and signed with the right
//! key wherever the forger could have it: so no other check can be what refuses it.

mod claims;
mod forgeries;
mod form;
mod header;
mod keys;
mod rotation;
mod stage;

use std::collections::BTreeSet;

use serde_json::json;
use sojourn::core::clock::Clock;
use sojourn::identity::principal::Role;
use sojourn::identity::sessions::{SessionRows, check};
use stage::{signed, signing_key, stage};

#[test]
fn a_signed_token_proves_its_caller() {
    let stage = stage();
    let credential = stage.verifier.verify(&stage.genuine()).unwrap();
    assert_eq!(credential.session_id(), &stage.session);
    assert!(credential.has_role(Role::Operator));
    let caller = check(&credential, &stage.session_rows(), stage.clock.now()).unwrap();
    assert_eq!(caller.user_id(), &stage.user);
    let without_row = check(&credential, &SessionRows::default(), stage.clock.now()).unwrap();
    assert_eq!(without_row.signed_in_at(), stage.clock.now());
}

#[test]
fn the_forged_tokens_of_these_tests_verify_when_nothing_is_wrong_with_them() {
    let stage = stage();
    stage.verifier.verify(&signed(&stage.header(), &stage.claims(), &stage.key)).unwrap();
}

#[test]
fn no_debug_output_and_no_error_shows_the_private_key() {
    let stage = stage();
    let jwk = stage.key.private_jwk();
    let secret = jwk["d"].as_str().unwrap();
    let token = stage.signer.sign(&stage.user, &stage.session, stage.clock.now(), &BTreeSet::new()).unwrap();
    let mut broken = jwk.clone();
    broken["x"] = json!(1);
    let shown = [
        format!("{:?}", signing_key(&jwk).unwrap()),
        format!("{:?}", stage.signer),
        format!("{:?}", stage.verifier),
        format!("{token:?}"),
        format!("{0:?} {0}", signing_key(&broken).unwrap_err()),
        format!("{0:?} {0}", signing_key(&json!(secret)).unwrap_err()),
        format!("{0:?} {0}", signing_key(&json!({"keys": [jwk.clone()]})).unwrap_err()),
    ];
    for text in shown {
        assert!(!text.contains(secret) && !text.contains(token.text.expose()), "{text}");
    }
}
