//! When copies in Redis count, and when not.

use local_region::services::faults::{Rule, When};
use sojourn::identity::sessions::{Session, SessionStore};

use crate::stage::{SHORT, Stage, is_live, warm_up};

/// Sends one command past the store.
fn command(stage: &Stage, words: &[&str]) -> redis::Value {
    let mut connection = redis::Client::open(stage.redis.as_ref().unwrap().url()).unwrap();
    let mut command = redis::Cmd::new();
    command.arg(words);
    command.query(&mut connection).unwrap()
}

fn keys(stage: &Stage) -> Vec<String> {
    redis::from_redis_value(command(stage, &["KEYS", "*"])).unwrap()
}

#[tokio::test]
async fn a_session_in_use_is_not_read_from_dynamodb() {
    let Some(stage) = Stage::redis() else { return };
    let (one, other) = (stage.store(), stage.store());
    let session = stage.session(&one).await;
    warm_up(&stage, &one, &session).await;
    warm_up(&stage, &other, &session).await;
    assert_eq!(keys(&stage).len(), 2, "of the session and of its user");
}

#[tokio::test]
async fn a_miss_asks_dynamodb_once() {
    let Some(stage) = Stage::redis() else { return };
    let store = stage.store();
    let session = stage.session(&store).await;
    warm_up(&stage, &store, &session).await;
    command(&stage, &["FLUSHALL"]);
    assert_eq!(stage.requests(async { assert!(is_live(&store, &session).await) }).await, 1);
}

/// A reader has read the session from DynamoDB and is held before it hears of that; meanwhile the
/// session is revoked, and then `mishap` befalls Redis. Whatever the reader fills in comes too
/// late.
async fn with_a_late_filler(stage: &mut Stage, mishap: impl AsyncFnOnce(&mut Stage)) {
    let (late, writer, reader) = (stage.store(), stage.store(), stage.store());
    let other = stage.session(&writer).await;
    for store in [&late, &writer, &reader] {
        warm_up(stage, store, &other).await;
    }
    let session = stage.session(&stage.store_without_redis()).await;
    let faults = stage.dynamodb.embedded.faults();
    let held = faults.add(Rule::hold(When::After).operation("BatchGetItem").times(1));
    let filling = {
        let session = session.clone();
        tokio::spawn(async move { is_live(&late, &session).await })
    };
    assert!(faults.until_held(held, 1).await);
    assert!(keys(stage).iter().any(|key| key.ends_with(session.id.as_str())), "its lease is there");

    stage.revoke(&writer, &session).await;
    mishap(stage).await;
    assert!(stage.dynamodb.embedded.faults().release(held));
    assert!(filling.await.unwrap(), "it began before the revocation");
    for store in [reader, stage.store()] {
        for _ in 0..3 {
            assert!(!is_live(&store, &session).await);
        }
    }
}

#[tokio::test]
async fn a_late_filler_does_not_bring_back_a_revoked_session() {
    let Some(mut stage) = Stage::redis() else { return };
    with_a_late_filler(&mut stage, async |_| {}).await;
}

#[tokio::test]
async fn a_late_filler_does_not_bring_back_a_revoked_session_when_redis_was_emptied() {
    let Some(mut stage) = Stage::redis() else { return };
    with_a_late_filler(&mut stage, async |stage| drop(command(stage, &["FLUSHALL"]))).await;
}

#[tokio::test]
async fn a_late_filler_does_not_bring_back_a_revoked_session_when_redis_was_restarted() {
    let Some(mut stage) = Stage::redis() else { return };
    with_a_late_filler(&mut stage, async |stage| stage.server().restart()).await;
}

#[tokio::test]
async fn copies_that_a_failover_brings_back_belong_to_the_server_that_is_gone() {
    let Some(mut stage) = Stage::redis() else { return };
    let (writer, reader) = (stage.store(), stage.store());
    let session = stage.session(&writer).await;
    warm_up(&stage, &reader, &session).await;
    let replicated: Vec<(String, String)> = keys(&stage)
        .into_iter()
        .map(|key| (key.clone(), redis::from_redis_value(command(&stage, &["GET", &key])).unwrap()))
        .collect();
    stage.revoke(&writer, &session).await;
    stage.server().restart();
    for (key, copy) in replicated {
        command(&stage, &["SET", &key, &copy]);
    }
    for store in [reader, stage.store()] {
        for _ in 0..3 {
            assert!(!is_live(&store, &session).await);
        }
    }
}

#[tokio::test]
async fn what_is_no_copy_is_not_believed_and_does_not_stay() {
    let Some(stage) = Stage::redis() else { return };
    let store = stage.store();
    let session = stage.session(&store).await;
    for garbage in ["", "true", "\u{1F600}", r#"{"untilMs":9999999999999,"row":{"sessionId":"ses_"}}"#] {
        warm_up(&stage, &store, &session).await;
        for key in keys(&stage) {
            command(&stage, &["SET", &key, garbage]);
        }
        assert!(is_live(&store, &session).await, "{garbage}");
    }
    warm_up(&stage, &store, &session).await;
}

/// The copies of a session and of its user: their names and values.
async fn copies_of(stage: &Stage, store: &SessionStore, session: &Session) -> [(String, String); 2] {
    warm_up(stage, store, session).await;
    [session.id.as_str(), session.user_id.as_str()].map(|id| {
        let name = keys(stage).into_iter().find(|name| name.ends_with(id)).unwrap();
        let value = redis::from_redis_value(command(stage, &["GET", &name])).unwrap();
        (name, value)
    })
}

#[tokio::test]
async fn who_can_write_to_redis_makes_no_session_of_a_revoked_one() {
    let Some(stage) = Stage::redis() else { return };
    let store = stage.store();
    let (revoked, other) = (stage.session(&store).await, stage.session(&store).await);
    let [(name, copy), (version_name, version)] = copies_of(&stage, &store, &revoked).await;
    let [(_, of_another), _] = copies_of(&stage, &store, &other).await;
    stage.revoke(&store, &revoked).await;
    let (code, content) = copy.split_once('.').unwrap();
    let lasting = content.replace("{\"untilMs\":", "{\"untilMs\":9");
    let forgeries = [content.to_owned(), lasting.clone(), format!("{code}.{lasting}"), of_another];
    for forged in forgeries {
        command(&stage, &["SET", &name, &forged]);
        command(&stage, &["SET", &version_name, &version]);
        assert!(!is_live(&store, &revoked).await, "{forged}");
        let left: Option<String> = redis::from_redis_value(command(&stage, &["GET", &name])).unwrap();
        assert_ne!(left, Some(forged), "it stays");
    }
    assert!(is_live(&store, &other).await);
}

#[tokio::test]
async fn a_copy_that_is_put_back_counts_until_its_own_end_and_no_longer() {
    let Some(stage) = Stage::redis_with(SHORT) else { return };
    let store = stage.store();
    let session = stage.session(&store).await;
    let copies = copies_of(&stage, &store, &session).await;
    stage.revoke(&store, &session).await;
    tokio::time::sleep(SHORT.lifetime + SHORT.clock_skew).await;
    for (name, copy) in copies {
        command(&stage, &["SET", &name, &copy]);
    }
    assert!(!is_live(&store, &session).await);
}

#[tokio::test]
async fn processes_with_the_old_key_and_the_new_one_see_each_others_revocations() {
    let Some(stage) = Stage::redis() else { return };
    let url = stage.redis.as_ref().unwrap().url();
    let [old, new] = ["o", "n"].map(|key| stage.store_with_key(&url, &key.repeat(32)));
    for (writer, reader) in [(&old, &new), (&new, &old)] {
        let session = stage.session(writer).await;
        warm_up(&stage, writer, &session).await;
        assert!(is_live(reader, &session).await, "the other's copy is as good as none");
        warm_up(&stage, reader, &session).await;
        stage.revoke(writer, &session).await;
        assert!(!is_live(reader, &session).await && !is_live(writer, &session).await);
    }
}

#[tokio::test]
async fn a_copy_lapses_by_the_readers_clock_even_if_redis_keeps_it() {
    let Some(stage) = Stage::redis_with(SHORT) else { return };
    let store = stage.store();
    let session = stage.session(&store).await;
    warm_up(&stage, &store, &session).await;
    for key in keys(&stage) {
        command(&stage, &["PERSIST", &key]);
    }
    // Somebody who never heard of Redis.
    stage.commit_revocation(&session).await;
    let allowed = SHORT.lifetime + SHORT.clock_skew;
    tokio::time::sleep(allowed).await;
    assert!(!is_live(&store, &session).await);
}

#[tokio::test]
async fn all_copies_have_an_end() {
    let Some(stage) = Stage::redis() else { return };
    let store = stage.store();
    let session = stage.session(&store).await;
    warm_up(&stage, &store, &session).await;
    for key in keys(&stage) {
        let left: i64 = redis::from_redis_value(command(&stage, &["PTTL", &key])).unwrap();
        assert!(left > 0, "{key} stays for ever");
    }
}

#[tokio::test]
async fn a_store_without_redis_and_one_with_it_share_the_rows() {
    let Some(stage) = Stage::redis() else { return };
    let plain: SessionStore = stage.store_without_redis();
    let session = stage.session(&stage.store()).await;
    assert!(is_live(&plain, &session).await);
}
