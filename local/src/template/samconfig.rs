//! `parameter_overrides` of the `[local]` section of samconfig.toml, so that no value is written down twice.
//!
//! Both of SAM's forms are read: one text (`Stage="local" Architecture="x86_64"`) and a list of `Name=value`.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use toml::{Table, Value};

use super::error::TemplateError;

/// The environment of samconfig.toml that describes the region on a laptop.
const ENVIRONMENT: &str = "local";

/// Overrides from the samconfig.toml beside `template`; none when there is no such file.
pub fn overrides(template: &Path) -> Result<BTreeMap<String, String>, TemplateError> {
    let path = template.with_file_name("samconfig.toml");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(source) => return Err(TemplateError::Read { path, source }),
    };
    parse(&text).map_err(|reason| TemplateError::SamConfig { path, reason })
}

fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let config: Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    let mut overrides = BTreeMap::new();
    // `global` holds for every command; `local_invoke` runs functions on this machine, so it is the nearest and wins.
    for command in ["global", "deploy", "local_invoke"] {
        let value = config
            .get(ENVIRONMENT)
            .and_then(|environment| environment.get(command)?.get("parameters")?.get("parameter_overrides"));
        match value {
            None => {}
            Some(Value::String(text)) => {
                for word in words(text) {
                    insert(&mut overrides, &word)?;
                }
            }
            Some(Value::Array(items)) => {
                for item in items {
                    let word =
                        item.as_str().ok_or("parameter_overrides must hold texts of the form Name=value")?;
                    insert(&mut overrides, word)?;
                }
            }
            Some(_) => return Err("parameter_overrides must be a text or a list of texts".to_owned()),
        }
    }
    Ok(overrides)
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

    #[test]
    fn text_and_list_say_the_same() {
        let text = "[local.deploy.parameters]\nparameter_overrides = 'Stage=\"local\" Names=\"a b\"'";
        let list = "[local.global.parameters]\nparameter_overrides = ['Stage=local', 'Names=a b']";
        let expected = BTreeMap::from([("Stage".into(), "local".into()), ("Names".into(), "a b".into())]);
        assert_eq!(parse(text).unwrap(), expected);
        assert_eq!(parse(list).unwrap(), expected);
    }

    #[test]
    fn other_environments_do_not_count() {
        assert!(parse("[tokyo.deploy.parameters]\nparameter_overrides = 'Stage=prod'").unwrap().is_empty());
    }

    #[test]
    fn a_word_without_a_value_is_an_error() {
        assert!(
            parse("[local.deploy.parameters]\nparameter_overrides = 'Stage'")
                .unwrap_err()
                .contains("Name=value")
        );
    }
}
