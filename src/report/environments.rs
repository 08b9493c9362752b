//! What other environments run, as their records in the same repository say, told on the Canaries that wait for it.
//!
//! Git is the bus: nobody asks another cluster. A record is believed only if its tip is signed by a key that serin.yaml names, or if
//! serin.yaml says that its branch is protected. Times are counted from what was seen here, never from what the record says.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::events::Now;
use super::record::{Record, RecordError};
use crate::api::annotations::{ENVIRONMENTS, MANAGER_REPORT};
use crate::api::{Canary, EnvironmentSeen, PromotedSeen, SEEN_MAX, WaitFor};
use crate::cluster::{Cluster, EffectKind, Reflected, Said, SharedWatch, Writer, explain};
use crate::git::{AllowedSigners, GitError, Reference, Remote, Store};
use crate::manifest::images;
use crate::model::{CommitId, NamespacedName, told};

/// A record that could not be read for so long says nothing any more: what it said may be over.
const STALE: Duration = Duration::from_secs(300);
/// Wait after a Canary could not be told.
const AGAIN: Duration = Duration::from_secs(5);

/// Another environment.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Its name.
    pub name: String,
    /// The branch of its record.
    pub branch: Reference,
    /// Who has to have signed its tip; `None`: the branch is protected, as serin.yaml says.
    pub signers: Option<AllowedSigners>,
}

/// What the loop works with.
pub struct Context {
    /// The cluster.
    pub cluster: Cluster,
    /// The door for writes.
    pub writer: Writer,
    /// The Canaries.
    pub canaries: Reflected<Waiting>,
    /// The bare store.
    pub store: Store,
    /// The repository.
    pub remote: Remote,
    /// What serin.yaml names.
    pub environments: Vec<Environment>,
    /// What every Canary waits for.
    pub wait_for: Vec<WaitFor>,
    /// Time between two looks at the records.
    pub every: Duration,
    /// What time it is.
    pub now: Now,
}

/// What a Canary waits for, and what it has been told.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    wait_for: Vec<WaitFor>,
    told: Option<String>,
}

/// The Canaries as far as they wait for environments.
pub fn watched_waiting(watch: &mut SharedWatch) -> Reflected<Waiting> {
    let convert = |object: DynamicObject| {
        let canary = object.try_parse::<Canary>().map_err(|error| error.to_string())?;
        let told = canary.annotations().get(ENVIRONMENTS).cloned();
        Ok(Waiting { wait_for: canary.spec.wait_for, told })
    };
    watch.cache(convert, |_| {})
}

/// Tells what other environments run until `shutdown`.
pub async fn run(context: Context, shutdown: CancellationToken) {
    shutdown.run_until_cancelled(serve(context)).await;
}

async fn serve(context: Context) {
    let Context { cluster, writer, canaries, store, remote, environments, wait_for, every, now } = context;
    writer.claim().acquired().await;
    canaries.ready().await;
    let mut bell = canaries.changes();
    let (mut looks, mut looked) = (BTreeMap::<String, Look>::new(), None::<Instant>);
    loop {
        if looked.is_none_or(|at| at.elapsed() >= every) {
            for environment in &environments {
                let look = looks.entry(environment.name.clone()).or_default();
                look.again(&store, &remote, environment).await;
            }
            looked = Some(Instant::now());
        }
        let mut all_told = true;
        for (key, waiting) in canaries.all() {
            let Some(text) = waiting.text(&key, &wait_for, &looks, now()) else { continue };
            all_told &= tell(&cluster, &writer, &key, text.as_deref()).await;
        }
        let pause = if all_told { every } else { AGAIN };
        // Whichever comes first; both only mean to look again.
        tokio::time::timeout(pause, bell.heard()).await.ok();
    }
}

/// What is known of an environment.
#[derive(Default)]
struct Look {
    /// Its tip, and what was made of it.
    known: Option<(Option<CommitId>, Result<Record, String>)>,
    /// When it was last looked at with an answer.
    at: Option<Instant>,
    /// Why it cannot be looked at.
    trouble: Option<String>,
    said: Said,
}

impl Look {
    async fn again(&mut self, store: &Store, remote: &Remote, environment: &Environment) {
        match self.read(store, remote, environment).await {
            Ok(()) => (self.at, self.trouble) = (Some(Instant::now()), None),
            Err(error) => {
                let words = explain(&error);
                if self.said.is_news(&words) {
                    tracing::warn!(
                        environment = environment.name,
                        "the record of {} cannot be read: {words}",
                        environment.name
                    );
                }
                self.trouble = Some(words);
            }
        }
    }

    async fn read(&mut self, store: &Store, remote: &Remote, environment: &Environment) -> Result<(), GitError> {
        let tip = store.fetch(remote, environment.branch.qualified()).await?;
        if self.known.as_ref().is_some_and(|(known, _)| *known == tip) {
            return Ok(());
        }
        let record = match &tip {
            None => Err(format!("there is no branch {}", environment.branch.short())),
            Some(tip) => believed(store, environment, tip).await?,
        };
        self.known = Some((tip, record));
        Ok(())
    }

    /// The record, or why nothing of it counts.
    fn record(&self) -> Result<&Record, String> {
        let is_fresh = self.at.is_some_and(|at| at.elapsed() < STALE);
        match (&self.known, &self.trouble) {
            (Some((_, Ok(record))), _) if is_fresh => Ok(record),
            (Some((_, Err(reason))), _) if is_fresh => Err(reason.clone()),
            (_, Some(trouble)) => Err(format!("its record cannot be read: {trouble}")),
            _ => Err("its record has not been looked at yet".to_owned()),
        }
    }
}

/// A record that may be believed, or why not. Only what may be over soon is an error.
async fn believed(
    store: &Store,
    environment: &Environment,
    tip: &CommitId,
) -> Result<Result<Record, String>, GitError> {
    let branch = &environment.branch;
    if let Some(signers) = &environment.signers
        && let Err(error) = store.verify(tip, signers).await
    {
        return if error.is_transient() {
            Err(error)
        } else {
            Ok(Err(format!("its record is not believed: {}", explain(&error))))
        };
    }
    match Record::at(store, branch, tip.clone()).await {
        Ok(record) => Ok(Ok(record)),
        Err(RecordError::Git(error)) => Err(error),
        Err(error) => Ok(Err(explain(&error))),
    }
}

impl Waiting {
    /// What is to be told: nothing, if it has been; `Some(None)` takes away what is no longer asked for.
    fn text(
        &self,
        key: &NamespacedName,
        defaults: &[WaitFor],
        looks: &BTreeMap<String, Look>,
        now: Timestamp,
    ) -> Option<Option<String>> {
        let before: Vec<EnvironmentSeen> =
            self.told.as_ref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let mut seen: Vec<EnvironmentSeen> = Vec::new();
        for want in defaults.iter().chain(&self.wait_for) {
            let there = want.there(key);
            if seen.iter().any(|it| it.environment == want.environment && it.canary == there) {
                continue;
            }
            let known = before.iter().find(|it| it.environment == want.environment && it.canary == there);
            let record = match looks.get(&want.environment) {
                Some(look) => look.record(),
                None => Err(format!("serin.yaml names no environment {}", want.environment)),
            };
            seen.push(see(want, there, known, record, now));
        }
        let text = if seen.is_empty() { None } else { serde_json::to_string(&seen).ok() };
        (text != self.told).then_some(text)
    }
}

/// What is seen now, after what was seen before.
fn see(
    want: &WaitFor,
    canary: NamespacedName,
    known: Option<&EnvironmentSeen>,
    record: Result<&Record, String>,
    now: Timestamp,
) -> EnvironmentSeen {
    let mut promoted = known.map(|known| known.promoted.clone()).unwrap_or_default();
    let problem = match record {
        Err(problem) => Some(told(problem)),
        Ok(record) => match runs(record, &canary) {
            Ok(runs) => {
                follow(&mut promoted, runs, now);
                None
            }
            Err(problem) => Some(told(problem)),
        },
    };
    EnvironmentSeen { environment: want.environment.clone(), canary, problem, promoted }
}

/// What a record says that a Canary's primary runs; `None`: nothing yet.
fn runs(
    record: &Record,
    canary: &NamespacedName,
) -> Result<Option<(crate::model::Revision, Vec<String>)>, String> {
    let Some(target) = record.targets.get(canary) else { return Err(format!("its record has no {canary}")) };
    let target = target.as_ref().map_err(|reason| format!("its record of {canary} cannot be read: {reason}"))?;
    let Some(promoted) = &target.promoted else { return Ok(None) };
    let manifest = record.promoted(canary).map_err(|error| explain(&error))?;
    let images = manifest.map(|manifest| images(&manifest.template)).unwrap_or_default();
    Ok(Some((promoted.revision.clone(), images)))
}

/// Notes what runs: the same goes on, something else begins now.
fn follow(promoted: &mut Vec<PromotedSeen>, runs: Option<(crate::model::Revision, Vec<String>)>, now: Timestamp) {
    let last = promoted.last_mut().filter(|last| last.until.is_none());
    let is_same = |last: &PromotedSeen| {
        runs.as_ref()
            .is_some_and(|(revision, images)| last.revision.digest == revision.digest && last.images == *images)
    };
    match last {
        Some(last) if is_same(last) => {
            // The same again, by another commit.
            if let Some((revision, _)) = runs {
                last.revision = revision;
            }
            return;
        }
        Some(last) => last.until = Some(now),
        None => {}
    }
    promoted.extend(runs.map(|(revision, images)| PromotedSeen { revision, images, since: now, until: None }));
    let surplus = promoted.len().saturating_sub(SEEN_MAX);
    promoted.drain(..surplus);
}

/// `false` if it could not be told.
async fn tell(cluster: &Cluster, writer: &Writer, key: &NamespacedName, text: Option<&str>) -> bool {
    let api: Api<Canary> = Api::namespaced(cluster.client(), &key.namespace);
    // In a merge patch null removes.
    let patch = json!({"metadata": {"annotations": {ENVIRONMENTS: text}}});
    let params = PatchParams { field_manager: Some(MANAGER_REPORT.to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(&patch);
    let write = api.patch_metadata(&key.name, &params, &patch);
    match writer.effect(EffectKind::Patch, &format!("Canary {key}"), write).await {
        Ok(_) => true,
        // Deleted meanwhile: nobody is left to tell.
        Err(error) if error.is_not_found() => true,
        Err(error) => {
            tracing::debug!(canary = %key, "failed to tell Canary {key} what environments run: {}", explain(&error));
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Revision;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + minute * 60).unwrap()
    }

    fn revision(hex: char) -> Revision {
        format!("v1:{}@{}", hex.to_string().repeat(20), hex.to_string().repeat(40)).parse().unwrap()
    }

    #[test]
    fn what_goes_on_keeps_its_beginning_and_what_is_new_begins_when_it_is_seen() {
        let runs = |hex: char, image: &str| Some((revision(hex), vec![image.to_owned()]));
        let mut seen = Vec::new();
        follow(&mut seen, None, at(0));
        assert!(seen.is_empty());
        follow(&mut seen, runs('a', "app:1"), at(1));
        follow(&mut seen, runs('a', "app:1"), at(2));
        assert_eq!((seen.len(), seen[0].since, seen[0].until), (1, at(1), None));
        follow(&mut seen, runs('b', "app:2"), at(3));
        assert_eq!((seen.len(), seen[0].until, seen[1].since), (2, Some(at(3)), at(3)));
        // Back to what was there before: it begins anew.
        follow(&mut seen, runs('a', "app:1"), at(4));
        assert_eq!((seen.len(), seen[2].since), (3, at(4)));
        follow(&mut seen, None, at(5));
        assert_eq!(seen[2].until, Some(at(5)));
        for minute in 6..20 {
            follow(&mut seen, runs(if minute % 2 == 0 { 'a' } else { 'b' }, "app:1"), at(minute));
        }
        assert_eq!(seen.len(), SEEN_MAX);
    }

    #[test]
    fn what_is_asked_for_twice_is_told_once_and_what_nobody_asks_for_is_taken_away() {
        let want = |environment: &str| WaitFor {
            environment: environment.into(),
            bake: None,
            match_: crate::api::WaitMatch::Images,
            canary: None,
        };
        let key = NamespacedName::new("test", "app");
        let waiting = Waiting { wait_for: vec![want("staging"), want("nowhere")], told: None };
        let looks = [("staging".to_owned(), Look::default())].into();
        let text = waiting.text(&key, &[want("staging")], &looks, at(0)).unwrap().unwrap();
        let seen: Vec<EnvironmentSeen> = serde_json::from_str(&text).unwrap();
        let problems: Vec<&str> = seen.iter().filter_map(|seen| seen.problem.as_deref()).collect();
        assert_eq!(problems, ["its record has not been looked at yet", "serin.yaml names no environment nowhere"]);
        let told = Waiting { told: Some(text.clone()), ..waiting };
        assert_eq!(told.text(&key, &[want("staging")], &looks, at(1)), None, "it is told already");
        let idle = Waiting { wait_for: Vec::new(), told: Some(text) };
        assert_eq!(idle.text(&key, &[], &looks, at(1)), Some(None));
    }
}
