//! Guessing passwords over HTTP.

use serde_json::{Value, json};
use sojourn_tests::{Answer, PASSWORD, TestRegion};

/// As the documents promise.
const ATTEMPTS: usize = 5;
const WINDOW_SECS: u64 = 15 * 60;

async fn try_password(region: &TestRegion, email: &str, password: &str) -> Answer {
    let body = json!({"email": email, "password": password});
    region.call("POST", "/sessions").json(&body).send().await
}

async fn guess(region: &TestRegion, email: &str) -> Answer {
    try_password(region, email, "certainly not the password").await
}

#[tokio::test]
async fn after_five_wrong_passwords_the_right_one_has_to_wait_too() {
    let region = TestRegion::start().await;
    let (ann, bob) = (region.customer().await, region.customer().await);
    for _ in 0..ATTEMPTS {
        guess(&region, &ann.email).await.expect_problem(401, "wrong-credentials");
    }
    // Another spelling is no other account, and another word for the address no other address.
    for email in [ann.email.clone(), ann.email.to_uppercase()] {
        let refused = try_password(&region, &email, PASSWORD).await.expect_problem(429, "too-many-requests");
        let wait: u64 = refused.header("retry-after").unwrap_or_default().parse().unwrap_or_default();
        assert!((WINDOW_SECS - 120..=WINDOW_SECS).contains(&wait), "{wait}");
    }
    region.sign_in(&bob.email).await;
    // Who was signed in stays so.
    region.call_as(&ann, "GET", "/orders").send().await.expect(200);

    let log = region.log_with("too many passwords were wrong").await;
    let line = log.lines().find(|line| line.contains("too many passwords were wrong")).unwrap_or_default();
    let line: Value = serde_json::from_str(line).unwrap_or_default();
    assert_eq!((&line["limit"], &line["address"]), (&json!("account"), &json!("127.0.0.1")), "{log}");
    assert!(!log.to_lowercase().contains(&ann.email), "no line names the account");
}

#[tokio::test]
async fn an_address_without_an_account_is_stopped_like_one_with() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let mut answers = Vec::new();
    for email in [ann.email.as_str(), "nobody@example.com"] {
        for _ in 0..ATTEMPTS {
            guess(&region, email).await.expect_problem(401, "wrong-credentials");
        }
        answers.push(guess(&region, email).await.expect_problem(429, "too-many-requests"));
    }
    assert_eq!(answers[0].text, answers[1].text);
}

#[tokio::test]
async fn signing_in_does_not_count() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    for _ in 1..ATTEMPTS {
        guess(&region, &ann.email).await.expect_problem(401, "wrong-credentials");
    }
    for _ in 0..ATTEMPTS {
        region.sign_in(&ann.email).await;
    }
    guess(&region, &ann.email).await.expect_problem(401, "wrong-credentials");
    try_password(&region, &ann.email, PASSWORD).await.expect_problem(429, "too-many-requests");
}
