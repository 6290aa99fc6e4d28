//! Faults, usage and permissions over HTTP, for tests and tools outside this process. The region
//! serves it under `/_local-region/`, beside its own.
//!
//! | call | answer |
//! |---|---|
//! | `POST /faults`, a [`Rule`] | 200 `{"id": 1}`; 400 for what is no rule |
//! | `GET /faults` | 200 `{"rules": [...]}`, each a [`Status`] |
//! | `GET /faults/{id}` | 200, the status; 404 |
//! | `POST /faults/{id}/release` | 200, the status; what it holds goes on; 404 |
//! | `DELETE /faults/{id}` | 200, the last status; what it holds goes on; 404 |
//! | `DELETE /faults` | 200 `{"rules": []}`; all of them |
//! | `POST /usage` | 200 `{"recording": true}`; counting begins anew |
//! | `GET /usage` | 200, a [`Snapshot`](super::usage::Snapshot); with `?reset=true`, counting then begins anew |
//! | `GET /usage?caller=api-*` | 200, the same of callers with such a name |
//! | `DELETE /usage` | 200, the last snapshot; counting ends |
//! | `GET /access` | 200 `{"used": [...], "unused": [...], "denied": [...]}`, [`Grant`](super::access::Grant)s and [`Denied`](super::access::Denied) |
//!
//! Errors are `{"message": "..."}`, here and in the other control APIs, which use `JsonBody` and
//! `message` as well.

use axum::extract::{FromRequest, Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Controls;
use super::faults::{Rule, RuleId, Status};

/// The routes, without a prefix.
pub fn routes(controls: Controls) -> Router {
    Router::new()
        .route("/faults", get(rules).post(add).delete(clear))
        .route("/faults/{id}", get(status).delete(remove))
        .route("/faults/{id}/release", post(release))
        .route("/usage", get(snapshot).post(record).delete(stop))
        .route("/access", get(access))
        .with_state(controls)
}

async fn rules(State(controls): State<Controls>) -> Response {
    Json(json!({"rules": controls.faults.statuses()})).into_response()
}

async fn add(State(controls): State<Controls>, JsonBody(rule): JsonBody<Rule>) -> Response {
    Json(json!({"id": controls.faults.add(rule)})).into_response()
}

async fn clear(State(controls): State<Controls>) -> Response {
    controls.faults.clear();
    rules(State(controls)).await
}

async fn status(State(controls): State<Controls>, Path(id): Path<u64>) -> Response {
    found(id, controls.faults.status(RuleId(id)))
}

async fn remove(State(controls): State<Controls>, Path(id): Path<u64>) -> Response {
    found(id, controls.faults.remove(RuleId(id)))
}

async fn release(State(controls): State<Controls>, Path(id): Path<u64>) -> Response {
    controls.faults.release(RuleId(id));
    found(id, controls.faults.status(RuleId(id)))
}

#[derive(Debug, Default, Deserialize)]
struct SnapshotQuery {
    #[serde(default)]
    reset: bool,
    caller: Option<String>,
}

async fn snapshot(State(controls): State<Controls>, Query(query): Query<SnapshotQuery>) -> Response {
    let mut snapshot = controls.usage.snapshot();
    if let Some(pattern) = &query.caller {
        snapshot = snapshot.of_callers(pattern);
    }
    if query.reset {
        controls.usage.record();
    }
    Json(snapshot).into_response()
}

async fn record(State(controls): State<Controls>) -> Response {
    controls.usage.record();
    Json(json!({"recording": true})).into_response()
}

async fn stop(State(controls): State<Controls>) -> Response {
    controls.usage.stop();
    Json(controls.usage.snapshot()).into_response()
}

async fn access(State(controls): State<Controls>) -> Response {
    let access = &controls.access;
    Json(json!({"used": access.used(), "unused": access.unused(), "denied": access.denied()})).into_response()
}

fn found(id: u64, status: Option<Status>) -> Response {
    match status {
        Some(status) => Json(status).into_response(),
        None => message(StatusCode::NOT_FOUND, &format!("there is no fault rule {id}")),
    }
}

/// A request's body. One that is no JSON, or not of type `T`, is refused with 400.
pub(crate) struct JsonBody<T>(pub(crate) T);

/// By way of a `Value`: serde finds no numbers in tagged types of JSON text otherwise, since
/// `serde_json` keeps their digits (`arbitrary_precision`).
impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let refused = |reason: String| message(StatusCode::BAD_REQUEST, &reason);
        let body = Json::<Value>::from_request(request, state).await;
        let Json(body) = body.map_err(|rejection| refused(rejection.body_text()))?;
        serde_json::from_value(body).map(Self).map_err(|error| refused(error.to_string()))
    }
}

/// An error.
pub fn message(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({"message": text}))).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt;
    use serde_json::Value;
    use tower::ServiceExt;

    use super::*;
    use crate::services::access::Access;

    async fn call(controls: &Controls, method: &str, path: &str, body: Value) -> (u16, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()))
            .unwrap();
        let answer = routes(controls.clone()).oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_rule_is_added_seen_released_and_removed() {
        let controls = Controls::new(Access::unrestricted());
        let rule = json!({"match": {"service": "connections"}, "effect": {"kind": "hold", "when": "before"}});
        assert_eq!(call(&controls, "POST", "/faults", rule).await, (200, json!({"id": 1})));
        let (status, all) = call(&controls, "GET", "/faults", Value::Null).await;
        assert_eq!(
            (status, &all["rules"][0]["held"], &all["rules"][0]["matched"]),
            (200, &json!(0), &json!(0))
        );
        assert_eq!(call(&controls, "POST", "/faults/1/release", Value::Null).await.0, 200);
        assert_eq!(call(&controls, "DELETE", "/faults/1", Value::Null).await.0, 200);
        assert_eq!(
            call(&controls, "GET", "/faults/1", Value::Null).await,
            (404, json!({"message": "there is no fault rule 1"}))
        );
    }

    #[tokio::test]
    async fn what_is_no_rule_is_refused() {
        let controls = Controls::new(Access::unrestricted());
        let (status, body) = call(&controls, "POST", "/faults", json!({"effect": {"kind": "explode"}})).await;
        assert_eq!(status, 400);
        assert!(body["message"].as_str().unwrap().contains("explode"), "{body}");
    }

    #[tokio::test]
    async fn a_body_that_is_no_json_is_refused_with_a_message() {
        for content_type in ["application/json", "text/plain"] {
            let request = Request::post("/faults").header("content-type", content_type);
            let controls = Controls::new(Access::unrestricted());
            let answer = routes(controls).oneshot(request.body(Body::from("rule")).unwrap()).await.unwrap();
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert!(body["message"].is_string(), "{body}");
        }
    }

    #[tokio::test]
    async fn a_recording_begins_is_read_and_ends() {
        let controls = Controls::new(Access::unrestricted());
        assert_eq!(call(&controls, "GET", "/usage", Value::Null).await.1["recording"], false);
        assert_eq!(call(&controls, "POST", "/usage", Value::Null).await.0, 200);
        let (_, usage) = call(&controls, "GET", "/usage?reset=true", Value::Null).await;
        assert_eq!(usage["recording"], true);
        assert_eq!(call(&controls, "DELETE", "/usage", Value::Null).await.1["recording"], false);
    }
}
