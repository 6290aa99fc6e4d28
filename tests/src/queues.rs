//! Queues of a region, as a consumer reads them.

use std::time::{Duration, Instant};

use aws_sdk_sqs::types::DeleteMessageBatchRequestEntry;
use serde_json::Value;

use crate::TestRegion;

/// How long the messages of a queue may take to arrive.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(30);

impl TestRegion {
    /// Receives and deletes the messages of `queue`, in the order in which they come, until
    /// `is_enough` of what came. Each is JSON.
    pub async fn take_messages(&self, queue: &str, is_enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let began = Instant::now();
        let mut messages = Vec::new();
        while !is_enough(&messages) {
            assert!(began.elapsed() < ARRIVAL_LIMIT, "{queue} had only {messages:#?}");
            messages.extend(self.take_waiting(queue).await);
        }
        messages
    }

    /// The messages that `queue` holds now, up to ten. Waits a second for the first one.
    pub async fn take_waiting(&self, queue: &str) -> Vec<Value> {
        let sqs = self.sqs();
        let url = sqs.get_queue_url().queue_name(queue).send().await.unwrap().queue_url.unwrap();
        let receive = sqs.receive_message().queue_url(&url).max_number_of_messages(10).wait_time_seconds(1);
        let received = receive.send().await.unwrap().messages.unwrap_or_default();
        if received.is_empty() {
            return Vec::new();
        }
        let mut delete = sqs.delete_message_batch().queue_url(&url);
        for (id, message) in received.iter().enumerate() {
            let entry = DeleteMessageBatchRequestEntry::builder().id(id.to_string());
            delete = delete.entries(entry.receipt_handle(message.receipt_handle().unwrap()).build().unwrap());
        }
        assert!(delete.send().await.unwrap().failed().is_empty());
        received.iter().map(|message| serde_json::from_str(message.body().unwrap()).unwrap()).collect()
    }
}
