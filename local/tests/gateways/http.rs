//! The HTTP API as a client sees it.

use std::time::Duration;

use bytes::Bytes;
use local_region::functions::outcome::Outcome;
use local_region::template::model::Cors;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Reply, Script, http_api, raw, route};

#[tokio::test]
async fn a_request_becomes_an_event_and_the_answer_a_response() {
    let script = Script::answering(json!({
        "statusCode": 201,
        "headers": {"Content-Type": "application/json", "Location": "/orders/ord_1"},
        "multiValueHeaders": {},
        "cookies": ["SESSION=a; HttpOnly", "theme=dark"],
        "body": "{\"orderId\":\"ord_1\"}",
        "isBase64Encoded": false,
    }));
    let api =
        http_api(vec![route("POST", "/orders/{orderId}/cancel", "api-orders")], None, script.clone()).await;
    let response = Client::new()
        .post(api.http("/orders/ord%201%2B/cancel?why=too%20late&why=2"))
        .header("Cookie", "SESSION=abc; theme=dark")
        .header("User-Agent", "curl/8")
        .header("X-Tag", "1")
        .header("X-Tag", "2")
        .json(&json!({"a": "✓"}))
        .send()
        .await
        .unwrap();

    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(response.headers()["location"], "/orders/ord_1");
    let cookies: Vec<_> = response.headers().get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["SESSION=a; HttpOnly", "theme=dark"]);
    let request_id = response.headers()["apigw-requestid"].to_str().unwrap().to_owned();
    assert_eq!(response.json::<Value>().await.unwrap(), json!({"orderId": "ord_1"}));

    let event = script.events("api-orders").remove(0);
    assert_eq!(event["routeKey"], "POST /orders/{orderId}/cancel");
    assert_eq!(event["rawPath"], "/orders/ord 1+/cancel");
    assert_eq!(event["pathParameters"], json!({"orderId": "ord 1+"}));
    assert_eq!(event["rawQueryString"], "why=too%20late&why=2");
    assert_eq!(event["queryStringParameters"], json!({"why": "too late,2"}));
    assert_eq!(event["cookies"], json!(["SESSION=abc", "theme=dark"]));
    assert_eq!(event["headers"]["x-tag"], "1,2");
    assert_eq!(event["headers"]["x-forwarded-for"], "127.0.0.1");
    assert_eq!(event["headers"]["x-forwarded-proto"], "http");
    assert_eq!(event["headers"].get("cookie"), None);
    assert_eq!(event["body"], "{\"a\":\"✓\"}");
    assert_eq!(event["isBase64Encoded"], false);
    let context = &event["requestContext"];
    assert_eq!(context["requestId"], request_id);
    assert_eq!(context["stage"], "$default");
    assert_eq!(context["domainName"], "127.0.0.1");
    assert_eq!(context["http"]["sourceIp"], "127.0.0.1");
    assert_eq!(context["http"]["userAgent"], "curl/8");
    assert_eq!(context["http"]["method"], "POST");
}

#[tokio::test]
async fn what_no_route_takes_is_not_found_and_nobody_is_invoked() {
    let script = Script::answering(json!({"statusCode": 200}));
    let api = http_api(vec![route("GET", "/orders", "api-orders")], None, script.clone()).await;
    for (method, path) in [(Method::GET, "/other"), (Method::POST, "/orders"), (Method::GET, "/orders/")] {
        let response = Client::new().request(method, api.http(path)).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert!(response.headers().contains_key("apigw-requestid"));
        assert_eq!(response.json::<Value>().await.unwrap(), json!({"message": "Not Found"}));
    }
    assert!(script.calls().is_empty());
}

#[tokio::test]
async fn every_way_to_fail_has_its_status() {
    let script = Script::new(|call| {
        Reply::Now(match call.event["rawPath"].as_str().unwrap() {
            "/crashed" => Outcome::Crashed,
            "/failed" => Outcome::FunctionError { payload: Bytes::from_static(b"{\"errorType\":\"x\"}") },
            "/timed-out" => Outcome::TimedOut,
            "/throttled" => Outcome::Throttled,
            "/too-large" => Outcome::ResponseTooLarge,
            "/missing" => Outcome::NotFound,
            _ => Outcome::Answered(Bytes::from_static(b"not json")),
        })
    });
    let api = http_api(vec![route("ANY", "/{proxy+}", "f")], None, script).await;
    for (path, status, message) in [
        ("/crashed", 500, "Internal Server Error"),
        ("/failed", 500, "Internal Server Error"),
        ("/timed-out", 500, "Internal Server Error"),
        ("/throttled", 503, "Service Unavailable"),
        ("/too-large", 500, "Internal Server Error"),
        ("/missing", 500, "Internal Server Error"),
        ("/garbage", 500, "Internal Server Error"),
    ] {
        let response = reqwest::get(api.http(path)).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{path}");
        assert_eq!(response.headers().contains_key("x-local-region-crash"), path == "/crashed", "{path}");
        assert_eq!(response.json::<Value>().await.unwrap(), json!({"message": message}), "{path}");
    }
}

#[tokio::test]
async fn a_request_without_exactly_one_valid_host_is_refused_before_a_function_sees_it() {
    let script = Script::answering(json!({"statusCode": 200}));
    let api = http_api(vec![route("GET", "/", "f")], None, script.clone()).await;
    for hosts in [
        "",
        "Host:\r\n",
        "Host: a\r\nHost: a\r\n",
        "Host: a b\r\n",
        "Host: 999.1.1.1\r\n",
        "Host: a\u{e9}\r\n",
    ] {
        let answer = raw(&api, &format!("GET / HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{hosts:?}: {answer}");
    }
    assert!(script.calls().is_empty());
    let good = raw(&api, "GET / HTTP/1.1\r\nhost: a.example:80\r\nConnection: close\r\n\r\n").await;
    assert!(good.starts_with("HTTP/1.1 200 OK\r\n"), "{good}");
    assert_eq!(script.events("f")[0]["requestContext"]["domainName"], "a.example");
}

#[tokio::test]
async fn headers_of_the_connection_pass_the_gateway_in_neither_direction() {
    let script = Script::answering(json!({
        "statusCode": 200,
        "headers": {"Keep-Alive": "timeout=9", "Connection": "x-hop", "X-Hop": "1", "Trailer": "x", "X-End": "1"},
    }));
    let api = http_api(vec![route("GET", "/", "f")], None, script.clone()).await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nTE: trailers\r\nX-Mine-Too: 1\r\n\r\n";
    let answer = raw(&api, request).await.to_ascii_lowercase();
    for gone in ["keep-alive", "x-hop", "trailer"] {
        assert!(!answer.contains(gone), "{answer}");
    }
    assert!(answer.contains("x-end: 1"), "{answer}");
    let event = script.events("f").remove(0);
    let mut names: Vec<_> = event["headers"].as_object().unwrap().keys().cloned().collect();
    names.retain(|name| !name.starts_with("x-forwarded-"));
    assert_eq!(names, ["content-length", "host", "x-amzn-trace-id", "x-mine-too"]);
}

#[tokio::test]
async fn too_much_is_refused_before_a_function_sees_it() {
    let script = Script::answering(json!({"statusCode": 200}));
    let api = http_api(vec![route("POST", "/uploads", "f")], None, script.clone()).await;
    let client = Client::new();
    let post = |bytes: usize| client.post(api.http("/uploads")).body("a".repeat(bytes));

    let headers = post(1).header("X-Big", "a".repeat(10_240)).send().await.unwrap();
    assert_eq!(headers.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    // 10 MB is the gateway's limit, 6 MB the one of Lambda; the event is larger than the body.
    for bytes in [10 * 1024 * 1024 + 1, 6 * 1024 * 1024] {
        let response = post(bytes).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let body = response.json::<Value>().await.unwrap();
        assert_eq!(body, json!({"message": "Request Entity Too Large"}));
    }
    assert!(script.calls().is_empty());
    let just_fits = post(5 * 1024 * 1024).header("X-Big", "a".repeat(9_000)).send().await.unwrap();
    assert_eq!(just_fits.status(), StatusCode::OK);
    assert_eq!(script.events("f")[0]["body"].as_str().unwrap().len(), 5 * 1024 * 1024);
}

#[tokio::test]
async fn a_preflight_is_answered_by_the_gateway_and_cors_headers_are_its_own() {
    let script = Script::answering(json!({
        "statusCode": 200,
        "headers": {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Methods": "PURGE"},
    }));
    let cors = Cors {
        allow_origins: vec!["http://localhost:5173".into()],
        allow_methods: vec!["GET".into(), "POST".into()],
        allow_headers: vec!["authorization".into(), "idempotency-key".into()],
        expose_headers: vec!["etag".into()],
        allow_credentials: true,
        max_age: Some(Duration::from_mins(10)),
    };
    let api = http_api(vec![route("POST", "/orders", "f")], Some(cors), script.clone()).await;
    let client = Client::new();

    let preflight = client
        .request(Method::OPTIONS, api.http("/orders"))
        .header("Origin", "http://localhost:5173")
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "authorization,idempotency-key")
        .send()
        .await
        .unwrap();
    assert_eq!(preflight.status(), StatusCode::NO_CONTENT);
    assert_eq!(preflight.headers()["access-control-allow-origin"], "http://localhost:5173");
    assert_eq!(preflight.headers()["access-control-allow-methods"], "GET,POST");
    assert_eq!(preflight.headers()["access-control-max-age"], "600");
    assert!(script.calls().is_empty());

    let from = |origin: &'static str| client.post(api.http("/orders")).header("Origin", origin).send();
    let own = from("http://localhost:5173").await.unwrap();
    assert_eq!(own.headers()["access-control-allow-origin"], "http://localhost:5173");
    assert_eq!(own.headers()["access-control-allow-credentials"], "true");
    assert_eq!(own.headers()["access-control-expose-headers"], "etag");
    assert!(!own.headers().contains_key("access-control-allow-methods"));
    let other = from("http://evil.example").await.unwrap();
    assert_eq!(other.status(), StatusCode::OK);
    assert!(!other.headers().keys().any(|name| name.as_str().starts_with("access-control")));
}

#[tokio::test]
async fn a_stopping_region_answers_the_requests_that_have_begun() {
    let script = Script::new(|_| {
        let document = Bytes::from_static(b"{\"statusCode\":200,\"body\":\"late\"}");
        Reply::After(Duration::from_millis(300), Outcome::Answered(document))
    });
    let api = http_api(vec![route("GET", "/slow", "f")], None, script.clone()).await;
    let request = tokio::spawn(reqwest::get(api.http("/slow")));
    script.wait_for("f", 1).await;
    let address = api.address.clone();
    api.stop().await;
    assert_eq!(request.await.unwrap().unwrap().text().await.unwrap(), "late");
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
