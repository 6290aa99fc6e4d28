//! Locks: readers of an object wait for its writer, and changes of one upload wait for each other.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use tokio::sync::RwLock;

/// Enough that two objects at work at once seldom share one; sharing costs a wait and nothing else.
const LOCKS: usize = 64;

#[derive(Debug)]
pub(super) struct Turns(Vec<RwLock<()>>);

impl Turns {
    pub(super) fn new() -> Self {
        Self(std::iter::repeat_with(RwLock::default).take(LOCKS).collect())
    }

    /// The lock of what has that name.
    pub(super) fn of(&self, name: impl Hash) -> &RwLock<()> {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let slot = usize::try_from(hasher.finish() % LOCKS as u64).unwrap_or_default();
        &self.0[slot]
    }
}
