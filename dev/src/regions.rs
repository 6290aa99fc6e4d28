//! What several Sojourn regions are told of each other, by parameters of the template.
//!
//! 1. Each is told the other regions' names and files buckets (`FirstPeerRegion`,
//!    `FirstPeerBucket`, …). `FileVersions` switches on what buckets need to replicate.
//! 2. They share the tables of the global.yaml beside the template, if `GlobalTables` names them.
//!
//! Limits: three regions, since the template has parameters for two others.

use std::collections::BTreeMap;
use std::path::Path;

use local_region::region::Place;
use local_region::regions::Options;
use local_region::template::GlobalTemplate;
use local_region::template::arn::Arns;

/// The parameter of both templates that says what the names of global tables begin with.
const GLOBAL_TABLES: &str = "GlobalTables";

/// The template of what regions share.
const GLOBAL_TEMPLATE: &str = "global.yaml";

/// The template's parameters that name another region, and its files bucket.
const PEERS: [(&str, &str); 2] =
    [("FirstPeerRegion", "FirstPeerBucket"), ("SecondPeerRegion", "SecondPeerBucket")];

/// The parameter that switches on what buckets need to have peers.
const FILE_VERSIONS: &str = "FileVersions";

/// The logical id of the files bucket.
const FILES_BUCKET: &str = "FilesBucket";

/// A region and its peers. With more of them some topics would not be delivered everywhere.
const MAX_REGIONS: usize = PEERS.len() + 1;

/// Regions that can't run together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    /// More than the template's parameters can name.
    #[error(
        "{count} regions are named, and no more than {MAX_REGIONS} run together: the template names each region's peers in {}",
        PEERS.map(|(region, _)| region).join(" and ")
    )]
    TooMany { count: usize },
    /// Their tables would not replicate.
    #[error(
        "the regions {one} and {other} have different values of {GLOBAL_TABLES}, so they share no tables"
    )]
    Apart { one: String, other: String },
}

/// Refuses more regions than can be told of each other.
pub(crate) fn check(names: &[String]) -> Result<(), PeerError> {
    let count = names.len();
    if count > MAX_REGIONS { Err(PeerError::TooMany { count }) } else { Ok(()) }
}

/// Tells each region of the others, and all of the tables that they share.
pub(crate) fn introduce(options: &mut Options) -> Result<(), PeerError> {
    name_peers(&mut options.places);
    let global = shared(&options.template, &options.places)?;
    options.global = options.global.take().or(global);
    Ok(())
}

fn shared(template: &Path, places: &[Place]) -> Result<Option<GlobalTemplate>, PeerError> {
    let [first, others @ ..] = places else { return Ok(None) };
    let names = |place: &Place| place.parameters.get(GLOBAL_TABLES).cloned();
    if let Some(other) = others.iter().find(|other| names(other) != names(first)) {
        return Err(PeerError::Apart { one: first.name.clone(), other: other.name.clone() });
    }
    Ok(global_template(template, &first.parameters))
}

/// The template of what regions share, if a stack with these parameters uses it.
pub(crate) fn global_template(
    template: &Path,
    parameters: &BTreeMap<String, String>,
) -> Option<GlobalTemplate> {
    let names = parameters.get(GLOBAL_TABLES).filter(|names| !names.is_empty())?;
    let parameters = [(GLOBAL_TABLES.to_owned(), names.clone())].into();
    Some(GlobalTemplate { path: template.with_file_name(GLOBAL_TEMPLATE), parameters })
}

fn name_peers(places: &mut [Place]) {
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
    use super::*;

    fn place(region: &str) -> Place {
        Place {
            name: region.to_owned(),
            arns: Arns::of(region).in_stack("sojourn"),
            parameters: BTreeMap::new(),
            http: "127.0.0.1:0".parse().unwrap(),
            websocket: "127.0.0.1:0".parse().unwrap(),
            data: None,
        }
    }

    #[test]
    fn each_region_is_told_of_the_others_and_their_files() {
        let mut places = ["ap-east-2", "ap-northeast-1"].map(place);
        name_peers(&mut places);
        let told = [
            ("FirstPeerRegion", "ap-northeast-1"),
            ("FirstPeerBucket", "sojourn-filesbucket-ap-northeast-1"),
            ("FileVersions", "on"),
        ];
        assert_eq!(places[0].parameters, told.map(|(a, b)| (a.to_owned(), b.to_owned())).into());
        assert_eq!(places[1].parameters["FirstPeerRegion"], "ap-east-2");
    }

    #[test]
    fn a_region_without_others_keeps_no_versions_of_files() {
        let mut places = [place("ap-northeast-1")];
        name_peers(&mut places);
        assert!(places[0].parameters.is_empty(), "{:?}", places[0].parameters);
    }

    #[test]
    fn more_regions_than_the_template_has_peers_for_are_refused() {
        let names = ["taiwan", "tokyo", "kyoto", "osaka"].map(str::to_owned);
        assert!(check(&names[..3]).is_ok());
        assert_eq!(
            check(&names).unwrap_err().to_string(),
            "4 regions are named, and no more than 3 run together: the template names each region's peers in \
             FirstPeerRegion and SecondPeerRegion"
        );
    }

    #[test]
    fn global_tables_are_used_where_the_parameter_names_them() {
        let template = |names: &str| {
            let parameters = [("GlobalTables".to_owned(), names.to_owned())].into();
            global_template(Path::new("here/template.yaml"), &parameters).map(|global| global.path)
        };
        assert_eq!(template("live"), Some("here/global.yaml".into()));
        assert_eq!(template(""), None);
    }

    #[test]
    fn regions_that_share_different_tables_are_refused() {
        let mut places = ["ap-east-2", "ap-northeast-1"].map(place);
        assert!(shared(Path::new("template.yaml"), &places).unwrap().is_none());
        places[1].parameters.insert(GLOBAL_TABLES.to_owned(), "dev".to_owned());
        assert_eq!(
            shared(Path::new("template.yaml"), &places).unwrap_err().to_string(),
            "the regions ap-east-2 and ap-northeast-1 have different values of GlobalTables, so they share no tables"
        );
    }
}
