//! What commits drop from Git, and how much at once is taken for a mistake. PURE.
//!
//! A commit is judged once, by what Git had in the cluster *before* it: what the same or a later commit adds is no reason to
//! delete more. What is refused stays refused until it is back in Git or a person names the commit.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{Inventory, Owned, Presence, Removal, RemovalVerdict};
use crate::model::{CommitId, ObjectRef};

/// From how many owned objects on the half rule applies; smaller sets change by halves all the time.
const HALF_RULE_FROM: u32 = 10;

/// What Git has at a commit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) commit: &'a CommitId,
    /// Every object that it names, written or not.
    pub(super) named: &'a BTreeSet<ObjectRef>,
    /// Whether every document's object is known, so that what is absent is truly absent.
    pub(super) complete: bool,
    /// Commits whose removals a person has allowed.
    pub(super) allowed: &'a BTreeSet<CommitId>,
}

/// Brings the inventory's removals up to date with what Git names: before anything new is put into the inventory.
pub(super) fn update(inventory: &mut Inventory, wanted: Wanted<'_>) {
    let Wanted { commit, named, complete, allowed } = wanted;
    // What was never let in is forgotten with its name.
    inventory.objects.retain(|id, owned| named.contains(id) || owned.presence != Presence::Never);
    let owned_before = inventory.objects.values().filter(|owned| counts(owned)).count();
    let mut dropped_now = false;
    for (id, owned) in &mut inventory.objects {
        if named.contains(id) {
            owned.dropped = None;
        } else if owned.dropped.is_none() {
            owned.dropped = Some(commit.clone());
            dropped_now = true;
        }
    }
    if dropped_now {
        let owned = u32::try_from(owned_before).unwrap_or(u32::MAX);
        let new = Removal { owned, verdict: RemovalVerdict::Open };
        // More of the same commit is seen: one of its documents could not be read before.
        let removal = inventory.removals.entry(commit.clone()).or_insert(new);
        if removal.verdict == RemovalVerdict::Allowed && !allowed.contains(commit) {
            removal.verdict = RemovalVerdict::Open;
        }
    }
    // How many of each commit's are still there that were written.
    let mut left: BTreeMap<&CommitId, u32> = BTreeMap::new();
    for owned in inventory.objects.values() {
        if let Some(commit) = &owned.dropped {
            // Copies of configs go by the dozen when many configs change: that is no mistake.
            *left.entry(commit).or_default() += u32::from(owned.presence == Presence::Written && !owned.copy);
        }
    }
    inventory.removals.retain(|commit, _| left.contains_key(commit));
    for (commit, removal) in &mut inventory.removals {
        let gone = left.get(commit).copied().unwrap_or_default();
        removal.verdict = match removal.verdict {
            _ if allowed.contains(commit) => RemovalVerdict::Allowed,
            RemovalVerdict::Open if complete && named.is_empty() => RemovalVerdict::Refused,
            RemovalVerdict::Open if complete => judge(removal.owned, gone),
            decided @ (RemovalVerdict::Open | RemovalVerdict::Allowed | RemovalVerdict::Refused) => decided,
        };
    }
}

/// Forgets the removals of which nothing is left.
pub(super) fn trim(inventory: &mut Inventory) {
    let left: BTreeSet<&CommitId> =
        inventory.objects.values().filter_map(|owned| owned.dropped.as_ref()).collect();
    inventory.removals.retain(|commit, _| left.contains(commit));
}

/// Whether an object counts as one that Git had in the cluster.
fn counts(owned: &Owned) -> bool {
    owned.dropped.is_none() && owned.presence == Presence::Written && !owned.copy
}

fn judge(owned: u32, gone: u32) -> RemovalVerdict {
    let too_much = owned >= HALF_RULE_FROM && u64::from(gone) * 2 > u64::from(owned);
    if too_much { RemovalVerdict::Refused } else { RemovalVerdict::Allowed }
}

/// What a removal means for one object.
pub(super) fn verdict(inventory: &Inventory, owned: &Owned) -> RemovalVerdict {
    let removal = owned.dropped.as_ref().and_then(|commit| inventory.removals.get(commit));
    removal.map_or(RemovalVerdict::Open, |removal| removal.verdict)
}

/// How many objects are still there that a commit dropped.
pub(super) fn still_there(inventory: &Inventory, commit: &CommitId) -> usize {
    inventory.objects.values().filter(|owned| owned.dropped.as_ref() == Some(commit) && !owned.copy).count()
}

/// Why nothing of a removal is deleted, and what a person can do.
pub(super) fn refusal(commit: &CommitId, removal: &Removal, gone: usize) -> String {
    let (short, owned) = (commit.short(), removal.owned);
    format!(
        "commit {short} drops {gone} of {owned} objects from Git at once: none of them is deleted until they are back \
         or `serin prune --allow {short}` says that they may go"
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(name: &str) -> ObjectRef {
        let kind = "ConfigMap".to_owned();
        ObjectRef { group: String::new(), kind, namespace: Some("test".into()), name: name.to_owned() }
    }

    fn commit(number: usize) -> CommitId {
        format!("{number:040}").parse().unwrap()
    }

    /// An inventory through commits, each a set of names, as passes leave it that delete what they may.
    #[derive(Default)]
    struct Story {
        inventory: Inventory,
        number: usize,
        allowed: BTreeSet<CommitId>,
        deleted: Vec<ObjectRef>,
        unreadable: bool,
    }

    impl Story {
        fn sync(&mut self, names: impl IntoIterator<Item = String>) -> Vec<ObjectRef> {
            self.number += 1;
            self.again(names)
        }

        /// Another pass over the same commit.
        fn again(&mut self, names: impl IntoIterator<Item = String>) -> Vec<ObjectRef> {
            let named: BTreeSet<ObjectRef> = names.into_iter().map(|name| id(&name)).collect();
            let (commit, allowed) = (commit(self.number), self.allowed.clone());
            let complete = !self.unreadable;
            update(&mut self.inventory, Wanted { commit: &commit, named: &named, complete, allowed: &allowed });
            for id in named {
                let owned = self.inventory.objects.entry(id).or_default();
                owned.presence = Presence::Written;
            }
            let inventory = self.inventory.clone();
            let goes = |owned: &Owned| verdict(&inventory, owned) == RemovalVerdict::Allowed;
            let gone: Vec<ObjectRef> =
                inventory.objects.iter().filter(|(_, owned)| goes(owned)).map(|(id, _)| id.clone()).collect();
            if complete {
                self.inventory.objects.retain(|id, _| !gone.contains(id));
                self.deleted.extend(gone.iter().cloned());
            }
            if complete { gone } else { Vec::new() }
        }

        fn refused(&self) -> Vec<&CommitId> {
            let refused = self.inventory.removals.iter().filter(|(_, it)| it.verdict == RemovalVerdict::Refused);
            refused.map(|(commit, _)| commit).collect()
        }
    }

    fn names(prefix: &str, count: usize) -> Vec<String> {
        (0..count).map(|number| format!("{prefix}{number}")).collect()
    }

    fn both(a: &[String], b: &[String]) -> Vec<String> {
        a.iter().chain(b).cloned().collect()
    }

    #[test]
    fn half_is_allowed_more_is_not_and_small_sets_change_freely() {
        for (owned, left, refused) in
            [(10, 5, false), (10, 4, true), (9, 1, false), (12, 6, false), (12, 5, true), (3, 0, true)]
        {
            let mut story = Story::default();
            story.sync(names("a", owned));
            story.sync(names("a", left));
            assert_eq!(!story.refused().is_empty(), refused, "{left} of {owned} left");
            assert_eq!(story.deleted.len(), if refused { 0 } else { owned - left }, "{left} of {owned} left");
        }
    }

    #[test]
    fn what_comes_with_or_after_a_removal_does_not_dilute_it() {
        let mut story = Story::default();
        story.sync(names("old", 12));
        story.sync(names("new", 12));
        for added in 12..60 {
            story.sync(names("new", added));
        }
        assert_eq!(story.deleted, [], "one folder swapped for another");
        assert_eq!(story.refused(), [&commit(2)]);
        // Those that come back are taken up again, the others wait on.
        story.sync(both(&names("new", 60), &names("old", 10)));
        assert_eq!((story.deleted.len(), story.refused().len()), (0, 1));
        // An ordinary removal beside it goes its way.
        assert_eq!(story.sync(both(&names("new", 50), &names("old", 10))).len(), 10);
        story.allowed.insert(commit(2));
        assert_eq!(story.again(both(&names("new", 50), &names("old", 10))), [id("old10"), id("old11")]);
        assert_eq!(story.refused(), Vec::<&CommitId>::new());
    }

    #[test]
    fn a_commit_is_judged_by_what_was_there_before_it_even_when_it_cannot_be_read_at_first() {
        let mut story = Story::default();
        story.sync(names("old", 12));
        story.unreadable = true;
        story.sync(names("new", 12));
        assert_eq!((story.deleted.len(), story.refused().len()), (0, 0), "nobody knows what is gone");
        story.unreadable = false;
        story.sync(names("new", 13));
        assert_eq!((story.deleted.len(), story.refused()), (0, vec![&commit(2)]));
        // Another commit of the kind has to be named itself.
        story.sync(Vec::new());
        story.allowed.insert(commit(4));
        assert_eq!(story.again(Vec::new()).len(), 13);
        assert_eq!(story.refused(), [&commit(2)]);
    }

    #[test]
    fn what_was_never_in_the_cluster_counts_for_nothing() {
        let mut story = Story::default();
        story.sync(names("a", 12));
        for name in names("refused", 20) {
            let owned = Owned { presence: Presence::Never, ..Owned::default() };
            story.inventory.objects.insert(id(&name), owned);
        }
        let named: BTreeSet<ObjectRef> = names("a", 4).iter().map(|name| id(name)).collect();
        let (commit, allowed) = (commit(9), BTreeSet::new());
        update(&mut story.inventory, Wanted { commit: &commit, named: &named, complete: true, allowed: &allowed });
        assert_eq!(story.inventory.removals[&commit], Removal { owned: 12, verdict: RemovalVerdict::Refused });
    }

    proptest! {
        /// Over any history: no commit ever deletes more than half of ten or more that were owned before it, unless it was
        /// allowed; and what is wanted is never deleted.
        #[test]
        fn no_history_of_commits_dilutes_the_rule(
            history in prop::collection::vec((prop::collection::btree_set(0_usize..24, 0..24), prop::bool::weighted(0.2)), 1..12)
        ) {
            let mut story = Story::default();
            // Since when each object has been gone, and how many were owned before that commit.
            let mut gone: BTreeMap<ObjectRef, usize> = BTreeMap::new();
            let mut owned: BTreeSet<ObjectRef> = BTreeSet::new();
            let mut before: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
            for (number, (names, unreadable)) in history.into_iter().enumerate() {
                let names: BTreeSet<ObjectRef> = names.into_iter().map(|number| id(&format!("a{number}"))).collect();
                let dropped: Vec<ObjectRef> = owned.difference(&names).cloned().collect();
                before.insert(number + 1, (owned.len(), dropped.len()));
                for id in dropped {
                    gone.insert(id, number + 1);
                }
                gone.retain(|id, _| !names.contains(id));
                owned.clone_from(&names);
                story.unreadable = unreadable;
                let deleted = story.sync(names.iter().map(|id| id.name.clone()));
                for id in deleted {
                    prop_assert!(!names.contains(&id), "{id} is wanted");
                    let since = gone.remove(&id);
                    prop_assert!(since.is_some(), "{id} is not gone");
                    let (had, lost) = before[&since.unwrap_or_default()];
                    // While documents could not be read nothing was judged: what came back by then is not lost.
                    let still = gone.values().filter(|at| Some(**at) == since).count() + 1;
                    prop_assert!(had < 10 || lost * 2 <= had || still * 2 <= had, "{lost} of {had} at {since:?}");
                }
            }
        }
    }
}
