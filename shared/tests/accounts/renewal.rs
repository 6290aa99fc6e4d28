//! Refresh tokens on the embedded DynamoDB: exchanged once, however many ask, and of no use once
//! the session has ended.

use std::collections::HashSet;
use std::time::Duration;

use local_region::services::faults::{Effect, Failure, Rule};
use sojourn::identity::principal::Role;
use sojourn::identity::seal::SealingKeys;
use sojourn::identity::sessions::{FIRST_NUMBER, RefreshToken, Revocation, SESSION_LIFETIME, Session};
use sojourn::identity::sign_in::{Renewal, Renewed};
use sojourn::identity::users::PasswordUpdate;
use sojourn_testing::{sealing_key, sealing_keys};

use crate::stage::{Stage, at_once, soon, spared_of, stage};

/// Rounds of a race: enough to see both orders.
const ROUNDS: usize = 25;

fn is_refused(renewal: &Renewal) -> bool {
    matches!(renewal, Renewal::Refused)
}

impl Stage {
    /// The number of the latest token of a session.
    async fn latest(&self, session: &Session) -> u64 {
        self.sessions.rows().read_chain(&session.id, &session.user_id).await.unwrap().1
    }

    /// Whether the access token of a renewal is good.
    async fn is_good(&self, renewed: &Renewed) -> bool {
        self.is_live(&self.verifier.verify(renewed.access.text.expose()).unwrap()).await
    }
}

#[tokio::test]
async fn fifty_renewals_at_once_with_one_token_get_the_same_successor_from_one_exchange() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    let first = stage.sign_in(&ann).await;
    let renewed = at_once(50, || stage.renewed(&first.refresh)).await;

    let successors: HashSet<String> = renewed.iter().map(|renewed| renewed.refresh.expose()).collect();
    assert_eq!(successors.len(), 1);
    assert!(!successors.contains(&first.refresh.expose()));
    for renewed in &renewed {
        assert!(stage.is_good(renewed).await);
    }
    assert_eq!(stage.latest(&first.session).await, FIRST_NUMBER + 1);
    let successor = &renewed[0].refresh;
    assert!(stage.stands(&first).await, "the token that came with the sign-in is good until it expires");
    stage.renewed(successor).await;
}

#[tokio::test]
async fn a_lost_answers_retry_gets_the_same_successor_until_that_is_used_and_then_counts_as_theft() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    let first = stage.sign_in(&ann).await;
    let successor = stage.renewed(&first.refresh).await.refresh;
    for wait in [Duration::from_secs(21), Duration::from_hours(20)] {
        stage.clock.advance(wait);
        assert_eq!(stage.renewed(&first.refresh).await.refresh, successor);
    }
    stage.renewed(&successor).await;
    let Renewal::Reused(session) = stage.renew(&first.refresh).await else {
        panic!("the successor was used")
    };
    assert_eq!(session.id, first.session.id);
}

#[tokio::test]
async fn an_exchange_whose_answer_is_lost_on_its_way_from_the_table_is_the_same_exchange() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    let first = stage.sign_in(&ann).await;
    stage
        .store
        .embedded
        .faults()
        .add(Rule::new(Effect::CommitThenReset).operation("TransactWriteItems").times(1));
    let successor = stage.renewed(&first.refresh).await.refresh;
    assert_eq!((successor.number(), stage.latest(&first.session).await), (1, 1));
}

#[tokio::test]
async fn a_token_that_was_used_before_the_last_one_is_theft_at_once() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    let first = stage.sign_in(&ann).await;
    let second = stage.renewed(&first.refresh).await.refresh;
    let third = stage.renewed(&second).await.refresh;
    assert!(matches!(stage.renew(&first.refresh).await, Renewal::Reused(_)));
    // Telling is all that renewing does: whoever asked revokes.
    stage.renewed(&third).await;
    assert!(stage.events().await.is_empty());
}

#[tokio::test]
async fn forged_tokens_change_nothing() {
    let stage = stage();
    let (ann, bob) = (stage.new_user("ann@example.com").await, stage.new_user("bob@example.com").await);
    let (first, bobs) = (stage.sign_in(&ann).await, stage.sign_in(&bob).await);
    stage.renewed(&first.refresh).await;
    let table = async || stage.store.client.scan().table_name("SessionsTable").send().await.unwrap().items;
    let before = table().await;
    let of =
        |keys: &SealingKeys, session: &Session, number| RefreshToken::issue(keys, session, number).expose();
    let ours = &stage.starter.sealing_keys;
    let (same_kid, unknown_kid) =
        (sealing_keys(&[sealing_key("test")]), sealing_keys(&[sealing_key("unknown")]));
    let code_of = |text: String| text.rsplit_once('.').unwrap().1.to_owned();
    let with_code = |text: String, code: &str| format!("{}.{code}", text.rsplit_once('.').unwrap().0);
    let forgeries = [
        of(&same_kid, &first.session, 1),
        of(&unknown_kid, &first.session, 1),
        with_code(of(ours, &first.session, 1), &code_of(bobs.refresh.expose())),
        with_code(of(ours, &first.session, 0), &code_of(of(ours, &first.session, 1))),
        with_code(of(ours, &first.session, 9), &code_of(of(ours, &first.session, 1))),
        with_code(
            of(ours, &Session { user_id: bob.id.clone(), ..first.session.clone() }, 1),
            &code_of(of(ours, &first.session, 1)),
        ),
    ];
    for forged in forgeries {
        assert!(is_refused(&stage.renew(&forged.parse().unwrap()).await), "{forged}");
    }
    assert_eq!(table().await, before);
    assert!(stage.events().await.is_empty());
}

#[tokio::test]
async fn a_token_of_an_older_sealing_key_is_good_for_as_long_as_that_key_is_there() {
    let (old, new) = (sealing_key("old"), sealing_key("new"));
    let mut stage = stage();
    stage.starter.sealing_keys = sealing_keys(std::slice::from_ref(&old));
    let ann = stage.new_user("ann@example.com").await;
    let first = stage.sign_in(&ann).await;
    stage.starter.sealing_keys = sealing_keys(&[new.clone(), old]);
    let second = stage.renewed(&first.refresh).await.refresh;
    stage.starter.sealing_keys = sealing_keys(&[new]);
    assert!(is_refused(&stage.renew(&first.refresh).await));
    stage.renewed(&second).await;
}

#[tokio::test]
async fn a_role_that_was_granted_meanwhile_comes_with_the_next_access_token() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    let first = stage.sign_in(&ann).await;
    assert!(!stage.caller(&first).has_role(Role::Operator));
    stage.roles.grant(&ann.id, Role::Operator).await.unwrap();
    let renewed = stage.renewed(&first.refresh).await;
    assert!(stage.verifier.verify(renewed.access.text.expose()).unwrap().has_role(Role::Operator));
    stage.roles.withdraw(&ann.id, Role::Operator, soon()).await.unwrap();
    assert!(is_refused(&stage.renew(&renewed.refresh).await), "a withdrawal ends the session");
}

#[tokio::test]
async fn nothing_is_renewed_after_the_session_was_revoked() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    let first = stage.sign_in(&ann).await;
    let second = stage.renewed(&first.refresh).await.refresh;
    stage.revoker.revoke(&first.session.id, &ann.id, soon()).await.unwrap();
    for token in [&first.refresh, &second] {
        assert!(is_refused(&stage.renew(token).await));
    }
}

#[tokio::test]
async fn nothing_is_renewed_after_the_sessions_end() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    let first = stage.sign_in(&ann).await;
    let mut renewed = stage.renewed(&first.refresh).await;
    let mut left = SESSION_LIFETIME.saturating_sub(Duration::from_secs(1));
    while left > Duration::ZERO {
        let step = left.min(Duration::from_hours(23));
        stage.clock.advance(step);
        renewed = stage.renewed(&renewed.refresh).await;
        left -= step;
    }
    assert_eq!(renewed.session.expires_at, first.session.expires_at, "use does not prolong a session");
    stage.clock.advance(Duration::from_secs(1));
    assert!(is_refused(&stage.renew(&renewed.refresh).await));
}

#[tokio::test]
async fn nothing_is_renewed_of_a_session_that_was_idle_for_too_long() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    let first = stage.sign_in(&ann).await;
    stage.clock.advance(Duration::from_hours(23));
    let renewed = stage.renewed(&first.refresh).await;
    stage.clock.advance(Duration::from_hours(23));
    let renewed = stage.renewed(&renewed.refresh).await;
    stage.clock.advance(Duration::from_hours(24));
    assert!(is_refused(&stage.renew(&renewed.refresh).await));
}

#[tokio::test]
async fn nothing_is_renewed_after_all_sessions_were_revoked() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    let first = stage.sign_in(&ann).await;
    stage.revoker.revoke_all(&ann.id, soon()).await.unwrap();
    assert!(is_refused(&stage.renew(&first.refresh).await));
    let next = stage.sign_in(&ann).await;
    stage.renewed(&next.refresh).await;
}

#[tokio::test]
async fn no_token_of_a_renewal_that_raced_with_the_sessions_revocation_is_good() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    let mut handed_out = 0;
    for _ in 0..ROUNDS {
        let first = stage.sign_in(&ann).await;
        let (renewals, revocation) = tokio::join!(
            at_once(4, || stage.renew(&first.refresh)),
            stage.revoker.revoke(&first.session.id, &ann.id, soon()),
        );
        assert_eq!(revocation.unwrap(), Revocation::Revoked);
        handed_out += none_is_good(&stage, &renewals).await;
        assert!(!stage.stands(&first).await);
    }
    println!("{handed_out} tokens were handed out in {ROUNDS} races");
}

#[tokio::test]
async fn no_token_of_a_renewal_that_raced_with_the_revocation_of_all_is_good() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    let mut handed_out = 0;
    for _ in 0..ROUNDS {
        let first = stage.sign_in(&ann).await;
        let (renewals, revoked) = tokio::join!(
            at_once(4, || stage.renew(&first.refresh)),
            stage.revoker.revoke_all(&ann.id, soon()),
        );
        revoked.unwrap();
        handed_out += none_is_good(&stage, &renewals).await;
        assert!(!stage.stands(&first).await);
    }
    println!("{handed_out} tokens were handed out in {ROUNDS} races");
}

/// How many tokens the renewals handed out; none of them may be good, for access or for the next
/// renewal.
async fn none_is_good(stage: &Stage, renewals: &[Renewal]) -> usize {
    let mut handed_out = 0;
    for renewal in renewals {
        match renewal {
            Renewal::Renewed(renewed) => {
                handed_out += 1;
                assert!(!stage.is_good(renewed).await);
                assert!(is_refused(&stage.renew(&renewed.refresh).await));
            }
            Renewal::Refused => {}
            Renewal::Reused(_) => panic!("nobody used a token twice"),
        }
    }
    handed_out
}

#[tokio::test]
async fn a_revocation_between_reading_the_session_and_the_exchange_wins() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    let first = stage.sign_in(&ann).await;
    let exchange = stage.hold("TransactWriteItems");
    let revoke = stage.revoker.revoke(&first.session.id, &ann.id, soon());
    let (renewal, revocation) =
        Box::pin(stage.overtaken(exchange, stage.renew(&first.refresh), revoke)).await;
    assert_eq!(revocation.unwrap(), Revocation::Revoked);
    assert!(is_refused(&renewal));
}

#[tokio::test]
async fn a_session_that_a_change_of_the_password_spares_is_renewed_while_it_happens() {
    let stage = stage();
    let (ann, bob) = (stage.new_user("ann@example.com").await, stage.new_user("bob@example.com").await);
    let first = stage.sign_in(&ann).await;
    let ((account, old), (_, new)) = (stage.account(&ann).await, stage.account(&bob).await);
    // The session's rows are read before the change, the exchange is written after it.
    let exchange = stage.hold("TransactWriteItems");
    let spared = spared_of(&first);
    let change = stage.passwords.replace(&account, &old, &new, &spared, soon());
    let (renewed, changed) = Box::pin(stage.overtaken(exchange, stage.renewed(&first.refresh), change)).await;
    assert_eq!(changed.unwrap(), PasswordUpdate::Done);
    assert!(stage.is_good(&renewed).await);
    stage.renewed(&renewed.refresh).await;
}

#[tokio::test]
async fn an_exchange_that_meets_a_transaction_at_its_row_is_tried_again() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    let first = stage.sign_in(&ann).await;
    let conflict = Rule::fail(Failure::TransactionConflict { positions: vec![1] });
    let conflict = conflict.operation("TransactWriteItems").times(3);
    let rule = stage.store.embedded.faults().add(conflict);
    let renewed = stage.renewed(&first.refresh).await;
    assert!(stage.is_good(&renewed).await);
    let applied = stage.store.embedded.faults().status(rule).unwrap().applied;
    assert_eq!(applied, 3, "the exchange met no transaction");
}
