//! The AWS services of one region and their data. They outlive an outage of the region: while its
//! switch is off they do not answer, and their data stays.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::environment::Endpoints;
use super::error::RegionError;
use super::ports::Port;
use crate::clock::SystemClock;
use crate::event_sources::Checkpoints;
use crate::services::Controls;
use crate::services::delivery::Deliveries;
use crate::services::dynamodb::{DynamoDb, Storage};
use crate::services::events::EventBridge;
use crate::services::s3::S3;
use crate::services::secrets::Secrets;
use crate::services::sns::Sns;
use crate::services::sqs::{Queues, Sqs};
use crate::template::model::Stack;

/// How often expired items are deleted. DynamoDB takes days; every read checks the expiry itself
/// anyway.
const TTL_SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// Where the messages of the queues are, in the data folder.
const QUEUES_FILE: &str = "queues.db";

/// How far readers of streams have come, in the data folder.
const STREAMS_FILE: &str = "streams.db";

/// Held for as long as they are to run.
pub(crate) struct Services {
    pub(crate) dynamodb: DynamoDb,
    pub(crate) s3: S3,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) sqs: Sqs,
    pub(crate) sns: Sns,
    pub(crate) eventbridge: EventBridge,
    pub(crate) deliveries: Arc<Deliveries>,
    pub(crate) queues: Arc<Queues>,
    pub(crate) checkpoints: Arc<Checkpoints>,
}

impl Services {
    pub(super) fn start(
        stack: &Stack,
        data: Option<&Path>,
        controls: &Controls,
        sqs: &Port,
    ) -> Result<Self, RegionError> {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let storage = data.map_or(Storage::Memory, Storage::Folder);
        let dynamodb = DynamoDb::start(any, storage, &stack.tables, controls.clone())?
            .sweep_every(TTL_SWEEP_INTERVAL)?;
        let objects = data.map(|data| data.join("s3"));
        let s3 = S3::start(any, objects.as_deref(), &stack.buckets, controls.clone())?;
        let secrets = Arc::new(Secrets::start(any, data, controls.clone())?);
        for (name, value) in &stack.secret_strings {
            if secrets.get(name).is_none() {
                secrets.put(name, value)?;
            }
        }
        let messages = data.map(|data| data.join(QUEUES_FILE));
        let queues = Queues::open(messages.as_deref(), &stack.queues, SystemClock)?;
        let queues = Arc::new(queues.named_by(stack.arns.clone()));
        let sqs = Sqs::start(sqs.std_listener()?, Arc::clone(&queues), controls.clone())?;
        let deliveries = Deliveries::new(Arc::clone(&queues), stack.service_permissions.clone());
        let sns = Sns::start(any, stack, Arc::clone(&deliveries), controls.clone())?;
        let eventbridge = EventBridge::start(any, stack, Arc::clone(&deliveries), controls.clone())?;
        let places = data.map(|data| data.join(STREAMS_FILE));
        let checkpoints = Arc::new(Checkpoints::open(places.as_deref())?);
        Ok(Self { dynamodb, s3, secrets, sqs, sns, eventbridge, deliveries, queues, checkpoints })
    }

    pub(super) fn endpoints(&self, lambda: &Port) -> Endpoints {
        Endpoints {
            dynamodb: self.dynamodb.endpoint_url(),
            s3: self.s3.endpoint_url(),
            secrets_manager: self.secrets.endpoint_url(),
            sqs: self.sqs.endpoint_url(),
            sns: self.sns.endpoint_url(),
            eventbridge: self.eventbridge.endpoint_url(),
            lambda: format!("http://{}", lambda.address),
        }
    }
}
