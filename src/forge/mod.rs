//! Forges: GitHub, GitLab, Gitea and Forgejo, Bitbucket Cloud and Data Center, Azure DevOps.
//!
//! What is said to each of them and how its answers read is pure ([`wire`]: one file per forge, no I/O); [`Client`] alone
//! talks. A forge says nothing that a release waits for: whatever fails here is tried again, or told, and that is all.

mod app;
mod client;
mod error;
mod pull;
mod settings;
mod status;
pub mod webhook;
mod wire;

use futures::future::BoxFuture;

pub use client::{Client, Now, PAGES_MAX};
pub use error::ForgeError;
pub use pull::{Pull, PullRequest};
pub use settings::{Access, ForgeSettings, Kind, Place, SettingsError};
pub use status::{CommitState, CommitStatus, DESCRIPTION_MAX, Posted};

use crate::model::CommitId;

/// One repository at its forge, as the rooms that tell it something see it.
pub trait Forge: Send + Sync + std::fmt::Debug {
    /// Whether a new description without a new state is shown there.
    fn shows_progress(&self) -> bool;

    /// Whether so little may still be asked that it is kept for what is final.
    fn is_scarce(&self) -> bool;

    /// Where people see a file of a branch, or the page that is configured for all.
    fn target_url(&self, branch: &str, path: &str) -> Option<String>;

    /// Sets a status. That it says so already is no error.
    fn post_status<'a>(&'a self, status: &'a CommitStatus) -> BoxFuture<'a, Result<(), ForgeError>>;

    /// The newest status of a commit with this context, if it is there.
    fn posted<'a>(
        &'a self,
        commit: &'a CommitId,
        context: &'a str,
    ) -> BoxFuture<'a, Result<Option<Posted>, ForgeError>>;

    /// Whether what is there is what this status says.
    fn is_same(&self, posted: &Posted, status: &CommitStatus) -> bool;

    /// The newest pull request from a branch of this repository, whatever has become of it.
    fn find_pull<'a>(&'a self, branch: &'a str, base: &'a str) -> BoxFuture<'a, Result<Option<Pull>, ForgeError>>;

    /// Opens a pull request; that there is one already is `Refused`.
    fn open_pull<'a>(&'a self, pull: &'a PullRequest) -> BoxFuture<'a, Result<Pull, ForgeError>>;

    /// Closes a pull request without merging it.
    fn close_pull<'a>(&'a self, pull: &'a Pull) -> BoxFuture<'a, Result<(), ForgeError>>;
}
