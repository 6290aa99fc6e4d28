//! samconfig.toml, so that no value is written down twice: the parameters of a stack in each
//! environment, its name, and the AWS region it is deployed to.
//!
//! - `[local]` describes the region on a laptop. Its parameters hold for every stack that runs
//!   here.
//! - `[default]` is SAM's own default environment. It gives the name of the stack, if `[local]`
//!   does not.
//! - An environment with a `region` is a stack in the cloud. It can be run here by its name, unless
//!   it has a `template_file` of its own.
//!
//! Both of SAM's forms of `parameter_overrides` are read: one text
//! (`Stage="local" Architecture="x86_64"`) and a list of `Name=value`.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::error::TemplateError;

/// The environment that describes the region on a laptop.
const LOCAL: &str = "local";

/// The environment that SAM takes where none is named.
const DEFAULT: &str = "default";

/// Sections of an environment that hold for its deployment, the nearest last.
const DEPLOYED: [&str; 2] = ["global", "deploy"];

/// `local_invoke` runs functions on this machine, so it is nearer still.
const INVOKED_HERE: [&str; 3] = ["global", "deploy", "local_invoke"];

/// A stack in the cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// AWS's name of the region: `ap-east-2`.
    pub region: String,
    /// `stack_name`.
    pub stack: Option<String>,
    /// `parameter_overrides`.
    pub parameters: BTreeMap<String, String>,
}

/// The file; empty when there is none.
#[derive(Debug)]
pub struct SamConfig {
    path: PathBuf,
    config: Table,
}

impl SamConfig {
    /// The one beside `template`.
    pub fn beside(template: &Path) -> Result<Self, TemplateError> {
        let path = template.with_file_name("samconfig.toml");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(source) => return Err(TemplateError::Read { path, source }),
        };
        Self::parse(path, &text)
    }

    fn parse(path: PathBuf, text: &str) -> Result<Self, TemplateError> {
        match text.parse() {
            Ok(config) => Ok(Self { path, config }),
            Err(error) => Err(TemplateError::SamConfig { path, reason: error.to_string() }),
        }
    }

    /// What holds for every stack on this machine.
    pub fn local(&self) -> Result<BTreeMap<String, String>, TemplateError> {
        self.overrides(LOCAL, &INVOKED_HERE)
    }

    /// The names of the environments that have a region, in their order.
    pub fn deployed(&self) -> impl Iterator<Item = &str> {
        self.config.keys().map(String::as_str).filter(|name| self.region(name).is_some())
    }

    /// The stack of an environment that has a region.
    pub fn deployment(&self, environment: &str) -> Result<Option<Deployment>, TemplateError> {
        let Some(region) = self.region(environment) else { return Ok(None) };
        let parameters = self.overrides(environment, &DEPLOYED)?;
        let stack = self.stack_name(environment, &DEPLOYED);
        Ok(Some(Deployment { region: region.to_owned(), stack, parameters }))
    }

    /// The name of a stack that runs on this machine alone.
    pub fn local_stack(&self) -> Option<String> {
        self.stack_name(LOCAL, &INVOKED_HERE).or_else(|| self.stack_name(DEFAULT, &DEPLOYED))
    }

    fn stack_name(&self, environment: &str, sections: &[&str]) -> Option<String> {
        let mut names = sections.iter().rev();
        names.find_map(|section| {
            self.parameter(environment, section, "stack_name")?.as_str().map(str::to_owned)
        })
    }

    fn region(&self, environment: &str) -> Option<&str> {
        let mut sections = DEPLOYED.iter().rev();
        if sections.clone().any(|section| self.parameter(environment, section, "template_file").is_some()) {
            return None;
        }
        sections.find_map(|section| self.parameter(environment, section, "region")?.as_str())
    }

    fn parameter(&self, environment: &str, section: &str, name: &str) -> Option<&Value> {
        self.config.get(environment)?.get(section)?.get("parameters")?.get(name)
    }

    fn overrides(
        &self,
        environment: &str,
        sections: &[&str],
    ) -> Result<BTreeMap<String, String>, TemplateError> {
        let mut overrides = BTreeMap::new();
        for section in sections {
            if let Some(value) = self.parameter(environment, section, "parameter_overrides") {
                read(value, &mut overrides)
                    .map_err(|reason| TemplateError::SamConfig { path: self.path.clone(), reason })?;
            }
        }
        Ok(overrides)
    }
}

fn read(value: &Value, overrides: &mut BTreeMap<String, String>) -> Result<(), String> {
    match value {
        Value::String(text) => words(text).iter().try_for_each(|word| insert(overrides, word)),
        Value::Array(items) => items.iter().try_for_each(|item| {
            let word = item.as_str().ok_or("parameter_overrides must hold texts of the form Name=value")?;
            insert(overrides, word)
        }),
        _ => Err("parameter_overrides must be a text or a list of texts".to_owned()),
    }
}

fn insert(overrides: &mut BTreeMap<String, String>, word: &str) -> Result<(), String> {
    let (name, value) =
        word.split_once('=').ok_or_else(|| format!("{word:?} in parameter_overrides is not Name=value"))?;
    overrides.insert(name.to_owned(), value.trim_matches('"').to_owned());
    Ok(())
}

/// Splits at spaces outside double quotes, and drops the quotes.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for character in text.chars() {
        match character {
            '"' => quoted = !quoted,
            space if space.is_whitespace() && !quoted => words.push(std::mem::take(&mut word)),
            other => word.push(other),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> SamConfig {
        SamConfig::parse("samconfig.toml".into(), text).unwrap()
    }

    #[test]
    fn text_and_list_say_the_same() {
        let text = "[local.deploy.parameters]\nparameter_overrides = 'Stage=\"local\" Names=\"a b\"'";
        let list = "[local.global.parameters]\nparameter_overrides = ['Stage=local', 'Names=a b']";
        let expected = BTreeMap::from([("Stage".into(), "local".into()), ("Names".into(), "a b".into())]);
        assert_eq!(parse(text).local().unwrap(), expected);
        assert_eq!(parse(list).local().unwrap(), expected);
    }

    #[test]
    fn other_environments_do_not_count_here() {
        let config = parse("[tokyo.deploy.parameters]\nparameter_overrides = 'Stage=prod'");
        assert!(config.local().unwrap().is_empty());
    }

    #[test]
    fn an_environment_with_a_region_is_a_deployment() {
        let config = parse(
            "[default.global.parameters]\nstack_name = 'shop'\n[tokyo.global.parameters]\nregion = 'ap-northeast-1'\n\
             stack_name = 'shop-tokyo'\n[tokyo.deploy.parameters]\nparameter_overrides = ['Stage=live']",
        );
        assert_eq!(config.deployed().collect::<Vec<_>>(), ["tokyo"]);
        let tokyo = config.deployment("tokyo").unwrap().unwrap();
        let parameters = BTreeMap::from([("Stage".into(), "live".into())]);
        let stack = Some("shop-tokyo".to_owned());
        assert_eq!(tokyo, Deployment { region: "ap-northeast-1".to_owned(), stack, parameters });
        assert_eq!(config.deployment("default").unwrap(), None);
    }

    #[test]
    fn the_stack_has_the_name_that_local_gives_it_or_default() {
        let default = "[default.global.parameters]\nstack_name = 'shop'\n";
        assert_eq!(parse(default).local_stack().as_deref(), Some("shop"));
        let local = format!("{default}[local.global.parameters]\nstack_name = 'shop-here'");
        assert_eq!(parse(&local).local_stack().as_deref(), Some("shop-here"));
        assert_eq!(parse("").local_stack(), None);
    }

    #[test]
    fn a_word_without_a_value_is_an_error() {
        let config = parse("[local.deploy.parameters]\nparameter_overrides = 'Stage'");
        assert!(config.local().unwrap_err().to_string().contains("Name=value"));
    }
}
