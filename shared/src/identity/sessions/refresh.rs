//! Refresh tokens: each is exchanged once for the next one, in any region.
//!
//! A token is `<beginning of the session>.<number>.<key id>.<code>`. The beginning is
//! `<session id>.<user id>.<sign-in, ms>.<idle timeout, s>.<region>.<cookie hash>`. The code
//! ([`Code`]) authenticates the rest. All regions have the key, so that a region can verify the
//! token of a session that it has not received yet, and write the session's row from it
//! ([`crate::identity::sign_in`]). No token is stored.
//!
//! The tokens of a session are a chain with the numbers 0, 1, 2, … The successor of number *n* is
//! number *n* + 1, so that everybody who exchanges the same token gets the same successor. Each
//! region records the highest number that it has issued, in a row of its own, which only rises. The
//! highest of these numbers is the *latest* ([`presented`]):
//!
//! 1. The latest token is exchanged: its region records the next number and answers the next token.
//!    A number above the latest is exchanged as well: the token is genuine, so another region has
//!    issued it, and its row has not arrived yet.
//! 2. The token before the latest gets the latest again, as long as the latest was not exchanged:
//!    its holder lost the answer, or lost the race.
//! 3. An older token was used before: two clients hold the chain, and one of them stole it. The
//!    session ends (RFC 9700, section 4.14).
//! 4. A token with a wrong code is not ours. It changes nothing: knowing a session's id, which is
//!    no secret, is not enough to end the session.
//!
//! # Why a retry has no time limit
//!
//! A client that loses an answer cannot know whether the exchange happened. It retries when it has
//! a network again, which may be hours later. A time limit would end the sessions of honest phones,
//! so the limit is the successor's use: a client that uses the successor has received it, and has
//! no reason to show the token before it.
//!
//! The cost of a retry: whoever shows the previous token gets the current one, and an access token.
//! So the previous token is worth as much as the current one until the current one is used. A thief
//! must have stolen one of these two; every older token ends the session when it is shown.
//!
//! If a thief and the client both hold the current token, the first exchange makes it the previous
//! one, and the other exchange is then a retry. The theft shows when one of them exchanges twice
//! while the other does not: the other's next token is older than the previous one, and the session
//! ends. A thief who never gets ahead, and never falls two behind, is not detected in this way. For
//! that case there are other ends: the session ends after
//! [`SESSION_LIFETIME`](super::SESSION_LIFETIME), its user sees it in the list and revokes it, and
//! a new password revokes all others. A limit of seconds would detect this thief sooner, and would
//! treat every phone that retries late as one.
//!
//! # Limits in several regions
//!
//! A region that lags accepts an old token as the latest one, and exchanges it. The theft is
//! detected when the missing rows have arrived and one of the two holders shows a token again.

use std::str::FromStr;

use jiff::Timestamp;

use super::{IdleTimeout, Session, natural_end};
use crate::core::ids::SessionId;
use crate::identity::seal::{Code, OpenError, SealingKeys};
use crate::identity::secret::InvalidSecret;

/// The number of the token that a sign-in hands out.
pub const FIRST_NUMBER: u64 = 0;

/// A refresh token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshToken {
    session: Session,
    number: u64,
    code: Code,
}

/// The position of a presented token in its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PresentedToken {
    /// The latest, or one above the latest number known here: exchange it.
    Current,
    /// Exchanged for the latest, which was not exchanged itself.
    Retry,
    Reused,
}

/// The position of the token with this number in a chain whose latest number is `latest`.
pub fn presented(number: u64, latest: u64) -> PresentedToken {
    match latest.checked_sub(number) {
        None | Some(0) => PresentedToken::Current,
        Some(1) => PresentedToken::Retry,
        Some(_) => PresentedToken::Reused,
    }
}

impl RefreshToken {
    /// The token of `session` with this number.
    pub fn issue(keys: &SealingKeys, session: &Session, number: u64) -> Self {
        let session = session.as_it_began();
        let code = keys.sign(&content(&session, number));
        Self { session, number, code }
    }

    /// The successor.
    #[must_use]
    pub fn next(&self, keys: &SealingKeys) -> Self {
        Self::issue(keys, &self.session, self.number.saturating_add(1))
    }

    /// Refuses a token that was not issued by this deployment.
    pub async fn verify(&self, keys: &SealingKeys) -> Result<(), OpenError> {
        keys.verify(&content(&self.session, self.number), &self.code).await
    }

    /// The claimed session.
    pub fn session_id(&self) -> &SessionId {
        &self.session.id
    }

    /// The session as it began. A claim until [`Self::verify`] has accepted the token.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The position in the chain. A claim, likewise.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The text for the client.
    pub fn expose(&self) -> String {
        format!("{}.{}", content(&self.session, self.number), self.code.expose())
    }
}

/// The text that the code covers.
fn content(session: &Session, number: u64) -> String {
    format!(
        "{}.{}.{}.{}.{}.{}.{number}",
        session.id,
        session.user_id,
        session.created_at.as_millisecond(),
        session.idle_timeout.seconds(),
        session.region,
        session.cookie_hash.to_text(),
    )
}

impl FromStr for RefreshToken {
    type Err = InvalidSecret;

    fn from_str(text: &str) -> Result<Self, InvalidSecret> {
        let parts: Vec<&str> = text.split('.').collect();
        let &[id, user, began_ms, idle_seconds, region, cookie_hash, number, kid, code] = parts.as_slice()
        else {
            return Err(InvalidSecret);
        };
        let began_ms = began_ms.parse().map_err(|_| InvalidSecret)?;
        let created_at = Timestamp::from_millisecond(began_ms).map_err(|_| InvalidSecret)?;
        let session = Session {
            id: id.parse().map_err(|_| InvalidSecret)?,
            user_id: user.parse().map_err(|_| InvalidSecret)?,
            created_at,
            last_activity: created_at,
            expires_at: natural_end(created_at),
            idle_timeout: IdleTimeout::of_seconds(idle_seconds.parse().map_err(|_| InvalidSecret)?),
            region: region.to_owned(),
            cookie_hash: cookie_hash.parse()?,
        };
        let number = number.parse().map_err(|_| InvalidSecret)?;
        let code = Code::read(kid, code).ok_or(InvalidSecret)?;
        let token = Self { session, number, code };
        // One spelling only.
        if token.expose() == text { Ok(token) } else { Err(InvalidSecret) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids;
    use crate::core::redacted::Redacted;
    use crate::identity::sessions::SessionCookie;
    use proptest::prelude::*;

    /// Keys of these names, `A` or `Q`. The same name is the same key.
    fn keys(kids: &[&str]) -> SealingKeys {
        let key = |kid: &&str| {
            let k = kid.repeat(43);
            serde_json::json!({"kty": "oct", "alg": "A256GCM", "kid": kid, "k": k})
        };
        let set = serde_json::json!({"keys": kids.iter().map(key).collect::<Vec<_>>()});
        SealingKeys::from_jwks(&Redacted::new(set.to_string())).unwrap()
    }

    fn session() -> Session {
        let (id, user_id): (SessionId, crate::core::ids::UserId) =
            (ids::random().next(), ids::random().next());
        let cookie = SessionCookie::generate(id.clone(), user_id.clone(), std::collections::BTreeSet::new());
        let created_at = "2026-11-20T09:30:00.123Z".parse().unwrap();
        Session {
            id,
            user_id,
            created_at,
            last_activity: created_at,
            expires_at: natural_end(created_at),
            idle_timeout: "24".parse().unwrap(),
            region: "ap-east-2".to_owned(),
            cookie_hash: cookie.unwrap().hash(),
        }
    }

    #[tokio::test]
    async fn a_token_says_what_its_session_began_with_and_every_holder_of_the_key_believes_it() {
        let session = session();
        let used = Session { last_activity: session.expires_at, ..session.clone() };
        let text = RefreshToken::issue(&keys(&["A"]), &used, 7).expose();
        let token: RefreshToken = text.parse().unwrap();
        assert_eq!((token.session(), token.number()), (&session, 7));
        token.verify(&keys(&["A"])).await.unwrap();
        token.verify(&keys(&["Q", "A"])).await.unwrap();
        assert_eq!(token.next(&keys(&["A"])), RefreshToken::issue(&keys(&["A"]), &session, 8));
    }

    #[tokio::test]
    async fn a_token_of_an_unknown_key_is_not_believed() {
        let token = RefreshToken::issue(&keys(&["A"]), &session(), FIRST_NUMBER);
        assert!(matches!(token.verify(&keys(&["Q"])).await, Err(OpenError::UnknownKey(_))));
    }

    #[tokio::test]
    async fn no_part_of_a_token_can_be_exchanged_for_that_of_another() {
        let keys = keys(&["A", "Q"]);
        let later = "2026-11-20T09:30:00.124Z".parse().unwrap();
        let mut other = Session { created_at: later, region: "elsewhere".to_owned(), ..session() };
        other.idle_timeout = "48".parse().unwrap();
        let (ours, theirs) = (
            RefreshToken::issue(&keys, &session(), 1).expose(),
            RefreshToken::issue(&keys, &other, 2).expose(),
        );
        let theirs: Vec<&str> = theirs.split('.').collect();
        for position in 0..theirs.len() {
            let mut mixed: Vec<&str> = ours.split('.').collect();
            let is_key_id = mixed[position] == theirs[position];
            mixed[position] = if is_key_id { "UQ" } else { theirs[position] };
            let mixed: RefreshToken = mixed.join(".").parse().unwrap();
            assert!(mixed.verify(&keys).await.is_err(), "part {position}");
        }
    }

    #[test]
    fn nothing_of_a_code_shows_in_debug_output() {
        let token = RefreshToken::issue(&keys(&["A"]), &session(), FIRST_NUMBER);
        let text = token.expose();
        let secret = text.rsplit_once('.').unwrap().1;
        assert!(!format!("{token:?}").contains(&secret[..16]));
    }

    /// The chain as two regions write it, each seeing the other's row or an older one.
    #[derive(Debug, Clone, Copy, Default)]
    struct Chain {
        rows: [u64; 2],
    }

    impl Chain {
        fn show(&mut self, region: usize, number: u64, seen_of_the_other: u64) -> Option<u64> {
            let latest = self.rows[region].max(seen_of_the_other);
            match presented(number, latest) {
                PresentedToken::Current => {
                    self.rows[region] = self.rows[region].max(number + 1);
                    Some(number + 1)
                }
                PresentedToken::Retry => Some(latest),
                PresentedToken::Reused => None,
            }
        }
    }

    proptest! {
        #[test]
        fn a_client_that_always_shows_its_last_token_is_never_taken_for_a_thief(
            steps in prop::collection::vec((0..2_usize, any::<bool>(), any::<bool>()), 0..40),
        ) {
            let (mut chain, mut held, mut seen) = (Chain::default(), FIRST_NUMBER, [0, 0]);
            for (region, has_replicated, is_answer_lost) in steps {
                if has_replicated {
                    seen[region] = chain.rows[1 - region];
                }
                let answer = chain.show(region, held, seen[region]);
                prop_assert!(answer.is_some_and(|next| next > held), "{answer:?} for {held}");
                if !is_answer_lost {
                    held = answer.unwrap_or(held);
                }
            }
        }

        #[test]
        fn a_token_two_exchanges_old_is_reused_and_one_exchange_old_is_a_retry(number in 0..u64::MAX - 3, age in 0..3_u64) {
            let expected = [PresentedToken::Current, PresentedToken::Retry, PresentedToken::Reused];
            let age_index = usize::try_from(age).unwrap();
            prop_assert_eq!(presented(number, number + age), expected[age_index]);
        }

        #[test]
        fn no_text_makes_the_parser_panic_and_what_parses_says_the_same(text in "\\PC{0,160}") {
            prop_assert!(text.parse::<RefreshToken>().map_or(true, |token| token.expose() == text));
        }

        #[test]
        fn tokens_have_one_spelling(number in "0{0,2}[0-9]{1,3}", code in "[A-Za-z0-9_-]{42,44}") {
            let text = RefreshToken::issue(&keys(&["A"]), &session(), FIRST_NUMBER).expose();
            let parts: Vec<&str> = text.split('.').collect();
            let text = format!("{}.{number}.{}.{code}", parts[..6].join("."), parts[7]);
            prop_assert!(text.parse::<RefreshToken>().map_or(true, |token| token.expose() == text));
        }
    }
}
