//! Which regions run, and with which parameters, names and addresses.
//!
//! 1. One region runs alone, or several run by the names of samconfig.toml's environments. An
//!    environment needs a `region`; it gives AWS's name of the region, the name of the stack and
//!    its parameters.
//! 2. Parameters of samconfig.toml's `[local]` come before those of an environment, `--parameter`
//!    before both.
//! 3. Of several regions the front door has the addresses of `--http` and `--ws`; the regions have
//!    free ports.
//! 4. Each of several regions keeps its data in a folder of its own name.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::region::{DataError, DataFolder, Place};
use crate::template::TemplateError;
use crate::template::arn::{Arns, DEFAULT_STACK, LOCAL};
use crate::template::samconfig::{Deployment, SamConfig};

/// What the command line says of the regions.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// `AWS::StackName`; samconfig.toml's if absent.
    pub stack: Option<String>,
    /// `AWS::Region` of a region that runs alone; `local` if absent.
    pub region: Option<String>,
    /// Values of the template's parameters.
    pub parameters: BTreeMap<String, String>,
    /// The HTTP API's address.
    pub http: SocketAddr,
    /// The WebSocket API's address.
    pub websocket: SocketAddr,
    /// Where the data is kept; in memory if absent.
    pub data: Option<PathBuf>,
}

/// Why a list of regions can't be run.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// samconfig.toml has no such environment, or it has no region.
    #[error("samconfig.toml has no environment {name} with a region; there are: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// The list names one twice.
    #[error("the region {name} is named twice")]
    Twice { name: String },
    /// samconfig.toml.
    #[error(transparent)]
    Config(#[from] TemplateError),
    /// A data folder can't be used.
    #[error(transparent)]
    Data(#[from] DataError),
}

/// The names of a region that runs alone: its stack's and its own.
pub fn names(stack: Option<&str>, region: Option<&str>, config: &SamConfig) -> Arns {
    let configured = config.local_stack();
    let stack = stack.or(configured.as_deref()).unwrap_or(DEFAULT_STACK);
    Arns::of(region.unwrap_or(LOCAL)).in_stack(stack)
}

/// A region that runs alone, and has no name.
pub fn alone(wanted: Wanted, config: &SamConfig) -> Result<Place, PlaceError> {
    let mut parameters = config.local()?;
    parameters.extend(wanted.parameters);
    Ok(Place {
        name: String::new(),
        arns: names(wanted.stack.as_deref(), wanted.region.as_deref(), config),
        parameters,
        http: wanted.http,
        websocket: wanted.websocket,
        data: folder(wanted.data.as_deref())?,
    })
}

/// The regions of these names.
pub fn named(names: &[String], wanted: &Wanted, config: &SamConfig) -> Result<Vec<Place>, PlaceError> {
    let mut places: Vec<Place> = Vec::new();
    for name in names {
        if places.iter().any(|place| place.name == *name) {
            return Err(PlaceError::Twice { name: name.clone() });
        }
        let Some(Deployment { region, stack, mut parameters }) = config.deployment(name)? else {
            let known = config.deployed().collect::<Vec<_>>().join(", ");
            return Err(PlaceError::Unknown { name: name.clone(), known });
        };
        parameters.extend(config.local()?);
        parameters.extend(wanted.parameters.clone());
        let stack = wanted.stack.clone().or(stack).or_else(|| config.local_stack());
        let free = |address: SocketAddr| SocketAddr::new(address.ip(), 0);
        places.push(Place {
            name: name.clone(),
            arns: Arns::of(&region).in_stack(stack.as_deref().unwrap_or(DEFAULT_STACK)),
            parameters,
            http: free(wanted.http),
            websocket: free(wanted.websocket),
            data: None,
        });
    }
    // Folders are made when the names are known to be right.
    for place in &mut places {
        place.data = folder(wanted.data.as_ref().map(|data| data.join(&place.name)).as_deref())?;
    }
    Ok(places)
}

fn folder(path: Option<&Path>) -> Result<Option<DataFolder>, DataError> {
    path.map(DataFolder::open).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "
        [local.local_invoke.parameters]
        parameter_overrides = ['Stage=local']
        [taiwan.global.parameters]
        region = 'ap-east-2'
        stack_name = 'shop-east'
        [taiwan.deploy.parameters]
        parameter_overrides = ['Stage=live', 'Issuer=shop', 'Limit=1']
        [tokyo.global.parameters]
        region = 'ap-northeast-1'
        [default.global.parameters]
        stack_name = 'shop'";

    fn config() -> SamConfig {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("samconfig.toml"), CONFIG).unwrap();
        SamConfig::beside(&folder.path().join("template.yaml")).unwrap()
    }

    fn wanted(data: Option<PathBuf>) -> Wanted {
        Wanted {
            stack: None,
            region: None,
            parameters: [("Limit".to_owned(), "2".to_owned())].into(),
            http: "127.0.0.1:3000".parse().unwrap(),
            websocket: "127.0.0.1:3001".parse().unwrap(),
            data,
        }
    }

    fn places(names: &[&str], data: Option<PathBuf>) -> Result<Vec<Place>, PlaceError> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        named(&names, &wanted(data), &config())
    }

    #[test]
    fn a_region_has_the_parameters_of_its_environment_as_far_as_this_machine_sets_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let places = places(&["taiwan", "tokyo"], Some(folder.path().to_owned())).unwrap();
        let [taiwan, tokyo] = &places[..] else { panic!("two places") };
        let parameters = [("Stage", "local"), ("Issuer", "shop"), ("Limit", "2")];
        let parameters: BTreeMap<_, _> = parameters.map(|(a, b)| (a.to_owned(), b.to_owned())).into();
        assert_eq!(taiwan.parameters, parameters);
        let names = |place: &Place| (place.arns.region().to_owned(), place.arns.stack_name().to_owned());
        assert_eq!(names(taiwan), ("ap-east-2".to_owned(), "shop-east".to_owned()));
        assert_eq!(names(tokyo), ("ap-northeast-1".to_owned(), "shop".to_owned()));
        assert_eq!((taiwan.http.port(), tokyo.http.port(), tokyo.websocket.port()), (0, 0, 0));
        assert_eq!(tokyo.data.as_ref().unwrap().path(), folder.path().join("tokyo"));
    }

    #[test]
    fn a_region_that_runs_alone_has_the_names_of_the_command_line_then_those_of_samconfig() {
        let place = alone(wanted(None), &config()).unwrap();
        assert_eq!((place.arns.region(), place.arns.stack_name()), ("local", "shop"));
        let given =
            Wanted { stack: Some("mine".to_owned()), region: Some("eu-west-1".to_owned()), ..wanted(None) };
        let place = alone(given, &config()).unwrap();
        assert_eq!((place.arns.region(), place.arns.stack_name()), ("eu-west-1", "mine"));
        assert_eq!(place.parameters["Limit"], "2");
    }

    #[test]
    fn an_unknown_name_is_told_which_there_are_and_a_name_may_stand_once() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let refused = |names: &[&str]| places(names, Some(data.clone())).unwrap_err().to_string();
        assert!(
            refused(&["tokyo", "kyoto"])
                .ends_with("no environment kyoto with a region; there are: taiwan, tokyo")
        );
        assert!(refused(&["default"]).contains("no environment default with a region"));
        assert_eq!(refused(&["tokyo", "tokyo"]), "the region tokyo is named twice");
        assert!(!data.exists(), "a folder was made for regions that do not run");
    }
}
