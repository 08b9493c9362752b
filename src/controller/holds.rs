//! What keeps the release of a new revision from beginning, whoever is ready for it: other environments, and the calendar. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::observe::Look;
use super::policy::windows;
use super::settings::ControllerSettings;
use crate::api::duration::{self, DurationError};
use crate::api::{EnvironmentSeen, PromotedSeen, WaitFor, WaitMatch};
use crate::calendar::{Standing, Window, standing};
use crate::model::{NamespacedName, Revision};
use crate::release::Hold;

/// What is to be released.
#[derive(Debug, Clone, Copy)]
struct Wanted<'a> {
    revision: &'a Revision,
    images: &'a [String],
}

/// What the daemon and the Canary say. One whose windows or times cannot be read has no others; that it cannot blocks it.
pub(super) fn hold(settings: &ControllerSettings, look: &Look<'_>, now: Timestamp) -> Option<Hold> {
    let (canary, spec) = (look.canary, look.spec);
    let awaited = settings.wait_for.iter().chain(&spec.wait_for);
    let target = look.target();
    let held = target.as_ref().and_then(|target| {
        let live = Revision { digest: target.digest.clone(), commit: None };
        let stamped = target.revision.as_ref().filter(|stamped| stamped.digest == target.digest);
        let wanted = Wanted { revision: stamped.unwrap_or(&live), images: &target.images };
        let mut awaited = awaited;
        awaited.find_map(|want| environment(want, &canary.key, &canary.environments, wanted, now))
    });
    held.or_else(|| calendar(&[&settings.windows, &windows(spec).unwrap_or_default()], now))
}

/// No release window is open.
pub(super) fn calendar(lists: &[&[Window]], now: Timestamp) -> Option<Hold> {
    match standing(lists, now) {
        Standing::Open => None,
        Standing::Closed { reason, until } => Some(Hold::Window { reason, until }),
    }
}

/// How long each is to have run elsewhere; the index of the first that says no time.
pub(super) fn bakes(awaited: &[WaitFor]) -> Result<Vec<Duration>, (usize, DurationError)> {
    let bake = |(index, want): (usize, &WaitFor)| bake(want).map_err(|error| (index, error));
    awaited.iter().enumerate().map(bake).collect()
}

fn bake(want: &WaitFor) -> Result<Duration, DurationError> {
    duration::or_default(want.bake.as_deref(), Duration::ZERO, Duration::ZERO)
}

/// What is missing in one environment.
fn environment(
    want: &WaitFor,
    here: &NamespacedName,
    seen: &[EnvironmentSeen],
    wanted: Wanted<'_>,
    now: Timestamp,
) -> Option<Hold> {
    let hold = |reason: String, until| Some(Hold::Environment { name: want.environment.clone(), reason, until });
    let there = want.there(here);
    let seen = seen.iter().find(|seen| seen.environment == want.environment && seen.canary == there);
    let Some(seen) = seen else { return hold(format!("its record of {there} has not been looked at yet"), None) };
    if let Some(problem) = &seen.problem {
        return hold(problem.clone(), None);
    }
    let Ok(bake) = bake(want) else { return hold("its bake time cannot be read".to_owned(), None) };
    let what = named(want.match_, wanted.revision, wanted.images);
    let same: Vec<&PromotedSeen> = seen.promoted.iter().filter(|it| is_same(want.match_, it, wanted)).collect();
    let baked = |it: &PromotedSeen| it.since.checked_add(bake).unwrap_or(Timestamp::MAX);
    if same.iter().any(|it| it.until.unwrap_or(now) >= baked(it)) {
        return None;
    }
    match (same.last(), seen.promoted.last()) {
        (Some(it), _) => match it.until {
            None => {
                let reason =
                    format!("{there} has run {what} since {:.0}, and bakes for {}", it.since, words(bake));
                hold(reason, Some(baked(it)))
            }
            Some(until) => {
                let ran = words(until.duration_since(it.since).unsigned_abs());
                hold(format!("{there} ran {what} for {ran}, and not for {}", words(bake)), None)
            }
        },
        (None, Some(other)) => {
            let other = named(want.match_, &other.revision, &other.images);
            hold(format!("{there} runs {other}, not {what}"), None)
        }
        (None, None) => hold(format!("{there} has promoted nothing yet"), None),
    }
}

fn is_same(by: WaitMatch, seen: &PromotedSeen, wanted: Wanted<'_>) -> bool {
    match by {
        WaitMatch::Images => !wanted.images.is_empty() && seen.images == wanted.images,
        WaitMatch::Commit => wanted.revision.commit.is_some() && seen.revision.commit == wanted.revision.commit,
        WaitMatch::Digest => seen.revision.digest == wanted.revision.digest,
    }
}

/// What is compared, in words.
fn named(by: WaitMatch, revision: &Revision, images: &[String]) -> String {
    match by {
        WaitMatch::Images if images.is_empty() => "no image".to_owned(),
        WaitMatch::Images => images.join(", "),
        WaitMatch::Commit => revision
            .commit
            .as_ref()
            .map_or_else(|| "no commit".to_owned(), |commit| format!("commit {}", commit.short())),
        WaitMatch::Digest => format!("revision {}", revision.digest.short()),
    }
}

/// `24h`, `90m`, `30s`.
fn words(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        _ if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        60..3600 => format!("{}m", seconds / 60),
        _ => format!("{}h{}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + minute * 60).unwrap()
    }

    fn revision(hex: char) -> Revision {
        format!("v1:{}@{}", hex.to_string().repeat(20), hex.to_string().repeat(40)).parse().unwrap()
    }

    fn promoted(hex: char, image: &str, since: i64, until: Option<i64>) -> PromotedSeen {
        PromotedSeen {
            revision: revision(hex),
            images: vec![image.into()],
            since: at(since),
            until: until.map(at),
        }
    }

    fn asked(match_: WaitMatch, bake: Option<&str>) -> WaitFor {
        WaitFor { environment: "staging".into(), bake: bake.map(str::to_owned), match_, canary: None }
    }

    /// What is missing of revision `b` with image `app:2`, in words and minutes.
    fn missing(
        want: &WaitFor,
        promoted: &[PromotedSeen],
        problem: Option<&str>,
        now: i64,
    ) -> Option<(String, Option<i64>)> {
        let here = NamespacedName::new("test", "app");
        let seen = EnvironmentSeen {
            environment: "staging".into(),
            canary: here.clone(),
            problem: problem.map(str::to_owned),
            promoted: promoted.to_vec(),
        };
        let (revision, images) = (revision('b'), vec!["app:2".to_owned()]);
        let wanted = Wanted { revision: &revision, images: &images };
        match environment(want, &here, &[seen], wanted, at(now))? {
            Hold::Environment { name, reason, until } => {
                assert_eq!(name, "staging");
                Some((reason, until.map(|until| until.duration_since(at(0)).as_secs() / 60)))
            }
            Hold::Window { .. } => unreachable!("there is no calendar"),
        }
    }

    #[test]
    fn a_revision_waits_until_the_other_environment_has_baked_the_same_images() {
        let want = asked(WaitMatch::Images, Some("1h"));
        let told = |reason: &str, until| Some((reason.to_owned(), until));
        assert_eq!(missing(&want, &[], None, 0), told("test/app has promoted nothing yet", None));
        let older = promoted('a', "app:1", 0, None);
        assert_eq!(missing(&want, &[older], None, 5), told("test/app runs app:1, not app:2", None));
        let older = promoted('a', "app:1", 0, Some(10));
        // Another digest: overlays differ in the rest.
        let same = promoted('c', "app:2", 10, None);
        let bakes = "test/app has run app:2 since 2026-01-01T00:10:00Z, and bakes for 1h";
        assert_eq!(missing(&want, &[older.clone(), same.clone()], None, 69), told(bakes, Some(70)));
        assert_eq!(missing(&want, &[older, same], None, 70), None);
    }

    #[test]
    fn what_was_replaced_there_counts_if_it_had_baked() {
        let want = asked(WaitMatch::Images, Some("1h"));
        let newer = promoted('d', "app:3", 100, None);
        let long = promoted('c', "app:2", 10, Some(100));
        assert_eq!(missing(&want, &[long, newer.clone()], None, 500), None);
        let short = promoted('c', "app:2", 70, Some(100));
        let ran = "test/app ran app:2 for 30m, and not for 1h".to_owned();
        assert_eq!(missing(&want, &[short, newer], None, 500), Some((ran, None)));
    }

    #[test]
    fn what_cannot_be_believed_counts_for_nothing() {
        let want = asked(WaitMatch::Images, None);
        let same = promoted('b', "app:2", 0, None);
        assert_eq!(missing(&want, std::slice::from_ref(&same), None, 0), None, "no bake time");
        let problem = Some(("its record is not signed".to_owned(), None));
        assert_eq!(missing(&want, &[same], Some("its record is not signed"), 500), problem);
        let other = WaitFor { canary: Some("other/app".into()), ..want };
        let unseen = missing(&other, &[promoted('b', "app:2", 0, None)], None, 500).unwrap().0;
        assert_eq!(unseen, "its record of other/app has not been looked at yet");
    }

    #[test]
    fn commits_and_digests_can_be_what_has_to_be_the_same() {
        let other_image = promoted('b', "app:9", 0, None);
        for by in [WaitMatch::Commit, WaitMatch::Digest] {
            assert_eq!(missing(&asked(by, None), std::slice::from_ref(&other_image), None, 1), None);
            assert!(missing(&asked(by, None), &[promoted('c', "app:2", 0, None)], None, 1).is_some());
        }
    }

    #[test]
    fn a_bake_time_that_is_none_is_named_by_its_place() {
        let wants = [asked(WaitMatch::Images, None), asked(WaitMatch::Images, Some("soon"))];
        assert_eq!(bakes(&wants).unwrap_err().0, 1);
        assert_eq!(bakes(&wants[..1]), Ok(vec![Duration::ZERO]));
    }
}
