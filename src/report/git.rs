//! TEMP
#![allow(missing_docs)]
use crate::api::Canary;
use crate::cluster::{Cluster, Reflected, Writer};
use crate::config::RollbackMode;
use crate::git::{Remote, Store};
use tokio_util::sync::CancellationToken;
pub struct ReportSettings {
    pub cluster_name: String,
    pub branch: String,
    pub path: String,
    pub status_branch: String,
    pub author_name: String,
    pub author_email: String,
    pub rollback: RollbackMode,
}
pub struct Context {
    pub cluster: Cluster,
    pub writer: Writer,
    pub canaries: Reflected<Canary>,
    pub store: Store,
    pub remote: Remote,
    pub settings: ReportSettings,
}
pub async fn run(_c: Context, shutdown: CancellationToken) {
    shutdown.cancelled().await
}
