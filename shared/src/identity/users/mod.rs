//! Accounts: signing up, proving a password, roles.
//!
//! An account is two items of one table: the profile, by user id, and a pointer to it, by e-mail address. DynamoDB
//! knows no unique attributes, only unique keys; the pointer makes the address one.
//!
//! 1. [`sign_up`] refuses common passwords, hashes the password and writes both items in one transaction, each on condition that it is new. Of
//!    any number of sign-ups with one address, one creates an account and the others learn [`SignUp::EmailTaken`]; no
//!    half of an account is left behind.
//! 2. [`authenticate`] reserves an attempt ([`crate::identity::throttle`]) while it follows the pointer to the profile, and verifies
//!    the password if there is one left. An unknown address takes the same path with a profile that is not there and a
//!    hash that no password has: same answer, same requests, same work.
//! 3. [`DynamoRoles`](dynamo::DynamoRoles) grants and withdraws roles, each in one update that names only its own role, so that concurrent
//!    changes all count and repeating one changes nothing. A withdrawal ends all of the
//!    user's sessions, since what was issued with the role must not be of use any more. A grant shows with the next
//!    access token, [`ACCESS_TOKEN_LIFETIME`](crate::identity::tokens::ACCESS_TOKEN_LIFETIME) later at the latest; a cookie keeps
//!    its roles until the next sign-in.
//!
//! There is no proof that an address belongs to whoever signs up with it: no mail is sent. So a role is granted by user id
//! and never by address, which somebody else may have signed up with.

use std::collections::BTreeSet;

use futures::future::{TryFutureExt, try_join};
use jiff::Timestamp;

use crate::core::clock::SharedClock;
use crate::core::deadline::Deadline;
use crate::core::ids::{SessionId, SharedIds, UserId};
use crate::core::random::NoEntropy;
use crate::identity::email::Email;
use crate::identity::principal::Role;
use crate::identity::throttle::{
    AttemptPermit, AttemptSource, Throttle, ThrottleDecision, ThrottleError, TooManyAttempts,
};
use crate::platform::dynamo::DynamoError;

mod common;
pub mod dynamo;
mod password;

use dynamo::{DynamoPasswords, DynamoUsers};
pub use password::{HashingFailed, NewPassword, Password, PasswordHash, WeakPassword};

/// An account, without its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub id: UserId,
    /// The address that it signs in with.
    pub email: Email,
    /// What it may do beyond being a customer.
    pub roles: BTreeSet<Role>,
    /// Sessions that began at this instant or earlier have ended. The epoch if there was no such end.
    pub ended_before: Timestamp,
    /// When it signed up.
    pub created_at: Timestamp,
}

/// Outcome of signing up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignUp {
    /// There is a new account.
    Created(User),
    /// There was one with this address already.
    EmailTaken,
    /// The password is one that is tried first. Nothing was looked at or changed.
    CommonPassword,
}

/// What somebody claims to be, and from where.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The account's e-mail address.
    pub email: Email,
    /// The password that was typed.
    pub password: Password,
    /// Where it came from.
    pub origin: AttemptSource,
}

/// Outcome of a sign-in.
#[derive(Debug, PartialEq, Eq)]
pub enum Authentication {
    /// The password is the account's.
    Accepted {
        user: User,
        /// The attempt, to be given back.
        reservation: AttemptPermit,
    },
    /// It is not, or there is no such account. The caller is not told which.
    Refused,
    /// Nobody looked: too many were wrong before.
    Throttled(TooManyAttempts),
}

/// Outcome of granting or withdrawing a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoleChange {
    /// The account as it is now. The same when nothing had to be changed.
    Settled(User),
    /// The account as it is now, a role less. All of its sessions have ended.
    Withdrawn(User),
    /// There is no account with this id.
    UnknownUser,
}

/// Why a question about accounts has no answer.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The store failed. 503 when it will pass, else 500.
    #[error(transparent)]
    Store(#[from] DynamoError),
    /// The attempt could not be counted. 503 when it will pass, else 500.
    #[error(transparent)]
    Throttle(#[from] ThrottleError),
    /// The password could not be hashed or compared. 500.
    #[error(transparent)]
    Hashing(#[from] HashingFailed),
    /// No salt could be made. 500.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    /// Others kept writing to the same items until the deadline. Nothing was changed. 503.
    #[error("the account's items were busy until the deadline")]
    Busy,
}

/// Outcome of replacing a password's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordUpdate {
    /// Done; every session but the spared one has ended.
    Done,
    /// The account has another password by now.
    OtherPassword,
    /// The session that was to be spared has ended.
    SessionEnded,
}

/// Outcome of changing one's password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordChange {
    /// It is the new one.
    Changed,
    /// The current password was not the account's.
    Refused,
    /// Too many passwords were wrong lately; this one was not looked at.
    Throttled(TooManyAttempts),
    /// The new password is one that is tried first. The current one was not looked at.
    CommonPassword,
    /// The caller's session has ended meanwhile.
    SessionEnded,
}

/// Creates an account, unless the password is a common one.
pub async fn sign_up(
    users: &DynamoUsers,
    clock: &SharedClock,
    ids: &SharedIds,
    email: Email,
    password: NewPassword,
    deadline: Deadline,
) -> Result<SignUp, UserError> {
    if password.is_common(&email) {
        return Ok(SignUp::CommonPassword);
    }
    let hash = password::hash(password).await?;
    let user = User {
        id: ids.next(),
        email,
        roles: BTreeSet::new(),
        ended_before: Timestamp::UNIX_EPOCH,
        created_at: clock.now(),
    };
    users.create(&user, &hash, deadline).await
}

/// A change of a password, as asked for.
#[derive(Debug)]
pub struct PasswordChangeRequest {
    /// The account, as it was just read.
    pub account: (User, PasswordHash),
    /// The session that asks, which goes on, and when it began.
    pub spared: (SessionId, Timestamp),
    /// What must be the password until now.
    pub current: Password,
    /// What is the password from now on.
    pub new: NewPassword,
    /// Where the request comes from.
    pub origin: AttemptSource,
}

/// Replaces a password, if an attempt is left: who holds a session shall not be able to guess its password either. The new
/// one is hashed only after the current one proved right.
pub async fn change_password(
    passwords: &DynamoPasswords,
    throttle: &Throttle,
    PasswordChangeRequest { account: (user, old), spared, current, new, origin }: PasswordChangeRequest,
    deadline: Deadline,
) -> Result<PasswordChange, UserError> {
    if new.is_common(&user.email) {
        return Ok(PasswordChange::CommonPassword);
    }
    let reservation = match throttle.reserve(&user.email, origin).await? {
        ThrottleDecision::Reserved(reservation) => reservation,
        ThrottleDecision::Refused(refusal) => return Ok(PasswordChange::Throttled(refusal)),
    };
    if !password::verify(current, old.clone()).await? {
        return Ok(PasswordChange::Refused);
    }
    let new = password::hash(new).await?;
    let replace = passwords.replace(&user, &old, &new, &spared, deadline);
    Ok(match throttle.refund_during(reservation, replace).await? {
        PasswordUpdate::Done => PasswordChange::Changed,
        PasswordUpdate::OtherPassword => PasswordChange::Refused,
        PasswordUpdate::SessionEnded => PasswordChange::SessionEnded,
    })
}

/// Holds a password against the account of an address, if an attempt is left.
pub async fn authenticate(
    users: &DynamoUsers,
    throttle: &Throttle,
    Credentials { email, password, origin }: Credentials,
) -> Result<Authentication, UserError> {
    let (admission, account) =
        try_join(throttle.reserve(&email, origin).err_into(), users.credentials(&email)).await?;
    let reservation = match admission {
        ThrottleDecision::Reserved(reservation) => reservation,
        ThrottleDecision::Refused(refusal) => return Ok(Authentication::Throttled(refusal)),
    };
    let (user, hash) = match account {
        Some((user, hash)) => (Some(user), hash),
        None => (None, PasswordHash::of_nobody()),
    };
    let is_right = password::verify(password, hash).await?;
    Ok(match user {
        Some(user) if is_right => Authentication::Accepted { user, reservation },
        _ => Authentication::Refused,
    })
}
