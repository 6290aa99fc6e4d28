//! Rate limits of password guesses: five in fifteen minutes for an account, a hundred for an
//! address. And of sign-ups from an address.
//!
//! 1. Before a password is verified, the attempt is *reserved* ([`Throttle::reserve`]): it is
//!    counted before anything is compared, so that of fifty concurrent guesses five are verified.
//!    The caller's address is counted first, then the account; at a limit the answer is
//!    [`ThrottleDecision::Refused`], with the time that is left. A device that has signed in to the
//!    account before ([`device`]) is counted instead of the account, with its own limit.
//! 2. An attempt with the right password is refunded ([`Throttle::refund_during`]), concurrently
//!    with the rest of the request. Only this attempt is: others' failures stay counted; otherwise
//!    a thief's own sign-ins would buy guesses.
//! 3. A subject's window begins with its first attempt and ends fifteen minutes later. The first
//!    attempt after that begins a new one. TTL removes the row later.
//! 4. A sign-up is counted for its address only, and never refunded ([`Throttle::count_sign_up`]).
//!
//! An account is counted whether it exists or not, by the same requests: neither the answer nor its
//! time tells who has an account. If the address is refused, the account is not counted; otherwise
//! somebody whose address is refused could still lock the owner out. If the account is refused, the
//! address stays counted.
//!
//! An e-mail address is not stored; its row is named by a hash. That hides the address, but not
//! from somebody who has the table and a list of addresses.
//!
//! If the store does not answer, no password is verified: 503. A reservation whose request died, or
//! whose refund failed, stays counted until the window ends.
//!
//! Limits:
//! - Anybody can prevent sign-ins to an account on *new* devices, by five wrong guesses in each
//!   window. Existing sessions continue, and devices that signed in before can sign in again. A
//!   browser is known to the account that it signed in to last.
//! - An account has five guesses for strangers, and five more for each device whose token was
//!   stolen.
//! - Attempts in progress are counted: more than five concurrent sign-ins to one account are
//!   refused, right ones as well.
//! - Windows are fixed, not sliding: five guesses at the end of one and five in the next may be
//!   moments apart.
//! - Each region counts for itself.
//! - The address is the one that API Gateway sees, or that a trusted proxy reports
//!   ([`crate::edge::http::TrustedProxy`]). Behind any other proxy or CDN it is the proxy's, and
//!   its clients share the limit.
//! - A request that is retried after a lost answer may count twice: one guess fewer, or after a
//!   sign-in one more.

use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use futures::future;
use futures::stream::{self, StreamExt};
use jiff::Timestamp;

use crate::core::clock::SharedClock;
use crate::identity::email::Email;
use crate::platform::dynamo::DynamoError;
use crate::platform::telemetry::{self, Metric, chain};

pub mod device;
pub mod dynamo;
mod subject;

use dynamo::DynamoAttempts;

pub use device::{DeviceToken, DeviceTokens, KnownDevice};
pub use subject::ThrottleKey;

/// How long attempts are counted together.
pub const WINDOW: Duration = Duration::from_mins(15);
/// Attempts on one account in a window: room for honest mistakes, and 480 guesses a day at most,
/// which are useless against twelve characters.
pub const ACCOUNT_LIMIT: u32 = 5;
/// Attempts from one address in a window. Many people share an address (offices, mobile networks),
/// and mistype sometimes.
pub const ADDRESS_LIMIT: u32 = 100;
/// Attempts of one known device on one account in a window: as many as strangers have.
pub const DEVICE_LIMIT: u32 = ACCOUNT_LIMIT;

/// Most subjects of an attempt: an address and an account.
const SUBJECTS: usize = 2;

/// What an attempt is counted for, and so which limit can refuse it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The account, by its e-mail address.
    Account,
    Address,
    /// A device that has signed in to the account before.
    Device,
    /// The network address, for sign-ups.
    SignUps,
}

impl Limit {
    /// The name in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Address => "address",
            Self::Device => "device",
            Self::SignUps => "sign-ups",
        }
    }

    /// Why it was reached, for clients and logs.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Account | Self::Address | Self::Device => "too many wrong passwords",
            Self::SignUps => "too many sign-ups from this network",
        }
    }
}

/// Whether a password may be verified.
#[derive(Debug)]
pub enum ThrottleDecision {
    Reserved(AttemptPermit),
    Refused(TooManyAttempts),
}

/// Whether an account may be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignUpDecision {
    Counted,
    Refused(TooManyAttempts),
}

/// The permission to verify one password. If it is dropped, the attempt stays counted as a failure.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "an attempt that is not given back counts as a failure"]
pub struct AttemptPermit(Vec<Counted>);

/// Where a password attempt comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AttemptSource {
    /// The network address, if it is known.
    pub address: Option<IpAddr>,
    /// The device, if it has signed in to the account before.
    pub device: Option<KnownDevice>,
}

/// Too many recent failures. 429.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyAttempts {
    pub limit: Limit,
    /// When the window ends.
    pub retry_after: Duration,
}

/// One counted attempt of one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    pub subject: ThrottleKey,
    /// The end of its window, which identifies the window.
    pub window_end: Timestamp,
}

/// The result of counting an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CountOutcome {
    Counted(Counted),
    /// The limit was reached before. Nothing was counted.
    Full {
        window_end: Timestamp,
    },
}

/// Why it is unknown whether a password may be verified.
#[derive(Debug, thiserror::Error)]
pub enum ThrottleError {
    /// The store failed. 503 if a retry may succeed, else 500.
    #[error(transparent)]
    Store(#[from] DynamoError),
    /// Windows began and ended faster than they could be read. 503.
    #[error("the attempts of {0} were busy")]
    Busy(ThrottleKey),
}

/// Limits how often passwords may be guessed.
#[derive(Debug)]
pub struct Throttle {
    pub store: DynamoAttempts,
    pub clock: SharedClock,
}

impl Throttle {
    /// Reserves one attempt to verify the password of `email`.
    pub async fn reserve(
        &self,
        email: &Email,
        AttemptSource { address, device }: AttemptSource,
    ) -> Result<ThrottleDecision, ThrottleError> {
        let account = match device {
            Some(device) => (Limit::Device, DEVICE_LIMIT, ThrottleKey::of_device(device)),
            None => (Limit::Account, ACCOUNT_LIMIT, ThrottleKey::of_account(email)),
        };
        let subjects: [_; SUBJECTS] = [
            address.map(|address| (Limit::Address, ADDRESS_LIMIT, ThrottleKey::of_address(address))),
            Some(account),
        ];
        let mut counted = Vec::with_capacity(SUBJECTS);
        for (limit, attempts, subject) in subjects.into_iter().flatten() {
            let now = self.clock.now();
            match self.store.count(subject, attempts, now).await? {
                CountOutcome::Counted(attempt) => counted.push(attempt),
                CountOutcome::Full { window_end } => {
                    return Ok(ThrottleDecision::Refused(refused(limit, address, window_end, now)));
                }
            }
        }
        Ok(ThrottleDecision::Reserved(AttemptPermit(counted)))
    }

    /// Counts a sign-up from `address`, of which `limit` are allowed in a window. It is never
    /// refunded: each costs a password hash, and reveals whether an e-mail address has an account.
    /// Without an address nothing is counted.
    pub async fn count_sign_up(
        &self,
        address: Option<IpAddr>,
        limit: u32,
    ) -> Result<SignUpDecision, ThrottleError> {
        let Some(from) = address else { return Ok(SignUpDecision::Counted) };
        let now = self.clock.now();
        Ok(match self.store.count(ThrottleKey::of_sign_ups(from), limit, now).await? {
            CountOutcome::Counted(_) => SignUpDecision::Counted,
            CountOutcome::Full { window_end } => {
                SignUpDecision::Refused(refused(Limit::SignUps, address, window_end, now))
            }
        })
    }

    /// Refunds an attempt with the right password. A failure is logged and harms little: the
    /// attempt stays counted.
    pub async fn refund(&self, AttemptPermit(counted): AttemptPermit) {
        let uncount_attempt = async |attempt| {
            if let Err(error) = self.store.uncount_attempt(attempt).await {
                tracing::warn!(error = chain(&error), "an attempt was not refunded");
            }
        };
        stream::iter(counted).for_each_concurrent(SUBJECTS, uncount_attempt).await;
    }

    /// Runs `work` and refunds the attempt concurrently, whatever the result: the password was
    /// right.
    pub async fn refund_during<T>(&self, reservation: AttemptPermit, work: impl Future<Output = T>) -> T {
        future::join(self.refund(reservation), work).await.1
    }
}

fn refused(limit: Limit, address: Option<IpAddr>, window_end: Timestamp, now: Timestamp) -> TooManyAttempts {
    let limit_name = limit.name();
    let address = address.map(|address| address.to_string());
    telemetry::count_case(Metric::ThrottledAttempts, limit_name, 1);
    tracing::warn!(limit = limit_name, address, "{}", limit.reason());
    let retry_after = Duration::try_from(window_end.duration_since(now)).unwrap_or_default();
    TooManyAttempts { limit, retry_after }
}
