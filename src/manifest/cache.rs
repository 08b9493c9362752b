//! What was made of files, by blob id, so that an unchanged file is read once.

use std::collections::HashMap;
use std::sync::Arc;

use super::read::{Parsed, parse_each};

/// What was made of each file, by (path, blob id).
///
/// Bounded by use: [`FileCache::sweep`] drops what was not asked for since the last sweep, so it never holds more than
/// one snapshot's files.
#[derive(Debug)]
pub struct FileCache<T> {
    entries: HashMap<String, (String, Arc<T>, bool)>,
}

/// Parsed files.
pub type ParseCache = FileCache<Parsed>;

impl<T> Default for FileCache<T> {
    fn default() -> Self {
        Self { entries: HashMap::new() }
    }
}

impl<T> FileCache<T> {
    /// What was made of the file; made only if this path had another blob before.
    pub fn get(&mut self, path: &str, oid: &str, make: impl FnOnce() -> T) -> Arc<T> {
        if let Some((seen, made, used)) = self.entries.get_mut(path)
            && seen == oid
        {
            *used = true;
            return Arc::clone(made);
        }
        let made = Arc::new(make());
        self.entries.insert(path.to_owned(), (oid.to_owned(), Arc::clone(&made), true));
        made
    }

    /// Drops what was not asked for since the last sweep; called after each snapshot.
    pub fn sweep(&mut self) {
        self.entries.retain(|_, (_, _, used)| std::mem::take(used));
    }
}

impl ParseCache {
    /// What the file holds; parsed only if this path had another blob before.
    pub fn parse(&mut self, path: &str, oid: &str, text: &str) -> Arc<Parsed> {
        self.get(path, oid, || parse_each(path, text))
    }
}
