//! What every adapter promises. Each test runs once for each.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sojourn::platform::buffer::{Entry, MAX_BATCH, MAX_PAYLOAD_BYTES, Offered, STALENESS};
use tokio::task::JoinSet;

use crate::stage::{
    PATIENCE, Stage, Stored, ack, assert_empty, deadline, drain, empty, entries, now, offer, poll, poll_all,
    size, sized_entries,
};

/// Leases that no test outlasts.
const LONG: (&str, &str) = ("BUFFER_LEASE_SECONDS", "600");
/// The shortest lease.
const SHORT: (&str, &str) = ("BUFFER_LEASE_SECONDS", "1");

macro_rules! conformance {
    ($(#[with($($setting:expr),*)] async fn $name:ident($stage:ident: &Stage) $body:block)*) => {
        mod promise {
            use super::*;
            $(pub(super) async fn $name($stage: &Stage) $body)*
        }

        mod memory {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() {
                promise::$name(&Stage::memory(&[$($setting),*])).await;
            })*
        }

        mod redis {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() {
                if let Some(stage) = Stage::redis(&[$($setting),*]) { promise::$name(&stage).await; }
            })*
        }

        mod sqs {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() {
                promise::$name(&Stage::sqs(&[$($setting),*])).await;
            })*
        }

        mod kafka {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() {
                promise::$name(&Stage::kafka(&[$($setting),*])).await;
            })*
        }
    };
}

conformance! {
    #[with(LONG)]
    async fn what_was_accepted_is_delivered_once_as_it_was(stage: &Stage) {
        let (producer, consumer) = (stage.buffer(), stage.buffer());
        let batch = entries("e", MAX_BATCH);
        offer(&producer, &batch).await;
        drain(&consumer, batch.len()).await.assert_each_once(&batch);
        assert_empty(&consumer).await;
        assert!(consumer.poll(10, deadline()).await.unwrap().is_none());
    }

    #[with(LONG)]
    async fn what_is_leased_is_nobody_elses(stage: &Stage) {
        let (producer, consumer) = (stage.buffer(), stage.buffer());
        let other = stage.other_consumer(&consumer);
        offer(&producer, &entries("e", 3)).await;
        let leased = poll_all(&consumer, 3).await;
        assert!(other.poll(10, deadline()).await.unwrap().is_none());
        for leased in leased {
            ack(&consumer, leased).await;
        }
        assert_empty(&other).await;
    }

    #[with(SHORT)]
    async fn what_is_not_acknowledged_comes_again_after_its_lease(stage: &Stage) {
        let (producer, dead, consumer) = (stage.buffer(), stage.buffer(), stage.buffer());
        let batch = entries("e", 5);
        offer(&producer, &batch).await;
        let leased = poll_all(&dead, batch.len()).await;
        drop((leased, dead));
        drain(&consumer, batch.len()).await.assert_all(&batch);
        assert_empty(&consumer).await;
    }

    #[with(SHORT)]
    async fn a_late_acknowledgement_takes_nothing_from_the_next_holder(stage: &Stage) {
        let (producer, slow) = (stage.buffer(), stage.buffer());
        let batch = entries("e", 5);
        offer(&producer, &batch).await;
        let late = poll_all(&slow, batch.len()).await;
        let quick = stage.buffer();
        let next = poll_all(&quick, batch.len()).await;
        for late in late {
            ack(&slow, late).await;
        }
        // The next holder stores nothing either: then the batch has to come once more.
        drop((next, quick));
        drain(&stage.buffer(), batch.len()).await.assert_all(&batch);
    }

    #[with(LONG, ("BUFFER_LIMIT", "1000"))]
    async fn a_full_buffer_refuses_until_there_is_room_again(stage: &Stage) {
        let (producer, consumer) = (stage.buffer(), stage.buffer());
        let mut accepted = Vec::new();
        for n in 0..2 {
            let batch = entries(&format!("accepted{n}"), MAX_BATCH);
            offer(&producer, &batch).await;
            accepted.extend(batch);
        }
        // Leased entries count as well.
        let leased = poll(&consumer, 100).await;
        let refused = entries("refused", 1);
        let Offered::Backpressure { retry_after } = producer.offer(&refused, deadline()).await.unwrap() else {
            panic!("there was room");
        };
        assert!(retry_after >= Duration::from_secs(1), "{retry_after:?}");

        let mut stored = Stored::default();
        stored.store(leased.entries.clone());
        ack(&consumer, leased).await;
        let rest = drain(&consumer, accepted.len() - stored.0.len()).await;
        stored.0.extend(rest.0);
        stored.assert_each_once(&accepted);
        let began = Instant::now();
        while producer.offer(&refused, deadline()).await.unwrap() != Offered::Accepted {
            assert!(began.elapsed() < PATIENCE.max(2 * STALENESS), "it never opens again");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        drain(&consumer, 1).await.assert_each_once(&refused);
    }

    #[with(LONG, ("BUFFER_LIMIT", "500"))]
    async fn an_offer_that_does_not_fit_is_not_taken_in_part(stage: &Stage) {
        let producer = stage.buffer();
        let batch = entries("e", 400);
        offer(&producer, &batch).await;
        let refused = producer.offer(&entries("refused", 101), deadline()).await.unwrap();
        assert!(matches!(refused, Offered::Backpressure { .. }), "{refused:?}");
        drain(&stage.buffer(), batch.len()).await.assert_each_once(&batch);
        assert_empty(&producer).await;
    }

    #[with(LONG)]
    async fn eight_producers_and_four_consumers_at_once_lose_and_split_nothing(stage: &Stage) {
        const PRODUCERS: usize = 8;
        const OFFERS: usize = 25;
        const CONSUMERS: usize = 4;
        let (mut tasks, mut consumers) = (JoinSet::new(), JoinSet::new());
        let mut offered = Vec::new();
        for producer in 0..PRODUCERS {
            let buffer = stage.buffer();
            let batches: Vec<Vec<Entry>> =
                (0..OFFERS).map(|n| entries(&format!("p{producer}b{n}"), 1 + n * 7 % 40)).collect();
            offered.extend(batches.iter().flatten().cloned());
            tasks.spawn(async move {
                for batch in batches {
                    offer(&buffer, &batch).await;
                }
            });
        }
        let number = offered.len();
        let stored = Arc::new(Mutex::new(Stored::default()));
        for _ in 0..CONSUMERS {
            let (buffer, stored) = (stage.buffer(), Arc::clone(&stored));
            consumers.spawn(async move {
                let began = Instant::now();
                while stored.lock().unwrap().0.len() < number {
                    assert!(began.elapsed() < PATIENCE, "some never come");
                    let Some(leased) = buffer.poll(50, deadline()).await.unwrap() else { continue };
                    stored.lock().unwrap().store(leased.entries.clone());
                    ack(&buffer, leased).await;
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        while let Some(ended) = consumers.join_next().await {
            ended.unwrap();
        }
        let stored = stored.lock().unwrap();
        if stage.delivers_again_when_a_consumer_comes() {
            stored.assert_all(&offered);
        } else {
            stored.assert_each_once(&offered);
        }
    }

    #[with(LONG)]
    async fn entries_of_the_largest_size_pass_in_the_largest_batch(stage: &Stage) {
        let batch = sized_entries("large", MAX_BATCH, MAX_PAYLOAD_BYTES);
        offer(&stage.buffer(), &batch).await;
        drain(&stage.buffer(), batch.len()).await.assert_each_once(&batch);
    }

    #[with(LONG)]
    async fn the_size_counts_what_waits_and_what_is_leased(stage: &Stage) {
        let buffer = stage.buffer();
        assert_eq!(size(&buffer).await.entries, 0);
        let mut batch = entries("e", 300);
        for entry in &mut batch {
            entry.offered_at = now() - Duration::from_mins(1);
        }
        offer(&buffer, &batch).await;
        let waiting = size(&buffer).await;
        assert_eq!(waiting.entries, 300);
        let leased = poll(&buffer, 100).await;
        let leased_too = size(&buffer).await;
        assert_eq!(leased_too.entries, 300);
        for age in [waiting.oldest, leased_too.oldest].into_iter().flatten() {
            assert!(age >= Duration::from_mins(1) && age < Duration::from_mins(1) + PATIENCE, "{age:?}");
        }
        let number = leased.entries.len();
        ack(&buffer, leased).await;
        assert_eq!(size(&buffer).await.entries, 300 - number as u64);
    }

    #[with(SHORT)]
    async fn a_message_that_cannot_be_read_keeps_nobody_else_waiting(stage: &Stage) {
        let buffer = stage.buffer();
        let (before, after) = (entries("before", 2), entries("after", 2));
        offer(&buffer, &before).await;
        if !stage.put("s3cret, and no message").await {
            return;
        }
        offer(&buffer, &after).await;
        let batch = [before, after].concat();
        drain(&buffer, batch.len()).await.assert_all(&batch);
        // It is set aside in the end.
        empty(&buffer).await;
    }

    #[with(SHORT)]
    async fn consumers_that_die_with_their_batches_lose_nothing(stage: &Stage) {
        let producer = stage.buffer();
        let batch = entries("e", 60);
        offer(&producer, &batch).await;
        let (mut stored, mut killed) = (Stored::default(), 0);
        let began = Instant::now();
        while stored.0.len() < batch.len() {
            assert!(began.elapsed() < PATIENCE, "only {} came", stored.0.len());
            let consumer = stage.buffer();
            let leased = loop {
                // A consumer that gets nothing polls on. A new one would have to join its group
                // first.
                match consumer.poll(30, deadline()).await.unwrap() {
                    Some(leased) => break leased,
                    None => assert!(began.elapsed() < PATIENCE, "only {} came", stored.0.len()),
                }
            };
            // Every second one dies: before it has stored anything, or after it, and before it
            // acknowledges.
            killed += 1;
            match killed % 4 {
                1 => {}
                2 => stored.store(leased.entries),
                _ => {
                    stored.store(leased.entries.clone());
                    ack(&consumer, leased).await;
                }
            }
        }
        stored.assert_all(&batch);
    }

    #[with(LONG)]
    async fn an_empty_offer_is_accepted_and_leaves_nothing(stage: &Stage) {
        let buffer = stage.buffer();
        offer(&buffer, &[]).await;
        assert_eq!(size(&buffer).await.entries, 0);
    }

    #[with(LONG)]
    async fn ids_that_are_offered_twice_come_twice_and_say_the_same(stage: &Stage) {
        let buffer = stage.buffer();
        let batch = entries("e", 4);
        offer(&buffer, &batch).await;
        offer(&buffer, &batch).await;
        let (mut stored, mut came) = (Stored::default(), 0);
        while came < 2 * batch.len() {
            let leased = poll(&buffer, 10).await;
            came += leased.entries.len();
            stored.store(leased.entries.clone());
            ack(&buffer, leased).await;
        }
        stored.assert_all(&batch);
        let times: BTreeSet<usize> = stored.0.values().map(|(times, _)| *times).collect();
        assert_eq!(times, [2].into());
    }
}
