//! Orders that stay unpaid.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_dynamodb::types::{ConditionCheck, TransactWriteItem};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use sojourn::commerce::cancellation::Expiration;
use sojourn::commerce::orders::{OrderStatus, PendingShard};
use sojourn::core::clock::Clock;
use sojourn::core::deadline::Deadline;
use sojourn::core::ids::OrderId;
use sojourn::core::problem::ProblemType;
use sojourn::platform::dynamo::{Guard, text};

use crate::shop::{Shop, kind};

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// A lock's fence that has been overtaken: its row is not there.
fn lost_fence() -> Guard {
    let check = ConditionCheck::builder()
        .table_name("LocksTable")
        .key("lockName", text("order-cleanup"))
        .condition_expression("attribute_exists(lockName)")
        .build()
        .unwrap();
    Guard(TransactWriteItem::builder().condition_check(check).build())
}

async fn pending_ids(shop: &Shop, placed_before: jiff::Timestamp) -> BTreeSet<OrderId> {
    let mut found = BTreeSet::new();
    for shard in PendingShard::fresh() {
        let mut after = None;
        loop {
            let page = shop.orders.pending("local", shard, placed_before, after).await.unwrap();
            found.extend(page.entries.into_iter().map(|pending| pending.key.order_id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    found
}

#[tokio::test]
async fn exactly_the_old_orders_that_were_not_cancelled_have_pending_reservations_until_a_clean_up_finds_them_paid()
 {
    let shop = Shop::open();
    shop.sell("tea", 50, 100).await;
    let ann = shop.customer().await;
    let mut old = BTreeSet::new();
    for _ in 0..12 {
        old.insert(shop.placed(&ann, &[("tea", 1)]).await);
    }
    let paid = shop.placed(&ann, &[("tea", 1)]).await;
    shop.pay(&ann, "p", &paid, "tok_ok").await.unwrap();
    let cancelled = shop.placed(&ann, &[("tea", 1)]).await;
    shop.cancel(&ann, "c", &cancelled).await.unwrap();
    shop.clock.advance(Duration::from_millis(1));
    let cutoff = shop.clock.now();
    shop.placed(&ann, &[("tea", 1)]).await;
    old.insert(paid.clone());
    assert_eq!(pending_ids(&shop, cutoff).await, old);
    assert_eq!(shop.cancellations().expire(&paid, "local", None, soon()).await.unwrap(), Expiration::Paid);
    old.remove(&paid);
    assert_eq!(pending_ids(&shop, cutoff).await, old);
}

#[tokio::test]
async fn twenty_concurrent_expirers_expire_an_order_once() {
    let shop = Shop::open();
    shop.sell("tea", 50, 10).await;
    let ann = shop.customer().await;
    let id = shop.placed(&ann, &[("tea", 4)]).await;
    let cancellations = shop.cancellations();
    let tries: FuturesUnordered<_> =
        (0..20).map(|_| cancellations.expire(&id, "local", None, soon())).collect();
    let ends: Vec<_> = tries.map(Result::unwrap).collect().await;
    assert_eq!(ends.iter().filter(|end| **end == Expiration::Expired).count(), 1, "{ends:?}");
    assert_eq!(ends.iter().filter(|end| **end == Expiration::AlreadyEnded).count(), 19, "{ends:?}");
    assert_eq!((shop.available("tea").await, shop.events("order.cancelled", id.as_str()).await), (10, 1));
    assert_eq!(kind(shop.pay(&ann, "p", &id, "tok_ok").await), ProblemType::OrderStateConflict);
}

#[tokio::test]
async fn a_run_that_was_overtaken_expires_nothing() {
    let shop = Shop::open();
    shop.sell("tea", 50, 10).await;
    let ann = shop.customer().await;
    let id = shop.placed(&ann, &[("tea", 4)]).await;
    let end = shop.cancellations().expire(&id, "local", Some(&lost_fence()), soon()).await.unwrap();
    assert_eq!(end, Expiration::Fenced);
    assert_eq!((shop.status(&ann, &id).await, shop.available("tea").await), (OrderStatus::PendingPayment, 6));
}

#[tokio::test]
async fn an_order_whose_lost_payment_was_captured_is_paid_and_not_expired() {
    let shop = Shop::open();
    shop.sell("tea", 50, 10).await;
    let ann = shop.customer().await;
    let id = shop.placed(&ann, &[("tea", 4)]).await;
    shop.pay(&ann, "p", &id, "tok_timeout_after_charge").await.unwrap_err();
    assert_eq!(shop.cancellations().expire(&id, "local", None, soon()).await.unwrap(), Expiration::Paid);
    assert_eq!((shop.status(&ann, &id).await, shop.charges(&id).await), (OrderStatus::Paid, 1));
    assert_eq!(shop.available("tea").await, 6);
}

#[tokio::test]
async fn an_order_whose_payment_never_reached_the_provider_expires() {
    let shop = Shop::open();
    shop.sell("tea", 50, 10).await;
    let ann = shop.customer().await;
    let id = shop.placed(&ann, &[("tea", 4)]).await;
    shop.pay(&ann, "p", &id, "tok_unavailable").await.unwrap_err();
    assert_eq!(shop.cancellations().expire(&id, "local", None, soon()).await.unwrap(), Expiration::Expired);
    assert_eq!((shop.available("tea").await, shop.charges(&id).await), (10, 0));
}

#[tokio::test]
async fn an_order_expires_only_after_the_provider_has_voided_its_payment() {
    let shop = Shop::open();
    shop.sell("tea", 50, 10).await;
    let ann = shop.customer().await;
    let id = shop.placed(&ann, &[("tea", 4)]).await;
    assert_eq!(shop.cancellations().expire(&id, "local", None, soon()).await.unwrap(), Expiration::Expired);
    let ledger = shop.rows("PaymentLedgerTable").await;
    assert_eq!(ledger.len(), 1);
    assert_eq!(ledger[0]["state"].as_s().unwrap(), "voided");
}

#[tokio::test]
async fn nobody_expires_what_is_not_there() {
    let shop = Shop::open();
    let id: OrderId = shop.ids.next();
    assert_eq!(shop.cancellations().expire(&id, "local", None, soon()).await.unwrap(), Expiration::Unknown);
}
