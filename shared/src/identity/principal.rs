//! The caller: what a token or a cookie claims ([`Credential`]), and a caller whose session was
//! checked ([`Principal`]).

use std::collections::BTreeSet;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::core::ids::{SessionId, UserId};
use crate::identity::secret::SecretHash;

/// What a user may do beyond being a customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Manages the shop: catalogue, stock, broadcasts.
    Operator,
}

impl Role {
    /// The name in tokens, rows and requests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
        }
    }
}

/// Text that names no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no such role")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        match text {
            "operator" => Ok(Self::Operator),
            _ => Err(UnknownRole),
        }
    }
}

/// The caller lacks this role. 403.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this needs the role {}", .0.as_str())]
pub struct MissingRole(pub Role);

/// The claim of an access token or a cookie: the caller and the session.
///
/// A token proves by its signature to whom it was issued; a cookie does not. Neither proves that
/// the session is still live. The session's rows do, and also prove the cookie
/// ([`check`](crate::identity::sessions::check)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    user_id: UserId,
    session_id: SessionId,
    roles: BTreeSet<Role>,
    proof: Proof,
}

/// The credential that the caller sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Proof {
    /// An access token with a verified signature. It contains the time of the sign-in.
    Token { signed_in_at: Timestamp },
    /// A cookie, whose hash must be the one in the session's row.
    Cookie(SecretHash),
}

impl Credential {
    pub(crate) fn user_id(&self) -> &UserId {
        &self.user_id
    }

    /// The session that the token or the cookie was issued for.
    pub fn session_id(&self) -> &SessionId {
        &self.session_id
    }

    pub(crate) fn proof(&self) -> &Proof {
        &self.proof
    }

    /// The claim of an access token with a verified signature.
    pub(super) fn of_token(
        user_id: UserId,
        session_id: SessionId,
        signed_in_at: Timestamp,
        roles: BTreeSet<Role>,
    ) -> Self {
        Self { user_id, session_id, roles, proof: Proof::Token { signed_in_at } }
    }

    /// The claim of a cookie with this hash.
    pub(super) fn of_cookie(
        user_id: UserId,
        session_id: SessionId,
        roles: BTreeSet<Role>,
        hash: SecretHash,
    ) -> Self {
        Self { user_id, session_id, roles, proof: Proof::Cookie(hash) }
    }

    /// The user's roles when the token or the cookie was issued.
    pub fn roles(&self) -> &BTreeSet<Role> {
        &self.roles
    }

    /// Whether the user had the role then.
    pub fn has_role(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Refuses a caller who did not have the role then.
    pub fn require_role(&self, role: Role) -> Result<(), MissingRole> {
        if self.has_role(role) { Ok(()) } else { Err(MissingRole(role)) }
    }
}

/// A caller whose session was checked and is live.
///
/// Only [`check`](crate::identity::sessions::check) makes one, from a [`Credential`] and the
/// session's rows. Code that acts for a caller takes this type, so a handler that forgets the check
/// does not compile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    credential: Credential,
    signed_in_at: Timestamp,
    session_ends_at: Timestamp,
}

impl Principal {
    /// The caller of a credential whose session is live.
    pub(super) fn of_live_session(
        credential: &Credential,
        signed_in_at: Timestamp,
        session_ends_at: Timestamp,
    ) -> Self {
        Self { credential: credential.clone(), signed_in_at, session_ends_at }
    }

    /// The user.
    pub fn user_id(&self) -> &UserId {
        &self.credential.user_id
    }

    /// The session that the token or the cookie was issued for.
    pub fn session_id(&self) -> &SessionId {
        &self.credential.session_id
    }

    /// When the session began.
    pub fn signed_in_at(&self) -> Timestamp {
        self.signed_in_at
    }

    /// When the session ends at the latest. Nothing opened for the caller may outlive it.
    pub fn session_ends_at(&self) -> Timestamp {
        self.session_ends_at
    }

    /// The user's roles when the credential was issued.
    pub fn roles(&self) -> &BTreeSet<Role> {
        &self.credential.roles
    }

    /// Whether the user had the role then.
    pub fn has_role(&self, role: Role) -> bool {
        self.credential.has_role(role)
    }

    /// Refuses a caller who did not have the role then.
    pub fn require_role(&self, role: Role) -> Result<(), MissingRole> {
        self.credential.require_role(role)
    }
}
