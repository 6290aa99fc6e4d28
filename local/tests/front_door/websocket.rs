//! Sockets through the front door.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use local_region::front_door::REGION_UNREACHABLE;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::client;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::regions::{TestRegion, scripted};
use crate::support::{FORGETFUL, LASTING, PATIENCE, QUICK, Raw, counts, open, region, until, until_healthy};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

fn request(url: &str, headers: &[(&'static str, &str)]) -> client::Request {
    let mut request = url.into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    request
}

async fn next(socket: &mut Socket) -> Option<Result<Message, Error>> {
    tokio::time::timeout(PATIENCE, socket.next()).await.expect("nothing came")
}

/// The answer to a handshake that was refused: status, headers, body.
async fn refusal(request: client::Request) -> client::Response {
    match connect_async(request).await {
        Err(Error::Http(answer)) => *answer,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_socket_is_its_regions_from_the_handshake_to_the_close_frame() {
    let tokyo = TestRegion::start("tokyo").await;
    let door = open(&[tokyo.address()], QUICK).await;
    let headers = [
        ("x-local-region-near", "tokyo"),
        ("sec-websocket-protocol", "access_token"),
        ("origin", "https://shop.example"),
        ("host", "ws.example.com"),
    ];
    let (mut socket, answer) = connect_async(request(door.websocket_url(), &headers)).await.unwrap();
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.headers()["x-own"], "1");
    assert_eq!(answer.headers()["x-local-region"], "tokyo");
    assert_eq!(answer.headers()["sec-websocket-protocol"], "access_token");
    let seen = tokyo.seen().remove(0);
    assert_eq!(seen.target, "/local");
    assert_eq!(seen.header("origin"), Some("https://shop.example"));
    assert_eq!(seen.header("host"), Some("ws.example.com"));
    assert_eq!(seen.header("x-local-region-near"), None);

    assert_eq!(next(&mut socket).await.unwrap().unwrap(), Message::text("tokyo"));
    let noise: Vec<u8> =
        (0..1_000_000_u32).map(|byte| byte.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    for message in [Message::text("grüße"), Message::binary(noise), Message::text("")] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(next(&mut socket).await.unwrap().unwrap(), message);
    }
    socket.send(Message::Ping("p".into())).await.unwrap();
    assert_eq!(next(&mut socket).await.unwrap().unwrap(), Message::Pong("p".into()));
    let count = counts(&door, "tokyo");
    assert_eq!((count.requests, count.sockets, count.open_sockets), (1, 1, 1));

    socket.send(Message::text("close")).await.unwrap();
    let Some(Ok(Message::Close(Some(frame)))) = next(&mut socket).await else { panic!("no close frame") };
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4001, "as you wish"));
    assert!(next(&mut socket).await.is_none());
    until(|| counts(&door, "tokyo").open_sockets == 0).await;
    assert_eq!(counts(&door, "tokyo").lost, 0);
}

#[tokio::test]
async fn a_region_is_told_why_its_client_closes() {
    let tokyo = TestRegion::start("tokyo").await;
    let door = open(&[tokyo.address()], QUICK).await;
    let (mut socket, _) = connect_async(door.websocket_url()).await.unwrap();
    next(&mut socket).await.unwrap().unwrap();
    socket.close(Some(CloseFrame { code: 4002.into(), reason: "bye".into() })).await.unwrap();
    until(|| tokyo.seen().iter().any(|seen| seen.method == "closed with 4002")).await;
    until(|| counts(&door, "tokyo").open_sockets == 0).await;
}

#[tokio::test]
async fn a_handshake_that_is_refused_gets_the_regions_answer() {
    let tokyo = TestRegion::start("tokyo").await;
    let door = open(&[tokyo.address()], QUICK).await;
    let url = door.websocket_url().replace("/local", "/refused");
    let answer = refusal(request(&url, &[])).await;
    assert_eq!(answer.status(), 403);
    assert_eq!(
        (&answer.headers()["x-own"], &answer.headers()["x-local-region"]),
        (&"1".parse().unwrap(), &"tokyo".parse().unwrap())
    );
    assert_eq!(answer.body().as_deref(), Some(b"not you".as_slice()));
    assert_eq!(counts(&door, "tokyo").sockets, 0);
}

#[tokio::test]
async fn a_page_says_in_the_query_where_it_is() {
    let regions = [TestRegion::start("taiwan").await, TestRegion::start("tokyo").await];
    let door = open(&[regions[0].address(), regions[1].address()], QUICK).await;
    for _ in 0..2 {
        let url = format!("{}?token=a%20b&near=tokyo&x", door.websocket_url());
        let (mut socket, _) = connect_async(url).await.unwrap();
        assert_eq!(next(&mut socket).await.unwrap().unwrap(), Message::text("tokyo"));
    }
    assert_eq!(regions[1].seen()[0].target, "/local?token=a%20b&x");
    let answer = refusal(request(&format!("{}?near=tokio", door.websocket_url()), &[])).await;
    assert_eq!(answer.status(), 400);
}

#[tokio::test]
async fn the_sockets_of_a_region_that_dies_end_at_once_and_without_a_close_frame() {
    let mut tokyo = TestRegion::start("tokyo").await;
    let taiwan = TestRegion::start("taiwan").await;
    let door = open(&[tokyo.address(), taiwan.address()], QUICK).await;
    let near = [("x-local-region-near", "tokyo")];
    let (mut quiet, _) = connect_async(request(door.websocket_url(), &near)).await.unwrap();
    let (mut busy, _) = connect_async(request(door.websocket_url(), &near)).await.unwrap();
    next(&mut quiet).await.unwrap().unwrap();
    next(&mut busy).await.unwrap().unwrap();
    let sending = tokio::spawn(async move {
        let (mut to, mut from) = busy.split();
        let send = async { while to.send(Message::binary(vec![0; 100_000])).await.is_ok() {} };
        let read = async {
            while let Some(Ok(message)) = from.next().await {
                assert!(message.is_binary());
            }
        };
        tokio::join!(send, read);
    });
    tokio::time::sleep(Duration::from_millis(50)).await;

    tokyo.down().await;
    let ended = next(&mut quiet).await;
    assert!(
        matches!(
            &ended,
            Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) | Error::Io(_)))
        ),
        "{ended:?}"
    );
    tokio::time::timeout(PATIENCE, sending).await.expect("a busy socket stayed").unwrap();
    drop(quiet);
    until(|| counts(&door, "tokyo").open_sockets == 0).await;
    assert_eq!(counts(&door, "taiwan").sockets, 0);
}

#[tokio::test]
async fn a_handshake_with_a_region_that_is_down_is_refused_in_its_name() {
    let mut tokyo = TestRegion::start("tokyo").await;
    let door = open(&[tokyo.address()], QUICK).await;
    tokyo.down().await;
    let answer = refusal(request(door.websocket_url(), &[])).await;
    assert_eq!(
        (answer.status(), &answer.headers()["x-local-region"]),
        (502.try_into().unwrap(), &"tokyo".parse().unwrap())
    );
    let problem: Value = serde_json::from_slice(answer.body().as_deref().unwrap()).unwrap();
    assert_eq!(problem["type"], REGION_UNREACHABLE);
}

#[tokio::test]
async fn a_client_that_connects_again_still_finds_the_lost_region_while_the_ttl_lasts() {
    let mut tokyo = TestRegion::start("tokyo").await;
    let taiwan = TestRegion::start("taiwan").await;
    let door = open(&[tokyo.address(), taiwan.address()], LASTING).await;
    let near = [("x-local-region-near", "tokyo")];
    let (mut socket, _) = connect_async(request(door.websocket_url(), &near)).await.unwrap();
    next(&mut socket).await.unwrap().unwrap();
    tokyo.down().await;
    until_healthy(&door, "tokyo", false).await;
    assert_eq!(refusal(request(door.websocket_url(), &near)).await.status(), 502);
}

#[tokio::test]
async fn a_client_that_connects_again_finds_another_region_when_the_ttl_has_passed() {
    let mut tokyo = TestRegion::start("tokyo").await;
    let taiwan = TestRegion::start("taiwan").await;
    let door = open(&[tokyo.address(), taiwan.address()], QUICK).await;
    let near = [("x-local-region-near", "tokyo")];
    let resolved = Instant::now();
    let (mut socket, _) = connect_async(request(door.websocket_url(), &near)).await.unwrap();
    next(&mut socket).await.unwrap().unwrap();
    tokyo.down().await;
    until_healthy(&door, "tokyo", false).await;
    loop {
        match connect_async(request(door.websocket_url(), &near)).await {
            Ok((mut socket, _)) => {
                assert_eq!(next(&mut socket).await.unwrap().unwrap(), Message::text("taiwan"));
                break;
            }
            Err(Error::Http(answer)) => assert_eq!(answer.status(), 502),
            Err(error) => panic!("{error}"),
        }
        assert!(resolved.elapsed() < PATIENCE);
    }
    assert!(resolved.elapsed() >= QUICK.ttl);
}

#[tokio::test]
async fn an_open_socket_stays_with_a_region_that_fails_its_checks() {
    let tokyo = TestRegion::start("tokyo").await;
    let taiwan = TestRegion::start("taiwan").await;
    let door = open(&[tokyo.address(), taiwan.address()], FORGETFUL).await;
    let near = [("x-local-region-near", "tokyo")];
    let (mut socket, _) = connect_async(request(door.websocket_url(), &near)).await.unwrap();
    next(&mut socket).await.unwrap().unwrap();
    tokyo.answer_checks_with(503);
    until_healthy(&door, "tokyo", false).await;
    socket.send(Message::text("still here")).await.unwrap();
    assert_eq!(next(&mut socket).await.unwrap().unwrap(), Message::text("still here"));
    let (mut other, _) = connect_async(request(door.websocket_url(), &near)).await.unwrap();
    assert_eq!(next(&mut other).await.unwrap().unwrap(), Message::text("taiwan"));
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_its_region_up_and_gets_every_byte() {
    const CHUNK: usize = 1024 * 1024;
    let written = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&written);
    let tokyo = scripted(move |_, mut stream| {
        let counted = Arc::clone(&counted);
        async move {
            let head =
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
            stream.write_all(head).await.unwrap();
            for _ in 0..256 {
                stream.write_all(&vec![b'x'; CHUNK]).await.unwrap();
                counted.fetch_add(CHUNK, Ordering::Relaxed);
            }
        }
    })
    .await;
    let door = open(&[region("tokyo", tokyo, tokyo)], QUICK).await;
    let mut client = Raw::connect(door.websocket_url()).await;
    client.send("GET /local HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
    let head = client.head().await;
    assert!(head.starts_with("http/1.1 101 ") && head.contains("upgrade: websocket\r\n"), "{head}");
    let mut before = usize::MAX;
    while before != written.load(Ordering::Relaxed) {
        before = written.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(before < 64 * CHUNK, "{before} bytes were taken for a client that reads none");
    let (mut stream, mut read, mut buffer) = (client.into_stream(), 0, vec![0; CHUNK]);
    loop {
        match tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap().unwrap() {
            0 => break,
            some => read += some,
        }
    }
    assert_eq!(read, 256 * CHUNK);
}

#[tokio::test]
async fn other_requests_at_the_websocket_address_are_the_regions_too() {
    let tokyo = scripted(async |head, mut stream| {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{head}", head.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let door = open(&[region("tokyo", tokyo, tokyo)], QUICK).await;
    let url = door.websocket_url().replace("ws://", "http://");
    let answer = reqwest::get(format!("{url}/@connections/abc?near=x")).await.unwrap();
    assert_eq!(answer.headers()["x-local-region"], "tokyo");
    assert!(answer.text().await.unwrap().starts_with("get /local/@connections/abc?near=x http/1.1\r\n"));
}

#[tokio::test]
async fn a_front_door_that_stops_ends_its_sockets() {
    let tokyo = TestRegion::start("tokyo").await;
    let door = open(&[tokyo.address()], QUICK).await;
    let (mut socket, _) = connect_async(door.websocket_url()).await.unwrap();
    next(&mut socket).await.unwrap().unwrap();
    tokio::time::timeout(PATIENCE, door.stop()).await.unwrap();
    assert!(next(&mut socket).await.unwrap().is_err());
}
