//! What replication asks of a store: which copies a version needs, and to take one.
//!
//! 1. A version that is written here is copied to the destination of every rule that fits its key;
//!    of several rules with one destination, the one with the highest priority decides about delete
//!    markers. A copy is copied no further.
//! 2. Whether that is so is found out when the version is written, in the same transaction. What
//!    was written before there were rules is not copied.
//! 3. A copy has the version id, the time, the metadata, the `ETag` and the checksums of its
//!    source.

use s3s::{S3Error, S3ErrorCode, S3Result};
use ulid::Ulid;

use super::Store;
use super::index::{Content, Replicated, Version, Waiting};
use super::versions::{carry, unreadable};
use crate::services::network::Network;
use crate::template::model::{BucketReplication, DeleteMarkers};

/// Why a copy can't be made, as the destination's store says.
#[derive(Debug)]
pub(in crate::services::s3) struct Refused(S3Error);

impl std::fmt::Display for Refused {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// The way of a copy.
#[derive(Debug)]
pub(in crate::services::s3) struct Way<'a> {
    pub(in crate::services::s3) network: &'a Network,
    pub(in crate::services::s3) from: &'a str,
    pub(in crate::services::s3) to: &'a str,
}

/// Whether a copy is there.
enum Entered {
    Now,
    Before,
    /// The regions do not reach each other.
    Not,
}

impl Store {
    /// Where a version that is written here is to be copied.
    pub(super) fn destinations(&self, version: &Version) -> Vec<&str> {
        let mut decided: Vec<(&str, DeleteMarkers)> = Vec::new();
        let rules = self.replications.get(&version.bucket).into_iter().flat_map(|all| &all.rules);
        for rule in rules.filter(|rule| version.key.starts_with(&rule.prefix)) {
            // The one with the highest priority comes first.
            if !decided.iter().any(|(destination, _)| *destination == rule.destination) {
                decided.push((&rule.destination, rule.delete_markers));
            }
        }
        let is_copied =
            |markers: &DeleteMarkers| version.content.is_some() || *markers == DeleteMarkers::Copied;
        decided.into_iter().filter(|(_, markers)| is_copied(markers)).map(|(name, _)| name).collect()
    }

    /// Who copies from a bucket, and what it may do.
    pub(in crate::services::s3) fn replication(&self, bucket: &str) -> Option<&BucketReplication> {
        self.replications.get(bucket)
    }

    /// Whether a bucket can be a destination: it is there and has versions.
    pub(in crate::services::s3) fn takes_copies(&self, bucket: &str) -> bool {
        self.versioned.contains(bucket)
    }

    pub(in crate::services::s3) fn waiting(&self) -> S3Result<Vec<Waiting>> {
        self.index.waiting().map_err(unreadable)
    }

    pub(in crate::services::s3) fn count_waiting(&self) -> S3Result<usize> {
        self.index.count_waiting().map_err(unreadable)
    }

    pub(in crate::services::s3) fn copied(&self, copy: &Waiting) -> S3Result<()> {
        self.index.copied(copy).map_err(unreadable)
    }

    pub(in crate::services::s3) fn failed(&self, copy: &Waiting) -> S3Result<()> {
        self.index.failed(copy).map_err(unreadable)
    }

    /// Takes a copy from another store, if the regions reach each other in the end. Nothing is seen
    /// of it before. Returns whether it is there.
    pub(in crate::services::s3) async fn take(
        &self,
        from: &Self,
        copy: &Waiting,
        way: &Way<'_>,
    ) -> S3Result<Result<bool, Refused>> {
        let Waiting { version, destination, .. } = copy;
        let content = match &version.content {
            None => None,
            Some(content) => {
                let file = Ulid::generate().to_string();
                let source = (&from.versions, version.bucket.as_str(), content.file.as_str());
                match carry(source, (&self.versions, destination, &file)).await {
                    Ok(()) => Some(Content { file, ..content.clone() }),
                    // It was deleted for good meanwhile.
                    Err(error) if *error.code() == S3ErrorCode::NoSuchKey => return Ok(Ok(true)),
                    Err(error) => return Err(error),
                }
            }
        };
        let replica = Version {
            bucket: destination.clone(),
            content,
            replicated: Some(Replicated::Replica),
            ..version.clone()
        };
        let outcome = self.enter(&replica, way).await;
        let is_entered = matches!(outcome, Ok(Ok(Entered::Now)));
        if let Some(content) = replica.content.filter(|_| !is_entered) {
            self.discard(destination, &content)?;
        }
        outcome.map(|outcome| outcome.map(|entered| !matches!(entered, Entered::Not)))
    }

    async fn enter(&self, replica: &Version, way: &Way<'_>) -> S3Result<Result<Entered, Refused>> {
        let Version { bucket, key, id, .. } = replica;
        let _turn = self.objects.of((bucket, key)).write().await;
        // The process ended before the source knew of it.
        if self.index.find(bucket, key, id).map_err(unreadable)?.is_some() {
            return Ok(Ok(Entered::Before));
        }
        if let Err(error) = self.check_room(bucket, key) {
            return Ok(Err(Refused(error)));
        }
        self.adopt(bucket, key).await?;
        let Way { network, from, to } = way;
        match network.holding(|map| map.reach(from, to).then(|| self.keep(replica, &[]))) {
            Some(kept) => kept.map(|()| Ok(Entered::Now)),
            None => Ok(Ok(Entered::Not)),
        }
    }
}
