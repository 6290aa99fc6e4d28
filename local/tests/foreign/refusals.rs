//! What can't be run is refused at the start, in a sentence that says what to do.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use crate::program::{copy, guestbook, refused};

/// What the program says of the guestbook with another text in its template.
fn changed(from: &str, to: &str) -> String {
    let folder = copy(&guestbook());
    let template = folder.path().join("template.yaml");
    let text = std::fs::read_to_string(&template).unwrap();
    assert!(text.contains(from));
    std::fs::write(&template, text.replacen(from, to, 1)).unwrap();
    refused(folder.path(), &[])
}

#[test]
fn a_function_without_an_executable() {
    let folder = copy(&guestbook());
    std::fs::remove_file(folder.path().join("health/bootstrap")).unwrap();
    let said = refused(folder.path(), &[]);
    assert!(said.contains("the function health has no executable /"), "{said}");
    assert!(said.contains("/health/bootstrap; build the function first"), "{said}");
}

#[test]
fn an_executable_that_may_not_be_executed() {
    let folder = copy(&guestbook());
    std::fs::set_permissions(folder.path().join("app/bootstrap"), Permissions::from_mode(0o644)).unwrap();
    let said = refused(folder.path(), &[]);
    assert!(said.contains("the function ApiFunction can't run") && said.contains("chmod +x"), "{said}");
}

#[test]
fn a_folder_without_binaries() {
    let said = refused(&guestbook(), &["--binaries", "/nowhere"]);
    assert!(said.contains("the function ApiFunction has no executable /nowhere/ApiFunction"), "{said}");
}

#[test]
fn a_build_that_fails() {
    let said = refused(&guestbook(), &["--build", "echo to stdout; echo to stderr >&2; exit 3"]);
    assert!(said.contains("the functions don't build (exit status: 3):\nto stdout\nto stderr"), "{said}");
}

#[test]
fn a_build_command_that_is_none() {
    let said = refused(&guestbook(), &["--build", "no-such-command"]);
    assert!(said.contains("the functions don't build") && said.contains("no-such-command"), "{said}");
}

#[test]
fn a_parameter_that_the_template_does_not_declare() {
    let said = refused(&guestbook(), &["--parameter", "Nobody=1"]);
    assert!(
        said.contains("template.yaml: Parameters.Nobody: the template declares no such parameter"),
        "{said}"
    );
}

#[test]
fn a_folder_without_a_template_and_a_template_that_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let said = refused(folder.path(), &[]);
    assert!(said.contains("there is no template.yaml here or in any folder above"), "{said}");
    let said = refused(folder.path(), &["--template", "other.yaml"]);
    assert!(said.contains("other.yaml can't be read"), "{said}");
}

#[test]
fn functions_that_are_no_executables() {
    let said = changed("Runtime: provided.al2023", "Runtime: python3.12");
    assert!(said.contains("the runtime python3.12 can't be run locally; use provided.al2023"), "{said}");
    let said = changed("CodeUri: health/", "InlineCode: print(1)");
    assert!(said.contains("HealthFunction: InlineCode can't be run locally"), "{said}");
    let said = changed("CodeUri: health/", "CodeUri: s3://bucket/code.zip");
    assert!(said.contains("code in S3 (s3://bucket/code.zip) can't be run locally"), "{said}");
}

#[test]
fn tables_that_regions_share_in_a_template_that_is_missing() {
    let said = refused(&guestbook(), &["--global-template", "global.yaml"]);
    assert!(said.contains("global.yaml can't be read"), "{said}");
}

#[test]
fn a_parameter_that_the_global_template_does_not_declare() {
    let folder = copy(&guestbook());
    std::fs::write(folder.path().join("global.yaml"), "Resources: {}\n").unwrap();
    let said =
        refused(folder.path(), &["--global-template", "global.yaml", "--global-parameter", "Nobody=1"]);
    assert!(
        said.contains("global.yaml: Parameters.Nobody: the template declares no such parameter"),
        "{said}"
    );
}

#[test]
fn regions_that_samconfig_does_not_have() {
    let said = refused(&guestbook(), &["--regions", "tokyo"]);
    assert!(said.contains("samconfig.toml has no environment tokyo with a region"), "{said}");
}
