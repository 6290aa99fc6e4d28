//! Prints how the template is understood.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{CliError, StackArgs, print as print_text};
use crate::regions::places;
use crate::template::samconfig::SamConfig;
use crate::template::{self, Context, GlobalTemplate};

const TEMPLATE: &str = "template.yaml";

/// Stand for the addresses that a region has once it runs.
const HTTP_URL: &str = "http://http-api";
const WEBSOCKET_URL: &str = "ws://websocket-api";
const SQS_URL: &str = "http://sqs";

impl StackArgs {
    /// Where the template is.
    pub fn path(&self) -> Result<PathBuf, CliError> {
        match &self.template {
            Some(template) => Ok(template.clone()),
            None => nearest(&std::env::current_dir()?).ok_or(CliError::NoTemplate),
        }
    }

    /// The template of what regions share.
    pub(super) fn global(&self) -> Option<GlobalTemplate> {
        let parameters = self.global_parameters.iter().cloned().collect();
        Some(GlobalTemplate { path: self.global_template.clone()?, parameters })
    }

    /// The values of parameters of a stack on this machine: samconfig.toml's, then those of the
    /// command line.
    pub fn values(&self) -> Result<BTreeMap<String, String>, CliError> {
        let mut values = SamConfig::beside(&self.path()?)?.local()?;
        values.extend(self.parameters.clone());
        Ok(values)
    }
}

/// Prints the description as JSON.
pub(super) fn print(stack: &StackArgs) -> Result<(), CliError> {
    let path = stack.path()?;
    let parameters = stack.values()?;
    let global_tables = match stack.global() {
        Some(global) => global.load()?.of_one_region(),
        None => Vec::new(),
    };
    let context = Context {
        arns: places::names(stack.stack_name.as_deref(), None, &SamConfig::beside(&path)?),
        global_tables,
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
