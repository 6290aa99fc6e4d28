//! Keys from Secrets Manager: what is there, what is not, and what is no key.

use std::net::{Ipv4Addr, SocketAddr};

use crate::token_keys::{TestKey, jwks, sealing_key};
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::{BehaviorVersion, Credentials, Region};
use serde_json::{Value, json};
use sojourn::env::Env;
use sojourn::seal::SealingKeys;
use sojourn::secrets_manager::{Secret, SecretError, read};
use sojourn::tokens::{PublicKeys, SigningKey};
use sojourn_local::services::Controls;
use sojourn_local::services::access::Access;
use sojourn_local::services::secrets::Secrets;

const SECRET: &str = "sojourn-key";

/// The text of a set of keys.
fn sealing_set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

/// What is made of the secret when it holds `value`.
async fn read_secret<S: Secret>(value: Option<&str>) -> Result<S, SecretError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let secrets = Secrets::start(address, None, Controls::new(Access::unrestricted())).unwrap();
    if let Some(value) = value {
        secrets.put(SECRET, value).unwrap();
    }
    let config = aws_sdk_secretsmanager::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("local"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .endpoint_url(secrets.endpoint_url())
        .build();
    read(&Client::from_conf(config), &Env::of([(S::VARIABLE, SECRET)])).await
}

#[tokio::test]
async fn the_key_that_an_operator_put_is_the_key_that_signs() {
    let key = TestKey::new("2026-11");
    let read = read_secret::<SigningKey>(Some(&key.private_jwk().to_string())).await.unwrap();
    assert_eq!(serde_json::to_value(read.public()).unwrap(), key.public_jwk());
    assert!(jwks(&[&key]).parse::<PublicKeys>().unwrap().verify_what_signs(&read));
}

#[tokio::test]
async fn the_set_that_an_operator_put_seals_and_opens() {
    let set = sealing_set(&[sealing_key("2026-11"), sealing_key("2027-11")]);
    let keys = read_secret::<SealingKeys>(Some(&set)).await.unwrap();
    let sealed = keys.seal(b"tea", b"").unwrap();
    assert_eq!(keys.open(&sealed, b"").unwrap(), b"tea");
}

#[tokio::test]
async fn a_secret_without_a_value_is_named_with_its_variable() {
    let errors = [
        read_secret::<SigningKey>(None).await.unwrap_err(),
        read_secret::<SealingKeys>(None).await.unwrap_err(),
    ];
    for (error, variable) in errors.iter().zip(["TOKEN_SIGNING_KEY_SECRET", "SESSION_SEALING_KEYS_SECRET"]) {
        assert!(matches!(error, SecretError::Unreadable { .. }));
        let sentence = error.to_string();
        for part in [SECRET, variable, "ResourceNotFoundException"] {
            assert!(sentence.contains(part), "{sentence}");
        }
    }
}

#[tokio::test]
async fn a_variable_that_is_not_set_is_named() {
    let config =
        aws_sdk_secretsmanager::Config::builder().behavior_version(BehaviorVersion::latest()).build();
    let error = read::<SealingKeys>(&Client::from_conf(config), &Env::default()).await.unwrap_err();
    assert!(error.to_string().contains("SESSION_SEALING_KEYS_SECRET"), "{error}");
}

#[tokio::test]
async fn a_secret_that_is_no_signing_key_is_named_and_not_shown() {
    let key = TestKey::new("2026-11");
    let d = key.private_jwk()["d"].as_str().unwrap().to_owned();
    for value in [d.clone(), format!("{{\"d\":\"{d}\"}}"), key.public_jwk().to_string(), "[]".to_owned()] {
        let error = read_secret::<SigningKey>(Some(&value)).await.unwrap_err();
        assert!(matches!(error, SecretError::Malformed { .. }), "{error:?}");
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(SECRET) && shown.contains("TOKEN_SIGNING_KEY_SECRET"), "{shown}");
        assert!(!shown.contains(&d), "{shown}");
    }
}

#[tokio::test]
async fn a_secret_that_is_no_set_of_sealing_keys_is_named_and_not_shown() {
    let key = sealing_key("2026-11");
    let k = key["k"].as_str().unwrap().to_owned();
    for value in [k.clone(), key.to_string(), sealing_set(&[key.clone(), key]), sealing_set(&[])] {
        let error = read_secret::<SealingKeys>(Some(&value)).await.unwrap_err();
        assert!(matches!(error, SecretError::Malformed { .. }), "{error:?}");
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(SECRET) && shown.contains("SESSION_SEALING_KEYS_SECRET"), "{shown}");
        assert!(!shown.contains(&k), "{shown}");
    }
}
