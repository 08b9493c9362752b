//! A Canary that names another target begins anew: what is known is about the former one.

use jiff::Timestamp;

use crate::model::NamespacedName;
use crate::release::report::Event;
use crate::release::state::{Phase, State};

/// The state of a Canary whose target was `from` and is `to`, between releases. The former primary goes on serving until the
/// new one does; what was told to Git and to people goes on being counted.
pub fn retarget(mut state: State, canary: &NamespacedName, from: &str, to: &str, now: Timestamp) -> State {
    let was_served = match &state.phase {
        Phase::Initializing { .. } => state.promoted.is_some(),
        Phase::Idle { .. } | Phase::Releasing(_) | Phase::HandingBack(_) => true,
    };
    if was_served {
        state.announce(
            Event::warning(format!(
                "{}.{} is about {to} now and begins anew: {from}-primary serves until {to}-primary does, and goes then",
                canary.name, canary.namespace
            )),
            now,
        );
    }
    let State {
        quarantine, releases, journal, next_seq, outbox, outbox_merged, handled_request, recorded, ..
    } = state;
    State {
        quarantine,
        releases,
        journal,
        next_seq,
        outbox,
        outbox_merged,
        handled_request,
        recorded,
        ..State::new(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Digest, Revision};
    use crate::release::outcome::OutcomeKind;
    use crate::release::state::Promoted;

    #[test]
    fn what_was_promoted_elsewhere_is_forgotten_and_numbers_go_on() {
        let now = Timestamp::UNIX_EPOCH;
        let canary = NamespacedName::new("shop", "a");
        let digest: Digest = "v1:00000000000000000001".parse().unwrap();
        let mut state = State::new(now);
        state.phase = Phase::Idle { last: OutcomeKind::Succeeded, since: now };
        state.promoted = Some(Promoted { revision: Revision { digest: digest.clone(), commit: None }, at: now });
        state.last_applied = Some(digest);
        state.releases = 7;
        state.announce(Event::normal("before"), now);

        let anew = retarget(state, &canary, "old", "new", now);
        assert!(matches!(anew.phase, Phase::Initializing { .. }));
        assert!(anew.promoted.is_none() && anew.last_applied.is_none());
        assert_eq!((anew.releases, anew.next_seq, anew.journal.len()), (7, 2, 2));
        assert!(anew.journal[1].event.message.contains("old-primary serves until new-primary does"));

        let first = retarget(State::new(now), &canary, "typo", "new", now);
        assert!(first.journal.is_empty(), "nothing served by that name");
    }
}
