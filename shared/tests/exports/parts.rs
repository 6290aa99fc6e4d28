//! The list of a file's parts.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use local_region::services::faults::When;
use serde_json::json;
use sojourn::commerce::orders::{ListedOrder, OrderCursor, OrdersPage};
use sojourn::core::date_time::rfc3339;
use sojourn::core::deadline::Deadline;
use sojourn::core::ids::{self, AttemptId, UserId};
use sojourn::files::exports::dynamo::EXPORT;
use sojourn::files::exports::run::{Ended, Exporter, Slice, Stop};
use sojourn::files::exports::{Attempt, Completion, CustomerOrders, Part, PartOutcome, Period, ResultStore};
use sojourn::files::links::{FileError, MultipartId};
use sojourn::platform::dynamo::DynamoError;

use crate::stage::{At, Stage, hold};

/// Their list would be of about 150 KB.
const PARTS: usize = 1_500;

/// One order on each page. The page in the middle cannot be read the first time.
struct Pages {
    reads_in_the_middle: AtomicUsize,
}

impl CustomerOrders for Pages {
    async fn page(
        &self,
        _: &UserId,
        period: &Period,
        after: Option<&OrderCursor>,
    ) -> Result<OrdersPage<ListedOrder, OrderCursor>, DynamoError> {
        let at = |minutes: i64| period.from() + SignedDuration::from_mins(minutes);
        let number = after.map_or(0, |after| after.created_at.duration_since(period.from()).as_mins() + 1);
        if number == i64::try_from(PARTS / 2).unwrap()
            && self.reads_in_the_middle.fetch_add(1, Ordering::Relaxed) == 0
        {
            return Err(DynamoError::unreadable("Query", "orders", "not this time"));
        }
        let order = order(at(number));
        let cursor = OrderCursor { order_id: order.order_id.clone(), created_at: order.created_at };
        let next = (number + 1 < i64::try_from(PARTS).unwrap()).then_some(cursor);
        Ok(OrdersPage { orders: vec![Ok(order)], next })
    }
}

fn order(at: Timestamp) -> ListedOrder {
    let price = json!({"amount": 129, "currency": "TWD"});
    let customer: UserId = ids::random().next();
    let order_id: sojourn::core::ids::OrderId = ids::random().next();
    let order = json!({
        "orderId": order_id, "customerId": customer, "createdAt": rfc3339(at), "region": "local", "status": "PAID", "total": price,
        "lines": [{"productId": "tea", "quantity": 1, "unitPrice": price}],
    });
    serde_json::from_value(order).unwrap()
}

/// Takes parts of any size. S3, and the embedded one too, takes none under 5 MB.
#[derive(Default)]
struct SmallParts {
    completed: Mutex<Vec<Part>>,
}

impl ResultStore for SmallParts {
    async fn begin(&self, _: &str, mark: AttemptId) -> Result<Attempt, FileError> {
        Ok(Attempt { upload_id: MultipartId::new("upload"), mark })
    }

    async fn put_part(
        &self,
        _: &str,
        _: &Attempt,
        number: usize,
        bytes: Bytes,
    ) -> Result<PartOutcome, FileError> {
        let size_bytes = bytes.len() as u64;
        Ok(PartOutcome::Taken(Part {
            etag: format!("\"{number:032}\""),
            crc32: "AAAAAA==".to_owned(),
            size_bytes,
        }))
    }

    async fn complete(&self, _: &str, _: &Attempt, parts: &[Part]) -> Result<Completion, FileError> {
        *self.completed.lock().unwrap() = parts.to_vec();
        Ok(Completion::Done)
    }

    async fn abort(&self, _: &str, _: &Attempt) -> Result<(), FileError> {
        panic!("no upload is dropped")
    }
}

#[tokio::test]
async fn thousands_of_parts_are_listed_once_each_in_their_order_and_no_write_grows_with_them() {
    let stage = Stage::open();
    let id = stage.request().await;
    let aws = stage.exporter();
    let exporter = Exporter {
        orders: Pages { reads_in_the_middle: AtomicUsize::new(0) },
        results: SmallParts::default(),
        part_bytes: 1,
        rows: aws.rows,
        clock: aws.clock,
        ids: aws.ids,
    };
    let guard = stage.locks().guard(&stage.hold_the_lock(&id).await).unwrap();
    let slice = || {
        let deadline = Deadline::after(Duration::from_mins(5));
        Slice { stop_at: deadline, deadline }
    };
    let has_advanced = AtomicBool::new(false);
    let first = exporter.run(&id, &guard, slice(), &has_advanced).await;
    assert!(matches!(first, Err(Stop::Table(_))), "{first:?}");
    assert_eq!(stage.row(&id).await.checkpoint.unwrap().parts, PARTS / 2);
    let row = stage.items(id.as_str()).await.into_iter().find(|item| item["item"].as_s().unwrap() == EXPORT);
    let bytes = format!("{:?}", row.unwrap()).len();
    assert!(bytes < 2_000, "the row does not hold the list: {bytes}");

    let second = exporter.run(&id, &guard, slice(), &has_advanced).await.unwrap();
    let listed = exporter.results.completed.lock().unwrap().clone();
    assert_eq!(listed.len(), PARTS);
    for (place, part) in listed.iter().enumerate() {
        assert_eq!(part.etag, format!("\"{:032}\"", place + 1));
    }
    let size_bytes = listed.iter().map(|part| part.size_bytes).sum();
    assert_eq!(second, Ended::Ready { rows: PARTS as u64, size_bytes });
}

#[tokio::test]
async fn a_list_that_lacks_a_part_makes_no_file_and_everything_begins_anew() {
    let stage = Stage::open_with_small_parts();
    let orders = stage.orders_of_two_pages().await;
    let id = stage.request().await;
    assert!(stage.crash(&id, At::S3, hold(When::Before).operation("CompleteMultipartUpload")).await);
    let row = stage.row(&id).await;
    let dropped = row.result_key(&row.checkpoint.as_ref().unwrap().attempt.mark);
    let items = stage.items(id.as_str()).await;
    let part = items.iter().find(|item| item["item"].as_s().unwrap().starts_with("part#")).unwrap();
    let delete = stage.store.client.delete_item().table_name("ExportsTable");
    let delete = delete.key("exportId", part["exportId"].clone()).key("item", part["item"].clone());
    delete.send().await.unwrap();
    stage.finish(&id).await;
    stage.assert_ready(&id, &orders).await;
    assert_ne!(stage.row(&id).await.result.unwrap().result_key, dropped);
}
