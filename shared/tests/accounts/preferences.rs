//! The sealed part of a session on the embedded DynamoDB: what is told, what is refused, and who
//! wins.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use futures::stream::{self, StreamExt};
use local_region::services::faults::{Rule, When};
use serde_json::{Value, json};
use sojourn::core::clock::{Clock, ManualClock};
use sojourn::core::deadline::Deadline;
use sojourn::core::ids::{SessionId, UserId};
use sojourn::core::precondition::Preconditions;
use sojourn::core::problem::Problem;
use sojourn::identity::principal::Credential;
use sojourn::identity::seal::SealingKeys;
use sojourn::identity::sessions::{
    FIRST_VERSION, InvalidPreferences, PayloadError, PreferencesError, PreferencesPatch, Replaced,
    SealedPayload, SessionError, SessionPreferences, VersionedPreferences, dynamo,
};
use sojourn::identity::sign_in::SessionStarter;
use sojourn::platform::dynamo::Item;
use sojourn_testing::sign_ins::new_user;
use sojourn_testing::{Fixture, Store, sealing_key, sealing_keys};

/// How many race.
const CALLERS: usize = 50;
/// They share the machine's cores, and each of them wins once.
const LONG_ENOUGH: Duration = Duration::from_mins(1);

/// Runs so many things at once.
async fn at_once<T>(work: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    stream::iter(work).buffer_unordered(CALLERS).collect().await
}

/// A store with sessions in it.
struct Stage {
    store: Store,
    clock: Arc<ManualClock>,
    starter: SessionStarter,
}

fn stage() -> Stage {
    let fixture = Fixture::start();
    let starter = fixture.session_starter(fixture.clock.clone());
    Stage { store: fixture.store, clock: fixture.clock, starter }
}

impl Stage {
    /// The caller of a new session of a new user, on Ann's phone.
    async fn sign_in(&self) -> Credential {
        let (user, device) = (new_user(self.clock.now()), "Ann's phone".parse().unwrap());
        self.starter.start(&user, Some(device)).await.unwrap().cookie.credential()
    }

    /// The preferences, for a function that has `keys`.
    fn preferences_with(&self, keys: &SealingKeys) -> SessionPreferences {
        SessionPreferences { store: self.starter.store.clone(), sealing_keys: keys.clone() }
    }

    async fn read(&self, caller: &Credential) -> Result<VersionedPreferences, PreferencesError> {
        self.preferences_with(&self.starter.sealing_keys).read(caller).await
    }

    async fn patch(
        &self,
        caller: &Credential,
        patch: Value,
    ) -> Result<VersionedPreferences, PreferencesError> {
        self.patch_if(caller, patch, None).await
    }

    async fn patch_if(
        &self,
        caller: &Credential,
        patch: Value,
        if_match: Option<&str>,
    ) -> Result<VersionedPreferences, PreferencesError> {
        let patch = PreferencesPatch::new(serde_json::from_value(patch).unwrap()).unwrap();
        let preconditions = Preconditions::from_headers(if_match, None).unwrap();
        let deadline = Deadline::after(LONG_ENOUGH);
        self.preferences_with(&self.starter.sealing_keys)
            .patch(caller, &patch, &preconditions, deadline)
            .await
    }

    /// Opens a connection for each of [`CALLERS`]: whoever had one first would otherwise be done
    /// before the others begin.
    async fn warm_up(&self, caller: &Credential) {
        for outcome in at_once((0..CALLERS).map(|_| self.read(caller))).await {
            outcome.unwrap();
        }
    }

    /// Whose session it is.
    async fn user(&self, id: &SessionId) -> UserId {
        self.row(id).await["userId"].as_s().unwrap().parse().unwrap()
    }

    async fn row(&self, id: &SessionId) -> Item {
        let get = self.store.client.get_item().table_name("SessionsTable").set_key(Some(dynamo::key(id)));
        get.send().await.unwrap().item.unwrap()
    }

    async fn payload(&self, id: &SessionId) -> Item {
        let get = self.store.client.get_item().table_name("SessionsTable");
        get.set_key(Some(dynamo::payload_key(id))).send().await.unwrap().item.unwrap()
    }

    async fn put(&self, row: Item) {
        self.store.client.put_item().table_name("SessionsTable").set_item(Some(row)).send().await.unwrap();
    }

    async fn revoke(&self, id: &SessionId) {
        self.put(dynamo::end_key(id)).await;
    }
}

fn shown(read: &VersionedPreferences) -> Value {
    json!(read.preferences.expose())
}

#[tokio::test]
async fn a_session_begins_with_its_device_and_without_preferences() {
    let stage = stage();
    let ann = stage.sign_in().await;
    let read = stage.read(&ann).await.unwrap();
    assert_eq!((shown(&read), read.version), (json!({}), 1));
    let sealed = dynamo::parse_payload(&stage.payload(ann.session_id()).await).unwrap();
    let payload = sealed
        .open(&stage.starter.sealing_keys, ann.session_id(), &stage.user(ann.session_id()).await)
        .await
        .unwrap();
    assert_eq!(payload.device.unwrap().as_str(), "Ann's phone");
}

#[tokio::test]
async fn the_rows_show_neither_the_device_nor_the_preferences() {
    let stage = stage();
    let ann = stage.sign_in().await;
    stage.patch(&ann, json!({"diet": "tarragon"})).await.unwrap();
    let rows = [stage.row(ann.session_id()).await, stage.payload(ann.session_id()).await];
    let values = rows.iter().flat_map(|row| row.values()).map(|value| match value {
        AttributeValue::B(blob) => String::from_utf8_lossy(blob.as_ref()).into_owned(),
        other => format!("{other:?}"),
    });
    let text: String = values.collect();
    for secret in ["Ann", "phone", "diet", "tarragon"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_null_takes_away() {
    let stage = stage();
    let ann = stage.sign_in().await;
    stage.patch(&ann, json!({"theme": "dark", "columns": {"price": true, "stock": true}})).await.unwrap();
    let patched = stage.patch(&ann, json!({"columns": {"stock": null}, "language": "zh-TW"})).await.unwrap();
    let expected = json!({"theme": "dark", "columns": {"price": true}, "language": "zh-TW"});
    assert_eq!((shown(&patched), patched.version), (expected, 3));
    assert_eq!(stage.read(&ann).await.unwrap(), patched);
}

#[tokio::test]
async fn a_patch_stamps_the_session_as_in_use() {
    let stage = stage();
    let ann = stage.sign_in().await;
    stage.clock.advance(Duration::from_secs(5));
    stage.patch(&ann, json!({"theme": "dark"})).await.unwrap();
    assert_eq!(stage.row(ann.session_id()).await["lastActivity"].as_s().unwrap(), "2026-11-20T09:30:05.123Z");
    stage.clock.advance(Duration::from_mins(1));
    stage.read(&ann).await.unwrap();
    assert_eq!(stage.row(ann.session_id()).await["lastActivity"].as_s().unwrap(), "2026-11-20T09:31:05.123Z");
}

#[tokio::test]
async fn fifty_patches_of_different_members_at_once_all_count() {
    let stage = stage();
    let ann = stage.sign_in().await;
    stage.warm_up(&ann).await;
    let names: Vec<String> = (0..CALLERS).map(|n| format!("member-{n}")).collect();
    let patches = names.iter().map(|name| stage.patch(&ann, json!({ name: true })));
    let mut versions: Vec<u64> =
        at_once(patches).await.into_iter().map(|patched| patched.unwrap().version).collect();
    versions.sort_unstable();
    assert_eq!(versions, (2..=51).collect::<Vec<_>>(), "each patch is a version of its own");
    let read = stage.read(&ann).await.unwrap();
    let expected: Value = names.into_iter().map(|name| (name, json!(true))).collect();
    assert_eq!(shown(&read), expected);
}

#[tokio::test]
async fn of_fifty_patches_of_one_version_one_wins() {
    let stage = stage();
    let ann = stage.sign_in().await;
    stage.warm_up(&ann).await;
    let patches = (0..CALLERS).map(|n| stage.patch_if(&ann, json!({"winner": n}), Some("\"1\"")));
    let outcomes = at_once(patches).await;
    let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert!(lost.iter().all(|outcome| matches!(outcome, Err(PreferencesError::Stale(2)))), "{lost:?}");
    assert_eq!(stage.read(&ann).await.unwrap(), won.into_iter().next().unwrap().unwrap());
}

#[tokio::test]
async fn a_patch_for_another_version_changes_nothing() {
    let stage = stage();
    let ann = stage.sign_in().await;
    for tags in ["\"2\"", "W/\"1\"", "\"0\", \"7\""] {
        let refused = stage.patch_if(&ann, json!({"a": 1}), Some(tags)).await.unwrap_err();
        assert!(matches!(refused, PreferencesError::Stale(1)), "{tags}: {refused:?}");
    }
    assert_eq!(stage.read(&ann).await.unwrap().version, 1);
    for (tags, version) in [("\"7\", \"1\"", 2), ("*", 3)] {
        assert_eq!(stage.patch_if(&ann, json!({"a": 1}), Some(tags)).await.unwrap().version, version);
    }
}

#[tokio::test]
async fn a_write_whose_answer_got_lost_is_not_taken_for_somebody_elses() {
    let stage = stage();
    let ann = stage.sign_in().await;
    let rule = json!({
        "match": {"service": "dynamodb", "operation": "TransactWriteItems"},
        "times": 1, "effect": {"kind": "commitThenReset"},
    });
    stage.store.embedded.faults().add(serde_json::from_value(rule).unwrap());
    let patched = stage.patch_if(&ann, json!({"a": 1}), Some("\"1\"")).await.unwrap();
    assert_eq!((shown(&patched), patched.version), (json!({"a": 1}), 2));
    assert_eq!(stage.read(&ann).await.unwrap(), patched);
}

#[tokio::test]
async fn an_ended_session_neither_tells_nor_changes_anything() {
    let stage = stage();
    let (ann, bob) = (stage.sign_in().await, stage.sign_in().await);
    stage.revoke(ann.session_id()).await;
    let before = stage.payload(ann.session_id()).await;
    for outcome in [stage.read(&ann).await, stage.patch(&ann, json!({"a": 1})).await] {
        assert!(matches!(outcome, Err(PreferencesError::Session(SessionError::Ended))), "{outcome:?}");
    }
    assert_eq!(stage.payload(ann.session_id()).await, before);
    stage.clock.advance(sojourn::identity::sessions::SESSION_LIFETIME);
    assert!(matches!(stage.read(&bob).await, Err(PreferencesError::Session(SessionError::Ended))));
}

#[tokio::test]
async fn a_revocation_between_reading_and_writing_wins() {
    let stage = stage();
    let ann = stage.sign_in().await;
    let id = ann.session_id();
    let user = stage.user(id).await;
    let (rows, payload) = stage.starter.store.rows().read_payload(id, &user).await.unwrap();
    let (caller, now) = (stage.starter.store.check(&ann).await.unwrap(), stage.clock.now());
    let next = SealedPayload { version: 2, ..payload.unwrap() };
    stage.revoke(id).await;
    let before = (stage.row(id).await, stage.payload(id).await);
    let late = stage.starter.store.replace_payload(&caller, &rows, &next, now).await.unwrap();
    assert_eq!(late, Replaced::Ended);
    assert_eq!((stage.row(id).await, stage.payload(id).await), before);
}

#[tokio::test]
async fn a_session_whose_payload_has_not_arrived_has_the_preferences_of_a_new_one() {
    let stage = stage();
    let ann = stage.sign_in().await;
    let id = ann.session_id();
    let replicated = stage.payload(id).await;
    let delete = stage.store.client.delete_item().table_name("SessionsTable");
    delete.set_key(Some(dynamo::payload_key(id))).send().await.unwrap();
    let read = stage.read(&ann).await.unwrap();
    assert_eq!((shown(&read), read.version), (json!({}), 0));
    let patched = stage.patch(&ann, json!({"a": 1})).await.unwrap();
    assert_eq!((shown(&patched), patched.version), (json!({"a": 1}), 1));
    assert_eq!(shown(&stage.patch(&ann, json!({"b": 2})).await.unwrap()), json!({"a": 1, "b": 2}));
    let written = stage.payload(id).await;
    for attribute in ["owner", "expiresAt"] {
        assert_eq!(written[attribute], replicated[attribute]);
    }
}

#[tokio::test]
async fn a_payload_that_has_just_arrived_is_not_replaced_by_a_first_one() {
    let stage = stage();
    let ann = stage.sign_in().await;
    stage.patch(&ann, json!({"a": 1})).await.unwrap();
    let (id, user) = (ann.session_id(), stage.user(ann.session_id()).await);
    let (rows, replicated) = stage.starter.store.rows().read_payload(id, &user).await.unwrap();
    let (caller, now) = (stage.starter.store.check(&ann).await.unwrap(), stage.clock.now());
    let first = SealedPayload { version: FIRST_VERSION, ..replicated.unwrap() };
    let outcome = stage.starter.store.replace_payload(&caller, &rows, &first, now).await.unwrap();
    assert_eq!(outcome, Replaced::Overtaken);
    assert_eq!(shown(&stage.read(&ann).await.unwrap()), json!({"a": 1}));
}

#[tokio::test]
async fn a_read_that_a_change_of_the_password_tore_shows_the_spared_session() {
    let stage = stage();
    let ann = stage.sign_in().await;
    let at = || AttributeValue::S("2026-11-20T09:31:00.000Z".into());
    let mut all_ended = dynamo::all_ended_key(&stage.user(ann.session_id()).await, "local");
    all_ended.insert("endedBefore".into(), at());
    let mut spared = dynamo::spared_key(ann.session_id());
    spared.insert("sparedAt".into(), at());
    // The batch is answered with the instant of after. What spares the session is written before
    // the second read.
    stage.put(all_ended).await;
    let faults = stage.store.embedded.faults();
    let first = faults.add(Rule::hold(When::After).operation("BatchGetItem").times(1));
    let (read, ()) = tokio::join!(stage.read(&ann), async {
        assert!(faults.until_held(first, 1).await);
        stage.put(spared).await;
        faults.release(first);
    });
    assert_eq!(read.unwrap().version, 1);
}

#[tokio::test]
async fn a_tampered_payload_ends_the_session_for_its_reader() {
    let stage = stage();
    let ann = stage.sign_in().await;
    stage.patch(&ann, json!({"a": 1})).await.unwrap();
    let row = stage.payload(ann.session_id()).await;
    let mut bytes = row["payload"].as_b().unwrap().as_ref().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let mut tampered = row.clone();
    tampered.insert("payload".into(), AttributeValue::B(Blob::new(bytes)));
    stage.put(tampered).await;
    for outcome in [stage.read(&ann).await, stage.patch(&ann, json!({"b": 1})).await] {
        let error = outcome.unwrap_err();
        assert!(matches!(error, PreferencesError::Payload(PayloadError::Foreign { .. })), "{error:?}");
        assert_eq!(Problem::from(error).kind.status(), 401);
    }
    // The other way to tamper: the old payload under a new number.
    let mut renumbered = row;
    renumbered.insert("version".into(), AttributeValue::N("9".into()));
    stage.put(renumbered).await;
    let error = stage.read(&ann).await.unwrap_err();
    assert!(matches!(error, PreferencesError::Payload(PayloadError::Foreign { .. })), "{error:?}");
}

#[tokio::test]
async fn a_payload_from_another_row_is_refused() {
    let stage = stage();
    let (ann, bob) = (stage.sign_in().await, stage.sign_in().await);
    stage.patch(&bob, json!({"bobs": true})).await.unwrap();
    stage.patch(&ann, json!({"anns": true})).await.unwrap();
    let mut row = stage.payload(ann.session_id()).await;
    row.insert("payload".into(), stage.payload(bob.session_id()).await["payload"].clone());
    stage.put(row).await;
    let error = stage.read(&ann).await.unwrap_err();
    assert!(matches!(error, PreferencesError::Payload(PayloadError::Foreign { .. })), "{error:?}");
    stage.read(&bob).await.unwrap();
}

#[tokio::test]
async fn a_rotated_key_seals_what_is_written_next_and_the_old_one_opens_the_rest() {
    let (old, new) = (sealing_key("old"), sealing_key("new"));
    let mut stage = stage();
    stage.starter.sealing_keys = sealing_keys(std::slice::from_ref(&old));
    let (ann, bob) = (stage.sign_in().await, stage.sign_in().await);
    stage.patch(&ann, json!({"a": 1})).await.unwrap();

    stage.starter.sealing_keys = sealing_keys(&[new.clone(), old]);
    assert_eq!(shown(&stage.read(&ann).await.unwrap()), json!({"a": 1}));
    stage.patch(&ann, json!({"b": 2})).await.unwrap();

    stage.starter.sealing_keys = sealing_keys(&[new]);
    assert_eq!(shown(&stage.read(&ann).await.unwrap()), json!({"a": 1, "b": 2}));
    // Nothing was written to Bob's: the key was taken away too early for him.
    let error = stage.read(&bob).await.unwrap_err();
    assert!(matches!(error, PreferencesError::Payload(PayloadError::UnknownKey { .. })), "{error:?}");
    assert_eq!(Problem::from(error).kind.status(), 500);
}

#[tokio::test]
async fn preferences_that_would_grow_beyond_their_limit_stay_as_they_are() {
    let stage = stage();
    let ann = stage.sign_in().await;
    let before = stage.patch(&ann, json!({"a": "x".repeat(10_000)})).await.unwrap();
    let error = stage.patch(&ann, json!({"b": "x".repeat(10_000)})).await.unwrap_err();
    assert!(matches!(error, PreferencesError::Refused(InvalidPreferences::TooLarge(_))), "{error:?}");
    assert_eq!(stage.read(&ann).await.unwrap(), before);
}
