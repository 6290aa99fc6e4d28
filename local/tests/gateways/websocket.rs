//! The WebSocket API as a client sees it.

use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use local_region::functions::outcome::Outcome;
use local_region::gateway::websocket::Limits;
use local_region::template::model::WebSocketRoute;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::support::{Reply, Running, Script, answered, ok, raw, websocket_api, websocket_api_with};

pub(crate) type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub(crate) async fn connect(api: &Running) -> Client {
    connect_async(api.ws("/local")).await.unwrap().0
}

pub(crate) async fn next(client: &mut Client) -> Message {
    let message = tokio::time::timeout(Duration::from_secs(10), client.next());
    message.await.expect("no frame in time").expect("closed").unwrap()
}

async fn close_code(client: &mut Client) -> CloseCode {
    match next(client).await {
        Message::Close(Some(frame)) => frame.code,
        other => panic!("not a close frame: {other:?}"),
    }
}

/// Echoes messages of `send`; accepts every connection.
pub(crate) fn echo() -> std::sync::Arc<Script> {
    Script::new(|call| match call.function.as_str() {
        "connect" | "disconnect" => ok(),
        function => {
            answered(&json!({"statusCode": 200, "body": format!("{function}:{}", call.event["body"])}))
        }
    })
}

#[tokio::test]
async fn a_connection_is_announced_used_and_ended() {
    let script = echo();
    let (api, _) = websocket_api(script.clone(), Limits::default()).await;
    let mut client = connect_async(api.ws("/local?a=1")).await.unwrap().0;
    client.send(Message::text("{\"action\":\"send\"}")).await.unwrap();
    assert_eq!(next(&mut client).await.into_text().unwrap(), "send:\"{\\\"action\\\":\\\"send\\\"}\"");
    let frame = CloseFrame { code: CloseCode::Normal, reason: "bye".into() };
    client.close(Some(frame)).await.unwrap();

    let connect = script.events("connect").remove(0);
    assert_eq!(connect["requestContext"]["eventType"], "CONNECT");
    assert_eq!(connect["queryStringParameters"], json!({"a": "1"}));
    assert_eq!(connect["headers"]["Sec-WebSocket-Version"], "13");
    assert_eq!(connect["requestContext"]["identity"]["sourceIp"], "127.0.0.1");
    let id = &connect["requestContext"]["connectionId"];
    assert_eq!(&script.events("send")[0]["requestContext"]["connectionId"], id);
    let disconnect = script.wait_for("disconnect", 1).await.remove(0);
    assert_eq!(&disconnect["requestContext"]["connectionId"], id);
    let opened = |event: &Value| event["requestContext"]["connectedAt"].as_i64().unwrap();
    for later in [&script.events("send")[0], &disconnect] {
        let distance = (opened(later) - opened(&connect)).abs();
        assert!((1..=5).contains(&distance), "connectedAt differs a little in each event: {distance}");
    }
    assert_eq!(disconnect["requestContext"]["disconnectStatusCode"], 1000);
    assert_eq!(disconnect["requestContext"]["disconnectReason"], "bye");
}

#[tokio::test]
async fn a_refused_handshake_gets_the_functions_status_and_no_disconnect() {
    for (outcome, status) in [
        (Outcome::Answered(Bytes::from_static(b"{\"statusCode\":401}")), 401),
        (Outcome::Answered(Bytes::from_static(b"{\"statusCode\":403}")), 403),
        (Outcome::Answered(Bytes::from_static(b"{}")), 502),
        (Outcome::FunctionError { payload: Bytes::from_static(b"{}") }, 502),
        (Outcome::Crashed, 502),
    ] {
        let script = Script::new(move |_| Reply::Now(outcome.clone()));
        let (api, _) = websocket_api(script.clone(), Limits::default()).await;
        match connect_async(api.ws("/local")).await {
            Err(Error::Http(response)) => assert_eq!(response.status().as_u16(), status),
            other => panic!("not refused: {other:?}"),
        }
        api.stop().await;
        assert_eq!(script.calls().len(), 1, "only $connect");
    }
}

#[tokio::test]
async fn the_functions_subprotocol_is_sent_back_as_answered() {
    let script = Script::answering(
        json!({"statusCode": 200, "headers": {"sec-websocket-protocol": "shop.v1"}, "multiValueHeaders": {}}),
    );
    let (api, _) = websocket_api(script.clone(), Limits::default()).await;
    let mut request = api.ws("/local").into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", "shop.v1, token".parse().unwrap());
    let (_client, response) = connect_async(request).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "shop.v1");
    assert_eq!(script.events("connect")[0]["headers"]["Sec-WebSocket-Protocol"], "shop.v1, token");
}

#[tokio::test]
async fn only_the_stage_takes_handshakes() {
    let (api, _) = websocket_api(echo(), Limits::default()).await;
    for path in ["/", "/other", "/local/deeper"] {
        match connect_async(api.ws(path)).await {
            Err(Error::Http(response)) => assert_eq!(response.status().as_u16(), 403, "{path}"),
            other => panic!("not refused: {other:?}"),
        }
    }
    assert_eq!(reqwest::get(api.http("/local")).await.unwrap().status().as_u16(), 426);
}

#[tokio::test]
async fn a_handshake_without_a_valid_host_or_with_too_large_headers_reaches_no_function() {
    let script = echo();
    let (api, _) = websocket_api(script.clone(), Limits::default()).await;
    let handshake = |headers: &str| {
        format!(
            "GET /local HTTP/1.1\r\n{headers}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
    };
    let large = format!("Host: a\r\nX-Large: {}\r\n", "a".repeat(10_240));
    for (headers, status) in
        [("", 400), ("Host: a\r\nHost: b\r\n", 400), ("Host: a/b\r\n", 400), (&large, 431)]
    {
        let request = handshake(headers).replace("Connection: Upgrade", "Connection: Upgrade, close");
        let answer = raw(&api, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    assert!(script.calls().is_empty());
}

#[tokio::test]
async fn an_answer_larger_than_a_message_may_be_is_an_error_frame() {
    let script = Script::new(|call| match call.function.as_str() {
        "send" => answered(&json!({"statusCode": 200, "body": "a".repeat(128 * 1024 + 1)})),
        "default" => answered(&json!({"statusCode": 200, "body": "a".repeat(128 * 1024)})),
        _ => ok(),
    });
    let (api, _) = websocket_api(script.clone(), Limits::default()).await;
    let mut client = connect(&api).await;
    client.send(Message::text("{\"action\":\"send\"}")).await.unwrap();
    let frame: Value = serde_json::from_str(&next(&mut client).await.into_text().unwrap()).unwrap();
    assert_eq!(frame["message"], "Internal server error");
    client.send(Message::text("fits")).await.unwrap();
    assert_eq!(next(&mut client).await.into_text().unwrap().len(), 128 * 1024);
}

#[tokio::test]
async fn the_handshake_is_pending_until_connect_has_answered() {
    let script = Script::new(|_| {
        Reply::After(
            Duration::from_millis(200),
            Outcome::Answered(Bytes::from_static(b"{\"statusCode\":200}")),
        )
    });
    let (api, _) = websocket_api(script.clone(), Limits::default()).await;
    let url = api.ws("/local");
    let client = tokio::spawn(async move { connect_async(url).await.unwrap() });
    script.wait_for("connect", 1).await;
    assert!(!client.is_finished());
    client.await.unwrap();
}

#[tokio::test]
async fn what_is_no_json_or_names_no_route_goes_to_default() {
    let script = echo();
    let (api, _) = websocket_api(script.clone(), Limits::default()).await;
    let mut client = connect(&api).await;
    for text in ["hello", "{\"action\":\"unknown\"}", "{\"action\":\"$connect\"}"] {
        client.send(Message::text(text)).await.unwrap();
        assert!(next(&mut client).await.into_text().unwrap().starts_with("default:"), "{text}");
    }
    assert_eq!(script.events("connect").len(), 1);
}

#[tokio::test]
async fn without_a_route_or_with_a_failed_function_the_client_gets_an_error_frame() {
    let script = Script::new(|call| match call.function.as_str() {
        "quiet" => Reply::Now(Outcome::Crashed),
        _ => ok(),
    });
    let routes = [
        ("$connect", WebSocketRoute { function: "connect".into(), responds: false }),
        ("quiet", WebSocketRoute { function: "quiet".into(), responds: false }),
    ];
    let (api, _) = websocket_api_with(script.clone(), Limits::default(), routes.into_iter()).await;
    let mut client = connect(&api).await;
    for (text, message) in [("hello", "Forbidden"), ("{\"action\":\"quiet\"}", "Internal server error")] {
        client.send(Message::text(text)).await.unwrap();
        let frame: Value = serde_json::from_str(&next(&mut client).await.into_text().unwrap()).unwrap();
        assert_eq!(frame["message"], message);
        assert_eq!(frame["connectionId"], script.events("connect")[0]["requestContext"]["connectionId"]);
        assert!(frame["requestId"].is_string());
    }
}

#[tokio::test]
async fn an_answer_goes_back_only_on_a_route_with_a_response() {
    let script = echo();
    let (api, _) = websocket_api(script.clone(), Limits::default()).await;
    let mut client = connect(&api).await;
    client.send(Message::text("{\"action\":\"quiet\"}")).await.unwrap();
    script.wait_for("quiet", 1).await;
    client.send(Message::text("{\"action\":\"send\"}")).await.unwrap();
    assert!(next(&mut client).await.into_text().unwrap().starts_with("send:"));
}

#[tokio::test]
async fn too_large_and_binary_messages_close_the_connection() {
    let frame = |bytes: usize, opcode, last| {
        let mut header =
            FrameHeader { opcode: OpCode::Data(opcode), is_final: last, ..FrameHeader::default() };
        header.mask = Some([1, 2, 3, 4]);
        Message::Frame(Frame::from_payload(header, "a".repeat(bytes).into()))
    };
    let fragments = |count: usize| -> Vec<Message> {
        (0..count)
            .map(|n| frame(32 * 1024, if n == 0 { Data::Text } else { Data::Continue }, n == count - 1))
            .collect()
    };
    let cases = [
        (vec![Message::text("a".repeat(32 * 1024 + 1))], CloseCode::Size),
        (vec![Message::text("a".repeat(1024 * 1024))], CloseCode::Size),
        (fragments(5), CloseCode::Size),
        (vec![Message::binary(vec![0; 3])], CloseCode::Unsupported),
    ];
    for (messages, code) in cases {
        let script = echo();
        let (api, _) = websocket_api(script.clone(), Limits::default()).await;
        let mut client = connect(&api).await;
        for message in messages {
            client.feed(message).await.unwrap();
        }
        client.flush().await.unwrap();
        assert_eq!(close_code(&mut client).await, code);
        let disconnect = script.wait_for("disconnect", 1).await.remove(0);
        assert_eq!(disconnect["requestContext"]["disconnectStatusCode"], u16::from(code));
        assert!(script.events("default").is_empty());
    }

    let script = echo();
    let (api, _) = websocket_api(script.clone(), Limits::default()).await;
    let mut client = connect(&api).await;
    for message in fragments(4) {
        client.send(message).await.unwrap();
    }
    next(&mut client).await;
    assert_eq!(script.events("default")[0]["body"].as_str().unwrap().len(), 128 * 1024);
}

#[tokio::test]
async fn idle_and_old_connections_are_closed_as_going_away() {
    let soon = Duration::from_millis(100);
    let idle = Limits { idle: soon, ..Limits::default() };
    let old = Limits { lifetime: soon, ..Limits::default() };
    for limits in [idle, old] {
        let script = echo();
        let (api, _) = websocket_api(script.clone(), limits).await;
        let mut client = connect(&api).await;
        assert_eq!(close_code(&mut client).await, CloseCode::Away);
        let disconnect = script.wait_for("disconnect", 1).await.remove(0);
        assert_eq!(disconnect["requestContext"]["disconnectStatusCode"], 1001);
        assert_eq!(disconnect["requestContext"]["disconnectReason"], "Going away");
    }
}

#[tokio::test]
async fn a_ping_is_answered_and_keeps_an_idle_connection_open() {
    let idle = Duration::from_millis(400);
    let (api, _) = websocket_api(echo(), Limits { idle, ..Limits::default() }).await;
    let mut client = connect(&api).await;
    let begun = std::time::Instant::now();
    while begun.elapsed() < idle * 2 {
        client.send(Message::Ping(Bytes::from_static(b"x"))).await.unwrap();
        assert_eq!(next(&mut client).await, Message::Pong(Bytes::from_static(b"x")));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_client_that_vanishes_is_disconnected_exactly_once() {
    let script = echo();
    let (api, _) = websocket_api(script.clone(), Limits::default()).await;
    drop(connect(&api).await);
    let disconnect = script.wait_for("disconnect", 1).await.remove(0);
    assert_eq!(disconnect["requestContext"]["disconnectStatusCode"], 1006);
    api.stop().await;
    assert_eq!(script.events("disconnect").len(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_during_connect_is_disconnected_once_if_it_was_accepted() {
    let script = Script::new(|call| match call.function.as_str() {
        "connect" => Reply::After(
            Duration::from_millis(100),
            Outcome::Answered(Bytes::from_static(b"{\"statusCode\":200}")),
        ),
        _ => ok(),
    });
    let (api, _) = websocket_api(script.clone(), Limits::default()).await;
    let url = api.ws("/local");
    let client = tokio::spawn(async move { connect_async(url).await });
    script.wait_for("connect", 1).await;
    client.abort();
    let disconnect = script.wait_for("disconnect", 1).await;
    assert_eq!(disconnect[0]["requestContext"]["disconnectStatusCode"], 1006);
    api.stop().await;
    assert_eq!(script.events("disconnect").len(), 1);
}

#[tokio::test]
async fn a_stopping_region_closes_its_connections_and_runs_their_disconnects() {
    let script = echo();
    let (api, _) = websocket_api(script.clone(), Limits::default()).await;
    let mut client = connect(&api).await;
    let (code, ()) = tokio::join!(close_code(&mut client), api.stop());
    assert_eq!(code, CloseCode::Away);
    assert_eq!(script.events("disconnect").len(), 1);
}

#[tokio::test]
async fn a_slow_message_does_not_hold_up_the_next_one() {
    let script = Script::new(|call| match call.function.as_str() {
        "default" => {
            let slow = Bytes::from_static(b"{\"statusCode\":200,\"body\":\"slow\"}");
            Reply::After(Duration::from_millis(200), Outcome::Answered(slow))
        }
        "send" => answered(&json!({"statusCode": 200, "body": "fast"})),
        _ => ok(),
    });
    let (api, _) = websocket_api(script, Limits::default()).await;
    let mut client = connect(&api).await;
    client.send(Message::text("slow")).await.unwrap();
    client.send(Message::text("{\"action\":\"send\"}")).await.unwrap();
    assert_eq!(next(&mut client).await.into_text().unwrap(), "fast");
    assert_eq!(next(&mut client).await.into_text().unwrap(), "slow");
}

#[tokio::test]
async fn one_connection_has_a_bounded_number_of_messages_with_functions() {
    let script = Script::new(|call| match call.function.as_str() {
        "default" => Reply::After(Duration::from_millis(300), Outcome::Answered(Bytes::from_static(b"{}"))),
        _ => ok(),
    });
    let limits = Limits { concurrent_messages: 2, ..Limits::default() };
    let (api, _) = websocket_api(script.clone(), limits).await;
    let mut client = connect(&api).await;
    for _ in 0..5 {
        client.send(Message::text("x")).await.unwrap();
    }
    script.wait_for("default", 2).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(script.events("default").len(), 2);
    script.wait_for("default", 5).await;
}
