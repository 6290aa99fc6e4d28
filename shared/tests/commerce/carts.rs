//! Carts: replaced by compare-and-swap, and taken by one order.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use local_region::services::Service;
use local_region::services::faults::{Effect, Failure, Rule, When};
use serde_json::json;
use sojourn::commerce::carts::{Cart, CartDraft, CartError, MAX_LINES, Replacement};
use sojourn::core::deadline::Deadline;
use sojourn::core::ids::ProductId;
use sojourn::core::precondition::{EntityTag, Preconditions};
use sojourn::core::problem::ProblemType;

use crate::shop::{Answer, Customer, Shop, is_replay, kind, lines_of, member, order_id};

/// Writers at one cart at one moment.
const CONCURRENT: usize = 50;

fn requests(effect: Effect, operation: &str) -> Rule {
    Rule::new(effect).service(Service::DynamoDb).operation(operation)
}

/// How often the cart was written: in a single region its tag says that.
fn version_of(cart: &Cart) -> u64 {
    version_in(cart.tag())
}

fn version_in(tag: &EntityTag) -> u64 {
    match tag {
        EntityTag::Version(version) => *version,
        other => panic!("not the tag of a single region: {other}"),
    }
}

fn version(answer: Result<Cart, CartError>) -> u64 {
    version_of(&answer.unwrap())
}

fn stale(answer: Result<Cart, CartError>) -> u64 {
    match answer {
        Err(CartError::Stale(tag)) => version_in(&tag),
        other => panic!("not stale: {other:?}"),
    }
}

fn lines(cart: &Cart) -> serde_json::Value {
    cart.document()["lines"].clone()
}

#[tokio::test]
async fn a_cart_is_there_before_it_was_written_and_belongs_to_its_customer() {
    let shop = Shop::open();
    let (ann, bob) = (shop.customer().await, shop.customer().await);
    assert_eq!(shop.cart(&ann).await, Cart::default());
    let written = shop.put_cart(&ann, &[("tea", 2)], None).await.unwrap();
    assert_eq!(
        written.document(),
        json!({"lines": [{"productId": "tea", "quantity": 2}], "updatedAt": "2026-11-20T09:30:00.123Z"})
    );
    assert_eq!(shop.cart(&ann).await, written);
    assert_eq!(shop.cart(&bob).await, Cart::default());
}

#[tokio::test]
async fn of_fifty_concurrent_writes_on_one_known_version_one_wins() {
    let shop = Shop::open();
    let ann = shop.customer().await;
    for known in 0..3_u64 {
        let tag = format!("\"{known}\"");
        let products: Vec<String> = (0..CONCURRENT).map(|n| format!("p{known}-{n}")).collect();
        let tries: FuturesUnordered<_> = products
            .iter()
            .map(|product| {
                let (shop, ann, tag) = (&shop, &ann, &tag);
                async move { shop.put_cart(ann, &[(product, 1)], Some(tag)).await }
            })
            .collect();
        let answers: Vec<_> = tries.collect().await;
        let (mut won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        assert_eq!((won.len(), lost.len()), (1, CONCURRENT - 1));
        assert_eq!(shop.cart(&ann).await, won.remove(0).unwrap());
        assert!(lost.into_iter().all(|answer| stale(answer) == known + 1));
    }
}

#[tokio::test]
async fn writes_without_a_precondition_all_happen_and_each_raises_the_version_by_one() {
    let shop = Shop::open();
    let ann = shop.customer().await;
    let products: Vec<String> = (0..CONCURRENT).map(|n| format!("p{n}")).collect();
    let tries: FuturesUnordered<_> = products
        .iter()
        .map(|product| {
            let (shop, ann) = (&shop, &ann);
            async move { shop.put_cart(ann, &[(product, 1)], None).await }
        })
        .collect();
    let carts: Vec<Cart> = tries.map(Result::unwrap).collect().await;
    let versions: BTreeSet<u64> = carts.iter().map(version_of).collect();
    assert_eq!(versions, (1..=50).collect());
    let last = carts.into_iter().find(|cart| version_of(cart) == 50).unwrap();
    assert_eq!(shop.cart(&ann).await, last);
}

#[tokio::test]
async fn an_asterisk_means_a_cart_with_lines() {
    let shop = Shop::open();
    let ann = shop.customer().await;
    let any = Some("*");
    assert_eq!(stale(shop.put_cart(&ann, &[("tea", 1)], any).await), 0);
    assert_eq!(version(shop.put_cart(&ann, &[("tea", 1)], None).await), 1);
    assert_eq!(version(shop.put_cart(&ann, &[("pot", 1)], any).await), 2);
    assert_eq!(version(shop.put_cart(&ann, &[], any).await), 3);
    assert_eq!(stale(shop.put_cart(&ann, &[("tea", 1)], any).await), 3);
}

#[tokio::test]
async fn a_deleted_cart_does_not_begin_anew() {
    let shop = Shop::open();
    let ann = shop.customer().await;
    assert_eq!(version(shop.put_cart(&ann, &[], None).await), 0);
    assert!(shop.rows("CartsTable").await.is_empty(), "no row is made to say that there is nothing");
    shop.put_cart(&ann, &[("tea", 1)], Some("\"0\"")).await.unwrap();
    assert_eq!(version(shop.put_cart(&ann, &[], Some("\"1\"")).await), 2);
    assert_eq!(version(shop.put_cart(&ann, &[], None).await), 2, "there was nothing left to delete");
    for before in ["\"0\"", "\"1\""] {
        assert_eq!(stale(shop.put_cart(&ann, &[("pot", 1)], Some(before)).await), 2);
    }
    assert_eq!(version(shop.put_cart(&ann, &[("pot", 1)], Some("\"2\"")).await), 3);
}

#[tokio::test]
async fn a_write_that_was_overtaken_is_held_against_its_precondition_again() {
    let shop = Shop::open();
    let ann = shop.customer().await;
    let seen = shop.put_cart(&ann, &[("tea", 1)], None).await.unwrap();
    shop.put_cart(&ann, &[("tea", 2)], None).await.unwrap();
    let write = |if_match| shop.put_cart_on(seen.clone(), &ann, &[("pot", 1)], Some(if_match));
    assert_eq!(stale(write("\"1\"").await), 2);
    assert_eq!(version(write("\"1\", \"2\"").await), 3);
    shop.put_cart(&ann, &[], None).await.unwrap();
    assert_eq!(stale(write("*").await), 4);
}

#[tokio::test]
async fn a_write_whose_answer_got_lost_is_not_made_twice() {
    let shop = Shop::open();
    let ann = shop.customer().await;
    for (known, next) in [("\"0\"", 1), ("\"1\"", 2)] {
        shop.store.embedded.faults().add(requests(Effect::CommitThenReset, "PutItem").times(1));
        assert_eq!(version(shop.put_cart(&ann, &[("tea", 1)], Some(known)).await), next);
        assert_eq!(version_of(&shop.cart(&ann).await), next);
    }
}

#[tokio::test]
async fn a_write_whose_answer_got_lost_is_known_to_have_happened_although_it_was_ordered_since() {
    let shop = Shop::open();
    shop.sell("tea", 50, 10).await;
    let ann = shop.customer().await;
    let faults = shop.store.embedded.faults();
    faults.add(requests(Effect::CommitThenReset, "PutItem").times(1));
    let held = faults.add(Rule::hold(When::Before).operation("PutItem").skip(1).times(1));
    let order = async {
        assert!(faults.until_held(held, 1).await);
        let order = shop.place_cart(&ann, "k").await;
        faults.release(held);
        order
    };
    let (written, order) = tokio::join!(shop.put_cart(&ann, &[("tea", 1)], None), order);
    assert_eq!((version(written), order.unwrap().status), (1, 201));
    let cart = shop.cart(&ann).await;
    assert_eq!((version_of(&cart), cart.is_empty()), (2, true));
}

#[tokio::test]
async fn conflicts_with_transactions_are_waited_out_until_the_deadline() {
    let shop = Shop::open();
    let ann = shop.customer().await;
    let conflict = || {
        let failure = Failure::TransactionConflictException;
        requests(Effect::Error { failure }, "PutItem")
    };
    shop.store.embedded.faults().add(conflict().times(5));
    assert_eq!(version(shop.put_cart(&ann, &[("tea", 1)], None).await), 1);

    shop.store.embedded.faults().add(conflict());
    let CartDraft { lines } = serde_json::from_value(json!({"lines": lines_of(&[("tea", 1)])})).unwrap();
    let replacement = Replacement { lines, preconditions: Preconditions::default() };
    let deadline = Deadline::after(Duration::from_millis(300));
    let outcome = shop.carts.replace(ann.user_id(), Cart::default(), replacement, deadline).await;
    assert!(matches!(outcome, Err(CartError::Contended)), "{outcome:?}");
}

#[tokio::test]
async fn an_order_takes_the_cart_and_leaves_it_empty() {
    let shop = Shop::open();
    shop.sell("tea", 50, 10).await;
    shop.sell("pot", 900, 2).await;
    let ann = shop.customer().await;
    shop.put_cart(&ann, &[("tea", 3), ("pot", 1)], None).await.unwrap();
    let reply = shop.place_cart(&ann, "k").await.unwrap();
    assert_eq!(reply.status, 201);
    assert_eq!(*member(&reply, "total"), json!({"amount": 1_050, "currency": "TWD"}));
    let ordered: Vec<_> =
        member(&reply, "lines").as_array().unwrap().iter().map(|l| &l["quantity"]).collect();
    assert_eq!(ordered, [3, 1]);
    let left = shop.cart(&ann).await;
    assert_eq!((version_of(&left), left.is_empty()), (2, true));
    assert_eq!((shop.available("tea").await, shop.available("pot").await), (7, 1));

    // What is put into the cart afterwards is not the replay's.
    shop.put_cart(&ann, &[("tea", 1)], None).await.unwrap();
    let again = shop.place_cart(&ann, "k").await.unwrap();
    assert_eq!((is_replay(&again), order_id(&again)), (true, order_id(&reply)));
    assert_eq!(version_of(&shop.cart(&ann).await), 3);
}

#[tokio::test]
async fn twenty_orders_of_one_cart_are_one_order_and_the_others_find_it_empty() {
    let shop = Shop::open();
    shop.sell("tea", 50, 100).await;
    let ann = shop.customer().await;
    shop.put_cart(&ann, &[("tea", 2)], None).await.unwrap();
    let keys: Vec<String> = (0..20).map(|n| format!("key-{n}")).collect();
    let tries: FuturesUnordered<_> = keys.iter().map(|key| shop.place_cart(&ann, key)).collect();
    let answers: Vec<Answer> = tries.collect().await;
    let (placed, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((placed.len(), refused.len()), (1, 19));
    assert!(refused.into_iter().all(|answer| kind(answer) == ProblemType::Unprocessable));
    assert_eq!((shop.order_rows().await.len(), shop.available("tea").await), (1, 98));
    assert_eq!(version_of(&shop.cart(&ann).await), 2);

    // The refusals are final: a cart that is filled again is not theirs.
    shop.put_cart(&ann, &[("tea", 1)], None).await.unwrap();
    for key in &keys {
        assert!(is_replay(&shop.place_cart(&ann, key).await.unwrap()));
    }
    assert_eq!(version_of(&shop.cart(&ann).await), 3);
}

#[tokio::test]
async fn fifty_concurrent_requests_with_one_key_take_the_cart_once_and_get_one_answer() {
    let shop = Shop::open();
    shop.sell("tea", 50, 100).await;
    let ann = shop.customer().await;
    shop.put_cart(&ann, &[("tea", 2)], None).await.unwrap();
    let tries: FuturesUnordered<_> = (0..CONCURRENT).map(|_| shop.place_cart(&ann, "k")).collect();
    let ids: HashSet<_> = tries.map(|answer| order_id(&answer.unwrap())).collect().await;
    assert_eq!((ids.len(), shop.available("tea").await), (1, 98));
}

/// Orders the cart, which is changed to `lines` between its reading and the order's transaction.
async fn order_while_the_cart_becomes(shop: &Shop, ann: &Customer, lines: &[(&str, u32)]) -> Answer {
    let faults = shop.store.embedded.faults();
    let held = faults.add(Rule::hold(When::Before).operation("TransactWriteItems").times(1));
    let change = async {
        assert!(faults.until_held(held, 1).await);
        shop.put_cart(ann, lines, None).await.unwrap();
        faults.release(held);
    };
    tokio::join!(shop.place_cart(ann, "k"), change).0
}

#[tokio::test]
async fn a_cart_that_changes_while_it_is_ordered_is_read_again() {
    let shop = Shop::open();
    for product in ["tea", "pot"] {
        shop.sell(product, 50, 10).await;
    }
    let ann = shop.customer().await;
    shop.put_cart(&ann, &[("tea", 1)], None).await.unwrap();
    let reply = order_while_the_cart_becomes(&shop, &ann, &[("pot", 2), ("tea", 3)]).await.unwrap();
    assert_eq!(member(&reply, "lines").as_array().unwrap().len(), 2);
    assert_eq!((shop.available("tea").await, shop.available("pot").await), (7, 8));
    assert_eq!(version_of(&shop.cart(&ann).await), 3);
}

#[tokio::test]
async fn what_is_short_in_a_cart_of_before_refuses_nothing() {
    let shop = Shop::open();
    for product in ["tea", "pot"] {
        shop.sell(product, 50, 10).await;
    }
    let ann = shop.customer().await;
    shop.put_cart(&ann, &[("tea", 11)], None).await.unwrap();
    let reply = order_while_the_cart_becomes(&shop, &ann, &[("pot", 1)]).await.unwrap();
    assert_eq!((reply.status, shop.available("pot").await, shop.available("tea").await), (201, 9, 10));
}

#[tokio::test]
async fn a_cart_that_is_emptied_while_it_is_ordered_is_no_order() {
    let shop = Shop::open();
    shop.sell("tea", 50, 10).await;
    let ann = shop.customer().await;
    shop.put_cart(&ann, &[("tea", 1)], None).await.unwrap();
    let answer = order_while_the_cart_becomes(&shop, &ann, &[]).await;
    assert_eq!(kind(answer), ProblemType::Unprocessable);
    assert!(shop.order_rows().await.is_empty());
}

#[tokio::test]
async fn a_refused_order_leaves_the_cart_as_it_is() {
    let shop = Shop::open();
    shop.sell("tea", 50, 3).await;
    let ann = shop.customer().await;
    let cart = shop.put_cart(&ann, &[("tea", 4)], None).await.unwrap();
    let problem = shop.place_cart(&ann, "k").await.unwrap_err();
    assert_eq!((problem.kind, &problem.extensions["productIds"]), (ProblemType::OutOfStock, &json!(["tea"])));
    assert_eq!(shop.cart(&ann).await, cart);
    shop.adjust(&ann, "more", "tea", 1).await.unwrap();
    assert!(is_replay(&shop.place_cart(&ann, "k").await.unwrap()), "the refusal is the key's answer");
    assert_eq!(shop.place_cart(&ann, "another").await.unwrap().status, 201);

    let cart = shop.put_cart(&ann, &[("elixir", 1)], None).await.unwrap();
    let problem = shop.place_cart(&ann, "unknown").await.unwrap_err();
    assert_eq!(problem.extensions["productIds"], json!(["elixir"]));
    assert_eq!(shop.cart(&ann).await, cart);
}

#[tokio::test]
async fn an_order_whose_answer_got_lost_has_emptied_the_cart_once() {
    let shop = Shop::open();
    shop.sell("tea", 50, 10).await;
    let ann = shop.customer().await;
    shop.put_cart(&ann, &[("tea", 1)], None).await.unwrap();
    let rule = shop.store.embedded.faults().add(requests(Effect::CommitThenReset, "TransactWriteItems"));
    assert_eq!(kind(shop.place_cart(&ann, "k").await), ProblemType::Unavailable);
    shop.store.embedded.faults().remove(rule);
    assert!(is_replay(&shop.place_cart(&ann, "k").await.unwrap()));
    assert_eq!((version_of(&shop.cart(&ann).await), shop.order_rows().await.len()), (2, 1));
}

#[tokio::test]
async fn an_order_of_the_cart_takes_three_round_trips_and_its_replay_one() {
    let shop = Shop::open();
    shop.sell("tea", 50, 10).await;
    shop.sell("pot", 50, 10).await;
    let ann = shop.customer().await;
    shop.put_cart(&ann, &[("tea", 1), ("pot", 1)], None).await.unwrap();
    for (what, round_trips) in [("new", 3), ("replay", 1)] {
        shop.store.embedded.usage().record();
        shop.place_cart(&ann, "k").await.unwrap();
        let usage = shop.store.embedded.usage().snapshot();
        assert_eq!(usage.log.len(), round_trips, "{what}: {:?}", usage.log);
    }
}

#[tokio::test]
async fn the_largest_cart_fits_into_one_transaction_with_its_order() {
    let shop = Shop::open();
    let products: Vec<String> = (0..MAX_LINES).map(|n| format!("product-{n}")).collect();
    for product in &products {
        shop.sell(product, 7, 1).await;
    }
    let ann = shop.customer().await;
    let lines: Vec<(&str, u32)> = products.iter().map(|product| (product.as_str(), 1)).collect();
    shop.put_cart(&ann, &lines, None).await.unwrap();
    let id = order_id(&shop.place_cart(&ann, "k").await.unwrap());
    assert_eq!(shop.order(&ann, &id).await.total.amount, 7 * 94);
}

/// Adds a product to the cart, as a device does that was told of others' writes by 412.
async fn add(shop: &Shop, ann: &Customer, product: &str) {
    loop {
        let cart = shop.cart(ann).await;
        let known: Vec<_> = cart.lines().collect();
        let known = known.iter().map(|line| (line.product_id.as_str(), line.quantity.get()));
        let lines: Vec<(&str, u32)> = known.chain([(product, 1)]).collect();
        let tag = cart.tag().to_string();
        match shop.put_cart_on(cart.clone(), ann, &lines, Some(&tag)).await {
            Ok(written) => return assert_eq!(lines_of(&lines), self::lines(&written)),
            Err(CartError::Stale(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn what_is_put_into_a_cart_while_it_is_ordered_is_ordered_once_or_still_there() {
    let shop = Shop::open();
    let products: Vec<String> = (0..24).map(|n| format!("product-{n}")).collect();
    for product in &products {
        shop.sell(product, 7, 5).await;
    }
    let ann = shop.customer().await;
    let adding: FuturesUnordered<_> = products.iter().map(|product| add(&shop, &ann, product)).collect();
    let keys: Vec<String> = (0..12).map(|n| format!("key-{n}")).collect();
    let ordering: FuturesUnordered<_> = keys.iter().map(|key| shop.place_cart(&ann, key)).collect();
    let (_, answers): (Vec<()>, Vec<Answer>) = tokio::join!(adding.collect(), ordering.collect());

    let mut found: Vec<ProductId> = shop.cart(&ann).await.lines().map(|line| line.product_id).collect();
    for reply in answers.iter().flatten() {
        found.extend(shop.order(&ann, &order_id(reply)).await.lines.into_iter().map(|line| line.product_id));
    }
    found.sort();
    let mut added: Vec<ProductId> = products.iter().map(|product| product.parse().unwrap()).collect();
    added.sort();
    assert_eq!(found, added);
}
