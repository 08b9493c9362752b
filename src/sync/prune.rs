//! Takes out of the cluster what Git no longer names: stage by stage backwards, so that whoever reads something is gone, or
//! known to stay, before what it reads is looked at.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::apply::{LoneFailure, Trouble};
use super::desired::{self, DesiredSet, Gvk, Link};
use super::heirs;
use super::order::Stage;
use super::ownership::Claim;
use super::pass::{Pass, Results, Until, Waiting, noted};
use super::plan;
use super::preview::{Action, Planned};
use super::readers::{Reader, still_read};
use super::references;
use super::remove::{self, Doomed, Look, Removed};
use super::source::Content;
use super::survey::{self, Survey};
use crate::api::{Inventory, Owned, Presence};
use crate::model::{CommitId, NamespacedName, ObjectRef};

/// What a prune knows so far.
struct Progress<'a> {
    inventory: &'a Inventory,
    /// Everything that may be deleted.
    candidates: BTreeSet<ObjectRef>,
    /// Who lives; listed when it is needed first.
    survey: Option<Survey>,
    wanted: Option<Wanted>,
    /// uids of what was deleted: what they own goes with them.
    deleted: BTreeSet<String>,
    canaries: Vec<Link>,
    lone: LoneFailure,
}

/// What Git itself wants to read, written or not.
struct Wanted {
    readers: Vec<Reader>,
    /// Kinds with pod templates.
    templates: BTreeSet<Gvk>,
}

impl Wanted {
    fn of(content: &Content) -> Self {
        let mut wanted = Self { readers: Vec::new(), templates: BTreeSet::new() };
        for (document, _) in desired::documents(content) {
            let mut object = document.object;
            if references::has_pod_template(&object) {
                wanted.templates.extend(desired::gvk(&object));
            }
            if object["metadata"]["namespace"].is_null() && object["metadata"].is_object() {
                object["metadata"]["namespace"] = json!(desired::DEFAULT_NAMESPACE);
            }
            let references = references::references(&object);
            if !references.is_empty() {
                wanted.readers.push(Reader { id: survey::identity(&object), references });
            }
        }
        wanted
    }
}

impl Pass<'_> {
    pub(super) async fn prune(
        &self,
        inventory: &Inventory,
        set: &DesiredSet,
        results: &mut Results,
    ) -> Result<(), Trouble> {
        let unwritten = unwritten(results);
        let plan::Prune { delete, kept, refused } = plan::prune(inventory, set, &unwritten);
        results.passed.status.problems.extend(refused);
        for (id, owned) in inventory.objects.iter().filter(|(_, owned)| owned.dropped.is_some()) {
            results.owned.insert(id.clone(), owned.clone());
        }
        results.passed.status.kept.extend(kept);
        let mut progress = Progress {
            inventory,
            candidates: delete.iter().cloned().collect(),
            survey: None,
            wanted: None,
            deleted: BTreeSet::new(),
            canaries: self.canaries_to_come(set),
            lone: LoneFailure::default(),
        };
        for stage in delete.chunk_by(|a, b| Stage::of(a) == Stage::of(b)) {
            self.prune_stage(stage, &mut progress, results).await?;
        }
        Ok(())
    }

    /// The cluster's Canaries, and Git's that nobody has seen there yet.
    fn canaries_to_come(&self, set: &DesiredSet) -> Vec<Link> {
        let is_new = |link: &Link| self.live_canaries.iter().all(|live| live.canary != link.canary);
        let gits = set.objects.iter().filter(|object| Stage::of(&object.id) == Stage::Canaries).map(desired::link);
        self.live_canaries.iter().cloned().chain(gits.filter(is_new)).collect()
    }

    /// The Canary that takes over the service of a Deployment that is to go, and has not done so yet. The engine is told.
    async fn heir<'c>(
        &self,
        id: &ObjectRef,
        doomed: &Doomed,
        canaries: &'c [Link],
    ) -> Result<Option<&'c Link>, Trouble> {
        let Some(heir) = heirs::heir(self.cluster, id, &doomed.live, canaries).await? else { return Ok(None) };
        if !self.preview && heirs::marked(&doomed.live) != Some(heir.canary.name.as_str()) {
            remove::mark(self.writer, id, doomed, heir).await?;
            tracing::info!(object = %id, "{id} is gone from Git and serves until Canary {} does", heir.canary);
        }
        Ok(Some(heir))
    }

    async fn prune_stage(
        &self,
        stage: &[ObjectRef],
        progress: &mut Progress<'_>,
        results: &mut Results,
    ) -> Result<(), Trouble> {
        let mut doomed: Vec<(ObjectRef, Box<Doomed>)> = Vec::new();
        for id in stage {
            let version =
                progress.inventory.objects.get(id).map(|owned| owned.version.clone()).unwrap_or_default();
            let looked = remove::look(self.cluster, id, &version, &progress.canaries, self.others.own()).await;
            if looked.is_ok() {
                progress.lone.answered();
            }
            match looked {
                Ok(Look::Doomed(it)) => match self.others.claim(id, &self.content.commit).await {
                    Claim::None => match self.heir(id, &it, &progress.canaries).await {
                        Ok(None) => doomed.push((id.clone(), it)),
                        Ok(Some(heir)) => results.note_heir(id, heir),
                        Err(trouble) => results.note_failed_removal(id, trouble, &mut progress.lone)?,
                    },
                    Claim::By(source) => {
                        tracing::info!(object = %id, "{id} is gone from Git here and left to source {source}");
                        results.owned.remove(id);
                    }
                    Claim::Perhaps(source) => results.note_perhaps_claimed(id, &source),
                    Claim::Unknown(words) => {
                        let words = format!(
                            "it is gone from Git and kept, because nobody can tell whether another source has it: {words}"
                        );
                        results.note_kept(id, Kept::Unknown(words));
                    }
                },
                Ok(Look::Left(reason)) => {
                    if !self.preview {
                        tracing::info!(object = %id, "{id} is gone from Git and left: {reason}");
                    }
                    results.owned.remove(id);
                }
                Ok(Look::Waiting(canary)) => {
                    let reason = format!("it is deleted when Canary {canary} is gone");
                    results.passed.status.waiting.insert(id.clone(), reason);
                    results.passed.waiting.push(Waiting { canary, until: Until::Gone });
                }
                Ok(Look::Hanging(words)) => results.note_hanging(id, words),
                Err(trouble) => results.note_failed_removal(id, trouble, &mut progress.lone)?,
            }
        }
        let mut kept = self.still_needed(&doomed, progress).await?;
        for (id, doomed) in doomed {
            if let Some(kept) = kept.remove(&id) {
                results.note_kept(&id, kept);
                continue;
            }
            let uid = remove::uid(&doomed.live);
            if self.preview {
                progress.deleted.extend(uid);
                results.owned.remove(&id);
                let words = "it is gone from Git".to_owned();
                results.passed.planned.push(Planned {
                    id,
                    action: Action::Prune,
                    words,
                    origin: None,
                    release: None,
                });
                continue;
            }
            match remove::delete(self.writer, &id, doomed).await {
                Ok(Removed::Deleted) => {
                    progress.deleted.extend(uid);
                    results.owned.remove(&id);
                    results.note_deleted(&id);
                }
                Ok(Removed::Hanging(words, link)) => {
                    results.note_deleted(&id);
                    results.note_hanging(&id, words);
                    if let Some(link) = link {
                        // Its target is an ordinary Deployment from then on, or may be deleted.
                        results.passed.waiting.push(Waiting { canary: link.canary.clone(), until: Until::Gone });
                        progress.canaries.push(link);
                    }
                }
                Ok(Removed::Left(reason)) => {
                    tracing::info!(object = %id, "{id} is gone from Git and left: {reason}");
                    results.owned.remove(&id);
                }
                Err(trouble) => results.note_failed_removal(&id, trouble, &mut progress.lone)?,
            }
        }
        Ok(())
    }

    /// Who of the objects of a stage must stay for now.
    async fn still_needed(
        &self,
        doomed: &[(ObjectRef, Box<Doomed>)],
        progress: &mut Progress<'_>,
    ) -> Result<BTreeMap<ObjectRef, Kept>, Trouble> {
        if !doomed.iter().any(|(id, _)| survey::is_readable(id)) {
            return Ok(BTreeMap::new());
        }
        let wanted = progress.wanted.get_or_insert_with(|| Wanted::of(self.content));
        let survey = match &progress.survey {
            Some(survey) => survey,
            None => {
                let (candidates, templates) = (&progress.candidates, &wanted.templates);
                let survey = Survey::of(self.cluster, candidates, templates, self.only_namespace).await?;
                progress.survey.insert(survey)
            }
        };
        let going: BTreeMap<ObjectRef, Value> =
            doomed.iter().map(|(id, doomed)| (id.clone(), doomed.live.clone())).collect();
        let mut readers = survey.readers(&progress.deleted);
        readers.extend(wanted.readers.iter().cloned());
        // Who is to go as well does not count, unless it has to stay itself.
        readers.retain(|reader| !going.contains_key(&reader.id));
        let mut kept: BTreeMap<ObjectRef, Kept> = still_read(&readers, &going)
            .into_iter()
            .map(|(id, reader)| (id, Kept::Read(format!("it is gone from Git and kept: {reader} still reads it"))))
            .collect();
        for (id, _) in doomed.iter().filter(|(id, _)| !kept.contains_key(id)).collect::<Vec<_>>() {
            if let Some(words) = survey.unknown(id) {
                let words =
                    format!("it is gone from Git and kept, because nobody can tell who still reads it: {words}");
                kept.insert(id.clone(), Kept::Unknown(words));
            }
        }
        Ok(kept)
    }
}

/// Why an object stays for now, in words.
enum Kept {
    /// Somebody reads it.
    Read(String),
    /// Whoever might read or claim it cannot be looked at, which a person has to mend.
    Unknown(String),
}

/// Objects that Git names and that have not come into the cluster, with the commit that brought them: each may be the new
/// name of one that the same commit dropped.
///
/// A preview writes nothing: what it plans to write would be there by then.
fn unwritten(results: &Results) -> Vec<(ObjectRef, CommitId)> {
    let planned: BTreeSet<&ObjectRef> = results.passed.planned.iter().map(|planned| &planned.id).collect();
    let waits = |(id, owned): (&ObjectRef, &Owned)| {
        let is_written = owned.presence == Presence::Written || owned.dropped.is_some() || planned.contains(id);
        Some((id.clone(), owned.since.clone().filter(|_| !is_written)?))
    };
    results.owned.iter().filter_map(waits).collect()
}

impl Results {
    fn note_deleted(&mut self, id: &ObjectRef) {
        tracing::info!(object = %id, "{id}: delete, it is gone from Git");
        self.passed.status.changes.push(format!("{id}: delete"));
    }

    fn note_hanging(&mut self, id: &ObjectRef, words: String) {
        if let Some(owned) = self.owned.get_mut(id) {
            // Wanted again, it is not what it was.
            owned.digest = None;
        }
        self.passed.status.hanging.insert(id.clone(), words);
        self.passed.soon.insert(id.clone());
    }

    /// It may have moved to another source, which will have said so in a moment.
    fn note_perhaps_claimed(&mut self, id: &ObjectRef, source: &NamespacedName) {
        let words = format!("it is gone from Git here and kept until source {source} has come to the same commit");
        self.passed.status.kept.insert(id.clone(), words);
        self.passed.soon.insert(id.clone());
    }

    fn note_heir(&mut self, id: &ObjectRef, heir: &Link) {
        let Link { canary, service, .. } = heir;
        let reason =
            format!("it is deleted when Canary {canary} has taken over Service {service}, which leads to it");
        self.passed.status.waiting.insert(id.clone(), reason);
        self.passed.waiting.push(Waiting { canary: canary.clone(), until: Until::Serves });
    }

    fn note_kept(&mut self, id: &ObjectRef, kept: Kept) {
        match kept {
            Kept::Read(words) => {
                self.passed.status.kept.insert(id.clone(), words);
            }
            Kept::Unknown(words) => {
                let message = format!("{id}: {words}");
                if let Some(owned) = self.owned.get_mut(id) {
                    owned.condition = Some(noted(&message));
                }
                self.passed.status.conditions.insert(id.clone(), message);
            }
        }
    }

    /// One that cannot be deleted stays ours; the others go on.
    fn note_failed_removal(
        &mut self,
        id: &ObjectRef,
        trouble: Trouble,
        lone: &mut LoneFailure,
    ) -> Result<(), Trouble> {
        if let Trouble::Deleting(words) = trouble {
            // It is on its way out, which is all that is wanted.
            self.note_hanging(id, words);
            return Ok(());
        }
        let message = format!("{id} cannot be deleted: {}", lone.take(trouble)?);
        if let Some(owned) = self.owned.get_mut(id) {
            owned.condition = Some(noted(&message));
        }
        self.passed.status.conditions.insert(id.clone(), message);
        Ok(())
    }
}
