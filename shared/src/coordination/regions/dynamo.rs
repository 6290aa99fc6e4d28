//! The regions in the agreement table.
//!
//! | attribute | |
//! |---|---|
//! | `subject` | key: `region#<region>` |
//! | `heartbeatMs`, `heartbeatSinceMs` | the latest heartbeat, and since when there has been no gap; epoch milliseconds |
//! | `evacuatedMs?`, `evacuatedBy?`, `successor?` | the evacuation |
//! | `fence` | how often the evacuation has changed |

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use jiff::Timestamp;
use serde::Deserialize;

use super::{
    EvacuatedBy, Evacuation, Heartbeat, LOST_AFTER, RegionState, RegionsError, WatchAction, WatchReport, due,
};
use crate::core::clock::SharedClock;
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::platform::aws;
use crate::platform::dynamo::{
    Agreement, AttributeValue, DynamoError, Item, RowKey, RowUpdate, Write, WriteOutcome, number, read_rows,
    text,
};
use crate::platform::tables;

/// Prefix of a region's item key.
const REGION: &str = "region#";

/// A heartbeat soon enough after the last one.
const GO_ON: RowUpdate =
    RowUpdate { update: "SET heartbeatMs = :now", condition: Some("heartbeatMs >= :gap"), names: &[] };

/// The first heartbeat, or the first after a gap.
const BEGIN: RowUpdate =
    RowUpdate { update: "SET heartbeatMs = :now, heartbeatSinceMs = :now", condition: None, names: &[] };

/// Nobody has evacuated or readmitted the region since it was read.
const IS_AS_SEEN: &str = "attribute_not_exists(fence) OR fence = :seen";

/// An evacuation by an operator.
const EVACUATE: RowUpdate = RowUpdate {
    update: "SET evacuatedMs = :now, evacuatedBy = :by, successor = :successor, fence = :next",
    condition: Some(IS_AS_SEEN),
    names: &[],
};

/// An evacuation by the watch: there was no heartbeat since the region was read.
const EVACUATE_LOST: RowUpdate = RowUpdate {
    condition: Some("heartbeatMs = :heartbeat AND (attribute_not_exists(fence) OR fence = :seen)"),
    ..EVACUATE
};

/// A readmission.
const READMIT: RowUpdate = RowUpdate {
    update: "SET fence = :next REMOVE evacuatedMs, evacuatedBy, successor",
    condition: Some(IS_AS_SEEN),
    names: &[],
};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Row {
    subject: String,
    heartbeat_ms: Option<i64>,
    heartbeat_since_ms: Option<i64>,
    evacuated_ms: Option<i64>,
    evacuated_by: Option<EvacuatedBy>,
    successor: Option<String>,
    fence: u64,
}

/// The regions of a deployment. Calls `BatchGetItem` and `UpdateItem` on the agreement table.
#[derive(Debug, Clone)]
pub struct Regions {
    agreement: Agreement,
    own: String,
    names: Vec<String>,
    clock: SharedClock,
}

impl Regions {
    /// The regions `own` and `peers`, in the agreement table.
    pub fn new(agreement: Agreement, own: String, peers: Vec<String>, clock: SharedClock) -> Self {
        let names = std::iter::once(own.clone()).chain(peers).collect();
        Self { agreement, own, names, clock }
    }

    /// The regions `AWS_REGION` and `PEER_REGIONS`, in the table that `AGREEMENT_TABLE` names.
    /// `None` in a single region.
    pub fn from_env(sdk: &SdkConfig, env: &Env, clock: SharedClock) -> Result<Option<Self>, ConfigError> {
        let Some(agreement) = Agreement::from_env(sdk, env)? else { return Ok(None) };
        Ok(Some(Self::new(agreement, aws::region(env)?, aws::peer_regions(env), clock)))
    }

    /// Records that this region works.
    pub async fn record_heartbeat(&self) -> Result<(), DynamoError> {
        let now = self.clock.now();
        let gap = now.checked_sub(LOST_AFTER).unwrap_or(Timestamp::MIN);
        let values = [(":now", millis(now)), (":gap", millis(gap))];
        if !self.update(&self.own, &GO_ON, values).await? {
            self.update(&self.own, &BEGIN, [(":now", millis(now))]).await?;
        }
        Ok(())
    }

    /// Records a heartbeat, and evacuates and readmits what is due.
    pub async fn watch(&self, deadline: Deadline) -> Result<WatchReport, RegionsError> {
        self.record_heartbeat().await?;
        let states = self.all(deadline).await?;
        let (mut evacuated, mut readmitted) = (Vec::new(), Vec::new());
        for step in due(&self.own, &states, self.clock.now()) {
            let (region, changed, list) = match step {
                WatchAction::Evacuate(state) => {
                    (&state.region, self.evacuate_lost(state).await, &mut evacuated)
                }
                WatchAction::Readmit(state) => {
                    (&state.region, self.readmit_seen(state).await, &mut readmitted)
                }
            };
            match changed {
                Ok(_) => {
                    tracing::warn!(region, ?step, "the watch has changed a region");
                    list.push(region.clone());
                }
                // The region has had a heartbeat, or another watch was faster.
                Err(RegionsError::Changed) => tracing::info!(region, "the region has changed meanwhile"),
                Err(error) => return Err(error),
            }
        }
        let before = states.iter().filter(|state| state.evacuation.is_some()).count();
        let number_evacuated = before + evacuated.len() - readmitted.len();
        Ok(WatchReport { evacuated, readmitted, number_evacuated })
    }

    /// All regions, this one first. Strongly consistent.
    pub async fn all(&self, deadline: Deadline) -> Result<Vec<RegionState>, DynamoError> {
        let table = self.agreement.table.as_str();
        let ask = |client: Client| {
            let keys = self.names.iter().map(|name| RowKey { table, key: key(name) }).collect();
            async move { read_rows(&client, keys, deadline).await }
        };
        let rows = self.agreement.replicas.ask(ask).await?.take(table);
        let parse = |item| {
            serde_dynamo::from_item::<_, Row>(item)
                .map_err(|error| DynamoError::unreadable("read", "a region", error))
        };
        let rows = rows.into_iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let state = |name: &String| {
            let row = rows.iter().find(|row| row.subject.strip_prefix(REGION) == Some(name));
            row.map_or_else(|| Row::default().state(name), |row| row.state(name))
        };
        Ok(self.names.iter().map(state).collect())
    }

    /// Whether clients should be led away from this region. Strongly consistent. Does not wait for
    /// a lost replica.
    pub async fn is_own_evacuated(&self, deadline: Deadline) -> Result<bool, DynamoError> {
        let table = self.agreement.table.as_str();
        let ask = |client: Client| async move {
            read_rows(&client, vec![RowKey { table, key: key(&self.own) }], deadline).await
        };
        let mut rows = self.agreement.replicas.ask_all(ask).await?;
        Ok(rows.take_one(table).is_some_and(|item| item.contains_key("evacuatedMs")))
    }

    /// The regions whose clean-up this region does: itself, and those whose successor it is.
    pub async fn cleaned_up_here(&self, deadline: Deadline) -> Result<Vec<String>, DynamoError> {
        let states = self.all(deadline).await?.into_iter();
        let is_ours = |state: &RegionState| {
            let succeeded =
                state.evacuation.as_ref().is_some_and(|evacuation| evacuation.successor == self.own);
            state.region == self.own || succeeded
        };
        Ok(states.filter(is_ours).map(|state| state.region).collect())
    }

    /// Evacuates `region` for an operator. Without a `successor`, it is the first other region that
    /// serves.
    pub async fn evacuate(
        &self,
        region: &str,
        successor: Option<&str>,
        deadline: Deadline,
    ) -> Result<RegionState, RegionsError> {
        let states = self.all(deadline).await?;
        let state = state_of(&states, region)?;
        let mut others = states.iter().filter(|other| other.region != region && other.evacuation.is_none());
        let chosen = match successor {
            Some(name) => {
                state_of(&states, name)?;
                let unfit = || RegionsError::InvalidSuccessor(name.to_owned());
                others.find(|other| other.region == name).ok_or_else(unfit)?
            }
            None => others.next().ok_or(RegionsError::LastOne)?,
        };
        let evacuation = self.evacuation(EvacuatedBy::Operator, &chosen.region);
        let values = evacuated(state, &evacuation);
        self.change(state, &EVACUATE, values, Some(evacuation)).await
    }

    /// Evacuates a region that has had no heartbeat since it was read. This region is the
    /// successor.
    pub async fn evacuate_lost(&self, state: &RegionState) -> Result<RegionState, RegionsError> {
        let evacuation = self.evacuation(EvacuatedBy::Watch, &self.own);
        let [seen, next, now, by, successor] = evacuated(state, &evacuation);
        let heartbeat = state.heartbeat.map_or(AttributeValue::Null(true), |heartbeat| millis(heartbeat.at));
        let values = [seen, next, now, by, successor, (":heartbeat", heartbeat)];
        self.change(state, &EVACUATE_LOST, values, Some(evacuation)).await
    }

    /// Readmits `region` for an operator. Does nothing if the region is not evacuated.
    pub async fn readmit(&self, region: &str, deadline: Deadline) -> Result<RegionState, RegionsError> {
        let states = self.all(deadline).await?;
        let state = state_of(&states, region)?;
        if state.evacuation.is_none() {
            return Ok(state.clone());
        }
        self.readmit_seen(state).await
    }

    /// Readmits a region if it has not changed since it was read.
    pub async fn readmit_seen(&self, state: &RegionState) -> Result<RegionState, RegionsError> {
        self.change(state, &READMIT, fences(state), None).await
    }

    fn evacuation(&self, by: EvacuatedBy, successor: &str) -> Evacuation {
        Evacuation { at: self.clock.now(), by, successor: successor.to_owned() }
    }

    /// Changes the evacuation of a region if it has not changed since it was read. Returns the new
    /// state.
    async fn change<const N: usize>(
        &self,
        state: &RegionState,
        change: &RowUpdate,
        values: [(&'static str, AttributeValue); N],
        evacuation: Option<Evacuation>,
    ) -> Result<RegionState, RegionsError> {
        if !self.update(&state.region, change, values).await? {
            return Err(RegionsError::Changed);
        }
        Ok(RegionState { evacuation, fence: state.fence + 1, ..state.clone() })
    }

    /// Updates the item of a region. Returns whether the condition held.
    async fn update<const N: usize>(
        &self,
        region: &str,
        change: &RowUpdate,
        values: [(&'static str, AttributeValue); N],
    ) -> Result<bool, DynamoError> {
        let target = format!("{REGION}{region}");
        let ask = |client: Client| {
            let update = change.request(&client, &self.agreement.table, key(region), values.clone()).send();
            async { Box::pin(update).await.outcome("UpdateItem", &target) }
        };
        match self.agreement.replicas.ask(ask).await? {
            Write::Done(_) => Ok(true),
            Write::Refused(_) => Ok(false),
            Write::Conflict => Err(DynamoError::contended("UpdateItem", target)),
        }
    }
}

impl Row {
    fn state(&self, region: &str) -> RegionState {
        let instant = |ms: Option<i64>| ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let heartbeat = instant(self.heartbeat_ms)
            .map(|at| Heartbeat { at, since: instant(self.heartbeat_since_ms).unwrap_or(at) });
        let evacuation = instant(self.evacuated_ms).map(|at| Evacuation {
            at,
            by: self.evacuated_by.unwrap_or(EvacuatedBy::Operator),
            successor: self.successor.clone().unwrap_or_default(),
        });
        RegionState { region: region.to_owned(), heartbeat, evacuation, fence: self.fence }
    }
}

fn key(region: &str) -> Item {
    Item::from([(tables::AGREEMENT.key.hash.to_owned(), text(format!("{REGION}{region}")))])
}

fn millis(instant: Timestamp) -> AttributeValue {
    number(instant.as_millisecond())
}

fn fences(state: &RegionState) -> [(&'static str, AttributeValue); 2] {
    [(":seen", number(state.fence)), (":next", number(state.fence + 1))]
}

fn evacuated(state: &RegionState, evacuation: &Evacuation) -> [(&'static str, AttributeValue); 5] {
    let by = match evacuation.by {
        EvacuatedBy::Operator => "operator",
        EvacuatedBy::Watch => "watch",
    };
    let [seen, next] = fences(state);
    let successor = text(evacuation.successor.as_str());
    [seen, next, (":now", millis(evacuation.at)), (":by", text(by)), (":successor", successor)]
}

fn state_of<'a>(states: &'a [RegionState], region: &str) -> Result<&'a RegionState, RegionsError> {
    states.iter().find(|state| state.region == region).ok_or_else(|| RegionsError::Unknown(region.to_owned()))
}
