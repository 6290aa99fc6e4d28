//! Browsers: the cookie that signs them in, what it may do without a word about where the page
//! comes from, and the answers to preflights.

use serde_json::json;
use sojourn_tests::{Answer, Call, Customer, File, Options, TestRegion, fresh_key, order_of};

/// A page of ours, which template.yaml allows by default.
const OURS: &str = "http://127.0.0.1:5173";
/// Pages of others. A browser says `null` for a page without an origin: a file, a sandboxed frame.
const FOREIGN: [&str; 4] =
    ["https://evil.example", "http://127.0.0.1:5173.evil.example", "https://127.0.0.1:5173", "null"];

/// A shop with a lamp, and somebody signed in.
async fn stage() -> (TestRegion, Customer) {
    let region = TestRegion::start().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 10).await;
    let customer = region.customer().await;
    (region, customer)
}

fn order(region: &TestRegion, who: &Customer) -> Call {
    region.call_by_cookie(who, "POST", "/orders").key(&fresh_key()).json(&order_of(&[("lamp", 1)]))
}

#[tokio::test]
async fn signing_in_sets_a_cookie_that_scripts_cannot_read_and_signing_out_clears_it() {
    let (region, customer) = stage().await;
    let body = json!({"email": customer.email, "password": sojourn_tests::PASSWORD});
    let sign_in = region.call("POST", "/sessions").json(&body).send().await.expect(201);
    let line = sign_in.header("set-cookie").unwrap_or_default().to_owned();
    let (pair, attributes) = line.split_once("; ").unwrap_or_default();
    assert!(pair.starts_with(&format!("__Host-SESSION={}.", sign_in.text_of("sessionId"))), "{line}");
    assert_eq!(attributes, "Max-Age=2592000; Path=/; HttpOnly; Secure; SameSite=Lax");
    assert!(!sign_in.text.contains(pair.trim_start_matches("__Host-SESSION=")), "the page never sees it");

    let cleared = "__Host-SESSION=; Max-Age=0; Path=/; HttpOnly; Secure; SameSite=Lax";
    let delete =
        |who: &Customer, path: &str| region.call_by_cookie(who, "DELETE", path).header("origin", OURS).send();
    for path in ["/sessions/current", "/sessions"] {
        let who = region.sign_in(&customer.email).await;
        let gone = delete(&who, path).await.expect(204);
        assert_eq!(gone.header("set-cookie"), Some(cleared), "{path}");
        let after = region.call_by_cookie(&who, "GET", "/sessions").send().await;
        after.expect_problem(401, "unauthenticated");
    }
    let (who, other) = (region.sign_in(&customer.email).await, region.sign_in(&customer.email).await);
    let neighbour = delete(&who, &format!("/sessions/{}", other.session_id)).await.expect(204);
    assert_eq!(neighbour.header("set-cookie"), None);
    let own = delete(&who, &format!("/sessions/{}", who.session_id)).await.expect(204);
    assert_eq!(own.header("set-cookie"), Some(cleared));
}

#[tokio::test]
async fn the_cookie_alone_reads() {
    let (region, customer) = stage().await;
    for path in ["/orders", "/sessions"] {
        region.call_by_cookie(&customer, "GET", path).send().await.expect(200);
    }
    let among_others = format!("theme=dark; {}; lang=en", customer.cookie);
    region.call("GET", "/orders").header("cookie", &among_others).send().await.expect(200);
    // A page of others may make a browser ask, but not see the answer.
    for (origin, visible) in [(OURS, Some(OURS)), (FOREIGN[0], None)] {
        let call = region.call_by_cookie(&customer, "GET", "/orders").header("origin", origin);
        assert_eq!(call.send().await.expect(200).header("access-control-allow-origin"), visible);
    }
}

#[tokio::test]
async fn cookies_of_others_hide_ours_from_nobody_whatever_they_hold() {
    let (region, customer) = stage().await;
    let others: [&[u8]; 4] = ["_ga=caf\u{e9}".as_bytes(), b"_ga=caf\xe9", b"x=\xff\xfe; =; y", b"z=\"a;b\""];
    for other in others {
        let ours = customer.cookie.as_bytes();
        for line in [[other, b"; ", ours].concat(), [ours, b"; ", other].concat()] {
            let call = region.call("GET", "/orders").header_bytes("cookie", &line);
            call.send().await.expect(200);
        }
        let alone = region.call("GET", "/orders").header_bytes("cookie", other);
        alone.send().await.expect_problem(401, "unauthenticated");
    }
}

#[tokio::test]
async fn of_several_session_cookies_the_one_whose_session_stands_counts() {
    let (region, ended) = stage().await;
    let standing = region.sign_in(&ended.email).await;
    region.call_as(&ended, "DELETE", "/sessions/current").send().await.expect(204);
    let orders =
        |cookies: &[&str]| region.call("GET", "/orders").header("cookie", &cookies.join("; ")).send();
    orders(&[&ended.cookie, &standing.cookie]).await.expect(200);
    orders(&["__Host-SESSION=hunter2", &standing.cookie, &ended.cookie]).await.expect(200);
    orders(&[&ended.cookie, "__Host-SESSION=hunter2"]).await.expect_problem(401, "unauthenticated");
    // A change by them still needs its page.
    let both = format!("{}; {}", ended.cookie, standing.cookie);
    let change = || region.call("DELETE", "/cart").header("cookie", &both);
    change().send().await.expect_problem(403, "origin-not-allowed");
    change().header("origin", OURS).send().await.expect(204);
    let twice = change().header("origin", OURS).header("origin", OURS);
    twice.send().await.expect_problem(400, "invalid-request");
}

#[tokio::test]
async fn the_hosts_of_a_domain_can_share_the_cookie_which_has_another_name_then() {
    let arguments = ["--parameter", "SessionCookieDomain=shop.example"].map(str::to_owned).to_vec();
    let region = TestRegion::start_with(Options { arguments, ..Options::default() }).await;
    let customer = region.customer().await;
    assert!(customer.cookie.starts_with("SESSION="), "{}", customer.cookie);
    region.call_by_cookie(&customer, "GET", "/orders").send().await.expect(200);
    let own = format!("__Host-{}", customer.cookie);
    region.call("GET", "/orders").header("cookie", &own).send().await.expect_problem(401, "unauthenticated");
    let out = region.call_by_cookie(&customer, "DELETE", "/sessions/current").header("origin", OURS);
    let cleared = "SESSION=; Max-Age=0; Path=/; HttpOnly; Secure; SameSite=Lax; Domain=shop.example";
    assert_eq!(out.send().await.expect(204).header("set-cookie"), Some(cleared));
}

#[tokio::test]
async fn a_change_by_cookie_needs_the_origin_of_an_allowed_page() {
    let (region, customer) = stage().await;
    order(&region, &customer).header("origin", OURS).send().await.expect(201);
    assert_eq!(region.available("lamp").await, 9);

    let refused = |answer: Answer| answer.expect_problem(403, "origin-not-allowed");
    refused(order(&region, &customer).send().await);
    let delete = |path: &str| region.call_by_cookie(&customer, "DELETE", path);
    refused(delete("/sessions").send().await);
    for origin in FOREIGN {
        refused(order(&region, &customer).header("origin", origin).send().await);
        refused(delete("/sessions").header("origin", origin).send().await);
        refused(delete("/sessions/current").header("origin", origin).send().await);
        let password = json!({"current": sojourn_tests::PASSWORD, "new": "a page of others chose this"});
        let change = region.call_by_cookie(&customer, "PUT", "/users/me/password").json(&password);
        refused(change.header("origin", origin).send().await);
    }
    assert_eq!(region.available("lamp").await, 9);
    region.call_by_cookie(&customer, "GET", "/orders").send().await.expect(200);
    region.sign_in(&customer.email).await;
}

#[tokio::test]
async fn a_cookie_that_was_not_issued_like_this_is_worth_nothing() {
    let (region, customer) = stage().await;
    let stranger = region.customer().await;
    let parts: Vec<&str> = customer.cookie.trim_start_matches("__Host-SESSION=").split('.').collect();
    let [session, user, roles, secret] = parts[..] else { panic!("{} has other parts", customer.cookie) };
    assert_eq!((session, user, roles), (customer.session_id.as_str(), customer.user_id.as_str(), ""));
    let strangers_secret = stranger.cookie.rsplit('.').next().unwrap_or_default();
    let forged = [
        format!("__Host-SESSION={session}.{user}.operator.{secret}"),
        format!("__Host-SESSION={session}.{}.{roles}.{secret}", stranger.user_id),
        format!("__Host-SESSION={}.{user}.{roles}.{secret}", stranger.session_id),
        format!("__Host-SESSION={session}.{user}.{roles}.{strangers_secret}"),
        format!("__Host-SESSION={session}.{user}.{roles}"),
        format!("__Host-SESSION={session}"),
        "__Host-SESSION=".to_owned(),
        "__Host-SESSION=hunter2".to_owned(),
    ];
    let product = json!({"name": "Free lamp", "price": {"amount": 0, "currency": "TWD"}});
    for cookie in &forged {
        let call = |method: &str, path: &str| {
            region.call(method, path).header("cookie", cookie).header("origin", OURS).key(&fresh_key())
        };
        let refused = [
            call("GET", "/orders").send().await,
            call("GET", "/sessions").send().await,
            call("POST", "/orders").json(&order_of(&[("lamp", 1)])).send().await,
            call("DELETE", "/sessions").send().await,
        ];
        for answer in refused {
            answer.expect_problem(401, "unauthenticated");
        }
        let put = call("PUT", "/products/lamp").json(&product).send().await;
        assert!(matches!(put.status, 401 | 403), "{}", put.text);
    }
    // The one that claims the role gets past the question for it, and no further.
    let promoted = region.call("PUT", "/products/lamp").header("cookie", &forged[0]).header("origin", OURS);
    promoted.json(&product).send().await.expect_problem(401, "unauthenticated");
    let lamp = region.call("GET", "/products/lamp").send().await.expect(200);
    assert_eq!((&lamp.body["name"], &lamp.body["available"]), (&json!("lamp"), &json!(10)));
    for who in [&customer, &stranger] {
        region.call_by_cookie(who, "GET", "/orders").send().await.expect(200);
    }
}

/// Paths of everything that the customer can read: each thing that is there, and one of its kind
/// that is not; and lists, with cursors of which no page is.
async fn readable_paths(region: &TestRegion, customer: &Customer) -> Vec<String> {
    let order = order(region, customer).header("origin", OURS).send().await.expect(201).text_of("orderId");
    let file = File::text("a.txt", "twelve bytes");
    let upload = region.announce(customer, &file).await.expect(201).text_of("uploadId");
    let export = region.export(customer, &fresh_key()).await.expect(202).text_of("exportId");
    region.fill_cart(customer, &[("lamp", 1)]).await;
    let missing = "00000000000000000000000000";
    let things = [
        format!("/orders/{order}"),
        format!("/orders/ord_{missing}"),
        format!("/uploads/{upload}"),
        format!("/uploads/upl_{missing}"),
        format!("/exports/{export}"),
        format!("/exports/exp_{missing}"),
    ];
    let lists =
        ["/orders", "/orders?cursor=x", "/uploads", "/uploads?cursor=x", "/sessions", "/sessions?cursor=x"];
    let singles = ["/cart", "/sessions/current/preferences"];
    things.into_iter().chain(lists.into_iter().chain(singles).map(str::to_owned)).collect()
}

#[tokio::test]
async fn no_read_tells_a_forged_or_ended_cookie_whether_a_thing_exists() {
    let (region, customer) = stage().await;
    let ended = region.sign_in(&customer.email).await;
    region.call_as(&ended, "DELETE", "/sessions/current").send().await.expect(204);
    let secret = customer.cookie.rsplit('.').next().unwrap_or_default();
    let forged = customer.cookie.replace(secret, ended.cookie.rsplit('.').next().unwrap_or_default());
    let paths = readable_paths(&region, &customer).await;
    for path in &paths {
        let found = region.call_by_cookie(&customer, "GET", path).send().await;
        assert!(matches!(found.status, 200 | 400 | 404), "{path}: {}", found.text);
        for cookie in [&forged, &ended.cookie] {
            let refused = region.call("GET", path).header("cookie", cookie).send().await;
            assert!(refused.text.contains("the session has ended"), "{path}: {}", refused.text);
            refused.expect_problem(401, "unauthenticated");
        }
    }
}

#[tokio::test]
async fn the_authorization_header_counts_before_the_cookie() {
    let (region, ann) = stage().await;
    let bob = region.customer().await;
    let placed = order(&region, &ann).bearer(&bob.token).send().await.expect(201);
    assert_eq!(placed.text_of("customerId"), bob.user_id, "and it needs no Origin");
    let wrong = region.call_by_cookie(&ann, "GET", "/orders").bearer("a.b.c").send().await;
    wrong.expect_problem(401, "unauthenticated");
    let basic = region.call_by_cookie(&ann, "GET", "/orders").header("authorization", "Basic YTpi");
    basic.send().await.expect_problem(401, "unauthenticated");
}

#[tokio::test]
async fn preflights_allow_our_pages_what_the_interface_has_and_others_nothing() {
    let region = TestRegion::start().await;
    let preflight = |origin: &str, method: &str, headers: &str| {
        let call = region.call("OPTIONS", "/sessions/current").header("origin", origin);
        let call = call.header("access-control-request-method", method);
        call.header("access-control-request-headers", headers).send()
    };
    let headers = "authorization,content-type,idempotency-key,if-match,if-none-match";
    for method in ["GET", "POST", "PUT", "DELETE"] {
        let allowed = preflight(OURS, method, headers).await.expect(204);
        assert_eq!(allowed.header("access-control-allow-origin"), Some(OURS), "{method}");
        assert_eq!(allowed.header("access-control-allow-credentials"), Some("true"));
        assert_eq!(allowed.header("access-control-allow-headers"), Some(headers));
        let methods = allowed.header("access-control-allow-methods").unwrap_or_default();
        assert!(methods.split(',').any(|listed| listed == method), "{methods}");
    }
    for origin in FOREIGN {
        let refused = preflight(origin, "DELETE", headers).await;
        assert_eq!(refused.header("access-control-allow-origin"), None, "{origin}");
        assert_eq!(refused.header("access-control-allow-credentials"), None, "{origin}");
    }
    for (method, headers) in [("TRACE", "authorization"), ("GET", "x-other")] {
        let refused = preflight(OURS, method, headers).await;
        assert_eq!(refused.header("access-control-allow-origin"), None, "{method} {headers}");
    }
}

#[tokio::test]
async fn our_pages_see_every_header_that_a_client_needs() {
    let (region, customer) = stage().await;
    let placed = order(&region, &customer).header("origin", OURS).send().await.expect(201);
    assert_eq!(placed.header("access-control-allow-origin"), Some(OURS));
    assert_eq!(placed.header("access-control-allow-credentials"), Some("true"));
    let exposed = placed.header("access-control-expose-headers").unwrap_or_default();
    for header in ["etag", "idempotent-replayed", "location", "retry-after"] {
        assert!(exposed.split(',').any(|listed| listed == header), "{header} is not in {exposed}");
    }
}
