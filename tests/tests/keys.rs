//! Signing keys: what the gateway publishes verifies what it issues, also for those who have
//! nothing of ours, and one key follows another without anybody being signed out. Sealing keys:
//! they rotate while processes run.
//!
//! Tokens are taken apart by hand here, and held against the published key with nothing but
//! Ed25519.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::path::Path;
use std::process::{Command, Output};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sojourn::identity::tokens::rotation::JWKS_MAX_AGE;
use sojourn_tests::{Answer, Customer, Options, PASSWORD, Socket, TestRegion, binary, fresh_key};
use tokio_tungstenite::tungstenite::Error;

async fn jwks(region: &TestRegion) -> Answer {
    region.call("GET", "/.well-known/jwks.json").send().await.expect(200)
}

/// The names of the published keys, in their order.
async fn kids(region: &TestRegion) -> Vec<String> {
    let set = jwks(region).await;
    set.body["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

fn json_part(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// The name of the key that signed, and whether the set has that key.
fn signer_of(token: &str, set: &Value) -> (String, bool) {
    let (message, signature) = token.rsplit_once('.').unwrap();
    let (header, _) = message.split_once('.').unwrap();
    let kid = json_part(header)["kid"].as_str().unwrap().to_owned();
    let key = set["keys"].as_array().unwrap().iter().find(|key| key["kid"] == *kid);
    let verifies = key.is_some_and(|key| {
        let x = URL_SAFE_NO_PAD.decode(key["x"].as_str().unwrap()).unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        UnparsedPublicKey::new(&ED25519, x).verify(message.as_bytes(), &signature).is_ok()
    });
    (kid, verifies)
}

#[tokio::test]
async fn what_is_published_verifies_what_is_issued_with_nothing_but_ed25519() {
    let region = TestRegion::start().await;
    let operator = region.operator().await;
    let answer = jwks(&region).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let cache_control = format!("public, max-age={}", JWKS_MAX_AGE.as_secs());
    assert_eq!(answer.header("cache-control"), Some(&*cache_control));
    for key in answer.body["keys"].as_array().unwrap() {
        let members: Vec<_> = key.as_object().unwrap().keys().collect();
        assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x"], "public members, and all of them");
        assert_eq!(
            json!([key["kty"], key["crv"], key["alg"], key["use"]]),
            json!(["OKP", "Ed25519", "EdDSA", "sig"])
        );
    }

    let (_, verifies) = signer_of(&operator.token, &answer.body);
    assert!(verifies, "{}", answer.text);
    let parts: Vec<&str> = operator.token.split('.').collect();
    let (header, claims) = (json_part(parts[0]), json_part(parts[1]));
    assert_eq!(json!([header["alg"], header["typ"]]), json!(["EdDSA", "at+jwt"]));
    assert_eq!(claims["sub"], operator.user_id);
    assert_eq!(claims["roles"], json!(["operator"]));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 900);

    // The check can fail: the same signature under other claims.
    let customer = region.customer().await;
    let other: Vec<&str> = customer.token.split('.').collect();
    let mixed = [other[0], parts[1], other[2]].join(".");
    assert!(!signer_of(&mixed, &answer.body).1);
    region.call("GET", "/orders").bearer(&mixed).send().await.expect_problem(401, "unauthenticated");
}

fn local(arguments: &[&str], data: &Path) -> Output {
    Command::new(binary("sojourn-dev")).args(arguments).arg("--data").arg(data).output().unwrap()
}

/// Asks every function that verifies tokens, as an operator. All agree: true if they accept the
/// token.
async fn accepted_everywhere(region: &TestRegion, who: &Customer) -> bool {
    let orders = region.call_as(who, "GET", "/orders").send().await;
    let sessions = region.call_as(who, "GET", "/sessions").send().await;
    let cart = region.call_as(who, "GET", "/cart").send().await;
    let product = json!({"name": "lamp", "price": {"amount": 12_900, "currency": "TWD"}});
    let put = region.call_as(who, "PUT", "/products/lamp").json(&product).send().await;
    let stock = region.call_as(who, "POST", "/products/lamp/stock").key(&fresh_key());
    let stock = stock.json(&json!({"delta": 1})).send().await;
    let socket = match Socket::open(region.ws_url(), &who.token).await {
        Ok(socket) => {
            socket.close().await;
            200
        }
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(other) => panic!("refused without a status: {other}"),
    };
    match [orders.status, sessions.status, cart.status, put.status, stock.status, socket] {
        [200, 200, 200, 200 | 201, 200, 200] => true,
        [401, 401, 401, 401, 401, 401] => false,
        differ => panic!("the functions do not agree: {differ:?}"),
    }
}

#[tokio::test]
async fn a_rotation_signs_nobody_out_and_a_dropped_key_proves_nothing_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let start = || TestRegion::start_with(Options { data: Some(data.to_owned()), ..Options::default() });

    let region = start().await;
    let early = region.operator().await;
    let first = json!({"email": early.email, "password": PASSWORD});
    let first = region.call("POST", "/sessions").json(&first).send().await.expect(201);
    let [old] = &*kids(&region).await else { panic!("one key") };
    assert!(accepted_everywhere(&region, &early).await);
    let refused = local(&["rotate-key"], data);
    assert!(!refused.status.success(), "a region that runs has its keys to itself");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("still runs"), "{refused:?}");
    drop(region);

    // The next start signs with the new key, and every function still takes the old one's tokens.
    assert!(local(&["rotate-key"], data).status.success());
    let region = start().await;
    let set = jwks(&region).await.body;
    let [new, still] = &*kids(&region).await else { panic!("two keys: {set}") };
    assert_eq!(still, old);
    assert_ne!(new, old);
    let late = region.sign_in(&early.email).await;
    assert_eq!(signer_of(&early.token, &set), (old.clone(), true));
    assert_eq!(signer_of(&late.token, &set), (new.clone(), true));
    assert!(accepted_everywhere(&region, &early).await, "signed before the rotation");
    assert!(accepted_everywhere(&region, &late).await, "signed after it");
    drop(region);

    // Without the old key its tokens are nothing, though their time is not over and their sessions
    // stand: these go on with tokens of the present key.
    assert!(local(&["drop-keys"], data).status.success());
    let region = start().await;
    assert_eq!(kids(&region).await, std::slice::from_ref(new));
    assert!(!accepted_everywhere(&region, &early).await, "of the dropped key");
    assert!(accepted_everywhere(&region, &late).await, "of the present one");
    let refresh = json!({"refreshToken": first.text_of("refreshToken")});
    let renewed = region.call("POST", "/sessions/refresh").json(&refresh).send().await.expect(200);
    assert_eq!(signer_of(&renewed.text_of("accessToken"), &jwks(&region).await.body), (new.clone(), true));
}

const PREFERENCES: &str = "/sessions/current/preferences";

async fn prefer(region: &TestRegion, who: &Customer, theme: &str) {
    let patch = json!({"theme": theme});
    region.call_as(who, "PATCH", PREFERENCES).json(&patch).send().await.expect(200);
}

async fn preferences(region: &TestRegion, who: &Customer) -> Answer {
    region.call_as(who, "GET", PREFERENCES).send().await
}

/// Has the next requests of api-sessions, each in a process of its own, wait at DynamoDB.
async fn hold(region: &TestRegion, times: u64) -> u64 {
    let rule = json!({
        "match": {"service": "dynamodb", "caller": "api-sessions"}, "times": times,
        "effect": {"kind": "hold", "when": "before"},
    });
    region.fault(&rule).await
}

async fn api_sessions(region: &TestRegion) -> Vec<Value> {
    let processes = region.processes().await.into_iter();
    processes.filter(|process| process["function"] == "api-sessions").map(|one| one["pid"].clone()).collect()
}

#[tokio::test]
async fn sealing_keys_rotate_while_processes_run_and_every_payload_stays_readable() {
    let region = TestRegion::start().await;
    let (ann, bob) = (region.customer().await, region.customer().await);
    prefer(&region, &ann, "sealed before").await;
    // One request after a kill makes one process; the sign-ups may have made more.
    region.kill("api-sessions").await;
    preferences(&region, &ann).await.expect(200);
    let [early] = &*api_sessions(&region).await else { panic!("one process") };
    let rotated = region.control("POST", "/sealing-keys/rotate").send().await.expect(200);
    let [new, old] = rotated.body["kids"].as_array().unwrap().as_slice() else { panic!("{}", rotated.text) };

    // A second process begins after the rotation, because the first one is busy. It seals with the
    // new key.
    let rule = hold(&region, 1).await;
    let later = async {
        region.until_held(rule).await;
        prefer(&region, &bob, "sealed after").await;
        region.lift(rule).await;
    };
    let (ann_reads, ()) = tokio::join!(preferences(&region, &ann), later);
    assert_eq!(ann_reads.expect(200).body, json!({"theme": "sealed before"}));
    let both = api_sessions(&region).await;
    assert!(both.len() == 2 && both.contains(early), "{both:?}");
    assert!(!region.log().contains("sealing keys read again"), "nobody has met the new key yet");

    // Both processes read what the second one sealed.
    let rule = hold(&region, 2).await;
    let release = async {
        region.until_so_many_held(rule, 2).await;
        region.lift(rule).await;
    };
    let (first, second, ()) = tokio::join!(preferences(&region, &bob), preferences(&region, &bob), release);
    for answer in [first, second] {
        assert_eq!(answer.expect(200).body, json!({"theme": "sealed after"}));
    }
    assert_eq!(api_sessions(&region).await, both, "no process was replaced");
    region.log_with("sealing keys read again").await;

    // Taken away too early: an error that tells the client nothing, and the operator which key is
    // missing.
    let dropped = region.control("POST", "/sealing-keys/drop").send().await.expect(200);
    assert_eq!(dropped.body["kids"], json!([new]));
    region.kill("api-sessions").await;
    let refused = preferences(&region, &ann).await.expect_problem(500, "internal-error");
    let old = old.as_str().unwrap();
    assert!(!refused.text.contains(old), "{}", refused.text);
    region.log_with(&format!("it was sealed with the key \\\"{old}\\\"")).await;
    assert_eq!(preferences(&region, &bob).await.expect(200).body, json!({"theme": "sealed after"}));
}
