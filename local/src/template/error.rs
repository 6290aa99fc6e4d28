//! Why a template can't be run: always the file, the place in it, what is wrong and what would be
//! right.

use std::path::PathBuf;

use crate::patterns::PatternError;

/// A template that can't be loaded.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The file is missing or unreadable.
    #[error("{} can't be read: {source}", path.display())]
    Read {
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not YAML.
    #[error("{} is not valid YAML: {source}", path.display())]
    Yaml { path: PathBuf, source: serde_yaml_ng::Error },
    /// samconfig.toml is not TOML, or its `parameter_overrides` are neither text nor a list of
    /// texts.
    #[error("{} can't be used: {reason}", path.display())]
    SamConfig { path: PathBuf, reason: String },
    /// One resource, parameter or condition is wrong.
    #[error("{}: {place}: {problem}", path.display())]
    Invalid {
        path: PathBuf,
        /// Logical id, or `Parameters.Name`, `Conditions.Name`.
        place: String,
        problem: Problem,
    },
}

/// What is wrong at one place of a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A name that nothing has.
    #[error(
        "{name} is referred to, but no parameter, resource or condition has that name; add it or correct the name"
    )]
    UnknownName { name: String },
    /// An attribute that the resource has not, or that the local region doesn't know.
    #[error("{resource} has no attribute {attribute} that the local region knows; use Ref or Arn")]
    UnknownAttribute { resource: String, attribute: String },
    /// An intrinsic function outside the supported set.
    #[error(
        "the intrinsic function {name} is not supported locally; use Ref, GetAtt, Sub, Join, Select, Split, If, Equals, And, Or, Not or Condition"
    )]
    UnknownIntrinsic {
        /// As in its long form.
        name: String,
    },
    /// An intrinsic function with arguments that don't fit it.
    #[error("{name} is written wrongly: it takes {wanted}")]
    Arguments { name: &'static str, wanted: &'static str },
    /// A property that must be there.
    #[error("the property {property} is missing; add it")]
    Missing { property: String },
    /// A property of another type.
    #[error("the property {property} must be {wanted}")]
    Unexpected {
        property: String,
        /// `a text`, `a list`, ...
        wanted: &'static str,
    },
    /// A value for a parameter that is not declared: misspelled, or removed.
    #[error(
        "the template declares no such parameter; declare it, or correct the name that was given a value"
    )]
    Undeclared,
    /// A parameter without a value.
    #[error(
        "the parameter has no default; give it with --parameter, or in parameter_overrides of the [local] section of samconfig.toml"
    )]
    NoValue,
    /// A parameter whose value comes from SSM.
    #[error(
        "the parameter is read from SSM, which the local region doesn't run; give its value in parameter_overrides of the [local] section of samconfig.toml"
    )]
    NoSsmValue,
    /// A parameter with a value outside `AllowedValues`.
    #[error("{value:?} is not one of its AllowedValues ({allowed})")]
    NotAllowed { value: String, allowed: String },
    /// Something that is right in the cloud and not run here.
    #[error("{what} can't be run locally; {instead}")]
    Unsupported { what: String, instead: &'static str },
    /// An event pattern or a filter policy that AWS refuses.
    #[error(transparent)]
    Pattern(PatternError),
    /// Names that refer to each other.
    #[error("{name} refers to itself")]
    Circular { name: String },
}
