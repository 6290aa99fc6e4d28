//! Wrong input gets problem+json and changes nothing.

use serde_json::json;
use sojourn_tests::{TestRegion, fresh_key, order_of};

#[tokio::test]
async fn sign_up_refuses_what_is_no_account() {
    let region = TestRegion::start().await;
    let post = |body| region.call("POST", "/users").json(&body).send();
    let good = "a long enough password";
    post(json!({"email": "a@example.com", "password": "short"})).await.expect_problem(400, "invalid-request");
    post(json!({"email": "a@example.com", "password": "x".repeat(129)}))
        .await
        .expect_problem(400, "invalid-request");
    post(json!({"email": "nobody", "password": good})).await.expect_problem(400, "invalid-request");
    post(json!({"email": "a@example.com"})).await.expect_problem(400, "invalid-request");
    post(json!({"email": "a@example.com", "password": good, "role": "operator"}))
        .await
        .expect_problem(400, "invalid-request");
    for common in ["Password2026!!", "qwertyuiop123", "a@example.com1234"] {
        let refused = post(json!({"email": "a@example.com", "password": common})).await;
        refused.expect_problem(422, "common-password");
    }
    post(json!({"email": "a@example.com", "password": good})).await.expect(201);
    post(json!({"email": "A@Example.com", "password": good})).await.expect_problem(409, "email-taken");
}

#[tokio::test]
async fn a_body_that_is_no_json_is_refused_before_anything_else_happens() {
    let region = TestRegion::start().await;
    let sign_up = || region.call("POST", "/users");
    let json = "application/json";
    sign_up().header("content-type", json).text("{").send().await.expect_problem(400, "invalid-request");
    sign_up().header("content-type", json).text("").send().await.expect_problem(400, "invalid-request");
    sign_up()
        .header("content-type", "text/plain")
        .text("{}")
        .send()
        .await
        .expect_problem(415, "unsupported-media-type");
    let huge = format!(r#"{{"email":"{}"}}"#, "x".repeat(256 * 1024));
    sign_up().header("content-type", json).text(huge).send().await.expect_problem(413, "body-too-large");
}

#[tokio::test]
async fn sign_in_answers_the_same_for_a_wrong_password_and_an_unknown_address() {
    let region = TestRegion::start().await;
    let customer = region.customer().await;
    let sign_in = |email: &str| {
        let body = json!({"email": email, "password": "certainly not the password"});
        region.call("POST", "/sessions").json(&body).send()
    };
    let wrong = sign_in(&customer.email).await.expect_problem(401, "wrong-credentials");
    let unknown = sign_in("nobody@example.com").await.expect_problem(401, "wrong-credentials");
    assert_eq!(wrong.text, unknown.text);
}

#[tokio::test]
async fn every_protected_route_refuses_a_caller_without_a_good_token() {
    let region = TestRegion::start().await;
    let protected = [
        ("PUT", "/users/me/password"),
        ("GET", "/sessions"),
        ("DELETE", "/sessions"),
        ("DELETE", "/sessions/current"),
        ("DELETE", "/sessions/ses_01JD0000000000000000000000"),
        ("PUT", "/products/lamp"),
        ("POST", "/products/lamp/stock"),
        ("GET", "/cart"),
        ("PUT", "/cart"),
        ("DELETE", "/cart"),
        ("POST", "/orders"),
        ("GET", "/orders"),
        ("GET", "/orders/ord_01JD0000000000000000000000"),
        ("POST", "/orders/ord_01JD0000000000000000000000/payments"),
        ("POST", "/orders/ord_01JD0000000000000000000000/cancel"),
    ];
    for (method, path) in protected {
        let call = || region.call(method, path).key(&fresh_key()).json(&json!({}));
        call().send().await.expect_problem(401, "unauthenticated");
        call().bearer("a.b.c").send().await.expect_problem(401, "unauthenticated");
        call().header("authorization", "Basic YTpi").send().await.expect_problem(401, "unauthenticated");
    }
}

#[tokio::test]
async fn the_catalogue_is_the_operators_to_change() {
    let region = TestRegion::start().await;
    let (customer, operator) = (region.customer().await, region.operator().await);
    let product = json!({"name": "Lamp", "price": {"amount": 100, "currency": "TWD"}});
    let put = |path| region.call_as(&customer, "PUT", path).json(&product).send();
    put("/products/lamp").await.expect_problem(403, "forbidden");
    let stock = region
        .call_as(&customer, "POST", "/products/lamp/stock")
        .key(&fresh_key())
        .json(&json!({"delta": 1}));
    stock.send().await.expect_problem(403, "forbidden");

    let put = |path, body| region.call_as(&operator, "PUT", path).json(&body).send();
    for wrong in [
        json!({"name": "", "price": {"amount": 100, "currency": "TWD"}}),
        json!({"name": "Lamp", "price": {"amount": -1, "currency": "TWD"}}),
        json!({"name": "Lamp", "price": {"amount": 1.5, "currency": "TWD"}}),
        json!({"name": "Lamp", "price": {"amount": 1, "currency": "twd"}}),
        json!({"name": "Lamp", "price": {"amount": 1, "currency": "XYZ"}}),
        json!({"name": "Lamp", "price": {"amount": 9_007_199_254_740_992_u64, "currency": "TWD"}}),
        json!({"name": "Lamp"}),
    ] {
        put("/products/lamp", wrong).await.expect_problem(400, "invalid-request");
    }
    region.call("GET", "/products/lamp").send().await.expect_problem(404, "not-found");
    put("/products/lamp", product.clone()).await.expect(201);
    put("/products/lamp", product).await.expect(200);
    assert_eq!(region.available("lamp").await, 0);

    let stock = |delta| {
        let call = region.call_as(&operator, "POST", "/products/lamp/stock").key(&fresh_key());
        call.json(&json!({"delta": delta})).send()
    };
    stock(json!(-1)).await.expect_problem(409, "stock-below-zero");
    stock(json!(0)).await.expect_problem(400, "invalid-request");
    stock(json!("1")).await.expect_problem(400, "invalid-request");
    stock(json!(3)).await.expect(200);
    let unknown = region.call_as(&operator, "POST", "/products/none/stock").key(&fresh_key());
    unknown.json(&json!({"delta": 1})).send().await.expect_problem(404, "not-found");
    region.call("GET", "/products?cursor=x").send().await.expect_problem(400, "invalid-request");
}

#[tokio::test]
async fn an_order_that_cannot_be_is_refused_and_takes_no_stock() {
    let region = TestRegion::start().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 10).await;
    let customer = region.customer().await;
    let order = |body| region.call_as(&customer, "POST", "/orders").key(&fresh_key()).json(&body).send();
    order(json!({"lines": []})).await.expect_problem(400, "invalid-request");
    order(json!({"fromCart": false})).await.expect_problem(400, "invalid-request");
    order(json!({"fromCart": true, "lines": []})).await.expect_problem(400, "invalid-request");
    order(json!({"fromCart": true})).await.expect_problem(422, "unprocessable");
    order(order_of(&[("lamp", 0)])).await.expect_problem(400, "invalid-request");
    order(order_of(&[("lamp", 1), ("lamp", 1)])).await.expect_problem(400, "invalid-request");
    order(json!({"lines": [{"productId": "lamp", "quantity": -1}]}))
        .await
        .expect_problem(400, "invalid-request");
    order(json!({"lines": [{"productId": "lamp", "quantity": 1, "unitPrice": 1}]}))
        .await
        .expect_problem(400, "invalid-request");
    let lines: Vec<_> = (0..97).map(|n| json!({"productId": format!("p{n}"), "quantity": 1})).collect();
    order(json!({"lines": lines})).await.expect_problem(400, "invalid-request");
    let unknown = order(order_of(&[("lamp", 1), ("unicorn", 1)])).await.expect_problem(422, "unprocessable");
    assert!(unknown.text.contains("unicorn"), "{}", unknown.text);
    assert_eq!(region.available("lamp").await, 10);
}

#[tokio::test]
async fn somebody_elses_order_does_not_exist() {
    let region = TestRegion::start().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 10).await;
    let (owner, stranger) = (region.customer().await, region.customer().await);
    let order_id = region.order(&owner, &fresh_key(), &[("lamp", 1)]).await.expect(201).text_of("orderId");
    region.pay(&stranger, &fresh_key(), &order_id, "tok_ok").await.expect_problem(404, "not-found");
    let cancel = region.call_as(&stranger, "POST", &format!("/orders/{order_id}/cancel")).key(&fresh_key());
    cancel.send().await.expect_problem(404, "not-found");
    let nonsense = region.call_as(&owner, "GET", "/orders/nonsense");
    nonsense.send().await.expect_problem(404, "not-found");
    let bad_token = region.call_as(&owner, "POST", &format!("/orders/{order_id}/payments")).key(&fresh_key());
    bad_token.json(&json!({"paymentToken": ""})).send().await.expect_problem(400, "invalid-request");
}
