//! The environment of a function's processes: what Lambda sets, where the services are, what the
//! template says. No variable of this process's own environment is passed on, so that functions do
//! not depend on this machine.

use std::collections::BTreeMap;
use std::path::Path;

use crate::services::access::Key;
use crate::template::arn::Arns;
use crate::template::model::Function;

/// `PATH` of a custom runtime on Lambda.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/opt/bin";

/// Where the AWS SDK finds the services.
pub(super) struct Endpoints {
    pub(super) dynamodb: String,
    pub(super) s3: String,
    pub(super) secrets_manager: String,
    pub(super) sqs: String,
    pub(super) sns: String,
    pub(super) eventbridge: String,
    pub(super) lambda: String,
}

/// The variables of `function`. The template's own come last and win, as far as Lambda allows.
pub(super) fn of(
    function: &Function,
    binary: &Path,
    key: Option<&Key>,
    endpoints: &Endpoints,
    arns: &Arns,
) -> BTreeMap<String, String> {
    let task_root = binary.parent().unwrap_or(Path::new("/")).display().to_string();
    let mut variables: BTreeMap<String, String> = [
        ("AWS_LAMBDA_FUNCTION_NAME", function.physical_name.clone()),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", function.memory_mib.to_string()),
        ("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{}", function.physical_name)),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".to_owned()),
        ("AWS_EXECUTION_ENV", "AWS_Lambda_provided.al2023".to_owned()),
        ("_HANDLER", function.handler.clone()),
        ("LAMBDA_TASK_ROOT", task_root),
        ("PATH", PATH.to_owned()),
        ("LANG", "en_US.UTF-8".to_owned()),
        ("TZ", ":UTC".to_owned()),
        ("AWS_REGION", arns.region().to_owned()),
        ("AWS_DEFAULT_REGION", arns.region().to_owned()),
        ("AWS_ENDPOINT_URL_DYNAMODB", endpoints.dynamodb.clone()),
        ("AWS_ENDPOINT_URL_S3", endpoints.s3.clone()),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", endpoints.secrets_manager.clone()),
        ("AWS_ENDPOINT_URL_SQS", endpoints.sqs.clone()),
        ("AWS_ENDPOINT_URL_SNS", endpoints.sns.clone()),
        ("AWS_ENDPOINT_URL_EVENTBRIDGE", endpoints.eventbridge.clone()),
        ("AWS_ENDPOINT_URL_LAMBDA", endpoints.lambda.clone()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if let Some(key) = key {
        variables.insert("AWS_ACCESS_KEY_ID".to_owned(), key.access_key_id.clone());
        variables.insert("AWS_SECRET_ACCESS_KEY".to_owned(), key.secret_access_key.clone());
    }
    variables.extend(function.environment.clone());
    variables
}
