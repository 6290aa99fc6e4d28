//! A store, a gateway, and users with sockets.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use local_region::services::faults::{Rule, When};
use serde_json::{Value, json};
use sojourn::coordination::idempotency::dynamo::DynamoClaims;
use sojourn::core::clock::{Clock, SharedClock, SystemClock, system};
use sojourn::core::deadline::Deadline;
use sojourn::core::env::Env;
use sojourn::core::ids::{MessageId, OrderId, SessionId, UserId, random};
use sojourn::identity::principal::Role;
use sojourn::identity::sessions::SessionStore;
use sojourn::platform::dynamo::text;
use sojourn::sockets::connections::{
    Audience, Connection, ConnectionKey, Cursor, DynamoConnections, MAX_HANDSHAKE, expiry,
};
use sojourn::sockets::delivery::{
    ApiGateway, Deliverer, FanOut, Message, Messenger, NextHop, Recipient, Recipients, SendRequest,
    SocketCloser,
};
use sojourn::sockets::inbox::Inbox;
use sojourn_testing::Store;
use sojourn_testing::sign_ins::sign_in;

use crate::gateway_double::Gateway;

/// Longest wait for the requests of a round.
const ROUND_LIMIT: Duration = Duration::from_mins(1);

/// Time for everything.
pub(crate) const AMPLE: Duration = Duration::from_secs(25);

pub(crate) struct Stage {
    pub(crate) store: Store,
    pub(crate) gateway: Gateway,
    pub(crate) registry: DynamoConnections,
}

pub(crate) async fn stage() -> Stage {
    let store = Store::start();
    let registry = DynamoConnections::from_env(store.client.clone(), &store.env, system()).unwrap();
    Stage { store, gateway: Gateway::start().await, registry }
}

impl Stage {
    /// Awaits `request`, which makes these rounds of requests to DynamoDB. The requests of a round
    /// are held until all of them are under way. The next round begins when the round before is
    /// released.
    pub(crate) async fn in_rounds<T>(&self, rounds: &[usize], request: impl Future<Output = T>) -> T {
        let (faults, usage) = (self.store.embedded.faults(), self.store.embedded.usage());
        usage.record();
        let mut held = faults.add(Rule::hold(When::Before));
        let release = async {
            for (place, requests) in rounds.iter().enumerate() {
                let all = tokio::time::timeout(ROUND_LIMIT, faults.until_held(held, *requests)).await;
                let status = faults.status(held).unwrap();
                assert!(all.is_ok() && status.held == *requests, "round {place} of {rounds:?}: {status:?}");
                let next = (place + 1 < rounds.len()).then(|| faults.add(Rule::hold(When::Before)));
                faults.remove(held);
                held = next.unwrap_or(held);
            }
        };
        let (answer, ()) = futures::join!(request, release);
        let made = usage.snapshot().log;
        assert_eq!(made.len(), rounds.iter().sum::<usize>(), "{rounds:?}: {made:?}");
        answer
    }

    pub(crate) fn deliverer(&self) -> Deliverer {
        Deliverer::new(self.registry.clone(), ApiGateway::new(self.gateway.sdk_config()), system())
    }

    pub(crate) fn fan_out(&self) -> FanOut {
        let lambda = aws_sdk_lambda::config::Builder::from(&self.gateway.sdk_config())
            .endpoint_url(self.gateway.url())
            .retry_config(aws_sdk_lambda::config::retry::RetryConfig::disabled())
            .build();
        let env = Env::of([("FAN_OUT_FUNCTION", "sojourn-ws-send")]);
        let next = NextHop::from_env(aws_sdk_lambda::Client::from_conf(lambda), &env).unwrap();
        FanOut::new(self.deliverer(), self.inbox(), next)
    }

    pub(crate) fn inbox(&self) -> Inbox {
        Inbox::from_env(self.store.client.clone(), &self.store.env, system()).unwrap()
    }

    pub(crate) fn messenger(&self) -> Messenger {
        self.messenger_with(&[])
    }

    /// One with other limits.
    pub(crate) fn messenger_with(&self, limits: &[(&str, &str)]) -> Messenger {
        let (client, env) = (self.store.client.clone(), &self.store.env_with(limits));
        Messenger {
            registry: self.registry.clone(),
            sessions: SessionStore::from_env(client.clone(), env, system()).unwrap(),
            claims: DynamoClaims::from_env(client.clone(), env, system(), random()).unwrap(),
            recipients: Recipients::from_env(client, env, system()).unwrap(),
            fan_out: self.fan_out(),
            peers: None,
            clock: system(),
            ids: random(),
        }
    }

    /// One whose limits on frames go by another clock.
    pub(crate) fn messenger_at(&self, clock: SharedClock) -> Messenger {
        let (client, env) = (self.store.client.clone(), &self.store.env);
        let registry = DynamoConnections::from_env(client, env, clock.clone()).unwrap();
        Messenger { registry, clock, ..self.messenger() }
    }

    pub(crate) fn closer(&self) -> SocketCloser {
        let gateway = ApiGateway::new(self.gateway.sdk_config());
        SocketCloser::new(self.registry.clone(), gateway, system(), random())
    }

    pub(crate) async fn connect(&self, id: &str, user: &UserId) -> ConnectionKey {
        self.connect_as(id, user, &[]).await
    }

    pub(crate) async fn connect_as(&self, id: &str, user: &UserId, roles: &[Role]) -> ConnectionKey {
        self.connect_at(SystemClock.now() - MAX_HANDSHAKE, id, user, roles).await
    }

    pub(crate) async fn connect_at(
        &self,
        now: Timestamp,
        id: &str,
        user: &UserId,
        roles: &[Role],
    ) -> ConnectionKey {
        let connection = Connection {
            roles: roles.iter().copied().collect(),
            ..self.connection(now, id, user, &sign_in(&self.store, user, now).await.0.id)
        };
        self.register(connection).await
    }

    /// A socket of that very session.
    pub(crate) async fn connect_in(&self, session: &SessionId, id: &str, user: &UserId) -> ConnectionKey {
        let opened = SystemClock.now() - MAX_HANDSHAKE;
        self.register(self.connection(opened, id, user, session)).await
    }

    pub(crate) fn connection(
        &self,
        now: Timestamp,
        id: &str,
        user: &UserId,
        session: &SessionId,
    ) -> Connection {
        Connection {
            key: ConnectionKey { connection_id: id.parse().unwrap(), connected_at: now },
            user_id: user.clone(),
            session_id: session.clone(),
            roles: BTreeSet::new(),
            region: "local".into(),
            endpoint: self.gateway.url().parse().unwrap(),
            last_activity: now,
            expires_at: expiry(now),
        }
    }

    async fn register(&self, connection: Connection) -> ConnectionKey {
        self.store.open_socket(&connection).await;
        connection.key
    }

    pub(crate) async fn connect_many(&self, count: usize, user: &UserId) -> Vec<String> {
        let ids: Vec<String> = (0..count).map(|n| format!("peer{n:04}=")).collect();
        let connects: Vec<_> = ids.iter().map(|id| self.connect(id, user)).collect();
        stream::iter(connects).buffer_unordered(16).collect::<Vec<_>>().await;
        ids
    }

    pub(crate) async fn registered(&self, user: &UserId) -> Vec<String> {
        let page = self.registry.find(&Audience::User(user.clone()), &Cursor::START).await.unwrap();
        page.peers.into_iter().map(|peer| peer.key.connection_id.to_string()).collect()
    }

    pub(crate) async fn order_of(&self, customer: &UserId) -> OrderId {
        let order_id: OrderId = random().next();
        let put = self.store.client.put_item().table_name("OrdersTable");
        put.item("orderId", text(order_id.as_str()))
            .item("customerId", text(customer.as_str()))
            .item("createdAt", text("2026-11-20T09:30:00.000Z"))
            .send()
            .await
            .unwrap();
        order_id
    }
}

pub(crate) fn user() -> UserId {
    random().next()
}

pub(crate) fn message(body: Value) -> Message {
    Message {
        kind: "chat.message".parse().unwrap(),
        message_id: random().next(),
        from: Some(user()),
        sent_at: "2026-11-20T09:30:00Z".parse().unwrap(),
        body: body.into(),
    }
}

pub(crate) fn request(to: Recipient, message_id: Option<&MessageId>) -> SendRequest {
    SendRequest {
        message_id: message_id.cloned(),
        to,
        kind: "chat.message".parse().unwrap(),
        body: json!({"text": "hi"}).into(),
    }
}

pub(crate) fn soon() -> Deadline {
    Deadline::after(AMPLE)
}
