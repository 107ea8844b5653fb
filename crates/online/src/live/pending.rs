//! What batches made of keys and are not published with yet.

use std::collections::{HashMap, HashSet};

/// By key, of the last batch that made something of it, with its ticket. Asked before the tables are.
#[derive(Debug)]
pub(super) struct Pending<T> {
    found: HashMap<Vec<u8>, (u64, T)>,
}

impl<T> Default for Pending<T> {
    fn default() -> Pending<T> {
        Pending { found: HashMap::new() }
    }
}

impl<T: Clone> Pending<T> {
    /// What a batch on its way made of it.
    pub(super) fn find(&self, key: &[u8]) -> Option<T> {
        self.found.get(key).map(|(_, made)| made.clone())
    }

    pub(super) fn add(&mut self, key: Vec<u8>, ticket: u64, made: T) {
        self.found.insert(key, (ticket, made));
    }

    /// The batch is published.
    pub(super) fn published(&mut self, key: &[u8], ticket: u64) {
        if self.found.get(key).is_some_and(|(of, _)| *of <= ticket) {
            self.found.remove(key);
        }
    }

    /// The keys of batches on their way.
    pub(super) fn names(&self) -> HashSet<Vec<u8>> {
        self.found.keys().cloned().collect()
    }

    pub(super) fn clear(&mut self) {
        self.found.clear();
    }
}
