//! When a link ends.
//!
//! A presigned URL counts whole seconds from a whole second. So the start is truncated to the
//! second, and the end is what S3 computes: it refuses the link from that instant on.

use jiff::{SignedDuration, Timestamp};

use super::LINK_LIFETIME;

/// The validity of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The second of the signature.
    pub from: Timestamp,
    /// The end, exclusive: a whole second.
    pub until: Timestamp,
}

impl Validity {
    /// The validity of a link signed at `now`: [`LINK_LIFETIME`], or until the first of `ends` that
    /// comes sooner. `None` if less than a second is left.
    pub fn at(now: Timestamp, ends: impl IntoIterator<Item = Timestamp>) -> Option<Self> {
        let from = Timestamp::from_second(now.as_second()).ok()?;
        let longest = from.checked_add(LINK_LIFETIME).ok()?;
        let end = ends.into_iter().fold(longest, Timestamp::min);
        let until = Timestamp::from_second(end.as_second()).ok()?;
        (until > from && until > now).then_some(Self { from, until })
    }

    /// Its length, in whole seconds.
    pub fn length(self) -> SignedDuration {
        self.until.duration_since(self.from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_link_lasts_an_hour_of_whole_seconds() {
        let validity = Validity::at(at("2026-11-20T09:30:00.789Z"), []).unwrap();
        assert_eq!(validity.from, at("2026-11-20T09:30:00Z"));
        assert_eq!(validity.until, at("2026-11-20T10:30:00Z"));
        assert_eq!(validity.length().as_secs(), 3_600);
    }

    #[test]
    fn a_link_does_not_outlast_the_credentials_nor_what_it_leads_to() {
        let now = at("2026-11-20T09:30:00.5Z");
        let soon = at("2026-11-20T09:40:00.9Z");
        let sooner = at("2026-11-20T09:35:00Z");
        let later = at("2026-11-21T09:30:00Z");
        assert_eq!(Validity::at(now, [soon]).unwrap().until, at("2026-11-20T09:40:00Z"));
        assert_eq!(Validity::at(now, [soon, later, sooner]).unwrap().until, sooner);
        assert_eq!(Validity::at(now, [later]).unwrap().length().as_secs(), 3_600);
    }

    #[test]
    fn no_link_is_made_that_is_over_already() {
        let now = at("2026-11-20T09:30:00.5Z");
        for over in [now, at("2026-11-20T09:30:00.9Z"), at("2026-11-20T08:00:00Z"), Timestamp::MIN] {
            assert_eq!(Validity::at(now, [over]), None, "{over}");
        }
        assert!(Validity::at(now, [at("2026-11-20T09:30:01Z")]).is_some());
    }

    proptest! {
        #[test]
        fn no_link_outlasts_its_bounds(now_ms in 0_i64..4_000_000_000_000, left_ms in -10_000_i64..10_000_000) {
            let now = Timestamp::from_millisecond(now_ms).unwrap();
            let end = Timestamp::from_millisecond(now_ms + left_ms).unwrap();
            match Validity::at(now, [end]) {
                Some(validity) => {
                    prop_assert!(validity.until <= end && validity.until > now && validity.from <= now);
                    prop_assert!(validity.length().as_secs() <= 3_600);
                }
                None => prop_assert!(left_ms < 1_000),
            }
        }
    }
}
