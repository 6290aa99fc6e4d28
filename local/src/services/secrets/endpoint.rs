//! The Secrets Manager API.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode};
use serde::Deserialize;

use super::store::Store;
use crate::services::access::Permission;
use crate::services::call::{Call, Service};
use crate::services::json;
use crate::services::pipeline::{Api, Reading, Refusal, Refused};
use crate::services::server::Body;
use crate::template::arn::Arns;

/// No request of this service is longer: it holds one value of at most 64 KiB.
pub(super) const MAX_BODY_BYTES: usize = 128 * 1024;

const TARGET: &str = "secretsmanager.";
const GET: &str = "GetSecretValue";
const CURRENT: &str = "AWSCURRENT";

pub(super) struct SecretsApi {
    pub(super) arns: Arns,
    pub(super) store: Arc<Store>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GetSecretValue {
    secret_id: String,
    version_id: Option<String>,
    version_stage: Option<String>,
}

impl Api for SecretsApi {
    const SERVICE: Service = Service::Secrets;
    type Body = Bytes;
    type Answer = Body;
    /// There is one.
    type Operation = ();
    type Work = GetSecretValue;

    fn operation(&self, head: &Parts) -> Result<(), Refused<Body>> {
        let unknown = || json::refused("UnknownOperationException", "only GetSecretValue is served here");
        if json::operation(head, TARGET) == Some(GET) { Ok(()) } else { Err(Box::new(unknown())) }
    }

    fn read(&self, (): (), _: Parts, body: Bytes) -> Result<Reading<GetSecretValue>, Refused<Body>> {
        let work: GetSecretValue = serde_json::from_slice(&body)
            .map_err(|error| Box::new(json::refused("InvalidParameterException", &error.to_string())))?;
        let name = name(&work.secret_id).to_owned();
        let needed = Permission::new("secretsmanager:GetSecretValue", self.arns.secret(&name));
        Ok(Reading { operation: GET.to_owned(), resources: vec![name], permissions: vec![needed], work })
    }

    async fn perform(&self, _: &Call, work: GetSecretValue) -> Response<Body> {
        self.get(name(&work.secret_id), &work)
    }

    fn refuse(&self, refusal: Refusal, _: Option<&GetSecretValue>) -> Response<Body> {
        match refusal {
            Refusal::Unauthenticated(stranger) => json::refused(stranger.error_type(), &stranger.to_string()),
            Refusal::Denied(denied) => json::refused("AccessDeniedException", &denied.to_string()),
            Refusal::Injected(failure) => json::failure(&failure, 0),
        }
    }
}

impl SecretsApi {
    fn get(&self, name: &str, request: &GetSecretValue) -> Response<Body> {
        let not_found = |what: &str| {
            json::refused("ResourceNotFoundException", &format!("Secrets Manager can't find {what}"))
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
        let body = serde_json::json!({
            "ARN": self.arns.secret(name),
            "Name": name,
            "VersionId": secret.version_id(),
            "VersionStages": [CURRENT],
            "SecretString": secret.value,
            "CreatedDate": secret.created_epoch_seconds(),
        });
        json::answer(StatusCode::OK, body.to_string())
    }
}

/// The name in an ARN, or the name itself.
fn name(id: &str) -> &str {
    id.split_once(":secret:").map_or(id, |(_, name)| name)
}
