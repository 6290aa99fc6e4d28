//! The client on a real redis-server that is paused, killed and restarted.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sojourn::core::env::Env;
use sojourn::platform::redis::{Answer, CALL_BUDGET, RedisClient, RedisError, RedisUse};
use sojourn_testing::{Persistence, RedisServer, TlsServer};
use tokio::net::{TcpListener, TcpStream};

/// Longest that a client may take to find its way back.
const PATIENCE: Duration = Duration::from_secs(20);
/// Ten budgets of a call: twice what opens the breaker when calls fail, and less than the budget of
/// a connection.
const SLOW: Duration = Duration::from_millis(100);
/// Tells a test's second process where the server is.
const TLS_URL: &str = "SOJOURN_TEST_REDIS_TLS_URL";

fn client(url: &str) -> RedisClient {
    RedisClient::from_env(&Env::of([("STAGE", "local"), ("REDIS_URL", url)])).unwrap()
}

async fn ping(client: &RedisClient) -> Result<Answer<(String,)>, RedisError> {
    client
        .ask(|_| {
            let mut commands = redis::pipe();
            commands.cmd("PING");
            commands
        })
        .await
}

/// Asks until there is an answer, as requests that come one after the other do.
async fn ping_until_answered(client: &RedisClient) -> Answer<(String,)> {
    let began = Instant::now();
    loop {
        match ping(client).await {
            Ok(answer) => return answer,
            Err(error) => assert!(began.elapsed() < PATIENCE, "never answered again: {error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_server_that_is_there_answers() {
    let Some(server) = RedisServer::start() else { return };
    let answer = ping_until_answered(&client(&server.url())).await;
    assert_eq!(answer.value, ("PONG".to_owned(),));
}

#[tokio::test]
async fn a_paused_server_costs_budgets_until_the_circuit_opens_and_is_found_again() {
    let Some(server) = RedisServer::start() else { return };
    let client = client(&server.url());
    ping_until_answered(&client).await;
    server.pause();
    assert!(matches!(ping(&client).await, Err(RedisError::Late)));
    let mut asked = 1;
    while !matches!(ping(&client).await, Err(RedisError::CircuitOpen)) {
        asked += 1;
        // One for the open connection, and the budget of the next one in pieces of 10 ms.
        assert!(asked <= 32, "the circuit never opens");
    }
    server.resume();
    ping_until_answered(&client).await;
}

#[tokio::test]
async fn a_server_that_was_killed_is_found_again_and_is_another_one() {
    let Some(mut server) = RedisServer::start() else { return };
    let client = client(&server.url());
    let first = ping_until_answered(&client).await;
    assert_eq!(ping_until_answered(&client).await.from, first.from);
    server.kill();
    assert!(matches!(ping(&client).await, Err(RedisError::Failed(_) | RedisError::Late)));
    server.restart();
    assert_ne!(ping_until_answered(&client).await.from, first.from);
}

#[tokio::test]
async fn an_answer_with_an_error_is_a_failure() {
    let Some(server) = RedisServer::start() else { return };
    let client = client(&server.url());
    ping_until_answered(&client).await;
    let unknown = |_: &_| {
        let mut commands = redis::pipe();
        commands.cmd("NO-SUCH-COMMAND");
        commands
    };
    assert!(matches!(client.ask::<()>(unknown).await, Err(RedisError::Failed(_))));
    ping_until_answered(&client).await;
}

/// Passes everything on to the server at `address`, beginning late. Gives the address of the door,
/// and counts the connections.
async fn slow_door(address: String, delay: Duration) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let door = listener.local_addr().unwrap().to_string();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut outside, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let address = address.clone();
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                let mut inside = TcpStream::connect(address).await?;
                tokio::io::copy_bidirectional(&mut outside, &mut inside).await
            });
        }
    });
    (door, connections)
}

/// Asks until there is an answer, and the attempt to connect is not given up before.
async fn ping_until_connected(client: &RedisClient) {
    loop {
        match ping(client).await {
            // Too late for its answer, on a busy machine: it is connected.
            Ok(_) | Err(RedisError::Late) => return,
            Err(error) => assert!(matches!(error, RedisError::Connecting), "{error:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_may_evict_any_key_helps_and_keeps_nothing() {
    let evicts = ["--maxmemory-policy", "allkeys-lru"];
    let Some(server) = RedisServer::start_with(Persistence::None, &evicts) else { return };
    ping_until_answered(&client(&server.url())).await;
    let keeper = client(&server.url()).with_need(RedisUse::Kept);
    assert!(matches!(ping(&keeper).await, Err(RedisError::Evicts(policy)) if policy == "allkeys-lru"));
}

#[tokio::test]
async fn whoever_has_no_other_way_waits_longer_and_not_for_ever() {
    let Some(server) = RedisServer::start() else { return };
    let keeper = client(&server.url()).with_need(RedisUse::Kept);
    ping_until_answered(&keeper).await;
    server.pause();
    let began = Instant::now();
    assert!(matches!(ping(&keeper).await, Err(RedisError::Late)));
    assert!(began.elapsed() >= 10 * CALL_BUDGET && began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    server.resume();
    ping_until_answered(&keeper).await;
}

#[tokio::test]
async fn connecting_goes_on_over_several_calls_when_it_takes_longer_than_one_may() {
    let Some(server) = RedisServer::start() else { return };
    let address = server.url().trim_start_matches("redis://").to_owned();
    let (door, connections) = slow_door(address, SLOW).await;
    let client = client(&format!("redis://{door}"));
    assert!(matches!(ping(&client).await, Err(RedisError::Connecting)));
    ping_until_connected(&client).await;
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_server_that_cannot_be_connected_to_costs_the_connections_budget_and_is_found_again() {
    let Some(server) = RedisServer::start() else { return };
    server.pause();
    let client = client(&server.url());
    let mut asked = 0;
    while matches!(ping(&client).await, Err(RedisError::Connecting)) {
        asked += 1;
        // 300 ms in pieces of 10 ms, and not less: a piece may be longer than that on a busy
        // machine.
        assert!(asked <= 30, "connecting is never given up");
    }
    assert!(matches!(ping(&client).await, Err(RedisError::CircuitOpen)));
    server.resume();
    ping_until_answered(&client).await;
}

#[tokio::test]
async fn a_server_without_tls_is_not_spoken_to_in_the_clear_when_tls_was_asked_for() {
    let Some(server) = RedisServer::start() else { return };
    let client = client(&server.url().replace("redis://", "rediss://"));
    for _ in 0..20 {
        assert!(ping(&client).await.is_err());
    }
}

/// The roots that a process trusts are those of its environment, so a second process of this test
/// is the client.
#[tokio::test]
async fn a_tls_handshake_that_takes_ten_budgets_ends() {
    const NAME: &str = "a_tls_handshake_that_takes_ten_budgets_ends";

    if let Ok(url) = std::env::var(TLS_URL) {
        return ping_until_connected(&client(&url)).await;
    }
    if RedisServer::start().is_none() {
        return;
    }
    let server = TlsServer::start().await;
    let (door, connections) = slow_door(server.address.to_string(), SLOW).await;
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", NAME]).env(TLS_URL, format!("rediss://{door}"));
    child.env("SSL_CERT_FILE", server.authority());
    let ended = tokio::task::spawn_blocking(move || child.output()).await.unwrap().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}
