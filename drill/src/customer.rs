//! A customer's actions, one after another, until the load is over.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use crate::client::{Answer, NoAnswer, Request};
use crate::journal::{AcknowledgedOrder, Journal, Revocation, UploadedFile};
use crate::shop::{Customer, product};
use crate::socket::OutgoingMessage;

/// Longest pause between two actions.
const PAUSE: Duration = Duration::from_millis(300);
/// Bytes of an uploaded file.
const FILE_BYTES: usize = 4_096;
/// Longest wait for an export.
const EXPORT_LIMIT: Duration = Duration::from_secs(30);

/// A customer at work.
pub struct Shopper {
    pub customer: Arc<Customer>,
    /// The customer's index.
    pub place: usize,
    /// The others' user ids.
    pub everybody: Arc<Vec<String>>,
    /// Messages for the customer's socket to send.
    pub letters: mpsc::UnboundedSender<OutgoingMessage>,
    /// The next message's number.
    pub numbers: Arc<AtomicU64>,
    pub journal: Arc<Journal>,
}

impl Shopper {
    /// Acts until `is_over` is true.
    pub async fn run(self, is_over: watch::Receiver<bool>) {
        while !*is_over.borrow() {
            // Given-up requests are in the journal; the customer continues.
            self.act().await.ok();
            tokio::time::sleep(PAUSE.mul_f64(rand::random())).await;
        }
    }

    async fn act(&self) -> Result<(), NoAnswer> {
        match rand::random_range(0..100) {
            0..45 => self.order_and_settle().await,
            45..55 => self.order_cart().await,
            55..70 => self.browse().await,
            70..85 => {
                self.write();
                Ok(())
            }
            85..91 => self.upload().await,
            91..94 => self.export().await,
            _ => self.lose_a_device().await,
        }
    }

    async fn send(&self, request: Request) -> Result<Answer, NoAnswer> {
        self.customer.phone.send(&request).await
    }

    /// Places an order and pays it, or cancels it.
    async fn order_and_settle(&self) -> Result<(), NoAnswer> {
        let (first, quantity) = (rand::random_range(0..crate::shop::PRODUCTS), rand::random_range(1..4));
        let lines = json!([
            {"productId": product(first), "quantity": quantity},
            {"productId": product(first + 1), "quantity": 1},
        ]);
        if let Some(order_id) = self.order(json!({"lines": lines})).await? {
            self.settle(&order_id).await?;
        }
        Ok(())
    }

    /// Fills the cart and orders it.
    async fn order_cart(&self) -> Result<(), NoAnswer> {
        let lines = json!({"lines": [{"productId": product(self.place), "quantity": 1}]});
        self.send(Request::new(Method::PUT, "/cart").json(lines)).await?;
        if let Some(order_id) = self.order(json!({"fromCart": true})).await? {
            self.settle(&order_id).await?;
        }
        Ok(())
    }

    async fn order(&self, body: Value) -> Result<Option<String>, NoAnswer> {
        let key = ulid::Ulid::generate().to_string();
        let customer_id = self.customer.user_id.clone();
        self.journal.order_sent(&customer_id, &key);
        let answer = self.send(Request::post("/orders", body).key(&key)).await?;
        if answer.status != 201 {
            self.customer.phone.unexpected("POST /orders", &answer);
            return Ok(None);
        }
        let order_id = answer.text("orderId");
        let order = AcknowledgedOrder { order_id: order_id.clone(), customer_id, key };
        self.journal.order_acknowledged(order);
        Ok(Some(order_id))
    }

    async fn settle(&self, order_id: &str) -> Result<(), NoAnswer> {
        let key = ulid::Ulid::generate().to_string();
        let path = format!("/orders/{order_id}");
        match rand::random_range(0..10) {
            0..2 => {
                let cancel = Request::new(Method::POST, format!("{path}/cancel")).key(&key);
                let answer = self.send(cancel).await?;
                if answer.status == 200 {
                    self.journal.cancelled(order_id);
                } else {
                    self.customer.phone.unexpected("POST /orders/{orderId}/cancel", &answer);
                }
            }
            tenth => {
                // For some payments, the provider's answer is lost after the charge.
                let token = if tenth < 5 { "tok_timeout_after_charge" } else { "tok_ok" };
                let pay = Request::post(format!("{path}/payments"), json!({"paymentToken": token})).key(&key);
                let answer = self.send(pay).await?;
                if answer.status == 201 {
                    self.journal.paid(order_id);
                } else {
                    self.customer.phone.unexpected("POST /orders/{orderId}/payments", &answer);
                }
            }
        }
        Ok(())
    }

    async fn browse(&self) -> Result<(), NoAnswer> {
        for path in ["/orders", "/cart", "/products"] {
            let answer = self.send(Request::get(path)).await?;
            if answer.status != 200 {
                self.customer.phone.unexpected(path, &answer);
            }
        }
        Ok(())
    }

    /// Sends a message to another customer.
    fn write(&self) {
        let to = &self.everybody[rand::random_range(0..self.everybody.len())];
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        // The socket outlives the load, so the channel is open.
        self.letters.send(OutgoingMessage { to: to.clone(), number }).ok();
    }

    async fn upload(&self) -> Result<(), NoAnswer> {
        let bytes: Vec<u8> = (0..FILE_BYTES).map(|_| rand::random()).collect();
        let sha256 = hex(digest(&SHA256, &bytes).as_ref());
        let announcement = json!({
            "fileName": "drill.bin", "contentType": "application/octet-stream", "sizeBytes": bytes.len(), "sha256": sha256,
        });
        let offer = self.send(Request::post("/uploads", announcement)).await?;
        if offer.status != 201 {
            self.customer.phone.unexpected("POST /uploads", &offer);
            return Ok(());
        }
        let url = offer.text("url");
        if !self.customer.phone.put_file(&url, &offer.body["headers"], bytes).await {
            // The link leads to one region. If S3 does not answer, a client would create another
            // upload.
            return Ok(());
        }
        let upload_id = offer.text("uploadId");
        let complete = Request::new(Method::POST, format!("/uploads/{upload_id}/complete"));
        let answer = self.send(complete).await?;
        if answer.status == 200 {
            self.journal.uploaded(UploadedFile { upload_id, customer: self.place, sha256 });
        } else {
            self.customer.phone.unexpected("POST /uploads/{uploadId}/complete", &answer);
        }
        Ok(())
    }

    async fn export(&self) -> Result<(), NoAnswer> {
        let key = ulid::Ulid::generate().to_string();
        let body = json!({"kind": "orders", "from": "2020-01-01T00:00:00Z", "to": "2120-01-01T00:00:00Z"});
        let asked = self.send(Request::post("/exports", body).key(&key)).await?;
        if !matches!(asked.status, 201 | 202) {
            self.customer.phone.unexpected("POST /exports", &asked);
            return Ok(());
        }
        let path = format!("/exports/{}", asked.text("exportId"));
        let ended = async {
            loop {
                let export = self.send(Request::get(&path)).await?;
                if matches!(export.text("status").as_str(), "READY" | "FAILED") {
                    return Ok(export);
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        match tokio::time::timeout(EXPORT_LIMIT, ended).await {
            Ok(Ok(export)) if export.text("status") == "READY" => Ok(()),
            Ok(Ok(export)) => {
                self.customer.phone.unexpected("GET /exports/{exportId}", &export);
                Ok(())
            }
            Ok(Err(given_up)) => Err(given_up),
            Err(_) => {
                self.journal.given_up("an export was not ready in time".to_owned());
                Ok(())
            }
        }
    }

    /// Signs in on another device, and revokes its session.
    async fn lose_a_device(&self) -> Result<(), NoAnswer> {
        let phone = &self.customer.phone;
        let lost = phone.another_device();
        let answer = lost.sign_in("lost").await?;
        if answer.status != 201 {
            phone.unexpected("POST /sessions", &answer);
            return Ok(());
        }
        let tokens = lost.tokens().await;
        let revoked =
            self.send(Request::new(Method::DELETE, format!("/sessions/{}", tokens.session_id))).await?;
        if revoked.status == 204 {
            self.journal.revoked(Revocation {
                session_id: tokens.session_id,
                access_token: tokens.access,
                refresh_token: tokens.refresh,
            });
        } else {
            phone.unexpected("DELETE /sessions/{sessionId}", &revoked);
        }
        Ok(())
    }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a `String` does not fail.
        write!(hex, "{byte:02x}").ok();
    }
    hex
}
