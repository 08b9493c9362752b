//! The nouns every room speaks: object references, digests, commits, revisions, weights.
//!
//! Imports no other room and does no I/O. A type lives here only when two rooms need it.

mod digest;
mod frozen;
mod object;
mod revision;
mod weights;

pub use digest::{Digest, DigestError};
pub use frozen::Frozen;
pub use object::{NamespacedName, ObjectRef};
pub use revision::{CommitId, CommitIdError, ReleaseId, Revision, RevisionError};
pub use weights::Weights;
