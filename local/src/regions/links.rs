//! Links between regions that run together: the only module that sees more than one of them.
//!
//! - The global tables replicate ([`Replication`]).
//! - The buckets replicate by their rules ([`buckets::Replication`]).
//! - A topic delivers to the queues of every region whose stack subscribes to it. While the regions
//!   are partitioned, SNS retries.
//! - A function calls the DynamoDB and the S3 of another region
//!   ([`DynamoDb::reach`](crate::services::dynamodb::DynamoDb::reach),
//!   [`S3::reach`](crate::services::s3::S3::reach)).

use std::sync::Arc;
use std::time::Duration;

use crate::region::{Region, RegionError};
use crate::services::delivery::Way;
use crate::services::dynamodb::replication::{Replication, Settings, StrongTables};
use crate::services::network::Lag;
use crate::services::s3::replication as buckets;
use crate::services::sns::Peer;
use crate::template::global::{Consistency, GlobalStack};

/// What a call of another region takes beside its work. Between the three regions it is 35 to 70
/// ms.
const ROUND_TRIP: Duration = Duration::from_millis(50);

/// The links of all regions.
#[derive(Debug)]
pub(super) struct Links {
    /// None if a region runs alone.
    pub(super) replication: Option<Replications>,
}

/// What replicates between regions, by AWS's names of them.
#[derive(Debug)]
pub(super) struct Replications {
    // Dropped first: it uses the network of the tables.
    pub(super) buckets: buckets::Replication,
    pub(super) tables: Arc<Replication>,
}

impl Replications {
    /// What each change takes from now on.
    pub(super) fn set_lag(&self, lag: Lag) {
        self.tables.set_lag(lag);
        self.buckets.set_lag(lag);
    }
}

impl Links {
    /// Between regions whose services run and that do not serve yet. `shared` is what they share.
    pub(super) fn between(regions: &[Region], shared: &GlobalStack) -> Result<Self, RegionError> {
        let replication = match regions {
            [] | [_] => None,
            several => {
                let tables = Arc::new(replicate(several, shared)?);
                deliver_to_each_other(several, &tables);
                reach_each_other(several, &tables);
                let buckets = replicate_buckets(several, &tables)?;
                Some(Replications { buckets, tables })
            }
        };
        Ok(Self { replication })
    }
}

fn replicate(regions: &[Region], shared: &GlobalStack) -> Result<Replication, RegionError> {
    let mut settings = Settings::default();
    for table in &shared.tables {
        let name = table.table.name.clone();
        match &table.consistency {
            Consistency::Eventual => settings.tables.push(name),
            // The witness needs no region. Replicas whose regions do not run count as lost.
            Consistency::Strong { witness } => {
                let is_there = |aws: &String| regions.iter().any(|region| region.ready.region == *aws);
                if table.replicas.iter().any(is_there) {
                    let group = settings.strong.get_or_insert_with(|| StrongTables {
                        tables: Vec::new(),
                        replicas: table.replicas.clone(),
                        witness: witness.clone(),
                    });
                    group.tables.push(name);
                }
            }
        }
    }
    let tables = regions
        .iter()
        .filter_map(|region| Some((region.ready.region.clone(), region.services.dynamodb.region_tables()?)));
    Ok(Replication::start(&tables.collect::<Vec<_>>(), &settings)?)
}

/// Functions may call the DynamoDB and the S3 of any region.
fn reach_each_other(regions: &[Region], tables: &Replication) {
    for here in regions {
        let others = || regions.iter().filter(|other| other.name != here.name).map(|other| &other.services);
        here.services.dynamodb.reach(others().map(|other| &other.dynamodb), tables.network(), ROUND_TRIP);
        here.services.s3.reach(others().map(|other| &other.s3), tables.network(), ROUND_TRIP);
    }
}

fn replicate_buckets(regions: &[Region], tables: &Replication) -> Result<buckets::Replication, RegionError> {
    let named = |region: &Region| (region.ready.region.clone(), region.services.s3.region_buckets());
    let regions: Vec<_> = regions.iter().map(named).collect();
    buckets::Replication::start(&regions, tables.network(), Lag::default()).map_err(RegionError::Buckets)
}

fn deliver_to_each_other(regions: &[Region], replication: &Arc<Replication>) {
    let aws = |region: &Region| region.ready.region.clone();
    for from in regions {
        for to in regions.iter().filter(|to| aws(to) != aws(from)) {
            let (a, b, replication) = (aws(from), aws(to), Arc::downgrade(replication));
            let way =
                Way::new(move || replication.upgrade().is_some_and(|replication| replication.reach(&a, &b)));
            from.services.sns.add(Peer {
                subscriptions: to.stack.subscriptions.clone(),
                deliveries: Arc::clone(&to.services.deliveries),
                way,
            });
        }
    }
}
