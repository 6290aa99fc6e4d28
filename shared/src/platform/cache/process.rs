//! The tier in the process: bounded in bytes, in entries and in time.
//!
//! Age is measured by wall time. A monotonic clock may stand still while Lambda freezes the
//! process, and a value would look fresh after hours. If wall time is set back by a second, an
//! entry lives a second longer.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::value::Content;
use super::{Name, PROCESS_LIFETIME};
use crate::core::clock::SharedClock;

/// Most bytes of values: a small part of the least memory that a function has.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// Most entries: names and bookkeeping of small entries take more than the values.
const MAX_ENTRIES: usize = 4_096;

/// A kept value, and its limits.
#[derive(Debug, Clone)]
pub(super) struct ProcessCache {
    pub(super) content: Content,
    pub(super) version: u64,
    pub(super) group: Option<&'static str>,
    /// An instant before the lookup or the load.
    pub(super) since: Timestamp,
}

pub(super) struct ProcessTier {
    clock: SharedClock,
    kept: Mutex<CachedEntry>,
}

#[derive(Default)]
struct CachedEntry {
    entries: HashMap<Name, (u64, ProcessCache)>,
    /// By arrival. All live equally long, so the first to arrive is the first to expire.
    order: BTreeMap<u64, Name>,
    size_bytes: usize,
    next: u64,
}

impl ProcessTier {
    pub(super) fn new(clock: SharedClock) -> Self {
        Self { clock, kept: Mutex::default() }
    }

    /// The value of a name, unless it has expired.
    pub(super) fn get(&self, name: &Name) -> Option<Content> {
        let kept = self.kept();
        let (_, keeping) = kept.entries.get(name)?;
        self.counts(keeping).then(|| keeping.content.clone())
    }

    /// Keeps a value, unless a newer version is kept.
    pub(super) fn put(&self, name: &Name, keeping: ProcessCache) {
        // Every read of a large value is a load.
        if keeping.content == Content::TooLarge || !self.counts(&keeping) {
            return;
        }
        let mut kept = self.kept();
        if let Some((_, present)) = kept.entries.get(name)
            && present.version > keeping.version
            && self.counts(present)
        {
            return;
        }
        kept.remove(name);
        let place = kept.next;
        kept.next += 1;
        kept.size_bytes += keeping.content.size_bytes();
        kept.order.insert(place, name.clone());
        kept.entries.insert(name.clone(), (place, keeping));
        while kept.size_bytes > MAX_BYTES || kept.entries.len() > MAX_ENTRIES {
            let Some((_, oldest)) = kept.order.pop_first() else { return };
            kept.remove(&oldest);
        }
    }

    pub(super) fn remove(&self, name: &Name) {
        let mut kept = self.kept();
        match name {
            Name::Entry(_) => kept.remove(name),
            Name::Group(group) => {
                let of_group = |(_, keeping): &(u64, ProcessCache)| keeping.group == Some(*group);
                let names: Vec<Name> = kept
                    .entries
                    .iter()
                    .filter(|(_, entry)| of_group(entry))
                    .map(|(name, _)| name.clone())
                    .collect();
                for name in &names {
                    kept.remove(name);
                }
            }
        }
    }

    fn counts(&self, keeping: &ProcessCache) -> bool {
        let age = self.clock.now().duration_since(keeping.since);
        // A negative age means that the clock was set back.
        !age.is_negative() && age.unsigned_abs() < PROCESS_LIFETIME
    }

    fn kept(&self) -> MutexGuard<'_, CachedEntry> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CachedEntry {
    fn remove(&mut self, name: &Name) {
        if let Some((place, keeping)) = self.entries.remove(name) {
            self.order.remove(&place);
            self.size_bytes -= keeping.content.size_bytes();
        }
    }
}

impl fmt::Debug for ProcessTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.kept();
        f.debug_struct("ProcessTier")
            .field("entries", &kept.entries.len())
            .field("size_bytes", &kept.size_bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::clock::{Clock, ManualClock};
    use std::sync::Arc;
    use std::time::Duration;

    struct Stage {
        clock: Arc<ManualClock>,
        tier: ProcessTier,
    }

    impl Stage {
        fn set() -> Self {
            let clock = ManualClock::at("2026-11-20T09:30:00Z".parse().unwrap());
            Self { tier: ProcessTier::new(clock.clone()), clock }
        }

        fn put(&self, name: &str, bytes: usize, version: u64) {
            let content = Content::Json(vec![b'x'; bytes].into());
            let keeping = ProcessCache { content, version, group: Some("all"), since: self.clock.now() };
            self.tier.put(&Name::Entry(name.to_owned()), keeping);
        }

        fn size_of(&self, name: &str) -> Option<usize> {
            self.tier.get(&Name::Entry(name.to_owned())).map(|content| content.size_bytes())
        }
    }

    #[test]
    fn an_entry_lasts_for_its_lifetime_and_not_longer() {
        let stage = Stage::set();
        stage.put("tea", 3, 1);
        stage.clock.advance(PROCESS_LIFETIME.saturating_sub(Duration::from_millis(1)));
        assert_eq!(stage.size_of("tea"), Some(3));
        stage.clock.advance(Duration::from_millis(1));
        assert_eq!(stage.size_of("tea"), None);
    }

    #[test]
    fn an_older_version_does_not_replace_a_newer_one() {
        let stage = Stage::set();
        stage.put("tea", 3, 2);
        stage.put("tea", 5, 1);
        assert_eq!(stage.size_of("tea"), Some(3));
        stage.put("tea", 7, 3);
        assert_eq!(stage.size_of("tea"), Some(7));
        // What has lapsed is in nobody's way.
        stage.clock.advance(PROCESS_LIFETIME);
        stage.put("tea", 5, 1);
        assert_eq!(stage.size_of("tea"), Some(5));
    }

    #[test]
    fn bytes_and_entries_are_bounded_and_the_oldest_goes_first() {
        let stage = Stage::set();
        for n in 0..3 {
            stage.put(&format!("large{n}"), MAX_BYTES / 2, 0);
        }
        assert_eq!(stage.size_of("large0"), None);
        assert!(stage.size_of("large1").is_some() && stage.size_of("large2").is_some());
        for n in 0..MAX_ENTRIES {
            stage.put(&format!("small{n}"), 0, 0);
        }
        assert_eq!(stage.size_of("large2"), None);
        assert_eq!(stage.size_of("small0"), Some(0));
        let kept = stage.tier.kept();
        assert_eq!((kept.entries.len(), kept.order.len(), kept.size_bytes), (MAX_ENTRIES, MAX_ENTRIES, 0));
    }

    #[test]
    fn a_group_goes_as_a_whole() {
        let stage = Stage::set();
        stage.put("page1", 1, 0);
        stage.put("page2", 1, 0);
        stage.tier.remove(&Name::Group("others"));
        assert_eq!(stage.size_of("page1"), Some(1));
        stage.tier.remove(&Name::Group("all"));
        assert_eq!((stage.size_of("page1"), stage.size_of("page2")), (None, None));
    }
}
