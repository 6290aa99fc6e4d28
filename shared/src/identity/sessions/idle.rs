//! The idle timeout of sessions.

use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::SESSION_LIFETIME;
use crate::core::env::{ConfigError, Env};

/// Seconds in an hour.
const HOUR: u64 = 3_600;

/// After how much idle time a session ends. The row stores it in seconds from the sign-in on, so a
/// changed setting applies to new sessions, in all functions at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IdleTimeout(u64);

/// A number of hours out of bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is a whole number of hours, {} to {}", IdleTimeout::MIN_HOURS, IdleTimeout::MAX_HOURS)]
pub struct InvalidIdleTimeout;

impl IdleTimeout {
    /// The variable with the hours.
    pub const VARIABLE: &'static str = "SESSION_IDLE_HOURS";
    /// Longer than a socket lasts: its handshake stamps the session and its frames do not
    /// ([`admit`](crate::sockets::connections::admit) asserts this).
    pub const MIN_HOURS: u64 = 3;
    /// The lifetime of a session, so this means no timeout.
    pub const MAX_HOURS: u64 = SESSION_LIFETIME.as_secs() / HOUR;

    /// The time-out of `SESSION_IDLE_HOURS`.
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        env.parse(Self::VARIABLE)
    }

    /// The time-out in seconds.
    pub(super) const fn seconds(self) -> u64 {
        self.0
    }

    /// The timeout of an existing session, in seconds.
    pub(super) const fn of_seconds(seconds: u64) -> Self {
        Self(seconds)
    }

    /// Whether the timeout has passed at `now` since `last_activity`.
    pub(super) fn is_over(self, last_activity: Timestamp, now: Timestamp) -> bool {
        let end = last_activity.checked_add(Duration::from_secs(self.0));
        end.is_ok_and(|end| end <= now)
    }
}

impl FromStr for IdleTimeout {
    type Err = InvalidIdleTimeout;

    fn from_str(text: &str) -> Result<Self, InvalidIdleTimeout> {
        match text.parse() {
            Ok(hours @ Self::MIN_HOURS..=Self::MAX_HOURS) => Ok(Self(hours * HOUR)),
            _ => Err(InvalidIdleTimeout),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_three_hours_to_thirty_days() {
        for hours in ["3", "24", "720"] {
            assert!(hours.parse::<IdleTimeout>().is_ok(), "{hours}");
        }
        for hours in ["", "0", "2", "721", "24.0", "-3", "a day"] {
            assert_eq!(hours.parse::<IdleTimeout>(), Err(InvalidIdleTimeout), "{hours}");
        }
    }

    #[test]
    fn it_is_over_to_the_second() {
        let (timeout, began) = ("24".parse::<IdleTimeout>().unwrap(), Timestamp::UNIX_EPOCH);
        let after = |seconds| Timestamp::from_second(seconds).unwrap();
        assert!(!timeout.is_over(began, after(86_399)));
        assert!(timeout.is_over(began, after(86_400)));
        assert!(!timeout.is_over(after(60), began), "clocks differ");
    }
}
