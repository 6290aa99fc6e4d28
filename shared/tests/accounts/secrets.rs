//! Keys from Secrets Manager: what is there, what is not, and what is no key.

use std::net::{Ipv4Addr, SocketAddr};

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::{BehaviorVersion, Credentials, Region};
use futures::stream::{self, StreamExt};
use local_region::services::Controls;
use local_region::services::access::Access;
use local_region::services::secrets::Secrets;
use serde_json::{Value, json};
use sojourn::core::env::Env;
use sojourn::identity::seal::{REREAD_INTERVAL, SealingKeys};
use sojourn::identity::tokens::{PublicKeys, SigningKey};
use sojourn::platform::secrets_manager::{Secret, SecretError, SecretsManager, read};
use sojourn_testing::{TestKey, jwks, sealing_key};

const SECRET: &str = "sojourn-key";

/// The text of a set of keys.
fn sealing_set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

/// A Secrets Manager of the test's own.
fn secrets_manager() -> (Secrets, Controls) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let controls = Controls::new(Access::unrestricted());
    (Secrets::start(address, None, controls.clone()).unwrap(), controls)
}

fn client_of(secrets: &Secrets) -> Client {
    let config = aws_sdk_secretsmanager::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("local"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .endpoint_url(secrets.endpoint_url())
        .build();
    Client::from_conf(config)
}

/// What is made of the secret when it holds `value`.
async fn read_secret<S: Secret>(value: Option<&str>) -> Result<S, SecretError> {
    let (secrets, _) = secrets_manager();
    if let Some(value) = value {
        secrets.put(SECRET, value).unwrap();
    }
    read(&client_of(&secrets), &Env::of([(S::VARIABLE, SECRET)])).await
}

/// The keys of a function that began when the secret held `set`, and reads it again when it needs
/// to.
async fn keys_of_a_function(secrets: &Secrets, set: &str) -> SealingKeys {
    secrets.put(SECRET, set).unwrap();
    let (client, env) = (client_of(secrets), Env::of([(SealingKeys::VARIABLE, SECRET)]));
    read::<SealingKeys>(&client, &env).await.unwrap().with_source(SecretsManager { client, env })
}

#[tokio::test]
async fn calls_that_meet_a_new_key_at_once_share_one_read_of_the_secret() {
    let (secrets, controls) = secrets_manager();
    let (old, new) = (sealing_key("old"), sealing_key("new"));
    let keys = keys_of_a_function(&secrets, &sealing_set(std::slice::from_ref(&old))).await;
    let newer = keys_of_a_function(&secrets, &sealing_set(&[new, old])).await;
    let sealed = newer.seal(b"tea", b"").unwrap();
    assert!(keys.open(&sealed, b"").is_err(), "the function began before the rotation");

    controls.usage.record();
    let found: Vec<bool> = stream::iter(0..20).map(|_| keys.fetch("new")).buffered(20).collect().await;
    assert_eq!(found, [true; 20]);
    assert_eq!(controls.usage.snapshot().log.len(), 1);
    assert_eq!(keys.open(&sealed, b"").unwrap(), b"tea");
    // From now on it seals with the new key too.
    assert_eq!(newer.open(&keys.seal(b"milk", b"").unwrap(), b"").unwrap(), b"milk");
}

#[tokio::test]
async fn a_key_that_is_nowhere_is_looked_for_once_in_an_interval() {
    let (secrets, controls) = secrets_manager();
    let (old, late) = (sealing_key("old"), sealing_key("late"));
    let keys = keys_of_a_function(&secrets, &sealing_set(std::slice::from_ref(&old))).await;
    controls.usage.record();
    for _ in 0..20 {
        assert!(!keys.fetch("late").await);
    }
    assert_eq!(controls.usage.snapshot().log.len(), 1);

    secrets.put(SECRET, &sealing_set(&[late, old])).unwrap();
    assert!(!keys.fetch("late").await, "the secret was just read");
    tokio::time::pause();
    tokio::time::advance(REREAD_INTERVAL).await;
    tokio::time::resume();
    assert!(keys.fetch("late").await);
}

#[tokio::test]
async fn keys_that_cannot_be_read_again_go_on_with_what_they_have() {
    let (secrets, _) = secrets_manager();
    let set = sealing_set(&[sealing_key("old")]);
    let keys = keys_of_a_function(&secrets, &set).await;
    let sealed = keys.seal(b"tea", b"").unwrap();
    secrets.put(SECRET, "no keys").unwrap();
    assert!(!keys.fetch("new").await);
    assert_eq!(keys.open(&sealed, b"").unwrap(), b"tea");
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
