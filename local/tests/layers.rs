//! Imports go one way: down the layers, and never in a circle.

/// The modules of the crate, from the bottom up.
const LAYERS: [&[&str]; 9] = [
    &["clock", "patterns"],
    &["logs", "template"],
    &["services"],
    &["functions"],
    &["event_sources", "gateway", "schedules"],
    &["front_door"],
    &["region"],
    &["regions"],
    &["cli"],
];

#[test]
fn a_module_imports_only_what_is_below_it_and_nothing_in_a_circle() {
    sojourn_testing::imports::assert_layers(env!("CARGO_MANIFEST_DIR"), &LAYERS);
}

#[test]
fn public_items_have_doc_comments() {
    sojourn_testing::comments::assert_documented(env!("CARGO_MANIFEST_DIR"));
}
