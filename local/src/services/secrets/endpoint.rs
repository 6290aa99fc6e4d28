//! The Secrets Manager JSON protocol over HTTP.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::json;

use super::store::Store;
use crate::services::access::arn;
use crate::services::faults::Verdict;
use crate::services::json::{Answer, Protocol};
use crate::services::server::{Body, Handler, Hangup};
use crate::services::usage::Ending;
use crate::services::{Call, Controls, Service};

/// No request of this service is longer: it holds one value of at most 64 KiB.
const MAX_BODY_BYTES: usize = 128 * 1024;

const TARGET: &str = "secretsmanager.";
const CURRENT: &str = "AWSCURRENT";

pub(super) struct Endpoint {
    pub(super) store: Arc<Store>,
    pub(super) controls: Controls,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetSecretValue {
    secret_id: String,
    version_id: Option<String>,
    version_stage: Option<String>,
}

impl Handler for Endpoint {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Hangup> {
        let start = Instant::now();
        let (head, body) = request.into_parts();
        let body = Limited::new(body, MAX_BODY_BYTES).collect().await.map_err(|_| Hangup)?.to_bytes();
        self.respond(start, &head.headers, &body).await?.into_response(Protocol::Json11)
    }
}

impl Endpoint {
    async fn respond(&self, start: Instant, headers: &HeaderMap, body: &[u8]) -> Result<Answer, Hangup> {
        let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok());
        let Some(operation @ "GetSecretValue") = target.and_then(|target| target.strip_prefix(TARGET)) else {
            return Ok(Answer::refused("UnknownOperationException", "only GetSecretValue is served here"));
        };
        let caller = match self.controls.access.authenticate(headers) {
            Ok(caller) => caller,
            Err(refusal) => return Ok(Answer::refused(refusal.error_type(), &refusal.to_string())),
        };
        let request: GetSecretValue = match serde_json::from_slice(body) {
            Ok(request) => request,
            Err(error) => return Ok(Answer::refused("InvalidParameterException", &error.to_string())),
        };
        let name = name(&request.secret_id);
        let resources = [name.to_owned()];
        let call = Call { caller: &caller, service: Service::Secrets, operation, resources: &resources };
        let note = |ending| self.controls.usage.note(call, start, ending);

        if let Err(denied) =
            self.controls.access.check(&caller, "secretsmanager:GetSecretValue", &arn::secret(name))
        {
            tracing::warn!(function = caller.name(), "{denied}");
            let answer = Answer::refused("AccessDeniedException", &denied.to_string());
            note(Ending::status(answer.status.as_u16()));
            return Ok(answer);
        }
        let (answer, aftermath) = match self.controls.faults.before(call).await {
            Verdict::Proceed(aftermath) => (self.get(name, &request), aftermath),
            Verdict::Fail(failure) => {
                let answer = Answer::failure(&failure, 0);
                note(Ending::status(answer.status.as_u16()));
                return Ok(answer);
            }
            Verdict::Hangup => {
                note(Ending::hangup());
                return Err(Hangup);
            }
        };
        let settled = aftermath.settle().await;
        note(Ending { status: settled.is_ok().then_some(answer.status.as_u16()), consumed: Vec::new() });
        settled.map(|()| answer)
    }

    fn get(&self, name: &str, request: &GetSecretValue) -> Answer {
        let not_found = |what: &str| {
            Answer::refused("ResourceNotFoundException", &format!("Secrets Manager can't find {what}"))
        };
        let Some(secret) = self.store.get(name) else {
            return not_found("the specified secret.");
        };
        if let Some(stage) = request.version_stage.as_deref().filter(|&stage| stage != CURRENT) {
            return not_found(&format!("the specified secret value for staging label: {stage}"));
        }
        if let Some(version) = request.version_id.as_deref().filter(|&version| version != secret.version_id())
        {
            return not_found(&format!("the specified secret value for VersionId: {version}"));
        }
        let body = json!({
            "ARN": arn::secret(name),
            "Name": name,
            "VersionId": secret.version_id(),
            "VersionStages": [CURRENT],
            "SecretString": secret.value,
            "CreatedDate": secret.created_epoch_seconds(),
        });
        Answer::ok(body.to_string())
    }
}

/// The name in an ARN, or the name itself.
fn name(id: &str) -> &str {
    id.split_once(":secret:").map_or(id, |(_, name)| name)
}
