//! A correct client: it repeats a request with the same key until it is answered, with growing
//! pauses, and refreshes its access token when that is refused.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::journal::{AttemptOutcome, Journal};

/// Longest wait for one answer: API Gateway gives up after 30 seconds, and a customer long before.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// A request that was not answered for this long is given up.
const PATIENCE: Duration = Duration::from_mins(2);
/// Pause before the first repetition.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause, also if the answer asks for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// The body as JSON; `Null` if it is not JSON.
    pub body: Value,
}

impl Answer {
    /// A string member of the body; empty if there is none.
    pub fn text(&self, name: &str) -> String {
        self.body[name].as_str().unwrap_or_default().to_owned()
    }
}

#[derive(Debug, Clone)]
pub struct Request {
    method: Method,
    path: String,
    key: Option<String>,
    body: Option<Value>,
}

impl Request {
    /// A request without a body.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), key: None, body: None }
    }

    /// A `GET`.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// A `POST` with a body.
    pub fn post(path: impl Into<String>, body: Value) -> Self {
        Self { body: Some(body), ..Self::new(Method::POST, path) }
    }

    /// With a body.
    #[must_use]
    pub fn json(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    /// With an `Idempotency-Key`.
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self }
    }
}

/// There was no answer for two minutes.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("a request was not answered for {} s", PATIENCE.as_secs())]
pub struct NoAnswer;

/// The tokens of a session.
#[derive(Debug, Clone, Default)]
pub struct Tokens {
    pub session_id: String,
    pub access: String,
    /// For the next access token.
    pub refresh: String,
}

impl Tokens {
    fn of(answer: &Answer) -> Self {
        Self {
            session_id: answer.text("sessionId"),
            access: answer.text("accessToken"),
            refresh: answer.text("refreshToken"),
        }
    }
}

/// A client of one customer on one device.
#[derive(Debug)]
pub struct Client {
    /// The customer's index.
    pub customer: usize,
    email: String,
    password: &'static str,
    base: String,
    near: String,
    address: Ipv4Addr,
    http: reqwest::Client,
    journal: Arc<Journal>,
    tokens: Mutex<Tokens>,
}

impl Client {
    /// A client near a region, not signed in. Its connections come from `address`, an address of
    /// this machine.
    pub fn new(
        (customer, email, password): (usize, String, &'static str),
        (base, near): (&str, &str),
        address: Ipv4Addr,
        journal: &Arc<Journal>,
    ) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder().timeout(ANSWER_LIMIT).local_address(IpAddr::V4(address));
        Ok(Self {
            customer,
            email,
            password,
            base: base.to_owned(),
            near: near.to_owned(),
            address,
            http: http.build()?,
            journal: Arc::clone(journal),
            tokens: Mutex::default(),
        })
    }

    /// The same customer on another device, not signed in.
    #[must_use]
    pub fn another_device(&self) -> Self {
        Self {
            customer: self.customer,
            email: self.email.clone(),
            password: self.password,
            base: self.base.clone(),
            near: self.near.clone(),
            address: self.address,
            http: self.http.clone(),
            journal: Arc::clone(&self.journal),
            tokens: Mutex::default(),
        }
    }

    /// The region that the client is near.
    pub fn near(&self) -> &str {
        &self.near
    }

    /// The source address of the client's connections.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The tokens that the client has.
    pub async fn tokens(&self) -> Tokens {
        self.tokens.lock().await.clone()
    }

    /// Signs up.
    pub async fn sign_up(&self) -> Result<Answer, NoAnswer> {
        let body = json!({"email": self.email, "password": self.password});
        self.until_answered(&Request::post("/users", body), None).await
    }

    /// Signs in.
    pub async fn sign_in(&self, device: &str) -> Result<Answer, NoAnswer> {
        let body = json!({"email": self.email, "password": self.password, "device": device});
        let answer = self.until_answered(&Request::post("/sessions", body), None).await?;
        if answer.status == 201 {
            *self.tokens.lock().await = Tokens::of(&answer);
        }
        Ok(answer)
    }

    /// Sends a request with the access token until it is answered. A customer whose session is
    /// refused signs in again, which the journal counts.
    pub async fn send(&self, request: &Request) -> Result<Answer, NoAnswer> {
        let used = self.tokens().await.access;
        let answer = self.until_answered(request, Some(&used)).await?;
        if answer.status != 401 {
            return Ok(answer);
        }
        self.renew(&used).await?;
        let renewed = self.tokens().await.access;
        self.until_answered(request, Some(&renewed)).await
    }

    /// Replaces the access token `used`, by refresh, or by signing in if that is refused.
    pub async fn renew(&self, used: &str) -> Result<(), NoAnswer> {
        let mut tokens = self.tokens.lock().await;
        if tokens.access != used {
            return Ok(());
        }
        let refresh = Request::post("/sessions/refresh", json!({"refreshToken": tokens.refresh}));
        let answer = self.until_answered(&refresh, None).await?;
        if answer.status == 200 {
            *tokens = Tokens::of(&answer);
            return Ok(());
        }
        self.journal.asked_to_sign_in();
        let body = json!({"email": self.email, "password": self.password, "device": "again"});
        let answer = self.until_answered(&Request::post("/sessions", body), None).await?;
        if answer.status == 201 {
            *tokens = Tokens::of(&answer);
        } else {
            self.unexpected("POST /sessions", &answer);
        }
        Ok(())
    }

    /// Records an answer that a correct client does not expect.
    pub fn unexpected(&self, what: &str, answer: &Answer) {
        self.journal.unexpected(format!("{what}: {} {}", answer.status, answer.body));
    }

    async fn until_answered(&self, request: &Request, token: Option<&str>) -> Result<Answer, NoAnswer> {
        let began = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (region, outcome, asked) = match self.attempt(request, token).await {
                Ok((region, answer, retry_after)) => match answer.status {
                    429 | 500.. => (region, AttemptOutcome::Refused, retry_after),
                    // The first request with this key, or another payment, is in progress.
                    409 if retry_after.is_some() => (region, AttemptOutcome::Refused, retry_after),
                    _ => {
                        self.journal.attempt(region, AttemptOutcome::Answered);
                        if attempts > 1 {
                            self.journal.waited(self.customer, began.elapsed());
                        }
                        return Ok(answer);
                    }
                },
                Err(_) => (None, AttemptOutcome::NoAnswer, None),
            };
            self.journal.attempt(region, outcome);
            if began.elapsed() > PATIENCE {
                self.journal.waited(self.customer, began.elapsed());
                self.journal.given_up(format!("{} {}", request.method, request.path));
                return Err(NoAnswer);
            }
            let wait = asked.unwrap_or(pause).min(LONGEST_PAUSE);
            tokio::time::sleep(wait.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn attempt(
        &self,
        request: &Request,
        token: Option<&str>,
    ) -> Result<(Option<String>, Answer, Option<Duration>), reqwest::Error> {
        let url = format!("{}{}", self.base, request.path);
        let mut call =
            self.http.request(request.method.clone(), url).header("x-local-region-near", &self.near);
        if let Some(token) = token {
            call = call.bearer_auth(token);
        }
        if let Some(key) = &request.key {
            call = call.header("idempotency-key", key);
        }
        if let Some(body) = &request.body {
            call = call.json(body);
        }
        let response = call.send().await?;
        let header =
            |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let region = header("x-local-region");
        let retry_after = header("retry-after").and_then(|text| text.parse().ok()).map(Duration::from_secs);
        let status = response.status().as_u16();
        let body = serde_json::from_str(&response.text().await?).unwrap_or_default();
        Ok((region, Answer { status, body }, retry_after))
    }

    /// Sends bytes to an S3 link, which does not go through the front door. Returns whether S3
    /// accepted them.
    pub async fn put_file(&self, url: &str, headers: &Value, bytes: Vec<u8>) -> bool {
        let mut call = self.http.put(url).body(bytes);
        for (name, value) in headers.as_object().into_iter().flatten() {
            call = call.header(name, value.as_str().unwrap_or_default());
        }
        call.send().await.is_ok_and(|response| response.status().is_success())
    }

    /// The bytes of an S3 link.
    pub async fn get_file(&self, url: &str) -> Option<Vec<u8>> {
        let response = self.http.get(url).send().await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        response.bytes().await.ok().map(|bytes| bytes.to_vec())
    }
}
