//! Paying: one charge an order, whatever gets lost, repeated, paused or raced.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use local_region::services::Service;
use local_region::services::faults::{Effect, Failure, Rule};
use sojourn::commerce::orders::{CancelReason, OrderStatus};
use sojourn::commerce::payments::sandbox::SandboxProvider;
use sojourn::commerce::payments::{
    CLAIM_LIFETIME, Charge, ChargeOutcome, PaymentKey, PaymentProvider, PaymentRequest, ProviderError,
    VoidOutcome,
};
use sojourn::core::ids::OrderId;
use sojourn::core::problem::ProblemType;
use tokio::sync::Notify;

use crate::shop::{Customer, Shop, is_replay, kind, member};

async fn stage() -> (Shop, Customer, OrderId) {
    let shop = Shop::open();
    shop.sell("tea", 50, 10).await;
    let ann = shop.customer().await;
    let id = shop.placed(&ann, &[("tea", 4)]).await;
    (shop, ann, id)
}

/// On which side of the charge a process is paused.
#[derive(Clone, Copy)]
enum Pause {
    BeforeCharge,
    AfterCharge,
}

/// The sandbox, for a process that is paused in the middle of paying.
struct Pausing {
    sandbox: SandboxProvider,
    pause: Pause,
    paused: Arc<Notify>,
    resume: Arc<Notify>,
}

impl Pausing {
    async fn hold(&self) {
        self.paused.notify_one();
        self.resume.notified().await;
    }
}

impl PaymentProvider for Pausing {
    async fn charge(&self, charge: &Charge<'_>) -> Result<ChargeOutcome, ProviderError> {
        if matches!(self.pause, Pause::BeforeCharge) {
            self.hold().await;
        }
        let outcome = self.sandbox.charge(charge).await;
        if matches!(self.pause, Pause::AfterCharge) {
            self.hold().await;
        }
        outcome
    }

    async fn void(&self, key: &PaymentKey, reason: CancelReason) -> Result<VoidOutcome, ProviderError> {
        self.sandbox.void(key, reason).await
    }

    async fn find(&self, key: &PaymentKey) -> Result<Option<ChargeOutcome>, ProviderError> {
        self.sandbox.find(key).await
    }
}

/// Pays with `key` and is paused; meanwhile its claim lapses and `then` happens. What the zombie is
/// told in the end.
async fn zombie<F: Future<Output = ()>>(
    shop: &Shop,
    ann: &Customer,
    key: &str,
    id: &OrderId,
    pause: Pause,
    then: F,
) -> crate::shop::Answer {
    let (paused, resume) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let provider =
        Pausing { sandbox: shop.sandbox(), pause, paused: Arc::clone(&paused), resume: Arc::clone(&resume) };
    let meanwhile = async {
        paused.notified().await;
        shop.clock.advance(CLAIM_LIFETIME);
        then.await;
        resume.notify_one();
    };
    let (answer, ()) = tokio::join!(shop.pay_by(provider, ann, key, id, "tok_ok"), Box::pin(meanwhile));
    answer
}

#[tokio::test]
async fn a_captured_payment_makes_the_order_paid_and_is_replayed() {
    let (shop, ann, id) = stage().await;
    let reply = shop.pay(&ann, "p", &id, "tok_ok").await.unwrap();
    assert_eq!((reply.status, member(&reply, "status")), (201, &"CAPTURED".into()));
    assert_eq!(*member(&reply, "amount"), serde_json::json!({"amount": 200, "currency": "TWD"}));
    let order = shop.order(&ann, &id).await;
    assert_eq!(order.status, OrderStatus::Paid);
    assert_eq!(*member(&reply, "paymentId"), order.payment_id.unwrap().as_str());
    assert_eq!(
        shop.pay(&ann, "p", &id, "tok_ok").await.unwrap(),
        reply.header("idempotent-replayed", "true")
    );
    assert_eq!(kind(shop.pay(&ann, "another", &id, "tok_ok").await), ProblemType::OrderStateConflict);
    assert_eq!((shop.charges(&id).await, shop.events("order.paid", id.as_str()).await), (1, 1));
    assert!(shop.order_rows().await.iter().all(|row| !row.contains_key("pendingShard")));
}

#[tokio::test]
async fn no_row_anywhere_holds_a_payment_token() {
    let (shop, ann, id) = stage().await;
    shop.pay(&ann, "p", &id, "tok_ok").await.unwrap();
    for table in ["OrdersTable", "IdempotencyTable", "PaymentLedgerTable", "OutboxTable"] {
        assert!(!format!("{:?}", shop.rows(table).await).contains("tok_ok"), "{table}");
    }
}

#[tokio::test]
async fn a_lost_answer_is_settled_by_the_same_key_without_a_second_charge() {
    let (shop, ann, id) = stage().await;
    let lost = shop.pay(&ann, "p", &id, "tok_timeout_after_charge").await.unwrap_err();
    assert_eq!(lost.kind, ProblemType::PaymentOutcomeUnknown);
    assert!(lost.retry_after.is_some());
    assert_eq!(shop.status(&ann, &id).await, OrderStatus::PendingPayment);
    let reply = shop.pay(&ann, "p", &id, "tok_timeout_after_charge").await.unwrap();
    assert_eq!((reply.status, is_replay(&reply)), (201, false));
    assert_eq!((shop.status(&ann, &id).await, shop.charges(&id).await), (OrderStatus::Paid, 1));
}

#[tokio::test]
async fn a_lost_answer_that_is_retried_often_and_at_once_is_one_charge_and_a_paid_order() {
    let (shop, ann, id) = stage().await;
    let client = async || {
        for _ in 0..1_000 {
            match shop.pay(&ann, "p", &id, "tok_timeout_after_charge").await {
                Ok(reply) => return reply,
                Err(problem) => assert!(
                    matches!(
                        problem.kind,
                        ProblemType::PaymentOutcomeUnknown
                            | ProblemType::PaymentInProgress
                            | ProblemType::IdempotencyInProgress
                    ),
                    "{problem:?}"
                ),
            }
        }
        panic!("never settled");
    };
    let clients: FuturesUnordered<_> = (0..20).map(|_| client()).collect();
    let replies: Vec<_> = clients.collect().await;
    assert!(replies.iter().all(|reply| reply.status == 201 && reply.body == replies[0].body));
    assert_eq!((shop.status(&ann, &id).await, shop.charges(&id).await), (OrderStatus::Paid, 1));
    assert_eq!(shop.events("order.paid", id.as_str()).await, 1);
}

#[tokio::test]
async fn two_keys_at_once_are_one_charge() {
    for _ in 0..10 {
        let (shop, ann, id) = stage().await;
        let (one, other) =
            tokio::join!(shop.pay(&ann, "one", &id, "tok_ok"), shop.pay(&ann, "other", &id, "tok_ok"));
        let (won, lost) = if one.is_ok() { (one, other) } else { (other, one) };
        assert_eq!(won.unwrap().status, 201);
        let lost = kind(lost);
        assert!(matches!(lost, ProblemType::PaymentInProgress | ProblemType::OrderStateConflict), "{lost:?}");
        assert_eq!(shop.charges(&id).await, 1);
    }
}

#[tokio::test]
async fn a_decline_is_final_for_its_key_and_another_key_may_pay() {
    let (shop, ann, id) = stage().await;
    let declined = shop.pay(&ann, "p", &id, "tok_declined").await.unwrap_err();
    assert_eq!(declined.kind, ProblemType::PaymentDeclined);
    let replay = shop.pay(&ann, "p", &id, "tok_declined").await.unwrap();
    assert_eq!((replay.status, is_replay(&replay), replay.body), (402, true, Some(declined.document())));
    assert_eq!(kind(shop.pay(&ann, "p", &id, "tok_ok").await), ProblemType::IdempotencyKeyReused);
    assert_eq!(kind(shop.pay(&ann, "q", &id, "tok_of_nobody").await), ProblemType::PaymentDeclined);
    assert_eq!(shop.pay(&ann, "r", &id, "tok_ok").await.unwrap().status, 201);
    assert_eq!((shop.status(&ann, &id).await, shop.charges(&id).await), (OrderStatus::Paid, 1));
}

#[tokio::test]
async fn a_provider_that_is_down_frees_key_and_order_at_once() {
    let (shop, ann, id) = stage().await;
    for _ in 0..2 {
        let down = shop.pay(&ann, "p", &id, "tok_unavailable").await.unwrap_err();
        assert_eq!((down.kind, down.retry_after.is_some()), (ProblemType::Unavailable, true));
    }
    assert_eq!(shop.pay(&ann, "q", &id, "tok_ok").await.unwrap().status, 201);
    assert_eq!(kind(shop.pay(&ann, "p", &id, "tok_unavailable").await), ProblemType::OrderStateConflict);
    assert_eq!(shop.charges(&id).await, 1);
}

#[tokio::test]
async fn while_a_payment_is_under_way_other_keys_and_cancellation_wait() {
    let (shop, ann, id) = stage().await;
    let (paused, resume) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let provider = Pausing {
        sandbox: shop.sandbox(),
        pause: Pause::BeforeCharge,
        paused: Arc::clone(&paused),
        resume: Arc::clone(&resume),
    };
    let meanwhile = async {
        paused.notified().await;
        let rival = shop.pay(&ann, "rival", &id, "tok_ok").await.unwrap_err();
        assert_eq!((rival.kind, rival.retry_after), (ProblemType::PaymentInProgress, Some(CLAIM_LIFETIME)));
        assert_eq!(kind(shop.pay(&ann, "p", &id, "tok_ok").await), ProblemType::IdempotencyInProgress);
        assert_eq!(kind(shop.cancel(&ann, "c", &id).await), ProblemType::PaymentInProgress);
        resume.notify_one();
    };
    let (paid, ()) = tokio::join!(shop.pay_by(provider, &ann, "p", &id, "tok_ok"), meanwhile);
    assert_eq!(paid.unwrap().status, 201);
    // What was only put off was not recorded.
    assert_eq!(kind(shop.cancel(&ann, "c", &id).await), ProblemType::OrderStateConflict);
}

#[tokio::test]
async fn a_zombie_that_wakes_up_after_its_key_was_paid_gives_the_successors_answer() {
    for pause in [Pause::BeforeCharge, Pause::AfterCharge] {
        let (shop, ann, id) = stage().await;
        let then = async {
            assert_eq!(shop.pay(&ann, "p", &id, "tok_ok").await.unwrap().status, 201);
        };
        let told = zombie(&shop, &ann, "p", &id, pause, then).await.unwrap();
        assert_eq!((told.status, is_replay(&told)), (201, true));
        assert_eq!((shop.charges(&id).await, shop.events("order.paid", id.as_str()).await), (1, 1));
    }
}

#[tokio::test]
async fn a_zombie_that_was_overtaken_by_another_key_changes_nothing() {
    for pause in [Pause::BeforeCharge, Pause::AfterCharge] {
        let (shop, ann, id) = stage().await;
        let then = async {
            assert_eq!(shop.pay(&ann, "other", &id, "tok_ok").await.unwrap().status, 201);
        };
        let told = zombie(&shop, &ann, "p", &id, pause, then).await;
        assert_eq!(kind(told), ProblemType::OrderStateConflict);
        let order = shop.order(&ann, &id).await;
        assert_eq!((order.status, order.version), (OrderStatus::Paid, 4), "placed, claimed twice, paid");
        assert_eq!((shop.charges(&id).await, shop.events("order.paid", id.as_str()).await), (1, 1));
    }
}

#[tokio::test]
async fn a_charge_that_is_still_on_its_way_when_the_order_is_cancelled_comes_to_nothing() {
    let (shop, ann, id) = stage().await;
    let then = async {
        assert_eq!(shop.cancel(&ann, "c", &id).await.unwrap().status, 200);
    };
    let told = zombie(&shop, &ann, "p", &id, Pause::BeforeCharge, then).await;
    assert_eq!(kind(told), ProblemType::OrderStateConflict);
    assert_eq!((shop.status(&ann, &id).await, shop.charges(&id).await), (OrderStatus::Cancelled, 0));
    assert_eq!(shop.available("tea").await, 10);
}

#[tokio::test]
async fn an_order_whose_charge_turns_out_captured_is_paid_instead_of_cancelled() {
    let (shop, ann, id) = stage().await;
    let lost = shop.pay(&ann, "p", &id, "tok_timeout_after_charge").await;
    assert_eq!(kind(lost), ProblemType::PaymentOutcomeUnknown);
    assert_eq!(kind(shop.cancel(&ann, "c", &id).await), ProblemType::OrderStateConflict);
    assert_eq!((shop.status(&ann, &id).await, shop.charges(&id).await), (OrderStatus::Paid, 1));
    assert_eq!((shop.available("tea").await, shop.events("order.paid", id.as_str()).await), (6, 1));
}

/// The charge of an order's present generation, as a process makes it whose claim this copy of the
/// order does not show.
async fn charge_without_a_claim(shop: &Shop, ann: &Customer, id: &OrderId) -> ChargeOutcome {
    let order = shop.order(ann, id).await;
    assert_eq!(order.payment, None);
    let PaymentRequest { payment_token } =
        serde_json::from_value(serde_json::json!({"paymentToken": "tok_ok"})).unwrap();
    let charge =
        Charge { key: PaymentKey::of(&order), token: &payment_token, amount: order.total, order_id: id };
    shop.sandbox().charge(&charge).await.unwrap()
}

#[tokio::test]
async fn a_charge_after_the_cancellation_of_an_order_without_a_claim_comes_to_nothing() {
    let (shop, ann, id) = stage().await;
    shop.cancel(&ann, "c", &id).await.unwrap();
    let outcome = charge_without_a_claim(&shop, &ann, &id).await;
    assert_eq!(outcome, ChargeOutcome::Voided { reason: CancelReason::Customer });
    assert_eq!((shop.status(&ann, &id).await, shop.charges(&id).await), (OrderStatus::Cancelled, 0));
}

#[tokio::test]
async fn a_charge_without_a_claim_makes_the_order_paid_when_it_is_to_be_cancelled() {
    let (shop, ann, id) = stage().await;
    let outcome = charge_without_a_claim(&shop, &ann, &id).await;
    assert!(matches!(outcome, ChargeOutcome::Captured(_)), "{outcome:?}");
    assert_eq!(kind(shop.cancel(&ann, "c", &id).await), ProblemType::OrderStateConflict);
    assert_eq!((shop.status(&ann, &id).await, shop.charges(&id).await), (OrderStatus::Paid, 1));
    assert_eq!(shop.available("tea").await, 6);
}

#[tokio::test]
async fn a_cancellation_that_dies_after_its_void_is_completed_by_whoever_comes_next() {
    for next in ["pay", "cancel"] {
        let (shop, ann, id) = stage().await;
        let key = PaymentKey::of(&shop.order(&ann, &id).await);
        let voided = VoidOutcome::Voided { reason: CancelReason::Unpaid };
        assert_eq!(shop.sandbox().void(&key, CancelReason::Unpaid).await.unwrap(), voided);
        if next == "pay" {
            assert_eq!(kind(shop.pay(&ann, "p", &id, "tok_ok").await), ProblemType::OrderStateConflict);
            let again = shop.pay(&ann, "p", &id, "tok_ok").await.unwrap();
            assert_eq!((again.status, is_replay(&again)), (409, true));
        } else {
            assert_eq!(shop.cancel(&ann, "c", &id).await.unwrap().status, 200);
        }
        assert_eq!((shop.status(&ann, &id).await, shop.charges(&id).await), (OrderStatus::Cancelled, 0));
        assert_eq!((shop.available("tea").await, shop.events("order.cancelled", id.as_str()).await), (10, 1));
        let rows = shop.order_rows().await;
        assert_eq!(rows[0]["cancelReason"].as_s().unwrap(), "unpaid", "the reason of the void, after {next}");
    }
}

#[tokio::test]
async fn nothing_is_cancelled_while_the_provider_does_not_answer() {
    let (shop, ann, id) = stage().await;
    let down = Effect::Error { failure: Failure::InternalServerError };
    let rule =
        shop.store.embedded.faults().add(Rule::new(down).operation("PutItem").resource("PaymentLedgerTable"));
    assert_eq!(kind(shop.cancel(&ann, "c", &id).await), ProblemType::Unavailable);
    shop.store.embedded.faults().remove(rule);
    assert_eq!(shop.status(&ann, &id).await, OrderStatus::PendingPayment);
    assert_eq!(shop.cancel(&ann, "c", &id).await.unwrap().status, 200, "the key is free");
}

#[tokio::test]
async fn an_order_paid_and_cancelled_at_once_is_one_of_both_and_stock_and_money_agree() {
    let mut ends = [0, 0];
    for round in 0..30 {
        let (shop, ann, id) = stage().await;
        let later = Duration::from_micros(round * 150);
        let cancel = async {
            tokio::time::sleep(later).await;
            shop.cancel(&ann, "c", &id).await
        };
        let (paid, cancelled) = tokio::join!(shop.pay(&ann, "p", &id, "tok_ok"), cancel);
        let (status, charges) = (shop.status(&ann, &id).await, shop.charges(&id).await);
        match status {
            OrderStatus::Paid => {
                ends[0] += 1;
                assert_eq!((paid.unwrap().status, charges, shop.available("tea").await), (201, 1, 6));
                let refused = kind(cancelled);
                assert!(
                    matches!(refused, ProblemType::PaymentInProgress | ProblemType::OrderStateConflict),
                    "{refused:?}"
                );
            }
            OrderStatus::Cancelled => {
                ends[1] += 1;
                assert_eq!((cancelled.unwrap().status, charges, shop.available("tea").await), (200, 0, 10));
                assert_eq!(kind(paid), ProblemType::OrderStateConflict);
            }
            OrderStatus::PendingPayment => panic!("neither: {paid:?}, {cancelled:?}"),
        }
    }
    assert!(ends[0] > 0, "the race was never won by the payment: {ends:?}");
}

#[tokio::test]
async fn conflicts_while_the_outcome_is_recorded_are_waited_out() {
    let (shop, ann, id) = stage().await;
    let conflict = Effect::Error { failure: Failure::TransactionConflict { positions: vec![0, 1] } };
    let rule =
        Rule::new(conflict).service(Service::DynamoDb).operation("TransactWriteItems").skip(1).times(3);
    shop.store.embedded.faults().add(rule);
    assert_eq!(shop.pay(&ann, "p", &id, "tok_ok").await.unwrap().status, 201);
    assert_eq!(shop.charges(&id).await, 1);
}

#[tokio::test]
async fn a_process_that_dies_after_the_charge_is_succeeded_when_its_claim_has_lapsed() {
    let (shop, ann, id) = stage().await;
    let cut_off = Rule::new(Effect::Reset).service(Service::DynamoDb).operation("TransactWriteItems").skip(1);
    let rule = shop.store.embedded.faults().add(cut_off);
    assert_eq!(kind(shop.pay(&ann, "p", &id, "tok_ok").await), ProblemType::Unavailable);
    shop.store.embedded.faults().remove(rule);
    assert_eq!(kind(shop.pay(&ann, "p", &id, "tok_ok").await), ProblemType::IdempotencyInProgress);
    shop.clock.advance(CLAIM_LIFETIME);
    assert_eq!(shop.pay(&ann, "p", &id, "tok_ok").await.unwrap().status, 201);
    assert_eq!((shop.status(&ann, &id).await, shop.charges(&id).await), (OrderStatus::Paid, 1));
}
