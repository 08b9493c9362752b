//! The record as sync asks for it: what a target ran before its cluster was rebuilt.
//!
//! Sync and report never import each other, so the two meet here.

use std::error::Error;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::Mutex;

use crate::git::{Reference, Remote, Store};
use crate::model::{NamespacedName, ObjectRef};
use crate::report::WatchedBranch;
use crate::report::rebuild::{self, Proved};
use crate::report::record::PromotedManifest;
use crate::sync::{RecordSource, Recorded};

/// The status branch of a repository, believed as far as the watched branch proves it.
pub(super) struct Records {
    store: Store,
    remote: Remote,
    branch: Reference,
    /// Asked by one target at a time: it remembers what it has read.
    watched: Mutex<WatchedBranch>,
}

impl Records {
    /// Reads `branch`, and holds it against `watched`.
    pub(super) fn new(store: Store, remote: Remote, branch: Reference, watched: WatchedBranch) -> Self {
        Self { store, remote, branch, watched: Mutex::new(watched) }
    }

    async fn read(&self, canary: &NamespacedName, target: &ObjectRef) -> Result<Option<Recorded>, String> {
        let mut watched = self.watched.lock().await;
        let proved =
            rebuild::promoted(&self.store, &self.remote, &mut watched, &self.branch, canary, target).await;
        Ok(proved.map_err(|error| words(&error))?.map(|proved| recorded(proved, &self.branch)))
    }
}

fn recorded(proved: Proved, branch: &Reference) -> Recorded {
    let Proved { manifest, copies, failed, record } = proved;
    let PromotedManifest { revision, template, target: _, path, text: _, pins: _ } = manifest;
    let commit = revision.commit.as_ref().map_or("none", |commit| commit.short());
    let source = format!(
        "the cluster knew nothing, and {branch} (at {}) says that {path} of commit {commit} ran. Nobody vouches for that \
         branch but whoever may push to it: see that this is what ran",
        record.short()
    );
    Recorded { revision, template, copies, failed, source }
}

fn words(error: &(dyn Error + 'static)) -> String {
    crate::cluster::explain(error)
}

impl RecordSource for Records {
    fn recorded<'a>(
        &'a self,
        canary: &'a NamespacedName,
        target: &'a ObjectRef,
    ) -> BoxFuture<'a, Result<Option<Recorded>, String>> {
        self.read(canary, target).boxed()
    }
}
