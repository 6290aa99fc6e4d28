//! The signing key from Secrets Manager: what is there, what is not, and what is no key.

use std::net::{Ipv4Addr, SocketAddr};

use crate::token_keys::{TestKey, jwks};
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::{BehaviorVersion, Credentials, Region};
use sojourn::env::Env;
use sojourn::tokens::secrets_manager::{SigningKeyError, signing_key};
use sojourn::tokens::{PublicKeys, SigningKey};
use sojourn_local::services::Controls;
use sojourn_local::services::access::Access;
use sojourn_local::services::secrets::Secrets;

const SECRET: &str = "sojourn-token-signing-key";

/// What is made of the secret when it holds `value`.
async fn key_of_secret(value: Option<&str>) -> Result<SigningKey, SigningKeyError> {
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
    signing_key(&Client::from_conf(config), &Env::of([("TOKEN_SIGNING_KEY_SECRET", SECRET)])).await
}

#[tokio::test]
async fn the_key_that_an_operator_put_is_the_key_that_signs() {
    let key = TestKey::new("2026-11");
    let read = key_of_secret(Some(&key.private_jwk().to_string())).await.unwrap();
    assert_eq!(serde_json::to_value(read.public()).unwrap(), key.public_jwk());
    assert!(jwks(&[&key]).parse::<PublicKeys>().unwrap().verify_what_signs(&read));
}

#[tokio::test]
async fn a_secret_without_a_value_is_named_with_its_variable() {
    let error = key_of_secret(None).await.unwrap_err();
    assert!(matches!(error, SigningKeyError::Unreadable { .. }));
    let sentence = error.to_string();
    for part in [SECRET, "TOKEN_SIGNING_KEY_SECRET", "ResourceNotFoundException"] {
        assert!(sentence.contains(part), "{sentence}");
    }
}

#[tokio::test]
async fn a_secret_that_is_no_key_is_named_and_not_shown() {
    let key = TestKey::new("2026-11");
    let d = key.private_jwk()["d"].as_str().unwrap().to_owned();
    for value in [d.clone(), format!("{{\"d\":\"{d}\"}}"), key.public_jwk().to_string(), "[]".to_owned()] {
        let error = key_of_secret(Some(&value)).await.unwrap_err();
        assert!(matches!(error, SigningKeyError::Malformed { .. }), "{error:?}");
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(SECRET) && !shown.contains(&d), "{shown}");
    }
}
