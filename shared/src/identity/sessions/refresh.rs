//! Refresh tokens: opaque, used once, and the last one kept good until its successor is used.
//!
//! A token is `<session id>.<base64url of 32 family bytes and 32 secret bytes>`. All tokens of a session share the
//! family bytes; the secret changes with each use. The row keeps SHA-256 hashes of both.
//!
//! 1. A token with the row's present secret is exchanged: the successor's secret is HMAC-SHA256, keyed with the presented
//!    secret, over a fresh salt and the session id. Hash and salt go into the row by compare-and-swap on the presented
//!    secret's hash, so that of any number of exchanges at once one happens.
//! 2. A token with the secret before that gets the same successor again, for as long as the successor was not exchanged
//!    itself: its holder lost the answer, or lost the race. The salt in the row and the secret in the token make the
//!    successor anew; the row alone cannot.
//! 3. A token of the family with any other secret was used before: two hold the family, and one of them stole it. The
//!    session is revoked (RFC 9700, section 4.14).
//! 4. A token with another family is nothing of ours. It changes nothing: who merely knows a session's id, which is no
//!    secret, cannot end the session with it.
//!
//! # Why a retry has no time limit
//!
//! A client that loses an answer cannot know whether the exchange happened. It retries when it has a network again, which
//! may be hours later. A limit in time ends the sessions of honest phones, so the limit is the successor's use: a client
//! that uses the successor has got it, and has no reason to show the token before it.
//!
//! What a retry gives away: whoever shows the previous token gets the present one, and an access token. So the previous
//! token is worth as much as the present one until the present one is used. A thief must have stolen one of these two;
//! every older token ends the session when it is shown.
//!
//! When a thief and the client both hold the present token, the first exchange makes it the previous one, and the other
//! holder's exchange is then a retry. The theft shows when one of them exchanges twice while the other does not: the
//! other's next token is older than the previous one, and the session is revoked. A thief who never gets ahead, and never
//! falls two behind, is not found out in this way. For that case there are other ends: the session ends after
//! [`SESSION_LIFETIME`](super::SESSION_LIFETIME), its user sees it in the list and revokes it, and a new password revokes
//! all others. A limit of seconds would find this thief sooner, and would take every phone that retries late for one.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::core::ids::SessionId;
use crate::core::random::{self, NoEntropy};
use crate::core::redacted::Redacted;
use crate::identity::secret::{InvalidSecret, SecretHash};

/// Size of each half, in bytes.
const HALF_BYTES: usize = 32;

/// A refresh token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshToken {
    session_id: SessionId,
    family: Redacted<[u8; HALF_BYTES]>,
    secret: Redacted<[u8; HALF_BYTES]>,
}

/// What makes a successor differ from any other that the same secret could have had.
#[derive(Clone, PartialEq, Eq)]
pub struct Salt([u8; HALF_BYTES]);

/// The exchange that made the present token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    /// Hash of the secret that was exchanged.
    pub previous_hash: SecretHash,
    /// What its successor was made with.
    pub salt: Salt,
}

/// What a session's row knows of its refresh tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenFamily {
    /// Hash of what all of them share.
    pub family_hash: SecretHash,
    /// Hash of the present one's secret.
    pub current_hash: SecretHash,
    /// How it came to be; `None` for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
}

/// What a presented token is to its family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presented {
    /// The present one: exchange it.
    Current,
    /// Exchanged for this one, which is still the present one.
    Retry(RefreshToken),
    /// Used before.
    Reused,
    /// None of this family.
    Foreign,
}

impl RefreshToken {
    /// The first token of a session.
    pub fn generate(session_id: SessionId) -> Result<Self, NoEntropy> {
        let (family, secret) = (random::bytes()?, random::bytes()?);
        Ok(Self { session_id, family: Redacted::new(family), secret: Redacted::new(secret) })
    }

    /// The session that the text claims to belong to.
    pub fn session_id(&self) -> &SessionId {
        &self.session_id
    }

    /// The text for the client.
    pub fn expose(&self) -> String {
        let halves = [*self.family.expose(), *self.secret.expose()].concat();
        format!("{}.{}", self.session_id, URL_SAFE_NO_PAD.encode(halves))
    }

    /// What a row keeps of a session's first token.
    pub fn family(&self) -> TokenFamily {
        TokenFamily {
            family_hash: hash(self.family.expose()),
            current_hash: self.secret_hash(),
            rotation: None,
        }
    }

    /// Hash of its secret.
    pub fn secret_hash(&self) -> SecretHash {
        hash(self.secret.expose())
    }

    /// The token that this one is exchanged for, with this salt.
    #[must_use]
    pub fn successor(&self, salt: &Salt) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.expose());
        let mut context = hmac::Context::with_key(&key);
        context.update(&salt.0);
        context.update(self.session_id.as_str().as_bytes());
        let mut secret = [0; HALF_BYTES];
        secret.copy_from_slice(context.sign().as_ref());
        Self { secret: Redacted::new(secret), ..self.clone() }
    }
}

impl Salt {
    /// A new one.
    pub fn generate() -> Result<Self, NoEntropy> {
        Ok(Self(random::bytes()?))
    }
}

impl TokenFamily {
    /// What `token` is to this family.
    pub fn presented(&self, token: &RefreshToken) -> Presented {
        if hash(token.family.expose()) != self.family_hash {
            return Presented::Foreign;
        }
        let presented = token.secret_hash();
        if presented == self.current_hash {
            return Presented::Current;
        }
        match &self.rotation {
            Some(rotation) if rotation.previous_hash == presented => {
                Presented::Retry(token.successor(&rotation.salt))
            }
            _ => Presented::Reused,
        }
    }

    /// The family after `token`, its present one, was exchanged for the successor that comes with it.
    pub fn rotated(&self, token: &RefreshToken, salt: Salt) -> (Self, RefreshToken) {
        let successor = token.successor(&salt);
        let family = Self {
            family_hash: self.family_hash.clone(),
            current_hash: successor.secret_hash(),
            rotation: Some(Rotation { previous_hash: self.current_hash.clone(), salt }),
        };
        (family, successor)
    }
}

fn hash(half: &[u8; HALF_BYTES]) -> SecretHash {
    SecretHash::of(digest(&SHA256, half).as_ref())
}

impl FromStr for RefreshToken {
    type Err = InvalidSecret;

    fn from_str(text: &str) -> Result<Self, InvalidSecret> {
        let (session_id, halves) = text.split_once('.').ok_or(InvalidSecret)?;
        let session_id = session_id.parse().map_err(|_| InvalidSecret)?;
        let halves = URL_SAFE_NO_PAD.decode(halves).map_err(|_| InvalidSecret)?;
        let (family, secret) = halves.split_first_chunk::<HALF_BYTES>().ok_or(InvalidSecret)?;
        let secret = <[u8; HALF_BYTES]>::try_from(secret).map_err(|_| InvalidSecret)?;
        Ok(Self { session_id, family: Redacted::new(*family), secret: Redacted::new(secret) })
    }
}

impl<'de> Deserialize<'de> for RefreshToken {
    /// Refuses what is none without repeating it: serde's own sentence would quote the value, and end in a log.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let text = value.as_str().ok_or_else(|| serde::de::Error::custom("a refresh token is text"))?;
        text.parse().map_err(|_| serde::de::Error::custom("this is no refresh token"))
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[salt]")
    }
}

impl Serialize for Salt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Salt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let bytes = URL_SAFE_NO_PAD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)?;
        let length = bytes.len();
        bytes.try_into().map(Self).map_err(|_| D::Error::invalid_length(length, &"32 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids;
    use proptest::prelude::*;

    fn first() -> RefreshToken {
        RefreshToken::generate(ids::random().next()).unwrap()
    }

    #[test]
    fn a_retry_gets_the_same_successor_for_as_long_as_that_was_not_used() {
        let token = first();
        let (family, successor) = token.family().rotated(&token, Salt::generate().unwrap());
        assert_eq!(family.presented(&successor), Presented::Current);
        for _ in 0..3 {
            assert_eq!(family.presented(&token), Presented::Retry(successor.clone()));
        }
    }

    #[test]
    fn once_the_successor_was_used_the_token_before_it_is_theft() {
        let token = first();
        let (family, second) = token.family().rotated(&token, Salt::generate().unwrap());
        let (family, third) = family.rotated(&second, Salt::generate().unwrap());
        assert_eq!(family.presented(&token), Presented::Reused);
        assert_eq!(family.presented(&second), Presented::Retry(third));
    }

    #[test]
    fn another_family_is_nothing_of_ours() {
        let token = first();
        let guess = RefreshToken::generate(token.session_id().clone()).unwrap();
        assert_eq!(token.family().presented(&guess), Presented::Foreign);
    }

    #[test]
    fn a_successor_depends_on_the_salt_and_keeps_the_family() {
        let token = first();
        let [one, two] = [Salt::generate().unwrap(), Salt::generate().unwrap()];
        assert_eq!(token.successor(&one), token.successor(&one));
        assert_ne!(token.successor(&one), token.successor(&two));
        assert_eq!(token.successor(&one).family().family_hash, token.family().family_hash);
    }

    #[test]
    fn nothing_of_a_token_shows_in_debug_output_or_in_a_refusal() {
        let token = first();
        let text = token.expose();
        let secret = text.split_once('.').unwrap().1;
        assert!(!format!("{token:?} {:?}", token.family()).contains(&secret[..16]));
        let refusal = serde_json::from_str::<RefreshToken>("\"hunter2.hunter2\"").unwrap_err().to_string();
        assert!(!refusal.contains("hunter2"), "{refusal}");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic_and_what_parses_says_the_same(text in "\\PC{0,160}") {
            prop_assert!(text.parse::<RefreshToken>().map_or(true, |token| token.expose() == text));
        }

        #[test]
        fn tokens_have_one_spelling(halves in "[A-Za-z0-9_-]{85,87}") {
            let id: SessionId = ids::random().next();
            let text = format!("{id}.{halves}");
            prop_assert!(text.parse::<RefreshToken>().map_or(true, |token| token.expose() == text));
        }
    }
}
