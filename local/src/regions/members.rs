//! The regions of this process and their links.

use axum::Router;

use super::links::{Links, Replications};
use crate::region::{Region, RegionError};
use crate::template::global::GlobalStack;

/// Every region, in the order in which they were named, and their links.
pub(super) struct Members {
    // Dropped first, so that nothing is sent to a region that has ended.
    links: Links,
    regions: Vec<Region>,
    /// Of the caller of the library, for the control API of each.
    routes: Router,
}

impl Members {
    /// Links regions that do not serve yet.
    pub(super) fn join(
        regions: Vec<Region>,
        shared: &GlobalStack,
        routes: Router,
    ) -> Result<Self, RegionError> {
        let links = Links::between(&regions, shared)?;
        Ok(Self { links, regions, routes })
    }

    pub(super) fn all(&self) -> &[Region] {
        &self.regions
    }

    pub(super) fn find(&self, name: &str) -> Option<&Region> {
        self.regions.iter().find(|region| region.name == name)
    }

    /// Replication, if there are several regions.
    pub(super) fn replication(&self) -> Option<&Replications> {
        self.links.replication.as_ref()
    }

    /// AWS's name of the region that is called `name`. Other names stand for themselves: the
    /// witness has no other.
    pub(super) fn aws_name<'a>(&'a self, name: &'a str) -> &'a str {
        self.find(name).map_or(name, |region| &region.ready.region)
    }

    /// The name of the region that AWS calls `aws`.
    pub(super) fn name<'a>(&'a self, aws: &'a str) -> &'a str {
        self.regions.iter().find(|region| region.ready.region == aws).map_or(aws, |region| &region.name)
    }

    /// Brings up a region, and connects it with the others.
    pub(super) async fn up(&self, region: &Region) -> Result<(), RegionError> {
        region.up(&self.routes).await?;
        if let Some(replication) = self.replication() {
            replication.tables.resume(&region.ready.region)?;
        }
        Ok(())
    }

    /// Takes down a region: it serves nobody, and no other region reaches it.
    pub(super) async fn down(&self, region: &Region) -> Result<(), RegionError> {
        if let Some(replication) = self.replication() {
            replication.tables.stop(&region.ready.region)?;
        }
        region.down().await
    }
}
