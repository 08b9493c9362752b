//! Parsed files by blob id, so that an unchanged file is parsed once.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::ManifestError;
use super::read::{Manifest, parse};

type Parsed = Arc<Result<Vec<Manifest>, ManifestError>>;

/// Results of [`parse`] by (path, blob id).
///
/// Bounded by use: [`ParseCache::sweep`] drops what was not asked for since the last sweep, so it never holds more than
/// one snapshot's files.
#[derive(Debug, Default)]
pub struct ParseCache {
    entries: HashMap<String, (String, Parsed, bool)>,
}

impl ParseCache {
    /// The file's manifests; parsed only if this path had another blob before.
    pub fn parse(&mut self, path: &str, oid: &str, text: &str) -> Parsed {
        if let Some((seen, parsed, used)) = self.entries.get_mut(path)
            && seen == oid
        {
            *used = true;
            return Arc::clone(parsed);
        }
        let parsed = Arc::new(parse(path, text));
        self.entries.insert(path.to_owned(), (oid.to_owned(), Arc::clone(&parsed), true));
        parsed
    }

    /// Drops what was not asked for since the last sweep; called after each snapshot.
    pub fn sweep(&mut self) {
        self.entries.retain(|_, (_, _, used)| std::mem::take(used));
    }
}
