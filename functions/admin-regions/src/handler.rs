//! Commands to answers.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use sojourn::coordination::regions::{Regions, RegionsError};
use sojourn::core::deadline::{Deadline, DeadlineExceeded};
use sojourn::core::error_type::ErrorType;

/// What the handler works with.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) region: String,
    /// `None` in a single region.
    pub(crate) regions: Option<Regions>,
}

/// The function's commands. An event has exactly one.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Command {
    Show(Nothing),
    Evacuate(Evacuate),
    Readmit(Readmit),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Evacuate {
    region: String,
    successor: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Readmit {
    region: String,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error(
        "the event must be {{\"show\": {{}}}}, {{\"evacuate\": {{\"region\", \"successor\"?}}}} or \
         {{\"readmit\": {{\"region\"}}}}: {0}"
    )]
    Invalid(#[from] serde_json::Error),
    #[error("this deployment has one region: there is no other region for its clients")]
    SingleRegion,
    #[error(transparent)]
    Regions(#[from] RegionsError),
    #[error("the request timed out; check the regions, and retry")]
    TooLate(#[from] DeadlineExceeded),
}

impl ErrorType for CommandError {
    fn error_type(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "InvalidCommand",
            Self::SingleRegion => "SingleRegion",
            Self::Regions(RegionsError::Unknown(_)) => "UnknownRegion",
            Self::Regions(RegionsError::InvalidSuccessor(_)) => "UnfitSuccessor",
            Self::Regions(RegionsError::LastOne) => "LastRegion",
            Self::Regions(RegionsError::Changed) => "Changed",
            Self::Regions(RegionsError::Store(_)) | Self::TooLate(_) => "Unavailable",
        }
    }
}

/// Executes one command. Returns the current state of the regions.
pub(crate) async fn handle(
    app: Arc<App>,
    command: Command,
    deadline: Deadline,
) -> Result<Value, CommandError> {
    let Some(regions) = &app.regions else {
        return match command {
            Command::Show(_) => Ok(json!({"regions": [{"region": app.region, "fence": 0}]})),
            Command::Evacuate(_) | Command::Readmit(_) => Err(CommandError::SingleRegion),
        };
    };
    match command {
        Command::Show(_) => {}
        Command::Evacuate(Evacuate { region, successor }) => {
            let state = regions.evacuate(&region, successor.as_deref(), deadline).await?;
            tracing::warn!(region, evacuation = ?state.evacuation, "evacuated by an operator");
        }
        Command::Readmit(Readmit { region }) => {
            regions.readmit(&region, deadline).await?;
            tracing::warn!(region, "readmitted by an operator");
        }
    }
    let states = regions.all(deadline).await.map_err(RegionsError::from)?;
    Ok(json!({ "regions": states }))
}
