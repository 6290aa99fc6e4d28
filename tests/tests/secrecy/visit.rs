//! A visit to the shop by somebody who does everything right, and everything wrong: secrets turn up
//! in every place that a request has. What is answered does not matter here, but that it is
//! answered.

use serde_json::{Value, json};
use sojourn::core::clock::{Clock, SystemClock};
use sojourn::core::date_time::rfc3339;
use sojourn_tests::{Answer, File, Socket, TestRegion, fresh_key, order_of};

use crate::secrets::{Secrets, cookie_of, percent_encoded, random};

/// Somebody signed in, with all that they hold.
struct Visitor {
    email: String,
    password: String,
    access: String,
    refresh: String,
    cookie: String,
}

/// One visit, whose secrets it tells.
pub(crate) struct Visit<'a> {
    region: &'a TestRegion,
    secrets: &'a mut Secrets,
}

impl<'a> Visit<'a> {
    pub(crate) fn new(region: &'a TestRegion, secrets: &'a mut Secrets) -> Self {
        Self { region, secrets }
    }

    /// All of it.
    pub(crate) async fn pay(mut self) {
        let operator = self.operator().await;
        let lamp = json!({"name": "lamp", "price": {"amount": 100, "currency": "TWD"}});
        let put = self.region.call("PUT", "/products/lamp").bearer(&operator.access).json(&lamp);
        put.send().await.expect(201);
        let stock = self.region.call("POST", "/products/lamp/stock").bearer(&operator.access).key(&random());
        stock.json(&json!({"delta": 50})).send().await.expect(200);

        let visitor = self.visitor().await;
        self.wrong_bodies(&visitor).await;
        self.orders(&visitor).await;
        self.files(&visitor).await;
        self.exports(&visitor).await;
        self.activity(&visitor).await;
        for token in [&visitor.access, &visitor.refresh, &visitor.cookie, &visitor.password] {
            self.wrong_places(&visitor, token).await;
            self.sockets(&visitor, token).await;
        }
        self.failures(&visitor).await;
        self.session(visitor).await;
    }

    fn password(&mut self) -> String {
        let password = format!("{} \"quoted\" \\ 100 % + S\u{e4}ge {}", random(), random());
        self.secrets.keep("password", &password);
        password
    }

    async fn post(&mut self, path: &str, body: &Value) -> Answer {
        let answer = self.region.call("POST", path).json(body).send().await;
        self.secrets.keep_answer(&answer);
        answer
    }

    async fn visitor(&mut self) -> Visitor {
        let (email, password) = (format!("{}@example.com", random().to_lowercase()), self.password());
        self.post("/users", &json!({"email": email, "password": password})).await.expect(201);
        self.sign_in(email, password).await
    }

    async fn sign_in(&mut self, email: String, password: String) -> Visitor {
        let body = json!({"email": email, "password": password, "device": "laptop"});
        let answer = self.post("/sessions", &body).await.expect(201);
        let (access, refresh) = (answer.text_of("accessToken"), answer.text_of("refreshToken"));
        Visitor { email, password, access, refresh, cookie: cookie_of(&answer).unwrap() }
    }

    async fn operator(&mut self) -> Visitor {
        let Visitor { email, password, .. } = self.visitor().await;
        let found = self.region.invoke("admin-users", &json!({"find": {"email": email}})).await.expect(200);
        let grant = json!({"grant": {"userId": found.text_of("userId"), "role": "operator"}});
        self.region.invoke("admin-users", &grant).await.expect(200);
        self.sign_in(email, password).await
    }

    /// Bodies that are wrong in every way, with a password in them.
    async fn wrong_bodies(&mut self, visitor: &Visitor) {
        let (email, secret) = (visitor.email.clone(), self.password());
        let right = json!({"email": email, "password": secret}).to_string();
        let number = 7_319_402_648_135_207_i64;
        self.secrets.keep("number", &number.to_string());
        let bodies = [
            right.clone(),
            json!(right).to_string(),
            json!([email, secret]).to_string(),
            json!(secret).to_string(),
            secret.clone(),
            right[..right.len() - 1].to_owned(),
            format!("{right}{right}"),
            format!("email={email}&password={secret}"),
            json!({"email": secret, "password": email}).to_string(),
            json!({"email": email, "password": [secret]}).to_string(),
            json!({"email": email, "password": {(secret.clone()): secret}}).to_string(),
            json!({"email": email, "password": number}).to_string(),
            json!({"email": number, "password": secret}).to_string(),
            json!({"email": email, "pasword": secret}).to_string(),
            json!({"email": email, (secret.clone()): true, "password": secret}).to_string(),
            json!({"email": email, "password": secret, "device": format!("{secret}\u{7}")}).to_string(),
            json!({"email": email, "password": secret, "device": [secret]}).to_string(),
            format!("{{\"password\":\"{}\",\"password\":\"{}\"}}", random(), random()),
        ];
        for path in ["/users", "/sessions"] {
            for body in &bodies {
                for media_type in
                    ["application/json", "text/plain", "application/x-www-form-urlencoded", "a/b+json"]
                {
                    let call = self.region.call("POST", path).header("content-type", media_type);
                    let answer = call.text(body.clone()).send().await;
                    self.secrets.keep_answer(&answer);
                }
            }
        }
        let weak = random()[..11].to_owned();
        self.secrets.keep("weak password", &weak);
        self.post("/users", &json!({"email": email, "password": weak})).await.expect(400);
        let taken = self.password();
        self.post("/users", &json!({"email": email, "password": taken})).await.expect(409);
        self.post("/sessions", &json!({"email": "nobody@example.com", "password": taken})).await;
    }

    /// Orders and payments, repeated and refused.
    async fn orders(&mut self, visitor: &Visitor) {
        let key = random();
        for _ in 0..2 {
            let order = self.region.call("POST", "/orders").bearer(&visitor.access).key(&key);
            let order = order.json(&order_of(&[("lamp", 1)])).send().await.expect(201);
            let payment = format!("tok_{}{}", random(), random());
            self.secrets.keep("payment token", &payment);
            let path = format!("/orders/{}/payments", order.text_of("orderId"));
            for body in
                [json!({"paymentToken": payment}), json!({"paymentToken": [payment]}), json!({(payment): 1})]
            {
                for _ in 0..2 {
                    self.region
                        .call("POST", &path)
                        .bearer(&visitor.access)
                        .key(&random())
                        .json(&body)
                        .send()
                        .await;
                }
            }
        }
    }

    /// Links, which are as good as the files that they lead to: given, followed, refused, and made
    /// in vain.
    async fn files(&mut self, visitor: &Visitor) {
        let region = self.region;
        for file in [File::text("note.txt", "twelve bytes"), File::of_size(6 * 1024 * 1024)] {
            let announce =
                || region.call("POST", "/uploads").bearer(&visitor.access).json(&file.announcement()).send();
            let offer = announce().await.expect(201);
            self.secrets.keep_links(&offer.body);
            let body = if offer.body["method"] == "put" {
                region.send_whole(&offer, b"other bytes!").await;
                region.send_whole(&offer, &file.bytes).await;
                json!({})
            } else {
                region.send_parts(&offer, &file).await
            };
            let path = format!("/uploads/{}", offer.text_of("uploadId"));
            let complete = || {
                region.call("POST", &format!("{path}/complete")).bearer(&visitor.access).json(&body).send()
            };
            for (service, operation) in
                [("s3", "HeadObject"), ("s3", "CopyObject"), ("dynamodb", "UpdateItem")]
            {
                let rule = json!({
                    "match": {"service": service, "operation": operation, "caller": "api-uploads"},
                    "effect": {"kind": "error", "error": "InternalServerError"},
                });
                let rule = region.fault(&rule).await;
                complete().await.expect(503);
                region.lift(rule).await;
            }
            let ready = complete().await.expect(200);
            self.secrets.keep_links(&ready.body);
            assert_eq!(region.download(&ready.body).await.status(), 200);
            for path in [path.as_str(), "/uploads", "/uploads?disposition=inline"] {
                let answer = region.call("GET", path).bearer(&visitor.access).send().await.expect(200);
                self.secrets.keep_links(&answer.body);
            }
            region.call("DELETE", &path).bearer(&visitor.access).send().await.expect(204);
            region.download(&ready.body).await;
            let rule = json!({
                "match": {"service": "s3", "operation": "CreateMultipartUpload"},
                "effect": {"kind": "reset"},
            });
            let rule = region.fault(&rule).await;
            announce().await;
            region.lift(rule).await;
        }
    }

    /// Events with a secret in each place, and one that is stored.
    async fn activity(&mut self, visitor: &Visitor) {
        let (secret, now) = (self.password(), rfc3339(SystemClock.now()));
        let good = json!({"eventId": fresh_key(), "kind": "view", "productId": "lamp", "at": now});
        for member in ["eventId", "kind", "productId", "at", secret.as_str()] {
            let mut bad = good.clone();
            bad[member] = secret.as_str().into();
            let call = self.region.call("POST", "/activity").bearer(&visitor.access);
            call.json(&json!({"events": [bad]})).send().await.expect(400);
        }
        let call = self.region.call("POST", "/activity").bearer(&visitor.access);
        call.json(&json!({"events": [good]})).send().await.expect(202);
        let path = format!("/products/lamp/activity?days={secret}");
        self.region.call("GET", &path).send().await.expect(400);
    }

    /// An export, and its link: whoever has that has the file.
    async fn exports(&mut self, visitor: &Visitor) {
        let key = random();
        let body = json!({"kind": "orders", "from": "2020-01-01T00:00:00Z", "to": "2120-01-01T00:00:00Z"});
        let mut path = String::new();
        for _ in 0..2 {
            let export = self.region.call("POST", "/exports").bearer(&visitor.access).key(&key);
            path = format!("/exports/{}", export.json(&body).send().await.expect(202).text_of("exportId"));
        }
        // The worker has ended it when it has told so.
        self.region.log_with("the export has ended").await;
        let ready = self.region.call("GET", &path).bearer(&visitor.access).send().await.expect(200);
        let link = ready.text_of("downloadUrl");
        let signature = link.split("X-Amz-Signature=").nth(1).unwrap();
        self.secrets.keep("signature of a link", signature.split('&').next().unwrap());
        self.region.follow(&link).send().await.expect(200);
        self.region.follow(&format!("{link}0")).send().await;
    }

    /// A secret wherever a request has room for it.
    async fn wrong_places(&mut self, visitor: &Visitor, secret: &str) {
        let region = self.region;
        let encoded = percent_encoded(secret);
        let paths = [
            format!("/orders?access_token={encoded}"),
            format!("/orders?cursor={encoded}"),
            format!("/orders?limit={encoded}"),
            format!("/orders?{encoded}"),
            format!("/orders/{encoded}"),
            format!("/orders/{encoded}/payments"),
            format!("/products/{encoded}"),
            format!("/exports/{encoded}"),
            format!("/products?cursor={encoded}"),
            format!("/inbox?after={encoded}"),
            format!("/{encoded}"),
        ];
        for path in &paths {
            region.call("GET", path).send().await;
            region.call("GET", path).bearer(&visitor.access).send().await;
            region.call("POST", path).bearer(&visitor.access).key(&random()).json(&json!({})).send().await;
        }

        let bodies = [
            json!({"lines": [{"productId": secret, "quantity": 1}]}),
            json!({"lines": [{"productId": "lamp", "quantity": secret}]}),
            json!({"lines": secret}),
            json!({"lines": [], (secret): secret}),
            json!({"kind": secret, "from": secret, "to": secret}),
            json!({"kind": "orders", "from": secret, "to": secret}),
        ];
        for body in &bodies {
            region.call("POST", "/exports").bearer(&visitor.access).key(&random()).json(body).send().await;
            region.call("POST", "/orders").bearer(&visitor.access).key(&random()).json(body).send().await;
            region.call("PUT", "/cart").bearer(&visitor.access).json(body).send().await;
        }

        // Headers take no umlauts.
        if !secret.is_ascii() {
            return;
        }
        let headers = [
            ("authorization", secret.to_owned()),
            ("authorization", format!("Bearer {secret}x")),
            ("authorization", format!("bearer  {secret} {secret}")),
            ("authorization", format!("Basic {secret}")),
            ("authorization", format!("Token token=\"{secret}\"")),
            ("cookie", format!("__Host-SESSION={secret}")),
            ("cookie", format!("__Host-SESSION=\"{secret}\"; other={secret}; __Host-SESSION={secret}")),
            ("cookie", secret.to_owned()),
            ("origin", format!("https://{secret}.example")),
            ("referer", format!("https://shop.example/?token={secret}")),
            ("user-agent", secret.to_owned()),
            ("if-match", format!("\"{secret}\"")),
            ("x-amzn-trace-id", format!("Root={secret}")),
            ("x-request-id", secret.to_owned()),
            (secret, "value".to_owned()),
        ];
        for (name, value) in &headers {
            region.call("GET", "/orders").header(name, value).send().await;
            let order = region.call("POST", "/orders").header(name, value).key(&random());
            order.json(&order_of(&[("lamp", 1)])).send().await;
        }
        for _ in 0..2 {
            let order =
                region.call("POST", "/orders").bearer(&visitor.access).key(&secret[..secret.len().min(255)]);
            order.json(&order_of(&[("lamp", 1)])).send().await;
        }
        let typed = region.call("POST", "/orders").bearer(&visitor.access).key(&random());
        typed.header("content-type", &format!("application/{secret}")).text("{}").send().await;
    }

    /// Handshakes and frames.
    async fn sockets(&mut self, visitor: &Visitor, secret: &str) {
        let url = self.region.ws_url();
        let bearer = format!("Bearer {}", visitor.access);
        if secret.is_ascii() {
            let handshakes: [Vec<(&'static str, String)>; 6] = [
                vec![("sec-websocket-protocol", secret.to_owned())],
                vec![("sec-websocket-protocol", format!("sojourn.v1, {secret}x"))],
                vec![("sec-websocket-protocol", format!("sojourn.v1, {secret}, {secret}"))],
                vec![("authorization", secret.to_owned())],
                vec![("cookie", format!("__Host-SESSION={secret}"))],
                vec![("authorization", bearer.clone()), ("origin", format!("https://{secret}.example"))],
            ];
            for headers in &handshakes {
                let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                // An open socket is as good as a refusal here.
                if let Ok(socket) = Socket::open_with(url, &headers).await {
                    socket.close().await;
                }
            }
            let in_the_url = format!("{url}?token={secret}");
            assert!(Socket::open_with(&in_the_url, &[]).await.is_err(), "a token in the URL is none");
        }

        let mut socket = Socket::open(url, &visitor.access).await.unwrap();
        let right =
            json!({"action": "send", "to": {"broadcast": true}, "type": "chat.message", "body": secret});
        let with = |member: &str, value: Value| {
            let mut frame = right.clone();
            frame[member] = value;
            frame.to_string()
        };
        let frames = [
            right.to_string(),
            with("action", secret.into()),
            with("to", json!({"userId": secret})),
            with("to", json!({(secret): true})),
            with("type", secret.into()),
            with("messageId", secret.into()),
            with(secret, secret.into()),
            json!({"action": "ping", "token": secret}).to_string(),
            json!({"action": "inbox", "after": secret}).to_string(),
            json!(secret).to_string(),
            secret.to_owned(),
        ];
        for frame in frames {
            socket.send_text(&frame).await;
            socket.receive().await;
        }
        let reason: String = secret.chars().filter(char::is_ascii).take(120).collect();
        socket.close_because(&reason).await;
    }

    /// A store that fails while secrets are in the function's hands.
    async fn failures(&mut self, visitor: &Visitor) {
        let effects = [
            json!({"kind": "error", "error": "ProvisionedThroughputExceededException"}),
            json!({"kind": "error", "error": "InternalServerError"}),
            json!({"kind": "reset"}),
        ];
        for effect in effects {
            let rule = json!({"match": {"service": "dynamodb", "caller": "api-sessions"}, "effect": effect});
            let rule = self.region.fault(&rule).await;
            let password = self.password();
            self.post("/users", &json!({"email": "unlucky@example.com", "password": password})).await;
            let body = json!({"email": visitor.email, "password": visitor.password});
            self.post("/sessions", &body).await;
            self.post("/sessions/refresh", &json!({"refreshToken": visitor.refresh})).await;
            self.region.control("DELETE", &format!("/faults/{rule}")).send().await.expect(200);
        }
    }

    /// The life of a session to its end, and of another to its theft.
    async fn session(&mut self, visitor: Visitor) {
        let region = self.region;
        let origin = "http://127.0.0.1:5173";
        let cookie = format!("__Host-SESSION={}", visitor.cookie);
        for path in ["/orders", "/sessions"] {
            region.call("GET", path).header("cookie", &cookie).send().await.expect(200);
        }
        let preferences = region.call("PATCH", "/sessions/current/preferences");
        let preferences = preferences.header("cookie", &cookie).header("origin", origin);
        preferences.json(&json!({"note": self.password()})).send().await;

        let second = self.sign_in(visitor.email.clone(), visitor.password.clone()).await;
        self.refreshes(second).await;

        let new = self.password();
        for (current, new, status) in [(&new, &visitor.password, 401), (&visitor.password, &new, 204)] {
            let change = region.call("PUT", "/users/me/password").bearer(&visitor.access);
            change.json(&json!({"current": current, "new": new})).send().await.expect(status);
        }
        let leave = region.call("DELETE", "/sessions/current").header("cookie", &cookie);
        leave.header("origin", origin).send().await.expect(204);
        region.call("GET", "/orders").bearer(&visitor.access).send().await.expect(401);
        region.call("GET", "/.well-known/jwks.json").send().await.expect(200);

        // Until nothing is tried any more.
        let wrong = json!({"email": visitor.email, "password": visitor.password});
        while self.post("/sessions", &wrong).await.status != 429 {}
    }

    /// A refresh token in wrong forms, exchanged, repeated, and used by its thief.
    async fn refreshes(&mut self, stolen: Visitor) {
        for body in [
            json!({"refreshToken": [stolen.refresh]}),
            json!({"refresh": stolen.refresh}),
            json!({"refreshToken": stolen.access}),
            json!({"refreshToken": format!("{}x", stolen.refresh)}),
            json!(stolen.refresh),
        ] {
            self.post("/sessions/refresh", &body).await;
        }
        let mut last = stolen.refresh.clone();
        for _ in 0..3 {
            let renewed = self.post("/sessions/refresh", &json!({"refreshToken": last})).await.expect(200);
            self.post("/sessions/refresh", &json!({"refreshToken": last})).await.expect(200);
            last = renewed.text_of("refreshToken");
        }
        self.post("/sessions/refresh", &json!({"refreshToken": stolen.refresh})).await.expect(401);
        self.post("/sessions/refresh", &json!({"refreshToken": last})).await.expect(401);
    }
}
