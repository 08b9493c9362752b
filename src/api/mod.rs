//! Kubernetes types: Canary, MetricTemplate and AlertProvider (`flagger.app/v1beta1`), and the words in which rooms meet
//! on objects.
//!
//! These are wire types: supersets of Flagger's schema, so that today's manifests apply unchanged. What they *mean* is
//! decided elsewhere (`release::Policy`).

mod alert;
mod analysis;
pub mod annotations;
pub mod argo;
mod canary;
mod crds;
pub mod duration;
mod environment;
mod handover;
mod inventory;
pub mod managed_fields;
mod schema;
mod service;
mod source;
mod status;
pub mod strict;
mod template;
mod window;

pub use alert::{AlertProvider, AlertProviderSpec};
pub use analysis::{
    Alert, AlertSeverity, AnalysisMatch, CanaryAnalysis, ComparisonMode, CrossNamespaceRef, Metric, OnFewSamples,
    OnMissingValue, SessionAffinity, ThresholdRange, Webhook, WebhookType,
};
pub use canary::{
    AutoscalerRef, Canary, CanarySpec, LocalObjectRef, NamespacedObjectRef, Provider, ScalerReplicas,
};
pub use crds::{ARGO_GROUP, ARGO_VERSION, GROUP, Keeps, VERSION, argo_crds, crds, keeps_serin_status};
pub use environment::{EnvironmentSeen, PromotedSeen, SEEN_MAX, WaitFor, WaitMatch};
pub use handover::{AwaitsGit, AwaitsKind, Handover};
pub use inventory::{
    CommitResult, Inventory, InventoryError, Owned, Presence, Removal, RemovalVerdict, SyncedCommit, TargetResult,
};
pub use service::{CanaryService, CustomMetadata, GatewayRef, Retries, Rewrite, UnmanagedMetadata};
pub use source::{
    CommitAt, DaemonStatus, Note, ObjectNote, ObjectState, RefusedRemoval, SOURCE_GROUP, SOURCE_VERSION, Source,
    SourceSpec, SourceStatus,
};
pub use status::{
    AT_RISK, BLOCKED, CanaryCondition, CanaryPhase, CanaryStatus, HELD, IGNORED, MISROUTED, REBUILT, RECORDED,
    SerinStatus,
};
pub use template::{MetricTemplate, MetricTemplateProvider, MetricTemplateSpec, SecretRef};
pub use window::{ReleaseWindow, ReleaseWindowKind};
