//! Accounts: signing up, verifying passwords, roles.
//!
//! An account is two items of one table: the profile, by user id, and a pointer to it, by e-mail
//! address. DynamoDB has no unique attributes, only unique keys; the pointer makes the address
//! unique.
//!
//! 1. [`sign_up`] refuses common passwords, hashes the password and writes both items in one
//!    transaction, each on the condition that it is new. Of any number of sign-ups with one
//!    address, one creates an account and the others get [`SignUp::EmailTaken`]; no half of an
//!    account is left behind.
//! 2. [`authenticate`] reserves an attempt ([`crate::identity::throttle`]) while it follows the
//!    pointer to the profile, and verifies the password if an attempt is left. An unknown address
//!    takes the same path with an absent profile and a hash that no password has: same answer, same
//!    requests, same work.
//! 3. [`DynamoRoles`](dynamo::DynamoRoles) grants and withdraws roles, each in one update of its
//!    own role only, so that concurrent changes all succeed and repeating one changes nothing. A
//!    withdrawal ends all of the user's sessions, whose tokens contain the role. A grant takes
//!    effect with the next access token,
//!    [`ACCESS_TOKEN_LIFETIME`](crate::identity::tokens::ACCESS_TOKEN_LIFETIME) later at the
//!    latest; a cookie keeps its roles until the next sign-in.
//!
//! There is no proof that an address belongs to the person who signs up with it: no mail is sent.
//! So a role is granted by user id and never by address.

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
    pub email: Email,
    pub roles: BTreeSet<Role>,
    /// Sessions that began at this instant or earlier have ended. The epoch if there was no such
    /// end.
    pub ended_before: Timestamp,
    pub created_at: Timestamp,
}

/// Outcome of signing up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignUp {
    /// There is a new account.
    Created(User),
    /// The address has an account already.
    EmailTaken,
    /// The password is one of the first guesses. Nothing was read or changed.
    CommonPassword,
}

/// The claimed identity of a caller, and its source.
#[derive(Debug, Clone)]
pub struct Credentials {
    pub email: Email,
    pub password: Password,
    pub origin: AttemptSource,
}

/// Outcome of a sign-in.
#[derive(Debug, PartialEq, Eq)]
pub enum Authentication {
    /// The password is the account's.
    Accepted {
        user: User,
        /// The attempt, to be refunded.
        reservation: AttemptPermit,
    },
    /// The password is wrong, or there is no such account. The caller is not told which.
    Refused,
    /// Not verified: there were too many failures before.
    Throttled(TooManyAttempts),
}

/// The result of granting or withdrawing a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoleChange {
    /// The current account. The same if nothing had to be changed.
    Settled(User),
    /// The current account, without the role. All of its sessions have ended.
    Withdrawn(User),
    /// There is no account with this id.
    UnknownUser,
}

/// Why an operation on accounts failed.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The store failed. 503 if a retry may succeed, else 500.
    #[error(transparent)]
    Store(#[from] DynamoError),
    /// The attempt could not be counted. 503 if a retry may succeed, else 500.
    #[error(transparent)]
    Throttle(#[from] ThrottleError),
    /// The password could not be hashed or verified. 500.
    #[error(transparent)]
    Hashing(#[from] HashingFailed),
    /// No salt could be generated. 500.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    /// Conflicts at the same items until the deadline. Nothing was changed. 503.
    #[error("the account's items were busy until the deadline")]
    Busy,
}

/// The result of replacing a password's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordUpdate {
    /// Every session but the spared one has ended.
    Done,
    /// The account has another password by now.
    OtherPassword,
    /// The session to be spared has ended.
    SessionEnded,
}

/// The result of changing one's password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordChange {
    Changed,
    /// The current password was wrong.
    Refused,
    /// Too many recent failures; the password was not verified.
    Throttled(TooManyAttempts),
    /// The new password is one of the first guesses. The current one was not verified.
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

/// A requested change of a password.
#[derive(Debug)]
pub struct PasswordChangeRequest {
    /// The account, as it was just read.
    pub account: (User, PasswordHash),
    /// The requesting session, which is spared, and when it began.
    pub spared: (SessionId, Timestamp),
    pub current: Password,
    pub new: NewPassword,
    pub origin: AttemptSource,
}

/// Replaces a password, if an attempt is left: the holder of a session must not be able to guess
/// its password either. The new one is hashed only after the current one was verified.
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

/// Verifies a password of the account of an address, if an attempt is left.
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
        None => (None, PasswordHash::dummy()),
    };
    let is_right = password::verify(password, hash).await?;
    Ok(match user {
        Some(user) if is_right => Authentication::Accepted { user, reservation },
        _ => Authentication::Refused,
    })
}
