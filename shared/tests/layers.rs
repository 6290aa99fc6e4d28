//! The folders of `src/` are layers: a module imports from its own layer and from those below, and
//! never in a circle. Public items have doc comments, and comments end at 100 columns.

use std::path::Path;

/// From the bottom up.
const LAYERS: [&[&str]; 9] = [
    &["core"],
    &["platform"],
    &["identity"],
    &["coordination"],
    &["commerce"],
    &["sockets"],
    &["files"],
    &["relay"],
    &["edge"],
];

#[test]
fn a_layer_imports_only_from_below_and_no_modules_import_each_other_in_a_circle() {
    sojourn_testing::imports::assert_layers(env!("CARGO_MANIFEST_DIR"), &LAYERS);
}

#[test]
fn public_items_have_doc_comments() {
    sojourn_testing::comments::assert_documented(env!("CARGO_MANIFEST_DIR"));
}

#[test]
fn comments_end_at_100_columns() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for folder in ["shared", "functions", "local", "dev", "drill", "bench", "testing", "tests"] {
        sojourn_testing::comments::assert_width(&root.join(folder));
    }
}
