//! People in the shop, and what they usually do.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::AttributeValue;
use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use local_region::template::arn;
use serde_json::{Value, json};
use sojourn::core::clock::{Clock, SystemClock};
use sojourn::core::date_time::rfc3339;
use sojourn::platform::tables;
use sojourn::sockets::connections::MAX_HANDSHAKE;
use ulid::Ulid;

use crate::api::{Answer, Call};
use crate::region::TestRegion;
use crate::socket::Socket;

/// Everybody's password, which the rules accept.
pub const PASSWORD: &str = "correct horse battery staple";

/// Sockets that a user may have open at the same time, as the template's default is.
pub const SOCKETS_PER_USER: usize = 20;

/// Longest wait for an export. It takes milliseconds; twelve seconds longer when its worker died.
const EXPORT_LIMIT: Duration = Duration::from_mins(1);

/// Somebody who has signed in.
#[derive(Debug, Clone)]
pub struct Customer {
    /// Their id.
    pub user_id: String,
    /// Their address.
    pub email: String,
    /// Their session.
    pub session_id: String,
    /// Their access token.
    pub token: String,
    /// Gets the next one.
    pub refresh_token: String,
    /// What a browser would send back: `__Host-SESSION=…`.
    pub cookie: String,
}

impl Customer {
    /// Somebody whose session an answer opened.
    fn of(email: &str, session: &Answer) -> Self {
        let cookie = session.header("set-cookie").and_then(|line| line.split(';').next());
        Self {
            user_id: session.text_of("userId"),
            email: email.to_owned(),
            session_id: session.text_of("sessionId"),
            token: session.text_of("accessToken"),
            refresh_token: session.text_of("refreshToken"),
            cookie: cookie.expect("a sign-in sets the cookie").to_owned(),
        }
    }
}

impl TestRegion {
    /// A new customer, signed up and signed in.
    pub async fn customer(&self) -> Customer {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let email = format!("customer{}@example.com", NEXT.fetch_add(1, Ordering::Relaxed));
        self.sign_up(&email).await.expect(201);
        self.sign_in(&email).await
    }

    /// A new operator, signed in with the role.
    pub async fn operator(&self) -> Customer {
        let customer = self.customer().await;
        let grant = json!({"grant": {"userId": customer.user_id, "role": "operator"}});
        let granted = self.invoke("admin-users", &grant).await.expect(200);
        assert_eq!(granted.body["roles"], json!(["operator"]), "{}", granted.text);
        // Roles are in the token, so they come with the next one.
        self.sign_in(&customer.email).await
    }

    /// Signs up.
    pub async fn sign_up(&self, email: &str) -> Answer {
        self.call("POST", "/users").json(&json!({"email": email, "password": PASSWORD})).send().await
    }

    /// Signs in somebody who has signed up.
    pub async fn sign_in(&self, email: &str) -> Customer {
        let body = json!({"email": email, "password": PASSWORD});
        Customer::of(email, &self.call("POST", "/sessions").json(&body).send().await.expect(201))
    }

    /// Shows a refresh token.
    pub async fn refresh(&self, refresh_token: &str) -> Answer {
        let call = self.call("POST", "/sessions/refresh");
        call.json(&json!({"refreshToken": refresh_token})).send().await
    }

    /// A call with the credentials of `who`.
    pub fn call_as(&self, who: &Customer, method: &str, path: &str) -> Call {
        self.call(method, path).bearer(&who.token)
    }

    /// A call as a browser makes it: with the cookie of `who` and nothing else.
    pub fn call_by_cookie(&self, who: &Customer, method: &str, path: &str) -> Call {
        self.call(method, path).header("cookie", &who.cookie)
    }

    /// Puts a product for 129.00 TWD with `units` in stock.
    pub async fn stock(&self, operator: &Customer, product_id: &str, units: i64) {
        let product = json!({"name": product_id, "price": {"amount": 12_900, "currency": "TWD"}});
        let path = format!("/products/{product_id}");
        let put = self.call_as(operator, "PUT", &path).json(&product).send().await;
        assert!(matches!(put.status, 200 | 201), "{}", put.text);
        if units > 0 {
            let delta = self.call_as(operator, "POST", &format!("{path}/stock")).key(&fresh_key());
            delta.json(&json!({"delta": units})).send().await.expect(200);
        }
    }

    /// Units that this region can sell: of the row, since the catalogue shows them as they were
    /// some seconds ago.
    pub async fn available(&self, product_id: &str) -> i64 {
        let client = self.dynamodb();
        let row = client.get_item().table_name(tables::STOCK.logical_id).consistent_read(true);
        let row = row.key("productId", AttributeValue::S(product_id.to_owned()));
        let row =
            row.key("region", AttributeValue::S("local".to_owned())).send().await.expect("DynamoDB answers");
        let units = row.item.as_ref().and_then(|row| row.get("available")?.as_n().ok());
        units.map_or(0, |units| units.parse().expect("available is a number"))
    }

    /// Orders `lines` (product and quantity) under `key`.
    pub async fn order(&self, who: &Customer, key: &str, lines: &[(&str, u32)]) -> Answer {
        self.call_as(who, "POST", "/orders").key(key).json(&order_of(lines)).send().await
    }

    /// The cart of `who`.
    pub async fn cart(&self, who: &Customer) -> Answer {
        self.call_as(who, "GET", "/cart").send().await.expect(200)
    }

    /// Replaces the cart of `who`, whatever is in it.
    pub async fn fill_cart(&self, who: &Customer, lines: &[(&str, u32)]) -> Answer {
        self.call_as(who, "PUT", "/cart").json(&order_of(lines)).send().await.expect(200)
    }

    /// Orders under `key` what is in the cart of `who`.
    pub async fn order_cart(&self, who: &Customer, key: &str) -> Answer {
        self.call_as(who, "POST", "/orders").key(key).json(&json!({"fromCart": true})).send().await
    }

    /// Pays an order under `key`.
    pub async fn pay(&self, who: &Customer, key: &str, order_id: &str, payment_token: &str) -> Answer {
        let call = self.call_as(who, "POST", &format!("/orders/{order_id}/payments")).key(key);
        call.json(&json!({"paymentToken": payment_token})).send().await
    }

    /// Asks under `key` for a file of all orders that `who` has placed so far.
    pub async fn export(&self, who: &Customer, key: &str) -> Answer {
        let body = json!({"kind": "orders", "from": "2020-01-01T00:00:00Z", "to": "2120-01-01T00:00:00Z"});
        self.call_as(who, "POST", "/exports").key(key).json(&body).send().await
    }

    /// What has become of an export.
    pub async fn exported(&self, who: &Customer, export_id: &str) -> Answer {
        self.call_as(who, "GET", &format!("/exports/{export_id}")).send().await.expect(200)
    }

    /// An export once it has ended. Its progress must not fall on the way.
    pub async fn ended_export(&self, who: &Customer, export_id: &str) -> Answer {
        let began = Instant::now();
        let mut progress = 0;
        loop {
            let export = self.exported(who, export_id).await;
            let now = export.body["progress"].as_u64().expect("progress is a number");
            assert!(now >= progress, "{progress}, and then {}", export.text);
            progress = now;
            if matches!(export.body["status"].as_str(), Some("READY" | "FAILED")) {
                return export;
            }
            assert!(began.elapsed() < EXPORT_LIMIT, "it does not end: {}", export.text);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Makes an order `hours` older than it is.
    pub async fn age_order(&self, order_id: &str, hours: u64) {
        let then = SystemClock.now().checked_sub(Duration::from_hours(hours)).unwrap();
        for row in [order_id.to_owned(), format!("{order_id}#reserved#{}", arn::local().region())] {
            let update = self.dynamodb().update_item().table_name(tables::ORDERS.logical_id);
            let update =
                update.key("orderId", AttributeValue::S(row)).update_expression("SET createdAt = :then");
            update
                .expression_attribute_values(":then", AttributeValue::S(rfc3339(then)))
                .send()
                .await
                .unwrap();
        }
    }

    /// Makes an order look like one that `placed_in` has placed, and that has replaced another
    /// region's.
    pub async fn replace_order(&self, order_id: &str, placed_in: &str) {
        let update = self.dynamodb().update_item().table_name(tables::ORDERS.logical_id);
        let update = update.key("orderId", AttributeValue::S(order_id.to_owned()));
        let update =
            update.update_expression("SET #region = :other").expression_attribute_names("#region", "region");
        update
            .expression_attribute_values(":other", AttributeValue::S(placed_in.to_owned()))
            .send()
            .await
            .unwrap();
    }

    /// Makes a session look unused for `minutes`: the next request stamps it.
    pub async fn quiet_session(&self, session_id: &str, minutes: u64) {
        let then = SystemClock.now().checked_sub(Duration::from_mins(minutes)).unwrap();
        let update = self.dynamodb().update_item().table_name(tables::SESSIONS.logical_id);
        let update = update.key("sessionId", AttributeValue::S(session_id.to_owned()));
        let update = update.update_expression("SET lastActivity = :then");
        update.expression_attribute_values(":then", AttributeValue::S(rfc3339(then))).send().await.unwrap();
    }

    /// When a session was last in use, as its row has it.
    pub async fn last_activity(&self, session_id: &str) -> Timestamp {
        let get = self.dynamodb().get_item().table_name(tables::SESSIONS.logical_id).consistent_read(true);
        let row = get.key("sessionId", AttributeValue::S(session_id.to_owned())).send().await.unwrap();
        row.item.unwrap()["lastActivity"].as_s().unwrap().parse().unwrap()
    }

    /// Leaves a row of a socket of `who` that is gone without a `$disconnect`, as a lost event
    /// does. Somebody of theirs has to be connected.
    pub async fn lost_socket(&self, who: &Customer) {
        let table = tables::CONNECTIONS.logical_id;
        let rows = self.dynamodb().scan().table_name(table).send().await.unwrap();
        let is_theirs = |row: &&HashMap<_, _>| row["userId"] == AttributeValue::S(who.user_id.clone());
        let mut row = rows.items().iter().find(is_theirs).expect("they are connected").clone();
        let opened = SystemClock.now().checked_sub(MAX_HANDSHAKE).unwrap();
        row.insert("connectionId".into(), AttributeValue::S("ZGVhZHBlZXI=".into()));
        row.insert("connectedAt".into(), AttributeValue::S(rfc3339(opened)));
        self.dynamodb().put_item().table_name(table).set_item(Some(row)).send().await.unwrap();
    }

    /// A message from `sender` in the inbox of `to`, who must have no socket. Tells its id.
    pub async fn store_message(&self, to: &Customer, sender: &Customer) -> String {
        let mut socket = self.socket(sender).await;
        socket
            .send(
                &json!({"action": "send", "to": {"userId": to.user_id}, "type": "chat.message", "body": {}}),
            )
            .await;
        let ack = socket.receive().await;
        assert_eq!(ack["stored"], true, "{ack}");
        socket.close().await;
        ack["messageId"].as_str().expect("an acknowledgement has the id").to_owned()
    }

    /// Removes the rows of all sockets, which stay open.
    pub async fn forget_sockets(&self) {
        let table = tables::CONNECTIONS.logical_id;
        let rows = self.dynamodb().scan().table_name(table).send().await.unwrap();
        for row in rows.items() {
            let delete = self.dynamodb().delete_item().table_name(table);
            delete.key("connectionId", row["connectionId"].clone()).send().await.unwrap();
        }
    }

    /// Opens `number` sockets of new customers, each of whom has as many as a user may have.
    pub async fn crowd(&self, number: usize) -> Vec<Socket> {
        let customers: Vec<Customer> = stream::iter(0..number.div_ceil(SOCKETS_PER_USER))
            .map(|_| self.customer())
            .buffer_unordered(4)
            .collect()
            .await;
        let sockets = customers.iter().cycle().take(number).map(|customer| self.socket(customer));
        stream::iter(sockets).buffer_unordered(20).collect().await
    }

    /// Opens a socket as `who`.
    pub async fn socket(&self, who: &Customer) -> Socket {
        Socket::open(self.ws_url(), &who.token).await.expect("the handshake succeeds")
    }
}

/// A key that was never used.
pub fn fresh_key() -> String {
    Ulid::generate().to_string()
}

/// The body of an order, or of a cart.
pub fn order_of(lines: &[(&str, u32)]) -> Value {
    let lines: Vec<_> =
        lines.iter().map(|(id, quantity)| json!({"productId": id, "quantity": quantity})).collect();
    json!({"lines": lines})
}
