//! The bare object store: probe, fetch, snapshot, commit, push with compare and swap.
//!
//! Files are read from Git's objects, never from a checkout, so no symlink and no path leads out of the repository. The
//! store is a cache: it may be lost or corrupted at any time and is made again by the next fetch. All of libgit2 runs on
//! a bounded number of blocking threads, with deadlines.

mod between;
mod commit;
mod error;
mod fetch;
mod files;
mod folder;
mod history;
mod ignore;
mod known_hosts;
mod limits;
mod lsrefs;
mod objects;
mod place;
mod push;
mod reference;
mod remote;
mod signature;
mod snapshot;
mod store;
mod tidy;
mod trail;

pub use between::{ChangedFile, Step};
pub use commit::{Base, CommitMeta, Edit, Identity};
pub use error::GitError;
pub use files::{Entry, Files};
pub use history::{CommitInfo, TreeLimits};
pub use ignore::{IGNORE_FILE, Ignore};
pub use place::{TreePath, TreePathError};
pub use push::{LocalPush, PushError};
pub use reference::{Reference, ReferenceError};
pub use remote::{Credentials, Location, Remote};
pub use signature::{AllowedSigners, SignatureError, SigningKey};
pub use snapshot::{Limits, SkippedFile, Snapshot, SnapshotFile};
pub use store::Store;
pub use trail::FileChange;
