//! Size of every function's package, built as it is deployed.

use std::io::Write as _;
use std::process::Command;

use serde_json::json;
use sojourn_tests::workspace;
use zip::write::SimpleFileOptions;

use crate::{Figures, row, section, target_folder};

/// The profile of what is deployed.
pub(crate) const PROFILE: &str = "deploy";

/// Builds and zips every function. Takes minutes: fat LTO.
pub(crate) fn measure() -> Figures {
    let folders = std::fs::read_dir(workspace().join("functions")).unwrap();
    let mut functions: Vec<String> =
        folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    functions.sort();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--workspace", "--profile", PROFILE]).current_dir(workspace());
    // As docs/deployment.md has it: with the crates that are not deployed, their features would
    // come along.
    for not_deployed in ["local-region", "sojourn-dev", "sojourn-testing", "sojourn-tests", "sojourn-bench"] {
        build.args(["--exclude", not_deployed]);
    }
    assert!(build.status().unwrap().success(), "the functions do not build");

    section("Packages", &["binary MB", "zip MB"]);
    let mut figures = Figures::new();
    for function in functions {
        let binary = std::fs::read(target_folder().join(PROFILE).join(&function)).unwrap();
        let mut package = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        package.start_file("bootstrap", SimpleFileOptions::default().unix_permissions(0o755)).unwrap();
        package.write_all(&binary).unwrap();
        let zipped = package.finish().unwrap().into_inner().len();
        #[expect(clippy::cast_precision_loss, reason = "files are far below 2^52 bytes")]
        let (binary, zipped) = (binary.len() as f64 / 1e6, zipped as f64 / 1e6);
        row(&function, &[format!("{binary:.2}"), format!("{zipped:.2}")]);
        figures.insert(function, json!({"binaryMB": binary, "zipMB": zipped}));
    }
    figures
}
