//! The edges of HTTP and JSON, through the gateway: headers that come twice, conditional requests,
//! spellings of numbers and dates, ends of lists, and what a body says it is.

use serde_json::{Value, json};
use sojourn_tests::{Answer, Call, Customer, TestRegion, fresh_key, order_of};

const PREFERENCES: &str = "/sessions/current/preferences";

/// A shop with ten lamps, its operator, and somebody signed in.
async fn stage() -> (TestRegion, Customer, Customer) {
    let region = TestRegion::start().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 10).await;
    let customer = region.customer().await;
    (region, operator, customer)
}

fn with_body(call: Call, body: &str) -> Call {
    call.header("content-type", "application/json").text(body)
}

#[tokio::test]
async fn a_key_that_comes_twice_makes_no_second_order() {
    let (region, _, customer) = stage().await;
    let key = fresh_key();
    let order = || region.call_as(&customer, "POST", "/orders").json(&order_of(&[("lamp", 1)]));
    let placed = order().key(&key).send().await.expect(201);
    for joined in [format!("{key},{key}"), format!("{key}, {key}"), format!("\"{key}\",\"{key}\"")] {
        order().key(&joined).send().await.expect_problem(400, "invalid-request");
    }
    order().key(&key).key(&key).send().await.expect_problem(400, "invalid-request");
    order().key(&format!("\"{key},{key}\"")).send().await.expect_problem(400, "idempotency-key-invalid");
    let retried = order().key(&key).send().await.expect(201);
    assert_eq!((retried.header("idempotent-replayed"), &retried.text), (Some("true"), &placed.text));
    assert_eq!(region.available("lamp").await, 9);
}

#[tokio::test]
async fn other_headers_of_one_value_that_come_twice_are_refused() {
    let (region, _, customer) = stage().await;
    let json = "application/json";
    let twice = with_body(region.call_as(&customer, "PUT", "/cart"), r#"{"lines":[]}"#);
    twice.header("content-type", json).send().await.expect_problem(400, "invalid-request");
    let twice = region.call_as(&customer, "GET", "/cart").bearer(&customer.token);
    twice.send().await.expect_problem(400, "invalid-request");
    // A list may come in any number of lines.
    let lines = region.call_as(&customer, "GET", "/cart").header("if-none-match", "\"5\"");
    lines.header("if-none-match", "\"0\"").send().await.expect(304);
}

#[tokio::test]
async fn conditional_requests_of_the_cart_do_what_rfc_9110_says() {
    let (region, _, customer) = stage().await;
    let cart = |method: &str, header: &str, value: &str| {
        let call = region.call_as(&customer, method, "/cart").header(header, value);
        if method == "PUT" { call.json(&order_of(&[("lamp", 2)])) } else { call }.send()
    };
    // Without lines it is as good as none.
    cart("GET", "if-none-match", "*").await.expect(200);
    let first = cart("PUT", "if-none-match", "*").await.expect(200);
    assert_eq!(first.header("etag"), Some("\"1\""));
    for (method, header, value) in [
        ("PUT", "if-none-match", "*"),
        ("PUT", "if-none-match", "\"1\""),
        ("PUT", "if-none-match", "W/\"1\", \"9\""),
        ("DELETE", "if-none-match", "*"),
        ("PUT", "if-match", "\"0\""),
        ("GET", "if-match", "\"0\""),
    ] {
        let refused = cart(method, header, value).await.expect_problem(412, "stale-version");
        assert_eq!(refused.header("etag"), Some("\"1\""), "{method} {header}: {value}");
    }
    for value in ["*", "\"1\"", "W/\"1\"", "\"0\", \"1\""] {
        let unchanged = cart("GET", "if-none-match", value).await.expect(304);
        assert_eq!((unchanged.text.as_str(), unchanged.header("etag")), ("", Some("\"1\"")), "{value}");
        assert_eq!(unchanged.header("cache-control"), Some("private, no-cache"));
    }
    cart("GET", "if-none-match", "\"0\"").await.expect(200);
    for method in ["GET", "PUT", "DELETE"] {
        cart(method, "if-none-match", "1").await.expect_problem(400, "invalid-request");
    }
    // If-Match is evaluated first.
    let both = region
        .call_as(&customer, "GET", "/cart")
        .header("if-match", "\"0\"")
        .header("if-none-match", "\"1\"");
    both.send().await.expect_problem(412, "stale-version");
    assert_eq!(cart("PUT", "if-none-match", "\"0\"").await.expect(200).header("etag"), Some("\"2\""));
}

#[tokio::test]
async fn conditional_requests_of_preferences_do_what_rfc_9110_says() {
    let (region, _, customer) = stage().await;
    let call = |method: &str| region.call_as(&customer, method, PREFERENCES);
    let patch = |value: &str| call("PATCH").header("if-none-match", value).json(&json!({"a": 1})).send();
    call("GET").header("if-none-match", "\"1\"").send().await.expect(304);
    for value in ["*", "\"1\""] {
        patch(value).await.expect_problem(412, "stale-version");
    }
    assert_eq!(patch("\"7\"").await.expect(200).header("etag"), Some("\"2\""));
    call("GET").header("if-none-match", "\"1\"").send().await.expect(200);
    call("GET").header("if-match", "\"1\"").send().await.expect_problem(412, "stale-version");
    patch("nonsense").await.expect_problem(400, "invalid-request");
}

#[tokio::test]
async fn an_integer_is_one_however_it_is_written() {
    let (region, operator, customer) = stage().await;
    let key = fresh_key();
    let order = |quantity: &str, key: &str| {
        let call = region.call_as(&customer, "POST", "/orders").key(key);
        with_body(call, &format!(r#"{{"lines":[{{"productId":"lamp","quantity":{quantity}}}]}}"#)).send()
    };
    let placed = order("2.0", &key).await.expect(201);
    for two in ["2", "2e0", "20E-1"] {
        let again = order(two, &key).await.expect(201);
        assert_eq!((again.header("idempotent-replayed"), &again.text), (Some("true"), &placed.text), "{two}");
    }
    order("3", &key).await.expect_problem(422, "idempotency-key-reused");
    for wrong in ["2.5", "1e-1", "1e400", "\"2\"", "1000.0", "0.0"] {
        order(wrong, &fresh_key()).await.expect_problem(400, "invalid-request");
    }
    let stock = region.call_as(&operator, "POST", "/products/lamp/stock").key(&fresh_key());
    with_body(stock, r#"{"delta":1.2e1}"#).send().await.expect(200);
    let product = region.call_as(&operator, "PUT", "/products/lamp");
    let body = r#"{"name":"Lamp","price":{"amount":1.29e4,"currency":"TWD"}}"#;
    assert_eq!(with_body(product, body).send().await.expect(200).body["price"]["amount"], 12_900);
    let upload = region.call_as(&customer, "POST", "/uploads");
    let digest = "a".repeat(64);
    let body =
        format!(r#"{{"fileName":"a.txt","contentType":"text/plain","sizeBytes":12.0,"sha256":"{digest}"}}"#);
    with_body(upload, &body).send().await.expect(201);
    assert_eq!(region.available("lamp").await, 20);
}

#[tokio::test]
async fn numbers_of_clients_come_back_digit_for_digit() {
    let (region, operator, customer) = stage().await;
    let numbers = r#"{"a":1.50,"b":123456789012345678901234567890,"c":-0.0,"d":[1e+400,9007199254740993]}"#;
    let patch = with_body(region.call_as(&customer, "PATCH", PREFERENCES), numbers);
    assert_eq!(patch.send().await.expect(200).text, numbers);
    let read = region.call_as(&customer, "GET", PREFERENCES).send().await.expect(200);
    assert_eq!(read.text, numbers);

    let body = format!(r#"{{"name":"Lamp","price":{{"amount":1,"currency":"TWD"}},"attributes":{numbers}}}"#);
    let put = with_body(region.call_as(&operator, "PUT", "/products/lamp"), &body).send().await.expect(200);
    let read = region.call("GET", "/products/lamp").send().await.expect(200);
    let list = region.call("GET", "/products").send().await.expect(200);
    for answer in [put, read, list] {
        assert!(answer.text.contains(&format!(r#""attributes":{numbers}"#)), "{}", answer.text);
    }
    for twice in [r#"{"a":1,"a":2}"#, r#"{"a":{"b":1,"b":1}}"#] {
        let patch = with_body(region.call_as(&customer, "PATCH", PREFERENCES), twice);
        patch.send().await.expect_problem(400, "invalid-request");
    }
}

#[tokio::test]
async fn a_message_is_handed_on_byte_for_byte() {
    let region = TestRegion::start().await;
    let (ann, bob) = (region.customer().await, region.customer().await);
    let (mut from, mut to) = (region.socket(&ann).await, region.socket(&bob).await);
    let body = r#"{ "b": 1.50, "a": [1E400, 123456789012345678901234567890,	"\u0041"] }"#;
    let user = &bob.user_id;
    from.send_text(&format!(r#"{{"action":"send","to":{{"userId":"{user}"}},"type":"chat","body":{body}}}"#))
        .await;
    let received = to.receive_text().await;
    assert!(received.contains(body), "{received}");
    assert_eq!(from.receive().await["type"], "ack");
}

#[tokio::test]
async fn date_times_are_those_of_rfc_3339() {
    let (region, _, customer) = stage().await;
    let export = |from: &str, to: &str| {
        let call = region.call_as(&customer, "POST", "/exports").key(&fresh_key());
        call.json(&json!({"kind": "orders", "from": from, "to": to})).send()
    };
    for to in ["9999-12-31T23:59:59Z", "9999-12-31t23:59:59.5-08:00", "2998-12-31T23:59:60Z"] {
        export("2026-01-01T00:00:00+08:00", to).await.expect(202);
    }
    for loose in ["2026-01-01 00:00:00Z", "2026-01-01", "2026-01-01T00:00:00", "2026-01-01T00:00:00+0800"] {
        export(loose, "9999-12-31T23:59:59Z").await.expect_problem(400, "invalid-request");
    }
    export("9999-12-31T23:59:58Z", "9999-12-31T23:59:59Z").await.expect_problem(422, "unprocessable");
}

async fn page(region: &TestRegion, who: &Customer, path: &str, limit: u32, cursor: Option<&Value>) -> Answer {
    let cursor = cursor.map(|cursor| format!("&cursor={}", cursor.as_str().unwrap_or_default()));
    let path = format!("{path}?limit={limit}{}", cursor.unwrap_or_default());
    region.call_as(who, "GET", &path).send().await.expect(200)
}

#[tokio::test]
async fn the_last_page_of_a_list_has_no_next_one() {
    let (region, operator, customer) = stage().await;
    for product in ["chair", "table"] {
        region.stock(&operator, product, 1).await;
    }
    for _ in 0..3 {
        region.order(&customer, &fresh_key(), &[("lamp", 1)]).await.expect(201);
        let upload = json!({
            "fileName": "a.txt", "contentType": "text/plain", "sizeBytes": 12, "sha256": "a".repeat(64),
        });
        region.call_as(&customer, "POST", "/uploads").json(&upload).send().await.expect(201);
    }
    for path in ["/products", "/orders", "/uploads"] {
        let length = |answer: &Answer| answer.body["items"].as_array().map(Vec::len);
        let whole = page(&region, &customer, path, 3, None).await;
        assert_eq!((length(&whole), whole.body.get("nextCursor")), (Some(3), None), "{path}");
        let first = page(&region, &customer, path, 2, None).await;
        let last = page(&region, &customer, path, 2, first.body.get("nextCursor")).await;
        assert_eq!((length(&first), length(&last)), (Some(2), Some(1)), "{path}");
        assert_eq!(last.body.get("nextCursor"), None, "{path}");
        for (query, refused) in
            [("limit=", true), ("limit=2&limit=2", true), ("limit=%2B2", true), ("utm=1", false)]
        {
            let answer = region.call_as(&customer, "GET", &format!("{path}?{query}")).send().await;
            if refused {
                answer.expect_problem(400, "invalid-request")
            } else {
                answer.expect(200)
            };
        }
    }
}

#[tokio::test]
async fn a_body_is_plain_json_in_utf_8_and_says_so() {
    let (region, _, customer) = stage().await;
    let put =
        |content_type: &str| region.call_as(&customer, "PUT", "/cart").header("content-type", content_type);
    let body = r#"{"lines":[]}"#;
    for json in ["application/json", "application/json; charset=UTF-8", "application/vnd.shop+json"] {
        put(json).text(body).send().await.expect(200);
    }
    for other in ["+json", "application/+json", "application/json; charset=utf-16", "json"] {
        put(other).text(body).send().await.expect_problem(415, "unsupported-media-type");
    }
    let coded = put("application/json").header("content-encoding", "gzip").text(body).send().await;
    let coded = coded.expect_problem(415, "unsupported-content-encoding");
    assert_eq!(coded.header("accept-encoding"), Some("identity"));
    put("application/json").header("content-encoding", "identity").text(body).send().await.expect(200);
    let marked = put("application/json").text(format!("\u{feff}{body}")).send().await;
    let marked = marked.expect_problem(400, "invalid-request");
    assert!(marked.text_of("detail").contains("byte order mark"), "{}", marked.text);
}

#[tokio::test]
async fn a_401_says_whether_a_token_was_refused_or_is_missing() {
    let (region, _, customer) = stage().await;
    let challenge = |call: Call| async {
        let refused = call.send().await.expect_problem(401, "unauthenticated");
        refused.header("www-authenticate").map(str::to_owned)
    };
    let get = || region.call("GET", "/orders");
    let invalid = Some("Bearer error=\"invalid_token\"".to_owned());
    assert_eq!(challenge(get()).await, Some("Bearer".to_owned()));
    assert_eq!(challenge(get().header("authorization", "Basic YTpi")).await, Some("Bearer".to_owned()));
    assert_eq!(challenge(get().bearer("a.b.c")).await, invalid);
    region.call_as(&customer, "DELETE", "/sessions/current").send().await.expect(204);
    assert_eq!(challenge(get().bearer(&customer.token)).await, invalid);
    assert_eq!(challenge(get().header("cookie", &customer.cookie)).await, Some("Bearer".to_owned()));
    let keys = region.call("GET", "/.well-known/jwks.json").send().await.expect(200);
    let vary = keys.header("vary").unwrap_or_default();
    assert!(vary.split(',').any(|name| name.trim().eq_ignore_ascii_case("origin")), "{vary}");
}

#[tokio::test]
async fn what_may_be_kept_says_so_and_is_not_sent_twice() {
    let (region, _, customer) = stage().await;
    let placed = region.order(&customer, &fresh_key(), &[("lamp", 1)]).await.expect(201);
    let order = format!("/orders/{}", placed.body["orderId"].as_str().unwrap());
    let public = "public, max-age=5, stale-while-revalidate=30";
    for (path, caching, vary) in [
        ("/products", public, Some("Origin")),
        ("/products/lamp", public, Some("Origin")),
        ("/products/lamp/activity", "public, max-age=60, stale-while-revalidate=300", Some("Origin")),
        ("/orders", "private, no-cache", None),
        ("/orders/summary", "private, no-cache", None),
        (&order, "private, no-cache", None),
    ] {
        let read = || region.call_as(&customer, "GET", path);
        let first = read().send().await.expect(200);
        let tag = first.header("etag").unwrap_or_else(|| panic!("{path}")).to_owned();
        assert_eq!((first.header("cache-control"), first.header("vary")), (Some(caching), vary), "{path}");
        for known in [tag.clone(), format!("W/{tag}"), format!("\"0\", {tag}"), "*".to_owned()] {
            let unchanged = read().header("if-none-match", &known).send().await.expect(304);
            assert_eq!(
                (unchanged.text.as_str(), unchanged.header("etag")),
                ("", Some(&*tag)),
                "{path} {known}"
            );
            assert_eq!(unchanged.header("cache-control"), Some(caching), "{path} {known}");
        }
        read().header("if-none-match", "\"0\"").send().await.expect(200);
        read().header("if-match", &tag).send().await.expect(200);
        read().header("if-match", "\"0\"").send().await.expect_problem(412, "stale-version");
        read().header("if-none-match", "0").send().await.expect_problem(400, "invalid-request");
    }
    // Another answer has another tag, and a refusal has none.
    let tag = region.call_as(&customer, "GET", &order).send().await.header("etag").unwrap().to_owned();
    region.pay(&customer, &fresh_key(), placed.body["orderId"].as_str().unwrap(), "tok_ok").await.expect(201);
    let paid =
        region.call_as(&customer, "GET", &order).header("if-none-match", &tag).send().await.expect(200);
    assert_eq!(paid.body["status"], "PAID");
    let unknown = region.call("GET", "/products/unknown").header("if-none-match", "*").send().await;
    unknown.expect_problem(404, "not-found");
}
