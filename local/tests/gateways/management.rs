//! `@connections`, called by the SDK that the functions use.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_apigatewaymanagement::Client as Management;
use aws_sdk_apigatewaymanagement::config::retry::RetryConfig;
use aws_sdk_apigatewaymanagement::config::{BehaviorVersion, Region};
use aws_sdk_apigatewaymanagement::error::SdkError;
use aws_sdk_apigatewaymanagement::operation::post_to_connection::PostToConnectionError;
use aws_sdk_apigatewaymanagement::primitives::Blob;
use futures::StreamExt;
use local_region::functions::outcome::Outcome;
use local_region::gateway::websocket::Limits;
use local_region::services::Service;
use local_region::services::faults::{Effect, Failure, Rule};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::support::{Reply, Running, Script, ok, websocket_api};
use crate::websocket::{connect, echo, next};

/// The keys of the two functions that the front knows.
const ALLOWED: &str = "AKIALOCAL_FN_ALLOWED";
const OTHER: &str = "AKIALOCAL_FN_OTHER";

fn management(api: &Running, access_key_id: &str) -> Management {
    let config = aws_sdk_apigatewaymanagement::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("local"))
        .credentials_provider(Credentials::new(access_key_id, "secret", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .endpoint_url(api.http("/local"))
        .build();
    Management::from_conf(config)
}

async fn post(
    management: &Management,
    id: &str,
    data: impl Into<Vec<u8>>,
) -> Result<(), SdkError<PostToConnectionError>> {
    let call = management.post_to_connection().connection_id(id).data(Blob::new(data)).send();
    call.await.map(|_| ())
}

fn connection_id(script: &Script) -> String {
    let connects = script.events("connect");
    connects.last().unwrap()["requestContext"]["connectionId"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_post_reaches_the_client_and_the_connection_can_be_looked_at() {
    let script = echo();
    let (api, _) = websocket_api(script.clone(), Limits::default()).await;
    let management = management(&api, ALLOWED);
    let mut client = connect(&api).await;
    let id = connection_id(&script);
    post(&management, &id, "hello").await.unwrap();
    assert_eq!(next(&mut client).await, Message::text("hello"));

    let seen = management.get_connection().connection_id(&id).send().await.unwrap();
    assert!(seen.last_active_at().unwrap() >= seen.connected_at().unwrap());
    assert_eq!(seen.identity().unwrap().source_ip(), Some("127.0.0.1"));
}

#[tokio::test]
async fn a_connection_that_is_pending_unknown_or_ended_is_gone() {
    let script = Script::new(|call| match call.function.as_str() {
        "connect" => Reply::After(
            Duration::from_millis(300),
            Outcome::Answered(bytes::Bytes::from_static(b"{\"statusCode\":200}")),
        ),
        _ => ok(),
    });
    let (api, _) = websocket_api(script.clone(), Limits::default()).await;
    let management = management(&api, ALLOWED);
    let is_gone = |result: Result<(), SdkError<PostToConnectionError>>| {
        result.unwrap_err().into_service_error().is_gone_exception()
    };
    assert!(is_gone(post(&management, "L0SM9cOFvHcCIhw=", "x").await));

    let (client, ()) = tokio::join!(connect(&api), async {
        script.wait_for("connect", 1).await;
        assert!(is_gone(post(&management, &connection_id(&script), "too early").await));
    });
    let id = connection_id(&script);
    post(&management, &id, "now").await.unwrap();
    drop(client);
    script.wait_for("disconnect", 1).await;
    assert!(is_gone(post(&management, &id, "too late").await));
}

#[tokio::test]
async fn deleting_delivers_what_was_posted_closes_and_disconnects_once() {
    let script = echo();
    let (api, _) = websocket_api(script.clone(), Limits::default()).await;
    let management = management(&api, ALLOWED);
    let mut client = connect(&api).await;
    let id = connection_id(&script);
    post(&management, &id, "session.revoked").await.unwrap();
    management.delete_connection().connection_id(&id).send().await.unwrap();
    let again = management.delete_connection().connection_id(&id).send().await;
    assert!(again.unwrap_err().into_service_error().is_gone_exception());

    assert_eq!(next(&mut client).await, Message::text("session.revoked"));
    let Message::Close(Some(frame)) = next(&mut client).await else { panic!("not closed") };
    assert_eq!(frame.code, CloseCode::Normal);
    script.wait_for("disconnect", 1).await;
    api.stop().await;
    assert_eq!(script.events("disconnect").len(), 1);
}

#[tokio::test]
async fn a_message_may_have_128_kb_and_not_a_byte_more() {
    let script = echo();
    let (api, _) = websocket_api(script.clone(), Limits::default()).await;
    let management = management(&api, ALLOWED);
    let mut client = connect(&api).await;
    let id = connection_id(&script);
    post(&management, &id, "a".repeat(128 * 1024)).await.unwrap();
    assert_eq!(next(&mut client).await.len(), 128 * 1024);
    for bytes in [128 * 1024 + 1, 3 * 1024 * 1024] {
        let error = post(&management, &id, "a".repeat(bytes)).await.unwrap_err().into_service_error();
        assert!(error.is_payload_too_large_exception(), "{error:?}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_fills_its_buffer_and_holds_up_nobody_else() {
    let script = echo();
    let (api, _) = websocket_api(script.clone(), Limits { outgoing_messages: 4, ..Limits::default() }).await;
    let management = management(&api, ALLOWED);
    let slow = connect(&api).await;
    let slow_id = connection_id(&script);
    let mut other = connect(&api).await;
    let other_id = connection_id(&script);
    // The kernel's buffers of both ends take some megabytes first.
    let mut posted = 0_usize;
    let error = loop {
        match post(&management, &slow_id, "a".repeat(128 * 1024)).await {
            Ok(()) => posted += 1,
            Err(error) => break error.into_service_error(),
        }
        assert!(posted < 1000, "the buffer has no bound");
    };
    assert!(error.is_limit_exceeded_exception(), "{error:?}");
    post(&management, &other_id, "still here").await.unwrap();
    assert_eq!(next(&mut other).await, Message::text("still here"));
    let received =
        slow.take(posted).filter(|message| std::future::ready(matches!(message, Ok(Message::Text(_)))));
    assert_eq!(received.count().await, posted, "what was accepted arrives");
}

#[tokio::test]
async fn a_client_that_never_reads_is_given_up() {
    let script = echo();
    let limits =
        Limits { outgoing_messages: 1, write_stall: Duration::from_millis(200), ..Limits::default() };
    let (api, _) = websocket_api(script.clone(), limits).await;
    let management = management(&api, ALLOWED);
    let _never_read = connect(&api).await;
    let id = connection_id(&script);
    let filled = async {
        while !matches!(
            post(&management, &id, "a".repeat(128 * 1024)).await,
            Err(error) if error.as_service_error().is_some_and(PostToConnectionError::is_gone_exception)
        ) {}
    };
    tokio::time::timeout(Duration::from_secs(20), filled).await.unwrap();
    let disconnect = script.wait_for("disconnect", 1).await.remove(0);
    assert_eq!(disconnect["requestContext"]["disconnectStatusCode"], 1006);
}

#[tokio::test]
async fn only_a_caller_with_the_policy_may_post() {
    let script = echo();
    let (api, _) = websocket_api(script.clone(), Limits::default()).await;
    let _client = connect(&api).await;
    let id = connection_id(&script);
    let error = post(&management(&api, OTHER), &id, "x").await.unwrap_err().into_service_error();
    assert!(error.is_forbidden_exception(), "{error:?}");
    let unsigned = reqwest::get(api.http("/local/@connections/x")).await.unwrap();
    assert_eq!(unsigned.status().as_u16(), 403);
}

#[tokio::test]
async fn injected_faults_hit_the_calls_they_name() {
    let script = echo();
    let (api, controls) = websocket_api(script.clone(), Limits::default()).await;
    let management = management(&api, ALLOWED);
    let mut client = connect(&api).await;
    let id = connection_id(&script);
    let failure = |failure| Effect::Error { failure };
    for effect in [
        failure(Failure::Gone),
        failure(Failure::LimitExceeded),
        failure(Failure::InternalServerError),
        Effect::Reset,
        Effect::CommitThenReset,
    ] {
        let rule = Rule::new(effect).service(Service::Connections).operation("PostToConnection");
        controls.faults.add(Rule { times: Some(1), ..rule });
    }
    let fail = async |data: &'static str| post(&management, &id, data).await.unwrap_err();
    assert!(fail("1").await.into_service_error().is_gone_exception());
    assert!(fail("2").await.into_service_error().is_limit_exceeded_exception());
    assert_eq!(fail("3").await.raw_response().unwrap().status().as_u16(), 500);
    assert!(matches!(fail("4").await, SdkError::DispatchFailure(_)));
    assert!(matches!(fail("5").await, SdkError::DispatchFailure(_)));
    post(&management, &id, "6").await.unwrap();
    // Only the fault that loses the answer let its message through.
    assert_eq!(next(&mut client).await, Message::text("5"));
    assert_eq!(next(&mut client).await, Message::text("6"));
}

#[tokio::test]
async fn a_thousand_sockets_all_get_a_broadcast() {
    const SOCKETS: usize = 1000;
    let script = echo();
    let (api, _) = websocket_api(script.clone(), Limits::default()).await;
    let mut clients: Vec<_> =
        futures::stream::iter(0..SOCKETS).map(|_| connect(&api)).buffer_unordered(50).collect().await;
    let management = management(&api, ALLOWED);
    let ids = script
        .events("connect")
        .into_iter()
        .map(|event| event["requestContext"]["connectionId"].as_str().unwrap().to_owned());
    let posts = futures::stream::iter(ids).map(|id| {
        let management = management.clone();
        async move { post(&management, &id, "to all").await }
    });
    let failed =
        posts.buffer_unordered(50).filter(|posted| std::future::ready(posted.is_err())).count().await;
    assert_eq!(failed, 0);
    for client in &mut clients {
        assert_eq!(next(client).await, Message::text("to all"));
    }
    drop(clients);
    script.wait_for("disconnect", SOCKETS).await;
    api.stop().await;
    assert_eq!(script.events("disconnect").len(), SOCKETS);
}
