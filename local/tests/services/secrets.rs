//! Secrets.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::{BehaviorVersion, Region};
use aws_sdk_secretsmanager::error::ProvideErrorMetadata;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use local_region::services::Controls;
use local_region::services::access::Access;
use local_region::services::secrets::Secrets;
use local_region::template::arn;

use crate::support::{ANYWHERE, credentials, function, key, stack};

struct Stage {
    secrets: Secrets,
    controls: Controls,
}

impl Stage {
    fn start(folder: Option<&Path>) -> Self {
        let may = function(
            "api-sessions",
            &[(&["secretsmanager:GetSecretValue"], &[arn::local().secret("signing-key")])],
        );
        let may_not =
            function("api-orders", &[(&["secretsmanager:GetSecretValue"], &[arn::local().secret("other")])]);
        let controls = Controls::new(Access::new(&stack(vec![may, may_not])));
        Self { secrets: Secrets::start(ANYWHERE, folder, controls.clone()).unwrap(), controls }
    }

    fn client(&self, function: Option<&str>) -> Client {
        Client::from_conf(
            aws_sdk_secretsmanager::Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new(arn::local().region().to_owned()))
                .credentials_provider(credentials(key(&self.controls.access, function)))
                .endpoint_url(self.secrets.endpoint_url())
                .build(),
        )
    }
}

#[tokio::test]
async fn a_secret_is_found_by_name_and_by_arn() {
    let stage = Stage::start(None);
    stage.secrets.put("signing-key", "{\"d\":\"private\"}").unwrap();
    let client = stage.client(Some("api-sessions"));
    for id in ["signing-key".to_owned(), arn::local().secret("signing-key")] {
        let answer =
            client.get_secret_value().secret_id(id).version_stage("AWSCURRENT").send().await.unwrap();
        assert_eq!(answer.secret_string(), Some("{\"d\":\"private\"}"));
        assert_eq!(answer.arn(), Some(arn::local().secret("signing-key").as_str()));
    }
}

#[tokio::test]
async fn a_secret_is_denied_to_the_wrong_function() {
    let stage = Stage::start(None);
    stage.secrets.put("signing-key", "private").unwrap();
    let client = stage.client(Some("api-orders"));
    let denied = client.get_secret_value().secret_id("signing-key").send().await.unwrap_err();
    let denied = denied.into_service_error();
    assert_eq!(denied.code(), Some("AccessDeniedException"));
    assert!(!denied.message().unwrap().contains("private"));
}

#[tokio::test]
async fn a_secret_without_a_value_is_not_found() {
    let stage = Stage::start(None);
    let missing = stage.client(None).get_secret_value().secret_id("nothing").send().await.unwrap_err();
    assert!(matches!(missing.into_service_error(), GetSecretValueError::ResourceNotFoundException(_)));
}

#[tokio::test]
async fn a_kept_secret_survives_a_restart_and_only_its_owner_can_read_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("secrets");
    Stage::start(Some(&folder)).secrets.put("shop/signing-key", "private").unwrap();
    for entry in std::fs::read_dir(&folder).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    let stage = Stage::start(Some(&folder));
    assert_eq!(stage.secrets.get("shop/signing-key").as_deref(), Some("private"));
}
