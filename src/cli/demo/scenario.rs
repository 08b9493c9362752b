//! The scenarios: what is pushed, what has to come of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::ValueEnum;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client};
use tokio::sync::watch;

use crate::model::CommitId;
use crate::release::OutcomeKind;
use crate::sandbox::repository::{BRANCH, Commit, FileEdit, Repository, RepositoryError};

use super::event::{DemoEvent, Played};
use super::example::{self, DEPLOYMENT, DemoProvider};
use super::observe::Seen;
use super::print::Printer;
use super::users::Users;

/// Longest time one wait of a scenario may take: three times what the slowest takes on two busy cores at speed 30.
const WAIT_MAX: Duration = Duration::from_secs(120);
/// Between two looks at a branch or a workload while waiting for it.
const LOOK: Duration = Duration::from_millis(100);

/// Which scenario is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Scenario {
    /// A good version is promoted
    Success,
    /// A version that answers 500 is rolled back, in the cluster and in Git
    Rollback,
    /// A newer push replaces a release at weight 30
    Supersede,
    /// A bad version under fixed limits, then compared with primary
    Comparison,
    /// The first three, one after the other
    All,
}

impl Scenario {
    pub(super) fn chosen(self) -> Vec<Self> {
        match self {
            Self::All => vec![Self::Success, Self::Rollback, Self::Supersede],
            one => vec![one],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Rollback => "rollback",
            Self::Supersede => "supersede",
            Self::Comparison => "comparison",
            Self::All => "all",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Success => "A good version: analysed step by step, then promoted",
            Self::Rollback => "A version that answers 500: rolled back in the cluster and in Git",
            Self::Supersede => "A newer push while a release is at weight 30: the newest wins",
            Self::Comparison => "A bad version twice: by fixed limits, then compared with primary",
            Self::All => "All scenarios",
        }
    }
}

/// How fast everything goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pace {
    /// Time goes this many times as fast.
    pub(super) speed: f64,
    /// Users, each with [`super::users::RATE`] requests a second.
    pub(super) crowd: u32,
    /// Time between two samples of the metrics.
    pub(super) sample_step: Duration,
}

/// What the scenarios act on.
pub(super) struct Stage {
    pub(super) provider: DemoProvider,
    pub(super) repository: Repository,
    pub(super) client: Client,
    pub(super) seen: watch::Receiver<Seen>,
    /// Commits that the display has told of.
    pub(super) told: watch::Receiver<BTreeSet<CommitId>>,
    pub(super) users: Arc<Users>,
    pub(super) pace: Pace,
    pub(super) printer: Arc<Printer>,
    pub(super) status_branch: String,
    /// What was played, for the end.
    pub(super) played: Vec<Played>,
}

impl Stage {
    /// The first push and the first sync.
    pub(super) async fn first_sync(&mut self) -> anyhow::Result<bool> {
        let began = Instant::now();
        self.printer.event(DemoEvent::Scenario {
            name: "first sync",
            title: "First sync: podinfo 3.1.0, its autoscaler, gateway, load tester and Canary".to_owned(),
        });
        self.push("Add podinfo 3.1.0", |_| Ok(example::files(self.provider)))?;
        let initialized = self.wait("Initialized", |seen| seen.phase == "Initialized").await;
        let mut ok = self.expect("the release engine has taken podinfo over", initialized.is_ok(), &self.now());
        ok &= self.expect_image("podinfo-primary", "3.1.0").await?;
        ok &= self.expect_replicas("podinfo", 0).await?;
        self.ended("first sync", ok, began);
        Ok(ok)
    }

    /// Plays one scenario; whether everything was as expected.
    pub(super) async fn play(&mut self, scenario: Scenario) -> anyhow::Result<bool> {
        let (began, before) = (Instant::now(), self.users.seen());
        self.printer.event(DemoEvent::Scenario { name: scenario.name(), title: scenario.title().to_owned() });
        let ok = match scenario {
            Scenario::Success => self.success("3.1.1").await?,
            Scenario::Rollback => self.rollback("3.1.2-errors-50").await?,
            Scenario::Supersede => self.supersede("3.1.3", "3.1.4").await?,
            Scenario::Comparison => self.comparison().await?,
            Scenario::All => anyhow::bail!("`all` is not one scenario"),
        };
        let after = self.users.seen();
        let (asked, failed) = (after.asked - before.asked, after.failed - before.failed);
        self.printer.event(DemoEvent::Users { asked, failed });
        // A version that answers 500 does so to its share of the users; anything else is the release's own fault.
        let ok = ok
            && (matches!(scenario, Scenario::Rollback | Scenario::Comparison)
                || self.expect("no user's request failed", failed == 0, &format!("{failed} of {asked}")));
        self.ended(scenario.name(), ok, began);
        self.played.push(Played {
            name: scenario.name(),
            ok,
            seconds: began.elapsed().as_secs_f64(),
            asked,
            failed,
        });
        Ok(ok)
    }

    async fn success(&mut self, tag: &str) -> anyhow::Result<bool> {
        let commit = self.push_tag(tag)?;
        let ended = self.wait_outcome(&commit).await;
        let mut ok = self.expect("the release succeeded", ended == Some(OutcomeKind::Succeeded), &self.now());
        ok &= self.expect_image("podinfo-primary", tag).await?;
        ok &= self.expect_replicas("podinfo", 0).await?;
        ok &= self.expect_record("Succeeded").await;
        Ok(ok)
    }

    async fn rollback(&mut self, tag: &str) -> anyhow::Result<bool> {
        let before = example::tag(&self.repository.read(BRANCH, DEPLOYMENT)?).map(str::to_owned);
        let before = before.context("the Deployment names no tag")?;
        let primary = self.deployment("podinfo-primary").await?;
        let commit = self.push_tag(tag)?;
        self.put_right(&commit, tag, &before, &primary).await
    }

    /// A failed release leaves the cluster and Git as they were before its commit.
    pub(super) async fn put_right(
        &mut self,
        commit: &CommitId,
        tag: &str,
        before: &str,
        primary: &Deployment,
    ) -> anyhow::Result<bool> {
        let pushed = self.repository.read(BRANCH, DEPLOYMENT)?;
        let ended = self.wait_outcome(commit).await;
        let mut ok = self.expect("the release failed", ended == Some(OutcomeKind::Failed), &self.now());
        ok &= self.expect_image("podinfo-primary", before).await?;
        let unchanged =
            self.deployment("podinfo-primary").await?.metadata.generation == primary.metadata.generation;
        ok &= self.expect("primary was not touched", unchanged, "another generation");
        let wanted = pushed.replacen(tag, before, 1);
        let restored = self.wait_file(&wanted).await;
        self.wait_told().await?;
        let found = self.repository.tip(BRANCH)?.map(|tip| tip.subject).unwrap_or_default();
        ok &= self.expect(&format!("Git names {before} again, every other byte as it was"), restored, &found);
        let trailer = self.repository.tip(BRANCH)?.is_some_and(|tip| tip.message.contains("Serin-Rollback:"));
        ok &= self.expect("the newest commit says why", trailer, &found);
        ok &= self.expect_record("Failed").await;
        Ok(ok)
    }

    async fn supersede(&mut self, first: &str, second: &str) -> anyhow::Result<bool> {
        let commit = self.push_tag(first)?;
        let at_30 = self.wait("weight 30", |seen| seen.weight == 30).await;
        let mut ok = self.expect("the first release reached weight 30", at_30.is_ok(), &self.now());
        let newer = self.push_tag(second)?;
        let ended = self.wait_outcome(&commit).await;
        ok &= self.expect("the first release was superseded", ended == Some(OutcomeKind::Superseded), &self.now());
        let ended = self.wait_outcome(&newer).await;
        ok &= self.expect("the newer one succeeded", ended == Some(OutcomeKind::Succeeded), &self.now());
        ok &= self.expect_image("podinfo-primary", second).await?;
        ok &= self.expect_record("Succeeded").await;
        Ok(ok)
    }

    fn push_tag(&self, tag: &str) -> anyhow::Result<CommitId> {
        self.push(&format!("Release podinfo {tag}"), |repository| example::set_tag(repository, tag))
    }

    pub(super) fn push(
        &self,
        subject: &str,
        edit: impl Fn(&Repository) -> Result<Vec<FileEdit>, RepositoryError>,
    ) -> anyhow::Result<CommitId> {
        let commit = self.repository.commit(subject, edit)?;
        self.printer.event(DemoEvent::Pushed { commit: commit.to_string(), subject: subject.to_owned() });
        Ok(commit)
    }

    pub(super) async fn wait(&mut self, what: &str, done: impl Fn(&Seen) -> bool) -> anyhow::Result<Seen> {
        let wait = self.seen.wait_for(|seen| done(seen));
        let seen = tokio::time::timeout(WAIT_MAX, wait).await;
        let seen = seen.with_context(|| format!("{what} did not come within {} s", WAIT_MAX.as_secs()))?;
        Ok(seen.context("the Canary is not watched any more")?.clone())
    }

    /// How the release of a commit ended; `None` if it did not in time.
    async fn wait_outcome(&mut self, commit: &CommitId) -> Option<OutcomeKind> {
        let ended = self.wait("the release's end", |seen| seen.outcome(commit).is_some()).await;
        ended.ok().and_then(|seen| seen.outcome(commit))
    }

    /// Waits until the display has told of the newest commit.
    async fn wait_told(&mut self) -> anyhow::Result<()> {
        let Some(tip) = self.repository.tip(BRANCH)? else { return Ok(()) };
        let told = tokio::time::timeout(WAIT_MAX, self.told.wait_for(|told| told.contains(&tip.id))).await;
        told.context("the newest commit was not told")?.map(drop).context("the branches are not watched any more")
    }

    async fn wait_file(&self, wanted: &str) -> bool {
        self.look(|| self.repository.read(BRANCH, DEPLOYMENT).is_ok_and(|text| text == wanted)).await
    }

    /// Looks until it is so, at most [`WAIT_MAX`].
    async fn look(&self, so: impl Fn() -> bool) -> bool {
        let mut ticks = tokio::time::interval(LOOK);
        let until = Instant::now() + WAIT_MAX;
        while Instant::now() < until {
            ticks.tick().await;
            if so() {
                return true;
            }
        }
        false
    }

    pub(super) async fn deployment(&self, name: &str) -> anyhow::Result<Deployment> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), "test");
        api.get(name).await.with_context(|| format!("failed to read Deployment test/{name}"))
    }

    async fn expect_image(&self, name: &str, tag: &str) -> anyhow::Result<bool> {
        let deployment = self.deployment(name).await?;
        let pods = deployment.spec.and_then(|spec| spec.template.spec);
        let image = pods.and_then(|pods| pods.containers.first().and_then(|container| container.image.clone()));
        let image = image.unwrap_or_default();
        Ok(self.expect(&format!("{name} runs {tag}"), image.ends_with(&format!(":{tag}")), &image))
    }

    async fn expect_replicas(&self, name: &str, replicas: i32) -> anyhow::Result<bool> {
        let found = self.deployment(name).await?.spec.and_then(|spec| spec.replicas).unwrap_or(1);
        Ok(self.expect(&format!("{name} has {replicas} replicas"), found == replicas, &found.to_string()))
    }

    /// The record follows by itself; when it is there, it says the phase.
    async fn expect_record(&self, phase: &str) -> bool {
        let line = format!("phase: {phase}");
        let path = "test/podinfo.yaml";
        let recorded = self
            .look(|| self.repository.read(&self.status_branch, path).is_ok_and(|text| text.contains(&line)))
            .await;
        let found = self.repository.tip(&self.status_branch).ok().flatten();
        let found = found.map_or_else(|| "no commit".to_owned(), |Commit { subject, .. }| subject);
        self.expect(&format!("branch {} says {phase}", self.status_branch), recorded, &found)
    }

    pub(super) fn expect(&self, what: &str, ok: bool, found: &str) -> bool {
        self.printer.event(DemoEvent::Expected { what: what.to_owned(), ok, found: found.to_owned() });
        ok
    }

    fn ended(&self, name: &'static str, ok: bool, began: Instant) {
        self.printer.event(DemoEvent::Ended { name, ok, seconds: began.elapsed().as_secs_f64() });
    }

    pub(super) fn now(&self) -> String {
        let seen = self.seen.borrow();
        let waiting = seen.state.as_ref().and_then(|state| state.waiting_on.as_ref());
        let waiting = waiting.map(|waiting| format!(", waiting on {waiting}")).unwrap_or_default();
        format!("phase {}, weight {}{waiting}", seen.phase, seen.weight)
    }
}
