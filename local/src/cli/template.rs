//! Prints how the template is understood.

use std::path::{Path, PathBuf};

use super::{CliError, StackArgs, print as print_text};
use crate::region::JWKS_PARAMETER;
use crate::template::arn::Arns;
use crate::template::samconfig::SamConfig;
use crate::template::{self, Context};

const TEMPLATE: &str = "template.yaml";

/// The public keys of a region that has not started.
const NO_KEYS: &str = r#"{"keys":[]}"#;

/// Stand for the addresses that a region has once it runs.
const HTTP_URL: &str = "http://http-api";
const WEBSOCKET_URL: &str = "ws://websocket-api";
const SQS_URL: &str = "http://sqs";

impl StackArgs {
    /// Where the template is.
    pub(super) fn path(&self) -> Result<PathBuf, CliError> {
        match &self.template {
            Some(template) => Ok(template.clone()),
            None => nearest(&std::env::current_dir()?).ok_or(CliError::NoTemplate),
        }
    }
}

/// Prints the description as JSON.
pub(super) fn print(stack: StackArgs) -> Result<(), CliError> {
    let path = stack.path()?;
    let mut parameters = SamConfig::beside(&path)?.local()?;
    parameters.insert(JWKS_PARAMETER.to_owned(), NO_KEYS.to_owned());
    parameters.extend(stack.parameters);
    let context = Context {
        arns: Arns::default(),
        global_tables: template::shared(&path, &parameters)?.of_one_region(),
        parameters,
        http_url: HTTP_URL.to_owned(),
        websocket_url: WEBSOCKET_URL.to_owned(),
        sqs_url: SQS_URL.to_owned(),
    };
    let description = template::describe(&path, &context)?;
    print_text(&serde_json::to_string_pretty(&description).map_err(std::io::Error::from)?)
}

fn nearest(folder: &Path) -> Option<PathBuf> {
    folder.ancestors().map(|folder| folder.join(TEMPLATE)).find(|path| path.is_file())
}
