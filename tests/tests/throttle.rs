//! Guessing passwords over HTTP, opening accounts, and the address that both are counted for.

use serde_json::{Value, json};
use sojourn_tests::{Answer, Call, Options, PASSWORD, TestRegion};

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

    let log = region.log_with("too many wrong passwords").await;
    let line = log.lines().find(|line| line.contains("too many wrong passwords")).unwrap_or_default();
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

/// A region with these parameters.
async fn region_with(parameters: &[&str]) -> TestRegion {
    let arguments = parameters.iter().flat_map(|one| ["--parameter".to_owned(), (*one).to_owned()]);
    TestRegion::start_with(Options { arguments: arguments.collect(), ..Options::default() }).await
}

/// The device's token as a browser keeps it.
fn device_cookie(answer: &Answer) -> String {
    let cookie = answer.cookies().into_iter().find(|line| line.starts_with("__Host-DEVICE="));
    let cookie = cookie.unwrap_or_else(|| panic!("no device cookie: {:?}", answer.cookies()));
    assert!(cookie.ends_with("; Path=/; HttpOnly; Secure; SameSite=Strict"), "{cookie}");
    cookie.split(';').next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn strangers_cannot_keep_a_device_out_that_signed_in_before() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let phone = try_password(&region, &ann.email, PASSWORD).await.expect(201);
    let browser = try_password(&region, &ann.email, PASSWORD).await.expect(201);
    for _ in 0..ATTEMPTS {
        guess(&region, &ann.email).await.expect_problem(401, "wrong-credentials");
    }
    try_password(&region, &ann.email, PASSWORD).await.expect_problem(429, "too-many-requests");

    // An app shows the token in the body, a browser in a cookie, beside whatever other sites left
    // there.
    let token = phone.text_of("deviceToken");
    let body = json!({"email": ann.email, "password": PASSWORD, "deviceToken": token});
    let again = region.call("POST", "/sessions").json(&body).send().await.expect(201);
    assert_ne!(again.text_of("deviceToken"), token, "it lasts longer now");
    let cookie = format!("theme=dark; {}; other=1", device_cookie(&browser));
    let body = json!({"email": ann.email, "password": PASSWORD});
    let sign_in = region.call("POST", "/sessions").header("cookie", &cookie).json(&body);
    sign_in.send().await.expect(201);

    // The token is Ann's, and guesses with it are counted.
    let bob = region.customer().await;
    for _ in 0..ATTEMPTS {
        guess(&region, &bob.email).await.expect_problem(401, "wrong-credentials");
    }
    let body = json!({"email": bob.email, "password": PASSWORD, "deviceToken": token});
    let stranger = region.call("POST", "/sessions").json(&body).send().await;
    stranger.expect_problem(429, "too-many-requests");
    let wrong = json!({"email": ann.email, "password": "certainly not the password", "deviceToken": token});
    for _ in 0..ATTEMPTS {
        let answer = region.call("POST", "/sessions").json(&wrong).send().await;
        answer.expect_problem(401, "wrong-credentials");
    }
    region.call("POST", "/sessions").json(&wrong).send().await.expect_problem(429, "too-many-requests");
}

#[tokio::test]
async fn a_known_browser_can_change_its_password_while_strangers_guess() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let browser = try_password(&region, &ann.email, PASSWORD).await.expect(201);
    for _ in 0..ATTEMPTS {
        guess(&region, &ann.email).await.expect_problem(401, "wrong-credentials");
    }
    let change = json!({"current": PASSWORD, "new": "another password of mine"});
    let without = region.call_as(&ann, "PUT", "/users/me/password").json(&change).send().await;
    without.expect_problem(429, "too-many-requests");
    let call = region.call("PUT", "/users/me/password").bearer(&browser.text_of("accessToken"));
    call.header("cookie", &device_cookie(&browser)).json(&change).send().await.expect(204);
}

#[tokio::test]
async fn an_address_opens_so_many_accounts_and_no_more() {
    let region = region_with(&["SignUpsPerAddress=3"]).await;
    let ann = region.customer().await;
    region.sign_up(&ann.email).await.expect_problem(409, "email-taken");
    region.sign_up("bob@example.com").await.expect(201);
    let refused = region.sign_up("carol@example.com").await.expect_problem(429, "too-many-requests");
    let wait: u64 = refused.header("retry-after").unwrap_or_default().parse().unwrap_or_default();
    assert!((WINDOW_SECS - 120..=WINDOW_SECS).contains(&wait), "{wait}");
    // Who has an account signs in.
    region.sign_in(&ann.email).await;
}

const SECRET: &str = "the secret of the proxy has 32 characters or more";

/// A call as the proxy passes it on for the client at this address.
fn proxied(call: Call, secret: &str, client: &str) -> Call {
    call.header("x-origin-verify", secret).header("x-viewer-address", client)
}

#[tokio::test]
async fn behind_the_proxy_limits_count_for_the_client_and_nobody_else_chooses_an_address() {
    let proxy = format!("TrustedProxySecret={SECRET}");
    let region = region_with(&["SignUpsPerAddress=1", &proxy]).await;
    let sign_up = async |secret: &str, client: &str, name: &str| {
        let body = json!({"email": format!("{name}@example.com"), "password": PASSWORD});
        proxied(region.call("POST", "/users"), secret, client).json(&body).send().await
    };
    sign_up(SECRET, "198.51.100.1", "ann").await.expect(201);
    sign_up(SECRET, "198.51.100.1", "ann2").await.expect_problem(429, "too-many-requests");
    sign_up(SECRET, "198.51.100.2", "bob").await.expect(201);
    sign_up(SECRET, "2001:db8:1:2::1", "carol").await.expect(201);
    sign_up(SECRET, "2001:db8:1:2::2", "carol2").await.expect_problem(429, "too-many-requests");

    // Around the proxy a request has the address of its connection, whatever it says.
    sign_up("not the secret", "198.51.100.3", "dave").await.expect(201);
    for client in ["198.51.100.4", "198.51.100.5"] {
        sign_up("not the secret", client, "dave2").await.expect_problem(429, "too-many-requests");
    }
    let log = region.log_with("too many sign-ups from this network").await;
    assert!(log.contains("198.51.100.1") && !log.contains("198.51.100.4"), "{log}");
    assert!(!log.contains(SECRET));
}

#[tokio::test]
async fn requests_around_the_proxy_are_refused_where_that_is_wanted() {
    let proxy = format!("TrustedProxySecret={SECRET}");
    let region = region_with(&[&proxy, "DirectRequests=refuse"]).await;
    let body = json!({"email": "ann@example.com", "password": PASSWORD});
    for path in ["/users", "/sessions"] {
        let direct = region.call("POST", path).json(&body).send().await;
        direct.expect_problem(403, "direct-request");
        let call = proxied(region.call("POST", path), SECRET, "198.51.100.1");
        call.json(&body).send().await.expect(201);
    }
}
