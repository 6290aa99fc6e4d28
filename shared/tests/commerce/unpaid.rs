//! What a customer may have unpaid at the same time: the count is exact, whatever ends an order.

use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use serde_json::json;
use sojourn::commerce::cancellation::Expiration;
use sojourn::commerce::orders::{OrderStatus, UnpaidLimits};
use sojourn::core::deadline::Deadline;
use sojourn::core::ids::OrderId;
use sojourn::core::problem::ProblemType;

use crate::shop::{Answer, Customer, Shop, is_replay, kind, order_id};

const LIMITS: UnpaidLimits = UnpaidLimits { orders: 2, units: 10 };

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

async fn stage() -> (Shop, Customer) {
    let shop = Shop::with_limits(LIMITS);
    shop.sell("tea", 50, 1_000).await;
    let ann = shop.customer().await;
    (shop, ann)
}

#[tokio::test]
async fn too_many_unpaid_orders_are_refused_until_one_is_paid_cancelled_or_expired() {
    let (shop, ann) = stage().await;
    let mut unpaid: Vec<OrderId> = Vec::new();
    for _ in 0..2 {
        unpaid.push(shop.placed(&ann, &[("tea", 2)]).await);
    }
    for end in ["pay", "cancel", "expire"] {
        let problem = shop.place(&ann, end, &[("tea", 1)]).await.unwrap_err();
        assert_eq!(problem.kind, ProblemType::UnpaidLimit, "{end}");
        assert_eq!(problem.extensions["unpaidOrders"], json!(2));
        let (count, stock) = (shop.unpaid(&ann).await, shop.available("tea").await);
        let first = unpaid.remove(0);
        match end {
            "pay" => assert_eq!(shop.pay(&ann, "p", &first, "tok_ok").await.unwrap().status, 201),
            "cancel" => assert_eq!(shop.cancel(&ann, "c", &first).await.unwrap().status, 200),
            _ => {
                let ended = shop.cancellations().expire(&first, "local", None, soon()).await.unwrap();
                assert_eq!(ended, Expiration::Expired);
            }
        }
        assert_eq!(shop.unpaid(&ann).await.0, count.0 - 1, "{end}");
        assert!(shop.available("tea").await >= stock, "the refusal has reserved nothing");
        // The refusal was not kept: the same request succeeds now.
        let placed = shop.place(&ann, end, &[("tea", 1)]).await.unwrap();
        assert_eq!((placed.status, is_replay(&placed)), (201, false), "{end}");
        unpaid.push(order_id(&placed));
    }
    assert_eq!(shop.unpaid(&ann).await, (2, 2));
    let bob = shop.customer().await;
    assert_eq!(
        shop.place(&bob, "k", &[("tea", 1)]).await.unwrap().status,
        201,
        "others have limits of their own"
    );
}

#[tokio::test]
async fn units_in_unpaid_orders_have_a_limit_too() {
    let (shop, ann) = stage().await;
    let problem = shop.place(&ann, "k", &[("tea", 11)]).await.unwrap_err();
    assert_eq!((problem.kind, &problem.extensions["reservedUnits"]), (ProblemType::UnpaidLimit, &json!(0)));
    shop.placed(&ann, &[("tea", 7)]).await;
    let problem = shop.place(&ann, "k", &[("tea", 4)]).await.unwrap_err();
    assert_eq!((problem.kind, &problem.extensions["reservedUnits"]), (ProblemType::UnpaidLimit, &json!(7)));
    assert_eq!(shop.place(&ann, "k", &[("tea", 3)]).await.unwrap().status, 201);
    assert_eq!((shop.unpaid(&ann).await, shop.available("tea").await), ((2, 10), 990));
}

#[tokio::test]
async fn orders_at_the_same_moment_do_not_pass_the_limit_together() {
    let (shop, ann) = stage().await;
    let keys: Vec<String> = (0..20).map(|n| format!("key-{n}")).collect();
    let tries = keys.iter().map(|key| shop.place(&ann, key, &[("tea", 1)]));
    let answers: Vec<Answer> = stream::iter(tries).buffer_unordered(20).collect().await;
    let (placed, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((placed.len(), refused.len()), (2, 18));
    assert!(refused.into_iter().all(|answer| kind(answer) == ProblemType::UnpaidLimit));
    assert_eq!((shop.unpaid(&ann).await, shop.available("tea").await), ((2, 2), 998));
}

#[tokio::test]
async fn an_order_that_is_paid_cancelled_and_expired_at_once_leaves_the_count_once() {
    let (shop, ann) = stage().await;
    for round in 0..10 {
        let id = shop.placed(&ann, &[("tea", 3)]).await;
        let (pay, cancel) = (format!("p{round}"), format!("c{round}"));
        let expiry = shop.cancellations();
        let (paid, cancelled, expired) = tokio::join!(
            shop.pay(&ann, &pay, &id, "tok_ok"),
            shop.cancel(&ann, &cancel, &id),
            expiry.expire(&id, "local", None, soon()),
        );
        let status = shop.status(&ann, &id).await;
        if status == OrderStatus::PendingPayment {
            // All three were in each other's way. The next one is alone.
            shop.cancel(&ann, &format!("last{round}"), &id).await.unwrap();
        }
        assert_eq!(shop.unpaid(&ann).await, (0, 0), "{paid:?} {cancelled:?} {expired:?}");
    }
}
