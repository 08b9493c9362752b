//! The nouns every room speaks: object references, digests, commits, revisions, routings.
//!
//! Imports no other room and does no I/O. A type lives here only when two rooms need it.

mod closest;
mod digest;
mod frozen;
mod object;
pub mod path;
mod projected;
mod revision;
mod routing;
mod time;
mod told;

pub use closest::closest;
pub use digest::{Digest, DigestError};
pub use frozen::Frozen;
pub use object::{NamespacedName, ObjectRef};
pub use projected::{Projected, Projection, RollbackFate, RollbackNote};
pub use revision::{
    CommitId, CommitIdError, Quarantined, ReleaseId, ReleaseIdError, Remembered, Revision, RevisionError,
};
pub use routing::{Affinity, Cookie, Extra, Routing, Rule, Split, Sticky};
pub use time::{after, between};
pub use told::{MESSAGE_MAX, TOLD_MAX, told, told_chars, told_lines, told_message, told_within};
