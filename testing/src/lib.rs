//! Fixtures for the tests of the library and of the functions.
//!
//! Each test starts services of its own: a DynamoDB with every table ([`Store`]), an S3 with a
//! bucket ([`Files`]), a redis-server ([`RedisServer`]), an SQS with a queue ([`MessageQueue`]), a
//! Kafka with a topic ([`KafkaCluster`]). Nothing is shared between tests, and everything ends when
//! dropped. [`Regions`] joins the DynamoDB of several regions by their global tables. [`Fixture`]
//! adds what adapters and functions are built from: the variables, a clock, ids and keys.
//!
//! Limits: the unit tests inside `shared/src` cannot use this crate: it depends on another build of
//! the library, with other types. End-to-end tests use `sojourn-tests`, which starts the whole
//! region.

#![expect(clippy::unwrap_used, reason = "a test stops where its environment cannot start")]
#![expect(clippy::missing_panics_doc, reason = "everything here panics when a service does not start")]

pub mod comments;
mod event;
mod files;
mod fixture;
pub mod imports;
mod kafka_cluster;
mod message_queue;
mod redis_server;
mod redis_tls;
mod regions;
pub mod sign_ins;
mod store;
mod token_keys;

pub use event::Event;
pub use files::{BUCKET, Files};
pub use fixture::Fixture;
pub use kafka_cluster::KafkaCluster;
pub use message_queue::MessageQueue;
pub use redis_server::{Persistence, RedisServer};
pub use redis_tls::TlsServer;
pub use regions::Regions;
pub use store::Store;
pub use token_keys::{TestKey, jwks, sealing_key, sealing_keys};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::process::Command;

    /// Every dependency with its features, as cargo compiles them along these edges of the graph.
    fn dependencies(edges: &str) -> BTreeSet<String> {
        let what = ["tree", "--offline", "--workspace", "--edges", edges];
        let form = ["--prefix", "none", "--format", "{p} {f}"];
        let mut cargo = Command::new(env!("CARGO"));
        let output = cargo.args(what).args(form).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        // Cargo marks what it has listed before.
        text.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
    }

    #[test]
    fn tests_ask_for_no_feature_that_a_build_of_the_workspace_lacks() {
        let (built, tested) = (dependencies("normal,build"), dependencies("normal,build,dev"));
        let again: Vec<&String> = built.difference(&tested).collect();
        assert!(again.is_empty(), "testing/Cargo.toml has to name features of these: {again:#?}");
    }
}
