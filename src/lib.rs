//! Serin releases software from Git.
//!
//! How a push flows through the house:
//!
//! 1. [`git`] probes the watched ref, fetches it into a bare store and reads the tree: a snapshot.
//! 2. [`manifest`] turns its YAML into objects and digests.
//! 3. [`sync`] plans (what changes, in words), dry-runs and applies; a target's new pod template waits until the release
//!    engine admits it.
//! 4. [`controller`] sees the new revision, observes, asks [`release`] what to do, writes the new state and then acts
//!    through [`workload`], [`router`], [`metrics`] and [`hook`]; [`analysis`] turns measurements into verdicts.
//! 5. [`report`] projects state outwards: events, the record and the rollback commit in Git.
//!
//! [`model`] holds the nouns, [`api`] the Kubernetes types and the keys in which rooms meet on objects, [`cluster`] the
//! clients, caches, guarded writes and the lease, [`config`] the settings, [`server`] the probes, [`cli`] the verbs, [`forge`] GitHub and its
//! kind, [`alert`] chats, [`calendar`] when releases may begin, [`rollout`] and [`analysisrun`] Argo Rollouts' kinds.
//! [`loadtest`] and [`sandbox`] stand beside: what a release is tested with and where it can be tried.

pub use serin_core::{analysis, model, release};
#[cfg(feature = "sandbox")]
pub use serin_sandbox as sandbox;

pub mod alert;
pub mod analysisrun;
pub mod api;
pub mod calendar;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod controller;
pub mod forge;
pub mod git;
pub mod hook;
pub mod http;
pub mod loadtest;
pub mod manifest;
pub mod metrics;
pub mod render;
pub mod report;
pub mod rollout;
pub mod router;
pub mod server;
pub mod sync;
pub mod template;
pub mod workload;
