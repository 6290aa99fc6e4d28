//! Configuration from environment variables. A function reads all of it before its first
//! invocation. A missing or invalid value stops the start with an error that names the variable.

use std::collections::HashMap;
use std::fmt::Display;
use std::str::FromStr;

/// Why a function cannot start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The variable is not set, or empty.
    #[error(
        "the environment variable {0} is not set; template.yaml sets it for every function that needs it"
    )]
    Missing(&'static str),
    /// The variable's text does not parse.
    #[error("the environment variable {variable} is wrong: {reason}")]
    Invalid {
        variable: &'static str,
        /// What is wrong with the value. Never the value itself: it may be a secret.
        reason: String,
    },
}

/// The environment, read once at start.
#[derive(Debug, Clone, Default)]
pub struct Env(HashMap<String, String>);

impl Env {
    /// The process's environment.
    pub fn of_process() -> Self {
        Self(std::env::vars().collect())
    }

    /// An environment with the given variables.
    pub fn of<K: Into<String>, V: Into<String>>(variables: impl IntoIterator<Item = (K, V)>) -> Self {
        Self(variables.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }

    /// A variable that may be absent. Empty counts as absent.
    pub fn optional(&self, variable: &'static str) -> Option<&str> {
        self.0.get(variable).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A variable that must be set.
    pub fn required(&self, variable: &'static str) -> Result<&str, ConfigError> {
        self.optional(variable).ok_or(ConfigError::Missing(variable))
    }

    /// A variable that must be set and valid.
    pub fn parse<T: FromStr<Err: Display>>(&self, variable: &'static str) -> Result<T, ConfigError> {
        let text = self.required(variable)?;
        text.parse().map_err(|error: T::Err| ConfigError::Invalid { variable, reason: error.to_string() })
    }
}

/// Whether a stack has real customers. The name of its stage (`STAGE`) decides: every stage is live
/// except [`Stage::TRIALS`], so that a new name such as `prod` is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Has real customers.
    Live,
    /// For development or tests.
    Trial,
}

impl Stage {
    /// The variable with the stage's name.
    pub const VARIABLE: &'static str = "STAGE";

    /// The names of stages that are not live. template.yaml has the same list in its rule
    /// `SandboxIsNotLive`.
    pub const TRIALS: [&'static str; 4] = ["local", "dev", "test", "staging"];

    /// The stage that [`Stage::VARIABLE`] names.
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let name = env.required(Self::VARIABLE)?;
        Ok(if Self::TRIALS.contains(&name) { Self::Trial } else { Self::Live })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_is_live_except_those_that_are_named_as_trials() {
        let stage = |name: &str| Stage::from_env(&Env::of([("STAGE", name)]));
        for name in Stage::TRIALS {
            assert_eq!(stage(name), Ok(Stage::Trial), "{name}");
        }
        for name in ["live", "prod", "dev2", "local-live", "Local"] {
            assert_eq!(stage(name), Ok(Stage::Live), "{name}");
        }
        assert_eq!(stage(""), Err(ConfigError::Missing("STAGE")));
    }

    #[test]
    fn the_sentence_names_the_variable_and_keeps_the_value_to_itself() {
        let env = Env::of([("UNPAID_ORDER_HOURS", "s3cret")]);
        let error = env.parse::<u32>("UNPAID_ORDER_HOURS").unwrap_err().to_string();
        assert!(error.contains("UNPAID_ORDER_HOURS") && !error.contains("s3cret"), "{error}");
        assert!(env.required("ORDERS_TABLE").unwrap_err().to_string().contains("ORDERS_TABLE"));
    }
}
