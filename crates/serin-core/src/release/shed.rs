//! A state that would not fit into its object throws away what is for people before it gives up what decides.

use crate::model::Routing;

use super::attempt::CheckResult;
use super::outcome::Outcome;
use super::report::WaitingOn;
use super::state::{Phase, State};

/// Largest state, in bytes of JSON. An object has 1.5 MiB in etcd, which spec, managed fields and Flagger's fields share.
const STATE_MAX: usize = 256 * 1024;
/// Bytes that JSON makes of one byte of text at most: a control character becomes `\u001b`.
const ESCAPED_MAX: usize = 6;
/// Bytes of an entry of a list beside its texts, at most: keys, ids, revisions and times.
const ENTRY_MAX: usize = 1024;
/// Journal entries and outcomes that are kept longest.
const KEPT: usize = 3;

/// What is thrown away, least missed first.
const STEPS: [fn(&mut State); 6] = [
    |state| state.outbox.iter_mut().for_each(forget_checks),
    |state| {
        let surplus = state.journal.len().saturating_sub(KEPT);
        state.journal.drain(..surplus);
    },
    |state| {
        if let Some(outcome) = &mut state.last_outcome {
            forget_checks(outcome);
        }
    },
    |state| {
        if let Phase::Releasing(release) = &mut state.phase {
            release.watch.checks.clear();
        }
    },
    |state| {
        let surplus = state.outbox.len().saturating_sub(KEPT);
        state.outbox.drain(..surplus);
        state.outbox_merged = state.outbox_merged.saturating_add(u64::try_from(surplus).unwrap_or(u64::MAX));
    },
    |state| state.waiting_on = None,
];

impl State {
    /// Throws away until it fits.
    pub(super) fn shed(&mut self) {
        for step in STEPS {
            if self.fits() {
                return;
            }
            step(self);
        }
    }

    fn fits(&self) -> bool {
        self.is_surely_small() || serde_json::to_vec(self).is_ok_and(|bytes| bytes.len() <= STATE_MAX)
    }

    /// Whether it fits beyond doubt. Every step asks, and nearly always this is enough: what may be long is counted and not
    /// written. One half is for that, the other for what is there once and has a bound of its own.
    fn is_surely_small(&self) -> bool {
        let release = self.release();
        let is_ruled = |routing: &Routing| !routing.rules.is_empty();
        let waits_ruled = matches!(&self.waiting_on, Some(WaitingOn::Route { wanted, .. }) if is_ruled(wanted));
        if waits_ruled || release.is_some_and(|release| is_ruled(&release.routing)) {
            return false;
        }
        let journal = self.journal.iter().map(|entry| entry.event.message.len());
        let outcomes = self.outbox.iter().chain(self.last_outcome.as_deref());
        let outcomes = outcomes.map(|outcome| {
            let cause = outcome.cause.as_ref().map_or(0, |cause| cause.message.len());
            outcome.checks.iter().map(long).fold(cause, usize::saturating_add)
        });
        let known = release.into_iter().flat_map(|release| &release.watch.checks);
        let known = known.map(|known| known.judged.name.len().saturating_add(known.judged.limit.len()));
        let others = self.quarantine.len().saturating_add(self.replaced.len());
        let entries = journal.chain(outcomes).chain(known).chain(std::iter::repeat_n(0, others));
        let bytes = entries.map(|text| text.saturating_mul(ESCAPED_MAX).saturating_add(ENTRY_MAX));
        bytes.fold(0, usize::saturating_add) <= STATE_MAX / 2
    }
}

/// A check's texts, and what stands beside them.
fn long(check: &CheckResult) -> usize {
    check.name.len().saturating_add(check.limit.len()).saturating_add(ENTRY_MAX)
}

fn forget_checks(outcome: &mut Outcome) {
    outcome.checks.clear();
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use crate::analysis::Verdict;
    use crate::model::{Digest, ReleaseId, Revision};
    use crate::release::attempt::CheckResult;
    use crate::release::outcome::OutcomeKind;
    use crate::release::report::Event;

    use super::*;

    #[test]
    fn what_decides_is_kept_however_many_checks_there_are() {
        let now = Timestamp::UNIX_EPOCH;
        let digest = Digest::of_canonical(b"x");
        let revision = Revision { digest: digest.clone(), commit: None };
        let check =
            CheckResult { name: "n".repeat(300), verdict: Verdict::Pass, value: Some(1.0), limit: "≥ 1".into() };
        let outcome = |number| Outcome {
            release: ReleaseId::new(number, &digest),
            kind: OutcomeKind::Failed,
            revision: revision.clone(),
            promoted: None,
            cause: None,
            started: now,
            ended: now,
            checks: vec![check.clone(); 1_000],
            overrode: None,
        };
        let mut state = State::new(now);
        state.outbox = (1..=20).map(outcome).collect();
        state.last_outcome = Some(Box::new(outcome(20)));
        for number in 0..30 {
            state.announce(Event::warning(format!("{number} {}", "x".repeat(3_000_000))), now);
        }
        state.shed();
        let size = serde_json::to_vec(&state).unwrap().len();
        assert!(size <= STATE_MAX, "{size}");
        assert_eq!(state.outbox.len(), 20, "every end is still told");
        assert_eq!(state.next_seq, 30);
    }
}
