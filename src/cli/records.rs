//! The record as sync asks for it: what a target ran before its cluster was rebuilt.
//!
//! Sync and report never import each other, so the two meet here.

use std::error::Error;

use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::git::{Reference, Remote, Store};
use crate::model::NamespacedName;
use crate::report::record::{PromotedManifest, Record};
use crate::sync::{RecordSource, Recorded};

/// The status branch of a repository.
pub(super) struct Records {
    store: Store,
    remote: Remote,
    branch: Reference,
}

impl Records {
    /// Reads `branch`.
    pub(super) fn new(store: Store, remote: Remote, branch: Reference) -> Self {
        Self { store, remote, branch }
    }

    async fn read(&self, canary: &NamespacedName) -> Result<Option<Recorded>, String> {
        let record =
            Record::fetch(&self.store, &self.remote, &self.branch).await.map_err(|error| words(&error))?;
        let Some(record) = record else { return Ok(None) };
        let promoted = record.promoted(canary).map_err(|error| words(&error))?;
        Ok(promoted.map(|PromotedManifest { revision, template, target: _, path: _, text: _ }| Recorded {
            revision,
            template,
            failed: record.failed(canary),
        }))
    }
}

fn words(error: &(dyn Error + 'static)) -> String {
    crate::cluster::explain(error)
}

impl RecordSource for Records {
    fn recorded<'a>(&'a self, canary: &'a NamespacedName) -> BoxFuture<'a, Result<Option<Recorded>, String>> {
        self.read(canary).boxed()
    }
}
