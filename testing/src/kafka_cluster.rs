//! A Kafka for each test: librdkafka's mock cluster, three brokers on ports of this machine,
//! including consumer groups. Other processes can connect as well. It keeps everything in memory.

use std::fmt;
use std::time::Duration;

use rdkafka::config::{ClientConfig, FromClientConfig};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord};

/// Brokers, and copies of each partition.
const BROKERS: i32 = 3;
/// Partitions of the topic: twice as many as tests have consumers.
const PARTITIONS: i32 = 8;
/// How long a record of a test is retried.
const PATIENCE: Duration = Duration::from_secs(10);

/// The cluster, with one topic. Gone when dropped.
pub struct KafkaCluster(MockCluster<'static, DefaultProducerContext>);

impl KafkaCluster {
    /// The topic.
    pub const TOPIC: &'static str = "activity";

    /// Starts a cluster with an empty topic.
    pub fn start() -> Self {
        let cluster = MockCluster::new(BROKERS).unwrap();
        cluster.create_topic(Self::TOPIC, PARTITIONS, BROKERS).unwrap();
        Self(cluster)
    }

    /// The value of `KAFKA_BROKERS`.
    pub fn brokers(&self) -> String {
        self.0.bootstrap_servers()
    }

    /// The variables of a buffer on the topic.
    pub fn variables(&self) -> [(&'static str, String); 4] {
        [
            ("BUFFER", "kafka".to_owned()),
            ("KAFKA_BROKERS", self.brokers()),
            ("KAFKA_TOPIC", Self::TOPIC.to_owned()),
            ("KAFKA_SECURITY", "plaintext".to_owned()),
        ]
    }

    /// The mock, to set faults of brokers.
    pub fn mock(&self) -> &MockCluster<'static, DefaultProducerContext> {
        &self.0
    }

    /// Puts a record into the topic.
    pub async fn send(&self, payload: &str) {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.brokers());
        let producer: FutureProducer = FutureProducer::from_config(&config).unwrap();
        let record: FutureRecord<'_, str, str> = FutureRecord::to(Self::TOPIC).payload(payload);
        producer.send(record, PATIENCE).await.map_err(|(error, _)| error).unwrap();
    }
}

impl fmt::Debug for KafkaCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KafkaCluster").field(&self.brokers()).finish()
    }
}
