//! The folders of `src/` are layers: a module imports from its own layer and from those below, and never in a circle.

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
