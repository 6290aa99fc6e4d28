//! What one user may do with sockets: how many they open, how fast they send, and whom they write
//! to.

use std::time::Duration;

use futures::stream::{self, StreamExt};
use serde_json::{Value, json};
use sojourn_tests::{Customer, Options, SOCKETS_PER_USER, Socket, TestRegion};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// Frames that a socket may send within five seconds, where a test floods.
const FRAMES: usize = 10;
/// More frames than are taken before the socket is closed.
const FLOOD: usize = 1_000;

async fn region_with(settings: &[&str]) -> TestRegion {
    let arguments = settings.iter().flat_map(|setting| ["--parameter", *setting]);
    let arguments = arguments.map(str::to_owned).collect();
    TestRegion::start_with(Options { arguments, ..Options::default() }).await
}

/// The status of a handshake: 101 or the refusal's.
async fn handshake(region: &TestRegion, who: &Customer) -> (u16, Option<Socket>) {
    match Socket::open(region.ws_url(), &who.token).await {
        Ok(socket) => (101, Some(socket)),
        Err(Error::Http(response)) => (response.status().as_u16(), None),
        Err(other) => panic!("refused without a status: {other}"),
    }
}

/// Waits until a handshake succeeds: a close reaches the region a moment after the client has it.
async fn until_let_in(region: &TestRegion, who: &Customer) -> Socket {
    for _ in 0..200 {
        match handshake(region, who).await {
            (_, Some(socket)) => return socket,
            (status, None) => assert_eq!(status, 429),
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("no place became free");
}

fn to_user(user: &Customer) -> Value {
    json!({"action": "send", "to": {"userId": user.user_id}, "type": "chat.message", "body": {}})
}

#[tokio::test]
async fn a_socket_too_many_is_refused_until_another_one_has_ended() {
    let region = TestRegion::start().await;
    let (alice, bob) = (region.customer().await, region.customer().await);
    let phone = region.sign_in(&alice.email).await;
    let handshakes = (0..30).map(|n| handshake(&region, if n % 2 == 0 { &alice } else { &phone }));
    let outcomes: Vec<_> = stream::iter(handshakes).buffer_unordered(30).collect().await;
    let mut open = Vec::new();
    for (status, socket) in outcomes {
        assert_eq!(status, if socket.is_some() { 101 } else { 429 });
        open.extend(socket);
    }
    assert_eq!(open.len(), SOCKETS_PER_USER);
    for socket in &mut open {
        socket.send(&json!({"action": "ping"})).await;
        assert_eq!(socket.receive().await, json!({"type": "pong"}));
    }
    let mut others = region.socket(&bob).await;
    others.send(&to_user(&alice)).await;
    assert_eq!(others.receive().await["delivered"], SOCKETS_PER_USER);

    if let Some(closed) = open.pop() {
        closed.close().await;
    }
    open.push(until_let_in(&region, &alice).await);
    assert_eq!(handshake(&region, &alice).await.0, 429);

    // What a sign-out closes makes room as well.
    region.call_as(&phone, "DELETE", "/sessions/current").send().await.expect(204);
    until_let_in(&region, &alice).await;
}

#[tokio::test]
async fn a_client_that_floods_is_slowed_and_closed_and_others_do_not_notice() {
    let region = region_with(&["FramesPerSocket=10"]).await;
    let (mallory, alice, bob) = (region.customer().await, region.customer().await, region.customer().await);
    let (mut flooding, mut receiver) = (region.socket(&mallory).await, region.socket(&bob).await);
    let mut bystander = region.socket(&alice).await;

    let frames = (0..FLOOD).map(|n| match n % 3 {
        0 => "neither JSON nor a frame".to_owned(),
        1 => json!({"action": "ping"}).to_string(),
        _ => to_user(&bob).to_string(),
    });
    // As many as the bystander may send at once.
    let pings = async {
        for _ in 0..FRAMES {
            bystander.send(&json!({"action": "ping"})).await;
            assert_eq!(bystander.receive().await, json!({"type": "pong"}));
        }
    };
    let ((heard, close), ()) = futures::join!(flooding.flood(frames), pings);
    assert_eq!(close.map(|frame| frame.code), Some(CloseCode::Normal));

    let refused: Vec<&Value> = heard.iter().filter(|frame| frame["status"] == 429).collect();
    assert!(refused.iter().all(|frame| frame["problem"] == "/problems/too-many-requests"), "{refused:?}");
    let slowed = refused.iter().filter(|frame| frame["retryAfterSeconds"].as_u64().is_some_and(|s| s <= 5));
    // The hundredth refusal closes the socket. Answers that are under way at that time are lost.
    assert!(slowed.count() >= 90, "{refused:?}");
    let answered = heard.iter().filter(|frame| !matches!(frame["status"].as_u64(), Some(401 | 429)));
    let answered = answered.count();
    assert!((FRAMES..FLOOD / 2).contains(&answered), "{answered} frames were taken");
    // What was acknowledged came, and nothing else.
    let acknowledged = heard.iter().filter(|frame| frame["type"] == "ack").count();
    for _ in 0..acknowledged {
        assert_eq!(receiver.receive().await["from"], mallory.user_id.as_str());
    }
    assert_eq!(receiver.waiting().await, [] as [Value; 0]);

    let mut again = region.socket(&mallory).await;
    again.send(&json!({"action": "ping"})).await;
    assert_eq!(again.receive().await, json!({"type": "pong"}));
}

#[tokio::test]
async fn users_write_to_as_many_and_to_those_whom_the_settings_allow() {
    let region = region_with(&["RecipientsPerMinute=1"]).await;
    let (alice, bob, carol) = (region.customer().await, region.customer().await, region.customer().await);
    let mut from_alice = region.socket(&alice).await;
    let mut statuses = Vec::new();
    // The minute may end once meanwhile.
    for receiver in [&bob, &carol, &bob, &carol] {
        from_alice.send(&to_user(receiver)).await;
        let answer = from_alice.receive().await;
        assert!(answer["type"] == "ack" || answer["retryAfterSeconds"].as_u64() <= Some(60), "{answer}");
        statuses.push(answer["status"].as_u64());
    }
    assert!(statuses.contains(&Some(429)) && statuses.contains(&None), "{statuses:?}");
    drop(region);

    let region = region_with(&["MessagesFrom=parties"]).await;
    let (alice, bob) = (region.customer().await, region.customer().await);
    let operator = region.operator().await;
    let mut from_alice = region.socket(&alice).await;
    from_alice.send(&to_user(&bob)).await;
    let refused = from_alice.receive().await;
    assert_eq!((&refused["status"], &refused["problem"]), (&json!(403), &json!("/problems/forbidden")));
    from_alice.send(&to_user(&alice)).await;
    let own: Vec<Value> = vec![from_alice.receive().await, from_alice.receive().await];
    assert!(own.iter().any(|frame| frame["delivered"] == 1), "{own:?}");
    let mut from_operator = region.socket(&operator).await;
    from_operator.send(&to_user(&alice)).await;
    assert_eq!(from_operator.receive().await["delivered"], 1);
}
