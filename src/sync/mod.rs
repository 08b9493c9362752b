//! Git -> cluster: trigger, plan, apply, inventory, prune.
//!
//! Inputs: the documents at a commit ([`Source`]), the cluster, the Canaries' status. Outputs: server-side applies with the
//! manager `serin`, deletions of what the inventory owns, the inventory itself, [`SyncStatus`].
//!
//! What it must not do: write a target's pod template while its canary may have traffic (the revision is announced instead
//! and the release engine admits it), apply `spec.replicas` of a target, or delete what the inventory does not own.
//!
//! A pass reads in this order: documents, `desired` (identity, role, what is wrong), `apply` per stage (look, dry-run,
//! write what differs), `prune`, inventory. `desired`, `convert`, `order`, `plan`, `readers`, `references`, `refused` and
//! `removals` are pure.

mod adoption;
mod apply;
mod configs;
mod convert;
mod desired;
mod events;
mod git_source;
mod handover;
mod heirs;
mod order;
mod ownership;
mod pass;
mod plan;
mod preview;
mod prune;
mod readers;
mod references;
mod refused;
mod removals;
mod remove;
mod request;
mod retry;
mod risks;
mod rollouts;
mod run;
mod source;
mod status;
mod store;
mod survey;
mod target;
mod telemetry;
mod told;
mod trigger;

pub use convert::{gone_version, not_served};
pub use git_source::GitSource;
pub use preview::{Action, Planned, PlannedRelease, Preview, PreviewContext, Reason, preview};
pub use refused::Judge;
pub use request::{Requests, watched_requests};
pub use run::{SyncContext, SyncSettings, run};
pub use source::{
    Content, Document, DocumentCache, KeptDocument, NoRecord, RecordSource, Recorded, Source, SourceError,
    Unreadable, Unusable,
};
pub use status::SyncStatus;
pub use target::{WatchedCanary, watched_canaries};
pub use telemetry::Telemetry;
pub use told::About;
pub use trigger::PushTrigger;
