//! Sessions in two regions, whose rows arrive late, in any order, and overwrite each other: the
//! last writer of a row wins.

use std::time::Duration;

use serde_json::json;
use sojourn::core::deadline::Deadline;
use sojourn::core::precondition::Preconditions;
use sojourn::identity::principal::Credential;
use sojourn::identity::sessions::{
    FIRST_NUMBER, PreferencesPatch, SessionPreferences, SessionReader, dynamo,
};
use sojourn::identity::sign_in::{Renewal, SignedIn};
use sojourn::identity::users::{PasswordUpdate, User};
use sojourn::platform::dynamo::Item;

use crate::stage::{Stage, regions, soon, spared_of};

const REGIONS: [&str; 2] = ["taiwan", "tokyo"];

impl Stage {
    async fn rows_of(&self, table: &str) -> Vec<Item> {
        self.store.client.scan().table_name(table).send().await.unwrap().items.unwrap()
    }

    /// Has the row with this key of the sessions table arrive in the other region, over whatever is
    /// there.
    async fn send(&self, other: &Self, key: Item) {
        let get = self.store.client.get_item().table_name("SessionsTable").set_key(Some(key));
        let row = get.send().await.unwrap().item.unwrap();
        let put = other.store.client.put_item().table_name("SessionsTable").set_item(Some(row));
        put.send().await.unwrap();
    }

    /// Has all rows of a table arrive there, over whatever is there.
    async fn send_all(&self, other: &Self, table: &str) {
        for row in self.rows_of(table).await {
            other.store.client.put_item().table_name(table).set_item(Some(row)).send().await.unwrap();
        }
    }

    /// Changes preferences of the caller's session.
    async fn prefer(&self, caller: &Credential) {
        let (store, sealing_keys) = (self.sessions.clone(), self.starter.sealing_keys.clone());
        let patch = PreferencesPatch::new(serde_json::from_value(json!({"a": 1})).unwrap()).unwrap();
        let any = Preconditions::from_headers(None, None).unwrap();
        let deadline = Deadline::after(Duration::from_secs(10));
        SessionPreferences { store, sealing_keys }.patch(caller, &patch, &any, deadline).await.unwrap();
    }

    async fn has_row(&self, signed_in: &SignedIn) -> bool {
        let session = &signed_in.session;
        self.sessions.read(&session.id, &session.user_id).await.unwrap().session.is_some()
    }

    /// Whether the session is live by its token, its cookie and its first refresh token. None of
    /// these may say otherwise.
    async fn is_over(&self, signed_in: &SignedIn) -> bool {
        let by_token = self.stands(signed_in).await;
        let by_cookie = self.is_live(&signed_in.cookie.credential()).await;
        let by_refresh = matches!(self.renew(&signed_in.refresh).await, Renewal::Renewed(_));
        !by_token && !by_cookie && !by_refresh
    }
}

/// Two regions that both have Ann's account.
async fn with_ann() -> ([Stage; 2], User) {
    let [here, there] = regions();
    let ann = here.new_user("ann@example.com").await;
    here.send_all(&there, "UsersTable").await;
    ([here, there], ann)
}

#[tokio::test]
async fn a_session_whose_row_has_not_arrived_is_admitted_and_a_refresh_adopts_it() {
    let ([here, there], ann) = with_ann().await;
    let first = here.sign_in(&ann).await;
    assert!(there.stands(&first).await, "the token proves it");
    assert!(!there.is_live(&first.cookie.credential()).await, "only the row proves a cookie");
    there.prefer(&there.caller(&first)).await;
    assert!(!there.has_row(&first).await, "preferences make no session");
    here.clock.advance(Duration::from_secs(1));
    let second = there.renewed(&first.refresh).await;
    assert!(there.has_row(&first).await);
    assert!(there.is_live(&first.cookie.credential()).await, "the row proves the cookie now");
    let page = there.sessions.rows().list(&ann.id, &first.session.id, None, 20, soon()).await.unwrap();
    assert_eq!(page.items.len(), 1);
    // Both rows are the same but for the last activity, so it does not matter which of them stays.
    let mut adopted = second.session.clone();
    adopted.last_activity = first.session.last_activity;
    assert_eq!(adopted, first.session);
    for (from, to) in [(&there, &here), (&here, &there)] {
        from.send(to, dynamo::key(&first.session.id)).await;
        assert!(to.stands(&first).await && to.is_live(&first.cookie.credential()).await);
        to.renewed(&second.refresh).await;
    }
}

#[tokio::test]
async fn a_session_goes_on_where_even_its_account_has_not_arrived() {
    let [here, there] = regions();
    let ann = here.new_user("ann@example.com").await;
    let first = here.sign_in(&ann).await;
    let second = there.renewed(&first.refresh).await;
    assert!(there.stands(&first).await && there.has_row(&first).await);
    assert_eq!(second.session.user_id, ann.id);
}

#[tokio::test]
async fn an_end_that_arrives_later_ends_a_session_that_was_adopted() {
    let ([here, there], ann) = with_ann().await;
    let session = here.sign_in(&ann).await;
    there.renewed(&session.refresh).await;
    here.revoker.revoke(&session.session.id, &ann.id, soon()).await.unwrap();
    assert!(there.stands(&session).await, "it has not heard of it");
    here.send(&there, dynamo::end_key(&session.session.id)).await;
    assert!(there.is_over(&session).await);
}

#[tokio::test]
async fn an_end_that_arrives_before_the_session_keeps_it_from_being_adopted() {
    let ([here, there], ann) = with_ann().await;
    let session = here.sign_in(&ann).await;
    here.revoker.revoke(&session.session.id, &ann.id, soon()).await.unwrap();
    here.send(&there, dynamo::end_key(&session.session.id)).await;
    assert!(there.is_over(&session).await && !there.has_row(&session).await);
    here.send(&there, dynamo::key(&session.session.id)).await;
    assert!(there.is_over(&session).await);
}

#[tokio::test]
async fn a_session_is_ended_where_its_row_has_not_arrived() {
    let ([here, there], ann) = with_ann().await;
    let session = here.sign_in(&ann).await;
    there.revoker.revoke_proven(&session.session.id, &ann.id, soon()).await.unwrap();
    there.send(&here, dynamo::end_key(&session.session.id)).await;
    assert!(here.is_over(&session).await && there.is_over(&session).await);
}

#[tokio::test]
async fn no_write_of_a_region_that_has_not_heard_of_an_end_undoes_it() {
    let ([here, there], ann) = with_ann().await;
    let session = here.sign_in(&ann).await;
    here.send_all(&there, "SessionsTable").await;
    here.revoker.revoke(&session.session.id, &ann.id, soon()).await.unwrap();
    // The other region goes on: a stamp, a change of preferences, a refresh. It wrote last, so its
    // rows win.
    there.clock.advance(Duration::from_mins(2));
    assert!(there.stands(&session).await);
    there.prefer(&there.caller(&session)).await;
    let second = there.renewed(&session.refresh).await;
    there.send_all(&here, "SessionsTable").await;
    assert!(here.is_over(&session).await);
    assert!(matches!(here.renew(&second.refresh).await, Renewal::Refused));
    here.send(&there, dynamo::end_key(&session.session.id)).await;
    assert!(there.is_over(&session).await);
    assert!(matches!(there.renew(&second.refresh).await, Renewal::Refused));
}

#[tokio::test]
async fn the_end_of_all_sessions_reaches_those_that_began_elsewhere_before_it_was_known() {
    let ([here, there], ann) = with_ann().await;
    here.revoker.revoke_all(&ann.id, soon()).await.unwrap();
    here.clock.advance(Duration::from_secs(2));
    let ignorant = there.sign_in(&ann).await;
    assert!(there.stands(&ignorant).await);
    here.send(&there, dynamo::all_ended_key(&ann.id, REGIONS[0])).await;
    assert!(there.is_over(&ignorant).await);
    let knowing = there.sign_in(&ann).await;
    there.send_all(&here, "SessionsTable").await;
    assert!(there.stands(&knowing).await && here.stands(&knowing).await);
    assert!(here.is_over(&ignorant).await);
}

#[tokio::test]
async fn the_latest_of_the_regions_instants_counts_in_every_order_of_arrival() {
    for first in [0, 1] {
        let (stages, ann) = with_ann().await;
        let session = stages[first].sign_in(&ann).await;
        stages[first].send_all(&stages[1 - first], "SessionsTable").await;
        stages[1 - first].revoker.revoke_all(&ann.id, soon()).await.unwrap();
        stages[first].clock.advance(Duration::from_secs(1));
        stages[first].revoker.revoke_all(&ann.id, soon()).await.unwrap();
        let latest = stages[first].account(&ann).await.0.ended_before;
        for from in [first, 1 - first] {
            stages[from].send_all(&stages[1 - from], "SessionsTable").await;
        }
        for stage in &stages {
            assert_eq!(stage.account(&ann).await.0.ended_before, latest);
            assert!(stage.is_over(&session).await);
        }
    }
}

#[tokio::test]
async fn a_spared_session_lives_everywhere_until_another_region_ends_all() {
    let ([here, there], ann) = with_ann().await;
    let (current, other) = (here.sign_in(&ann).await, here.sign_in(&ann).await);
    here.send_all(&there, "SessionsTable").await;
    let (user, hash) = here.account(&ann).await;
    let update = here.passwords.replace(&user, &hash, &hash, &spared_of(&current), soon()).await.unwrap();
    assert_eq!(update, PasswordUpdate::Done);
    here.send_all(&there, "SessionsTable").await;
    assert!(there.stands(&current).await && !there.stands(&other).await);
    // It changes the password once more, in the other region.
    let (user, hash) = there.account(&ann).await;
    let update = there.passwords.replace(&user, &hash, &hash, &spared_of(&current), soon()).await.unwrap();
    assert_eq!(update, PasswordUpdate::Done);
    there.send_all(&here, "SessionsTable").await;
    assert!(here.stands(&current).await && there.stands(&current).await);
    there.clock.advance(Duration::from_secs(1));
    there.revoker.revoke_all(&ann.id, soon()).await.unwrap();
    there.send_all(&here, "SessionsTable").await;
    assert!(here.is_over(&current).await && there.is_over(&current).await);
}

#[tokio::test]
async fn a_chain_of_refresh_tokens_goes_on_in_a_region_that_has_not_heard_of_it() {
    let ([here, there], ann) = with_ann().await;
    let first = here.sign_in(&ann).await;
    let second = here.renewed(&first.refresh).await.refresh;
    assert_eq!(
        there.renewed(&first.refresh).await.refresh,
        second,
        "a retry elsewhere gets the same successor"
    );
    let third = here.renewed(&second).await.refresh;
    let fourth = there.renewed(&third).await.refresh;
    assert_eq!(fourth.number(), FIRST_NUMBER + 3);
    let fifth = here.renewed(&fourth).await.refresh;
    here.send_all(&there, "SessionsTable").await;
    there.send_all(&here, "SessionsTable").await;
    for stage in [&here, &there] {
        assert_eq!(stage.renewed(&fourth).await.refresh, fifth, "the latest of all regions");
        assert!(matches!(stage.renew(&third).await, Renewal::Reused(_)));
    }
}

#[tokio::test]
async fn both_regions_exchange_a_token_at_once_for_the_same_successor() {
    let ([here, there], ann) = with_ann().await;
    let first = here.sign_in(&ann).await;
    here.send_all(&there, "SessionsTable").await;
    let (one, other) = tokio::join!(here.renewed(&first.refresh), there.renewed(&first.refresh));
    assert_eq!(one.refresh, other.refresh);
    here.send_all(&there, "SessionsTable").await;
    there.renewed(&one.refresh).await;
}
