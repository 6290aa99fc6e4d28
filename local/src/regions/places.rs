//! Which regions run, by the names of samconfig.toml's environments, and where.
//!
//! 1. Each name is an environment with a `region`. It gives AWS's name of the region and the stack's parameters.
//! 2. What `[local]` sets comes before that: the stage and the processor are those of this machine. `--parameter` comes before both.
//! 3. Their ports are free ones: the front door has the addresses of `--http` and `--ws`. Each region is told of the others, and
//!    of their files buckets.
//! 4. Each keeps its data in a folder of its own name.
//! 5. All name the same global tables, or none does: there is one global.yaml, and what replicates is in every region.
//!
//! Limits: three regions, since the template has parameters for two others.

use std::net::SocketAddr;

use crate::region::Place;
use crate::template::arn::Arns;
use crate::template::samconfig::{Deployment, SamConfig};
use crate::template::{GLOBAL_TABLES, TemplateError};

/// The template's parameters that name another region, and its files bucket.
const PEERS: [(&str, &str); 2] =
    [("FirstPeerRegion", "FirstPeerBucket"), ("SecondPeerRegion", "SecondPeerBucket")];

/// The parameter that switches on what buckets need to have peers.
const FILE_VERSIONS: &str = "FileVersions";

/// The logical id of the files bucket.
const FILES_BUCKET: &str = "FilesBucket";

/// A region and its peers. With more of them some topics would not be delivered everywhere.
const MAX_REGIONS: usize = PEERS.len() + 1;

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
    Twice {
        /// Which.
        name: String,
    },
    /// More than the template's parameters can introduce to each other.
    #[error(
        "{count} regions are named, and no more than {MAX_REGIONS} run together: the template names each region's peers in {}",
        PEERS.map(|(region, _)| region).join(" and ")
    )]
    TooMany {
        /// So many.
        count: usize,
    },
    /// Their tables would not replicate.
    #[error(
        "the regions {one} and {other} have different values of {GLOBAL_TABLES}, so they share no tables"
    )]
    Apart {
        /// The first region.
        one: String,
        /// One that differs.
        other: String,
    },
    /// samconfig.toml.
    #[error(transparent)]
    Config(#[from] TemplateError),
}

/// A region of its own, without a name: `wanted` with what samconfig.toml sets for this machine.
pub fn alone(wanted: Place, config: &SamConfig) -> Result<Place, PlaceError> {
    let mut parameters = config.local()?;
    parameters.extend(wanted.parameters);
    Ok(Place { parameters, ..wanted })
}

/// The regions of these names, each otherwise as `wanted`.
pub fn named(names: &[String], wanted: &Place, config: &SamConfig) -> Result<Vec<Place>, PlaceError> {
    if names.len() > MAX_REGIONS {
        return Err(PlaceError::TooMany { count: names.len() });
    }
    let mut places: Vec<Place> = Vec::new();
    for name in names {
        if places.iter().any(|place| place.name == *name) {
            return Err(PlaceError::Twice { name: name.clone() });
        }
        let Some(Deployment { region, mut parameters }) = config.deployment(name)? else {
            let known = config.deployed().collect::<Vec<_>>().join(", ");
            return Err(PlaceError::Unknown { name: name.clone(), known });
        };
        parameters.extend(config.local()?);
        parameters.extend(wanted.parameters.clone());
        if let Some(one) = places.first()
            && one.parameters.get(GLOBAL_TABLES) != parameters.get(GLOBAL_TABLES)
        {
            return Err(PlaceError::Apart { one: one.name.clone(), other: name.clone() });
        }
        let free = |address: SocketAddr| SocketAddr::new(address.ip(), 0);
        places.push(Place {
            name: name.clone(),
            arns: Arns::of(&region),
            parameters,
            http: free(wanted.http),
            websocket: free(wanted.websocket),
            data: wanted.data.as_ref().map(|folder| folder.join(name)),
        });
    }
    introduce(&mut places);
    Ok(places)
}

/// Tells each region of the others.
fn introduce(places: &mut [Place]) {
    let all: Vec<Arns> = places.iter().map(|place| place.arns.clone()).collect();
    for place in places {
        let others = all.iter().filter(|arns| **arns != place.arns);
        for ((region, bucket), other) in PEERS.iter().zip(others) {
            let told = [
                (*region, other.region().to_owned()),
                (*bucket, other.bucket_name(FILES_BUCKET)),
                (FILE_VERSIONS, "on".to_owned()),
            ];
            for (parameter, value) in told {
                place.parameters.entry(parameter.to_owned()).or_insert(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const CONFIG: &str = "
        [local.local_invoke.parameters]
        parameter_overrides = ['Stage=local']
        [taiwan.global.parameters]
        region = 'ap-east-2'
        [taiwan.deploy.parameters]
        parameter_overrides = ['Stage=live', 'Issuer=shop', 'Limit=1']
        [tokyo.global.parameters]
        region = 'ap-northeast-1'
        [dev.global.parameters]
        region = 'ap-northeast-1'
        [dev.deploy.parameters]
        parameter_overrides = ['GlobalTables=dev']
        [default.global.parameters]
        stack_name = 'sojourn'";

    fn places(names: &[&str]) -> Result<Vec<Place>, PlaceError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("samconfig.toml"), CONFIG).unwrap();
        let config = SamConfig::beside(&folder.path().join("template.yaml")).unwrap();
        let wanted = Place {
            name: String::new(),
            arns: Arns::default(),
            parameters: [("Limit".to_owned(), "2".to_owned())].into(),
            http: "127.0.0.1:3000".parse().unwrap(),
            websocket: "127.0.0.1:3001".parse().unwrap(),
            data: Some("data".into()),
        };
        named(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(), &wanted, &config)
    }

    #[test]
    fn a_region_has_the_parameters_of_its_environment_as_far_as_this_machine_sets_no_others() {
        let [taiwan, tokyo] = &places(&["taiwan", "tokyo"]).unwrap()[..] else { panic!("two places") };
        assert_eq!(taiwan.arns.region(), "ap-east-2");
        let own = [("Stage", "local"), ("Issuer", "shop"), ("Limit", "2")];
        let peer = [
            ("FirstPeerRegion", "ap-northeast-1"),
            ("FirstPeerBucket", "sojourn-filesbucket-ap-northeast-1"),
            ("FileVersions", "on"),
        ];
        let parameters = own.into_iter().chain(peer);
        let parameters: BTreeMap<_, _> = parameters.map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
        assert_eq!(taiwan.parameters, parameters);
        assert_eq!(tokyo.arns.region(), "ap-northeast-1");
        assert_eq!((taiwan.http.port(), tokyo.http.port(), tokyo.websocket.port()), (0, 0, 0));
        assert_eq!(tokyo.data.as_deref(), Some("data/tokyo".as_ref()));
    }

    #[test]
    fn a_region_without_others_keeps_no_versions_of_files() {
        let [tokyo] = &places(&["tokyo"]).unwrap()[..] else { panic!("one place") };
        assert!(!tokyo.parameters.contains_key("FileVersions"), "{:?}", tokyo.parameters);
    }

    #[test]
    fn an_unknown_name_is_told_which_there_are_and_a_name_may_stand_once() {
        let refused = |names: &[&str]| places(names).unwrap_err().to_string();
        assert!(
            refused(&["kyoto"])
                .ends_with("no environment kyoto with a region; there are: dev, taiwan, tokyo")
        );
        assert!(refused(&["default"]).contains("no environment default with a region"));
        assert_eq!(refused(&["tokyo", "tokyo"]), "the region tokyo is named twice");
    }

    #[test]
    fn more_regions_than_the_template_has_peers_for_are_refused() {
        let refused = places(&["taiwan", "tokyo", "kyoto", "osaka"]).unwrap_err().to_string();
        assert_eq!(
            refused,
            "4 regions are named, and no more than 3 run together: the template names each region's peers in \
             FirstPeerRegion and SecondPeerRegion"
        );
    }

    #[test]
    fn regions_that_share_different_tables_are_refused() {
        let refused = places(&["taiwan", "dev"]).unwrap_err().to_string();
        assert_eq!(
            refused,
            "the regions taiwan and dev have different values of GlobalTables, so they share no tables"
        );
    }
}
