//! Size of every function's package, built as it is deployed.

use std::io::Write as _;
use std::process::Command;

use serde_json::json;
use zip::write::SimpleFileOptions;

use crate::{Figures, row, section};

/// Builds and zips every function. Takes minutes: fat LTO.
pub(crate) fn measure() -> Figures {
    let functions: Vec<String> = std::fs::read_dir("functions")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let built =
        Command::new(env!("CARGO")).args(["build", "--workspace", "--bins", "--profile", "deploy"]).status();
    assert!(built.unwrap().success(), "the functions do not build");

    section("Packages", &["binary MB", "zip MB"]);
    let mut figures = Figures::new();
    for function in functions {
        let binary = std::fs::read(format!("target/deploy/{function}")).unwrap();
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
