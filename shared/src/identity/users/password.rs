//! Passwords and their stored hashes: Argon2id with OWASP's parameters.
//!
//! Hashing takes tens of milliseconds of computation and 19 MiB, so it runs on a blocking thread
//! and the runtime stays responsive. A function's process serves one request at a time and has one
//! such thread ([`crate::edge::boot`]), so it never hashes two passwords at once, and needs those
//! 19 MiB once. A hash contains its parameters: raising them leaves old hashes valid.
//!
//! Keyboards write one character in different ways: `ä` is one code point or two. A password is
//! hashed in Unicode's Normalization Form C (NIST SP 800-63B, section 3.1.1.2), so that it is the
//! same from every keyboard. Older hashes were made of the text as typed. A password that is not in
//! this form is therefore verified a second time, as typed, if the first time fails. Whether that
//! happens depends on the typed text and not on the account.

use argon2::password_hash::phc;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use icu_normalizer::ComposingNormalizerBorrowed;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::{UserError, common};
use crate::core::random;
use crate::core::redacted::Redacted;
use crate::identity::email::Email;

/// Memory, in KiB. With the next two: OWASP's password storage cheat sheet, first choice for 19
/// MiB.
const MEMORY_KIB: u32 = 19_456;
/// Passes over that memory.
const ITERATIONS: u32 = 2;
/// Lanes.
const PARALLELISM: u32 = 1;
/// RFC 9106, section 3.1, recommends 16 bytes of salt.
const SALT_BYTES: usize = 16;

/// The hash of no password: right parameters, arbitrary salt, and zeros, which no known input
/// hashes to.
const DUMMY_HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// A typed password, of any length. Only for verification.
#[derive(Debug, Clone)]
pub struct Password {
    /// In Normalization Form C.
    normalized: Redacted<String>,
    /// As typed, if that differs.
    as_typed: Option<Redacted<String>>,
}

/// A password of a valid length for an account: 12 to 128 characters in Normalization Form C (NIST
/// SP 800-63B asks for length, not for kinds of characters).
#[derive(Debug, Clone)]
pub struct NewPassword(Redacted<String>);

/// The password is too short or too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a password has {} to {} characters", NewPassword::MIN_CHARS, NewPassword::MAX_CHARS)]
pub struct WeakPassword;

/// Argon2 failed: no memory, or an invalid stored hash. 500.
#[derive(Debug, thiserror::Error)]
pub enum HashingFailed {
    #[error("Argon2 failed: {0}")]
    Argon2(argon2::password_hash::Error),
    /// Its thread ended early.
    #[error("the hashing thread ended early")]
    Interrupted(#[source] tokio::task::JoinError),
}

impl Password {
    /// A typed password.
    pub fn new(text: String) -> Self {
        let normalized = ComposingNormalizerBorrowed::new_nfc().normalize(&text).into_owned();
        let as_typed = (normalized != text).then(|| Redacted::new(text));
        Self { normalized: Redacted::new(normalized), as_typed }
    }
}

impl NewPassword {
    /// Fewest characters.
    pub const MIN_CHARS: usize = 12;
    /// Most characters: long enough for any passphrase, short enough to bound the work.
    pub const MAX_CHARS: usize = 128;

    /// Whether it is one of the first guesses for the account of `email`.
    pub fn is_common(&self, email: &Email) -> bool {
        common::is_common(self.0.expose(), email)
    }
}

impl TryFrom<Password> for NewPassword {
    type Error = WeakPassword;

    fn try_from(Password { normalized: text, .. }: Password) -> Result<Self, WeakPassword> {
        let length = text.expose().chars().count();
        if (Self::MIN_CHARS..=Self::MAX_CHARS).contains(&length) { Ok(Self(text)) } else { Err(WeakPassword) }
    }
}

impl<'de> Deserialize<'de> for Password {
    /// The error does not contain the text: serde's own message would quote it in a log.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self::new(text)),
            _ => Err(serde::de::Error::custom("a password is text")),
        }
    }
}

impl<'de> Deserialize<'de> for NewPassword {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(Password::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// The stored form of a password: a PHC string (`$argon2id$v=19$m=…,t=…,p=…$salt$hash`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct PasswordHash(Redacted<String>);

impl PasswordHash {
    /// A hash that no password has. Verifying it takes as long as any.
    pub fn dummy() -> Self {
        Self(Redacted::new(DUMMY_HASH.to_owned()))
    }

    /// The PHC string, for the store.
    pub(super) fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl Serialize for PasswordHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose())
    }
}

/// Hashes a new password with a new salt.
pub(super) async fn hash(NewPassword(password): NewPassword) -> Result<PasswordHash, UserError> {
    let salt: [u8; SALT_BYTES] = random::bytes()?;
    let hash = blocking(move || {
        let params = Params::new(MEMORY_KIB, ITERATIONS, PARALLELISM, None)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon2.hash_password_with_salt(password.expose().as_bytes(), &salt)
    })
    .await?;
    Ok(PasswordHash(Redacted::new(hash.to_string())))
}

/// Whether `password` has this hash, with the hash's own parameters.
pub(super) async fn verify(
    Password { normalized, as_typed }: Password,
    hash: PasswordHash,
) -> Result<bool, UserError> {
    if has_hash(normalized, hash.clone()).await? {
        return Ok(true);
    }
    match as_typed {
        Some(text) => has_hash(text, hash).await,
        None => Ok(false),
    }
}

async fn has_hash(text: Redacted<String>, hash: PasswordHash) -> Result<bool, UserError> {
    let result = blocking(move || {
        let hash = phc::PasswordHash::new(hash.0.expose())?;
        match Argon2::default().verify_password(text.expose().as_bytes(), &hash) {
            Ok(()) => Ok(true),
            Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
            Err(error) => Err(error),
        }
    });
    Ok(result.await?)
}

/// Runs `work` on a blocking thread. It ends before the answer does, unless the deadline cuts the
/// request off; then the thread finishes within tens of milliseconds and its result is dropped.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> argon2::password_hash::Result<T> + Send + 'static,
) -> Result<T, HashingFailed> {
    let result = tokio::task::spawn_blocking(work).await.map_err(HashingFailed::Interrupted)?;
    // Counted by a test: every sign-in must compute exactly one hash.
    tracing::debug!("Argon2id computed");
    result.map_err(HashingFailed::Argon2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::time::Duration;
    use tokio::time::MissedTickBehavior;

    fn fit(text: &str) -> NewPassword {
        Password::new(text.to_owned()).try_into().unwrap()
    }

    fn parameters(hash: &PasswordHash) -> (String, Option<u32>, String, usize, usize) {
        let hash = phc::PasswordHash::new(hash.0.expose()).unwrap();
        let lengths = (hash.salt.unwrap().len(), hash.hash.unwrap().len());
        (hash.algorithm.to_string(), hash.version, hash.params.to_string(), lengths.0, lengths.1)
    }

    /// Counts ticks and not time: a loaded machine makes hashing slow, not the count small.
    #[tokio::test]
    async fn the_runtime_keeps_time_while_passwords_are_hashed() {
        const HASHES: u32 = 8;
        let mut clock = tokio::time::interval(Duration::from_millis(1));
        // What was missed is not made up for: a tick is a moment at which the runtime was free.
        clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let ticks = Cell::new(0);
        let hashing = async {
            for _ in 0..HASHES {
                hash(fit("correct horse battery")).await.unwrap();
            }
        };
        let ticking = async {
            loop {
                clock.tick().await;
                ticks.set(ticks.get() + 1);
            }
        };
        tokio::select! { () = hashing => {}, () = ticking => {} }
        assert!(ticks.get() > 2 * HASHES, "{} ticks during {HASHES} hashes", ticks.get());
    }

    #[tokio::test]
    async fn only_the_right_password_has_the_hash() {
        let hash = hash(fit("correct horse battery")).await.unwrap();
        assert!(verify(Password::new("correct horse battery".into()), hash.clone()).await.unwrap());
        assert!(!verify(Password::new("correct horse batterY".into()), hash.clone()).await.unwrap());
        assert!(!verify(Password::new(String::new()), hash).await.unwrap());
    }

    /// `Säge…`, with the umlaut in one code point and in two.
    const COMPOSED: &str = "S\u{e4}ge und Hobel";
    const DECOMPOSED: &str = "Sa\u{308}ge und Hobel";

    #[tokio::test]
    async fn a_password_is_the_same_from_every_keyboard() {
        for (chosen, others) in [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)] {
            let hash = hash(fit(chosen)).await.unwrap();
            for typed in [chosen, others] {
                assert!(verify(Password::new(typed.into()), hash.clone()).await.unwrap(), "{typed:?}");
            }
            assert!(!verify(Password::new("Sage und Hobel".into()), hash).await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_hash_of_before_normalization_is_good_for_the_text_that_it_was_made_of() {
        let before = NewPassword(Redacted::new(DECOMPOSED.to_owned()));
        let hash = hash(before).await.unwrap();
        assert!(verify(Password::new(DECOMPOSED.into()), hash.clone()).await.unwrap());
        assert!(!verify(Password::new("Sa\u{308}ge und Hobeln".into()), hash).await.unwrap());
    }

    #[tokio::test]
    async fn one_password_has_another_hash_each_time() {
        let (first, second) =
            (hash(fit("correct horse battery")).await, hash(fit("correct horse battery")).await);
        assert_ne!(first.unwrap(), second.unwrap());
    }

    #[tokio::test]
    async fn the_hash_of_nobody_costs_what_a_real_one_costs() {
        let real = hash(fit("correct horse battery")).await.unwrap();
        assert_eq!(parameters(&PasswordHash::dummy()), parameters(&real));
        assert_eq!(parameters(&real).2, "m=19456,t=2,p=1");
        assert!(!verify(Password::new("correct horse battery".into()), PasswordHash::dummy()).await.unwrap());
    }

    #[tokio::test]
    async fn a_stored_hash_that_is_none_is_an_error_and_no_wrong_password() {
        let broken = PasswordHash(Redacted::new("plain text".into()));
        assert!(verify(Password::new("correct horse battery".into()), broken).await.is_err());
    }

    #[test]
    fn length_is_counted_in_characters() {
        let fits = |text: &str| NewPassword::try_from(Password::new(text.into())).is_ok();
        assert!(!fits(&"ä".repeat(11)) && fits(&"ä".repeat(12)));
        assert!(fits(&"語".repeat(128)) && !fits(&"語".repeat(129)));
        // Two code points, one character.
        assert!(!fits(&"a\u{308}".repeat(11)) && fits(&"a\u{308}".repeat(128)));
    }

    #[test]
    fn no_refusal_and_no_debug_output_shows_the_password() {
        let refusals = [
            serde_json::from_str::<NewPassword>("\"hunter2\"").unwrap_err().to_string(),
            serde_json::from_str::<NewPassword>("4711081547110815").unwrap_err().to_string(),
            serde_json::from_str::<Password>("{\"hunter2\":1}").unwrap_err().to_string(),
            format!("{:?}", Password::new("hunter2".into())),
            format!("{:?}", fit("hunter2hunter2")),
            format!("{:?}", PasswordHash::dummy()),
        ];
        for text in refusals {
            assert!(!["hunter2", "4711", "argon2id"].iter().any(|secret| text.contains(secret)), "{text}");
        }
    }
}
