//! The Invoke API, as an SDK sees it.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use local_region::functions::{Settings, lambda_api};
use local_region::services::faults::{Failure, Rule};
use local_region::services::{Controls, Service};
use local_region::template::model::Statement;
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::support::{Fixture, Setup, start_with};

const ARN: &str = "arn:aws:lambda:local:000000000000:function:shop-fixture";
const SYNC_LIMIT: usize = 6 * 1024 * 1024;
const EVENT_LIMIT: usize = 1024 * 1024;

struct Api {
    fixture: Fixture,
    address: String,
    served: JoinHandle<()>,
}

/// The fixture behind the API; its own role may invoke it, without a qualifier.
async fn api() -> Api {
    let policy = Statement {
        actions: vec!["lambda:InvokeFunction".to_owned()],
        resources: vec![ARN.to_owned()],
        conditions: Vec::new(),
    };
    let patience = Duration::from_secs(20);
    let fixture =
        start_with(&Settings::default(), patience, "", Setup { policy: vec![policy], ..Setup::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let router = lambda_api::router(fixture.functions.clone(), fixture.controls.clone());
    let served = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Api { fixture, address, served }
}

impl Api {
    /// `function` may carry a query.
    async fn invoke(&self, function: &str, headers: &[(&str, &str)], body: impl Into<String>) -> Response {
        let (function, query) = function.split_once('?').unwrap_or((function, ""));
        let url = format!("http://{}/2015-03-31/functions/{function}/invocations?{query}", self.address);
        let call = Client::new().post(url).body(body.into());
        headers.iter().fold(call, |call, (name, value)| call.header(*name, *value)).send().await.unwrap()
    }

    async fn end(self) {
        self.served.abort();
        self.fixture.functions.shut_down().await;
    }
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

#[track_caller]
fn assert_refused(response: &Response, status: u16, error: &str) {
    assert_eq!((response.status().as_u16(), header(response, "x-amzn-errortype")), (status, Some(error)));
    assert_eq!(header(response, "x-amzn-requestid").unwrap().len(), 36);
}

#[tokio::test]
async fn a_function_is_named_in_every_form_and_has_no_version_but_the_latest() {
    let api = api().await;
    let partial = "000000000000:function:shop-fixture";
    for name in ["fixture", "shop-fixture", partial, ARN] {
        for qualified in [name, &format!("{name}:$LATEST"), &format!("{name}?Qualifier=$LATEST")] {
            let answer = api.invoke(qualified, &[], "{}").await;
            assert_eq!(answer.status(), StatusCode::OK, "{qualified}");
            assert_eq!(header(&answer, "x-amz-executed-version"), Some("$LATEST"));
        }
        for unknown in [format!("{name}:live"), format!("{name}:1"), format!("{name}?Qualifier=live")] {
            let answer = api.invoke(&unknown, &[], "{}").await;
            assert_refused(&answer, 404, "ResourceNotFoundException");
            let says = answer.text().await.unwrap();
            assert!(
                says.contains("Function not found: arn:aws:lambda:local:000000000000:function:shop-fixture:"),
                "{says}"
            );
        }
        let both = api.invoke(&format!("{name}:$LATEST?Qualifier=live"), &[], "{}").await;
        assert_refused(&both, 400, "InvalidParameterValueException");
    }
    assert_refused(&api.invoke("nobody", &[], "{}").await, 404, "ResourceNotFoundException");
    api.end().await;
}

#[tokio::test]
async fn the_request_id_of_the_answer_is_the_one_that_the_function_sees() {
    let api = api().await;
    let answer = api.invoke("fixture", &[], "{}").await;
    let id = header(&answer, "x-amzn-requestid").unwrap().to_owned();
    assert_eq!(answer.json::<Value>().await.unwrap()["requestId"], id);
    api.end().await;
}

#[tokio::test]
async fn the_log_of_an_invocation_comes_with_its_answer_if_it_is_asked_for() {
    let api = api().await;
    let flood = json!({"do": "flood", "lines": 100}).to_string();
    for _ in 0..20 {
        let answer = api.invoke("fixture", &[("x-amz-log-type", "Tail")], &*flood).await;
        let id = header(&answer, "x-amzn-requestid").unwrap().to_owned();
        let log = STANDARD.decode(header(&answer, "x-amz-log-result").unwrap()).unwrap();
        let log = String::from_utf8(log).unwrap();
        assert_eq!(log.len(), 4096);
        let line = format!("line 99 {}\n", "x".repeat(200));
        assert!(log.ends_with(&format!("{line}END RequestId: {id}\n")), "{log}");
    }
    let short = api.invoke("fixture", &[("x-amz-log-type", "Tail")], "{}").await;
    let id = header(&short, "x-amzn-requestid").unwrap();
    let log = STANDARD.decode(header(&short, "x-amz-log-result").unwrap()).unwrap();
    let whole = format!("START RequestId: {id} Version: $LATEST\nEND RequestId: {id}\n");
    assert_eq!(String::from_utf8(log).unwrap(), whole, "nothing of an earlier invocation");

    let crash = json!({"do": "crash"}).to_string();
    let crashed = api.invoke("fixture", &[("x-amz-log-type", "Tail")], &*crash).await;
    assert_eq!(header(&crashed, "x-amz-function-error"), Some("Unhandled"));
    assert!(header(&crashed, "x-amz-log-result").is_some());

    let none = [("x-amz-log-type", "None")];
    let event = [("x-amz-log-type", "Tail"), ("x-amz-invocation-type", "Event")];
    for headers in [&[][..], &none, &event] {
        assert_eq!(header(&api.invoke("fixture", headers, "{}").await, "x-amz-log-result"), None);
    }
    let wrong = api.invoke("fixture", &[("x-amz-log-type", "All")], "{}").await;
    assert_refused(&wrong, 400, "InvalidParameterValueException");
    api.end().await;
}

#[tokio::test]
async fn what_lambda_refuses_reaches_no_function() {
    let api = api().await;
    let event = [("x-amz-invocation-type", "Event")];
    let text = |bytes: usize| format!("\"{}\"", "a".repeat(bytes - 2));
    let too_large = api.invoke("fixture", &[], text(SYNC_LIMIT + 1)).await;
    assert_refused(&too_large, 413, "RequestTooLargeException");
    assert_refused(
        &api.invoke("fixture", &event, text(EVENT_LIMIT + 1)).await,
        413,
        "RequestTooLargeException",
    );
    for body in ["not json", "{", "{} {}"] {
        assert_refused(&api.invoke("fixture", &[], body).await, 400, "InvalidRequestContentException");
    }
    let unknown = api.invoke("fixture", &[("x-amz-invocation-type", "Later")], "{}").await;
    assert_refused(&unknown, 400, "InvalidParameterValueException");
    let dry = api.invoke("fixture", &[("x-amz-invocation-type", "DryRun")], "{}").await;
    assert_eq!(dry.status(), StatusCode::NO_CONTENT);
    assert!(api.fixture.functions.ps().is_empty(), "no process was started");

    assert_eq!(api.invoke("fixture", &event, text(EVENT_LIMIT)).await.status(), StatusCode::ACCEPTED);
    assert_eq!(api.invoke("fixture", &[], text(SYNC_LIMIT - 1_000)).await.status(), StatusCode::OK);
    api.end().await;
}

#[tokio::test]
async fn a_policy_covers_the_function_with_the_qualifier_that_was_asked_for() {
    let api = api().await;
    let key = api.fixture.controls.access.key_of("fixture").unwrap().access_key_id.clone();
    let signed = format!("AWS4-HMAC-SHA256 Credential={key}/20261120/local/lambda/aws4_request, Signature=x");
    let headers = [("authorization", signed.as_str()), ("x-amz-invocation-type", "DryRun")];
    assert_eq!(api.invoke("fixture", &headers, "{}").await.status(), StatusCode::NO_CONTENT);
    let qualified = api.invoke("fixture?Qualifier=$LATEST", &headers, "{}").await;
    assert_refused(&qualified, 403, "AccessDeniedException");
    assert_refused(&api.invoke("nobody", &headers, "{}").await, 403, "AccessDeniedException");
    api.end().await;
}

#[tokio::test]
async fn fault_rules_and_usage_see_invocations_as_they_see_other_requests() {
    let api = api().await;
    let Controls { faults, usage, .. } = &api.fixture.controls;
    usage.record();
    let failing = Rule::fail(Failure::InternalServerError).service(Service::Lambda).resource("fixture");
    faults.add(failing.operation("Invoke").caller("operator").times(1));
    assert_refused(&api.invoke("shop-fixture", &[], "{}").await, 500, "ServiceException");
    assert!(api.fixture.functions.ps().is_empty(), "no process was started");
    assert_eq!(api.invoke("shop-fixture", &[], "{}").await.status(), StatusCode::OK);
    let log = usage.snapshot().log;
    assert_eq!(log.iter().map(|row| row.status).collect::<Vec<_>>(), [Some(500), Some(200)]);
    assert!(log.iter().all(|row| row.service == Service::Lambda && row.resources == ["fixture"]), "{log:?}");
    api.end().await;
}
