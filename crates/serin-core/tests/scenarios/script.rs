//! The words of a scenario file, and the transcript they produce.
//!
//! | line | meaning |
//! |---|---|
//! | `set interval=1m threshold=5 deadline=2m drain=5s hold=10 samples=10` | policy numbers |
//! | `steps 10 analyse 20 analyse pause:5m pause` | the policy's steps |
//! | `check NAME min=99 max=500 window=30s nodata=hold error=hold samples=10 few=fail as=LABEL` | a metric check; `window-of-its-own=1m` |
//! | `compare enforce rate=20 canary=0.5 primary=0.001 past=6h` | the comparison, and what the router counts; `advise`, `off` |
//! | `webhook NAME KIND LABEL` | a webhook; without a label `metric` and `hook` below know both by their names |
//! | `skip-analysis on`, `suspend on`, `promotion switch-stable`, `stamps off` | switches |
//! | `push v2`, `push-again v2`, `edit v2`, `delete target`, `delete canary`, `delete namespace` | Git, or somebody by hand |
//! | `rebuild v1 v2 v3` | the cluster is made anew, the record says that v1 was promoted last and that the others failed |
//! | `canary waiting WHY`, `canary stalled WHY`, `canary auto`; the same for `primary`; `serves 2` | pods |
//! | `metric NAME 69.17`, `metric NAME nodata WHY`, `metric NAME error WHY`, `metric NAME misconfigured WHY`, `metric NAME silent` | providers |
//! | `hook NAME ok`, `hook NAME fail WHY`, `hook NAME silent` | webhooks |
//! | `route 30`, `route missing`, `router off`, `sync off`, `copies off`, `blocked WHY`, `blocked`, `invalid WHY`, `unrecorded WHY` | the surroundings |
//! | `projected record=2-v2,rollback=1-v1`, `rollback 2-v2 made`, `… missing REASON WHY`, `… needless WHY`, `rebuilt WHY` | what Git's side tells |
//! | `promote SUBJECT` and `abort`, `retry`, `pause`, `resume`, `release`, `quarantine` | commands; `.` is the release under way |
//! | `steps 10 40+5 mirror:50 users:100 analyse pause:40s gate`; `set iterations=3 way-back=40,20 sticky=canary,primary` | the strategy |
//! | `window closed until=5m WHY`, `window closed WHY`, `window open` | the calendar; it opens by itself |
//! | `environment staging until=5m WHY`, `environment staging WHY`, `environment done` | another environment |
//! | `former old-primary` | there is a primary of a former target |
//! | `canary-service elsewhere` | it leads to the pods of a former target |
//! | `requests 120` | what the router has counted at the candidate since it was exposed as it is |
//! | `advance 60s`, `clock-back 120m`, `crash`, `lose actions`, `show` | time and fate |
//!
//! Changes joined by ` ; ` are seen at once.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serin_core::analysis::compare::Standing;
use serin_core::analysis::{Condition, Reading};
use serin_core::model::{NamespacedName, Projected, RollbackFate, RollbackNote, Routing, Rule, Split};
use serin_core::release::{
    Action, Check, CheckSource, CookieShape, Count, EventType, Hold, Hook, HookKind, OnMissing, PolicyStep,
    Promotion, Range, Readiness, RouteObserved, Side, Stickiness, Trouble, Updates, Verb,
};

use super::policies::add_hook;
use super::world::{Reaction, Round, World, digest, plain_policy, plan};

/// Names of revisions that scenarios use; digests are written by these names in transcripts.
const REVISIONS: [&str; 4] = ["v1", "v2", "v3", "v4"];

/// Runs a scenario; the transcript.
pub(crate) fn run(script: &str) -> String {
    let mut player = Player::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line.starts_with('#') {
            write_line(&mut player.transcript.text, line);
            continue;
        }
        write_line(&mut player.transcript.text, &format!("> {line}"));
        player.obey(line);
        assert!(player.world.broken.is_empty(), "after `{line}`: {}", player.world.complaints());
    }
    player.transcript.text
}

struct Player {
    world: World,
    transcript: Transcript,
    requests: usize,
}

struct Transcript {
    text: String,
    start: Timestamp,
    status: String,
    actions: Vec<String>,
}

impl Transcript {
    fn note(&mut self, round: &Round) {
        let seconds = round.now.duration_since(self.start).as_secs();
        let sign = if seconds < 0 { "-" } else { "" };
        let seconds = seconds.abs();
        let clock = format!("{sign}{:02}:{:02}", seconds / 60, seconds % 60);
        for event in &round.step.report.events {
            let kind = match event.kind {
                EventType::Normal => 'N',
                EventType::Warning => 'W',
            };
            write_line(&mut self.text, &format!("{clock}   {kind} {}", named(&event.message)));
        }
        let actions: Vec<String> = round.step.actions.iter().map(action_words).collect();
        for action in actions.iter().filter(|action| !self.actions.contains(action)) {
            write_line(&mut self.text, &format!("{clock}   do {action}"));
        }
        self.actions = actions;
        let state = &round.step.state;
        let waiting =
            round.step.report.waiting_on.as_ref().map_or("nothing".to_owned(), |on| named(&on.to_string()));
        let iterations = state.progress.map_or(0, |progress| progress.iterations);
        let iteration = if iterations > 0 { format!(" iteration {iterations}") } else { String::new() };
        let status = format!(
            "{} weight {}{iteration} failed {}, waiting for {waiting}",
            state.flagger_phase(),
            state.canary_weight(),
            state.failed_checks()
        );
        if status != self.status {
            write_line(&mut self.text, &format!("{clock}   = {status}"));
            self.status = status;
        }
    }
}

impl Player {
    fn new() -> Self {
        let world = World::new(plain_policy());
        let transcript =
            Transcript { text: String::new(), start: world.now, status: String::new(), actions: Vec::new() };
        Self { world, transcript, requests: 0 }
    }

    fn obey(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if self.set_up(word, rest) {
            return;
        }
        if let Some(verb) = verb(word) {
            let under_way = self.world.state.release().map(|release| release.id.to_string());
            let subject = match (rest, under_way) {
                (".", Some(id)) => id,
                (name, _) if REVISIONS.contains(&name) => digest(name).to_string(),
                (other, _) => other.to_owned(),
            };
            self.requests += 1;
            self.world.request(verb, &subject, self.requests);
        } else if word == "show" {
            self.show();
        } else if word == "advance" {
            self.world.advance(duration(rest), |round| self.transcript.note(round));
        } else if word == "clock-back" {
            self.world.set_back(duration(rest));
        } else {
            for change in line.split(" ; ") {
                let (word, rest) = change.split_once(' ').unwrap_or((change, ""));
                self.change(word, rest);
            }
        }
        self.world.settle(|round| self.transcript.note(round));
    }

    fn set_up(&mut self, word: &str, rest: &str) -> bool {
        let world = &mut self.world;
        let policy = &mut world.policy;
        world.history.edited = true;
        match word {
            "set" => {
                for (key, value) in pairs(rest) {
                    match key {
                        "interval" => {
                            (policy.interval, policy.watch.interval) = (duration(value), duration(value));
                        }
                        "threshold" => policy.watch.threshold = value.parse().unwrap(),
                        "deadline" => policy.progress_deadline = duration(value),
                        "drain" => policy.drain = duration(value),
                        "hold" => policy.watch.hold_limit = value.parse().unwrap(),
                        "iterations" => policy.iterations = value.parse().ok(),
                        "way-back" => policy.way_back = value.split(',').map(routing).collect(),
                        "sticky" => policy.stickiness = Some(stickiness(value)),
                        "samples" => policy.watch.min_samples = Some(value.parse().unwrap()),
                        other => panic!("unknown setting {other}"),
                    }
                }
            }
            "steps" => policy.steps = rest.split_whitespace().map(policy_step).collect(),
            "check" => policy.watch.checks.push(check(rest)),
            "compare" => compare(world, rest),
            "webhook" => add_hook(policy, hook(rest)),
            "promotion" => policy.promotion = Promotion::SwitchStable,
            "stamps" => world.stamps = rest == "on",
            _ => return false,
        }
        true
    }

    fn change(&mut self, word: &str, rest: &str) {
        let world = &mut self.world;
        let (first, tail) = rest.split_once(' ').unwrap_or((rest, ""));
        match (word, first) {
            ("push", name) => world.push(name),
            ("push-again", name) => world.push_again(name),
            ("primary-scaled", pods) => world.primary.as_mut().expect("a primary").scale(pods.parse().unwrap()),
            ("canary-scaled", pods) => world.scale_canary(pods.parse().unwrap()),
            ("canary-minimum", pods) => world.target.as_mut().expect("a target").minimum = pods.parse().unwrap(),
            ("lost", "primary") => world.primary.as_mut().expect("a primary").lose(),
            ("updates", how) => world.target.as_mut().expect("a target").updates = updates(how),
            ("size", replicas) => world.size = Some(replicas.parse().unwrap()),
            ("edit", name) => world.edit(name),
            ("rebuild", promoted) => world.rebuild(promoted, &tail.split_whitespace().collect::<Vec<_>>()),
            ("delete", "target") => world.target = None,
            ("delete", "canary") => world.deleting = true,
            ("delete", "namespace") => (world.deleting, world.with_namespace) = (true, true),
            ("invalid", _) => world.invalid = (!rest.is_empty()).then(|| rest.to_owned()),
            ("delete", "primary") => world.primary = None,
            ("edit-primary", name) => world.primary.as_mut().expect("a primary").template(&digest(name)),
            ("canary" | "primary", what) => {
                let told = match what {
                    "waiting" => Some(Readiness::Waiting(tail.to_owned())),
                    "stalled" => Some(Readiness::Stalled(tail.to_owned())),
                    "auto" => None,
                    other => panic!("unknown readiness {other}"),
                };
                if word == "primary" {
                    world.primary_told.clone_from(&told);
                }
                let side = if word == "canary" { &mut world.target } else { &mut world.primary };
                if let Some(side) = side {
                    side.keep();
                    (side.told, side.available) = (told, None);
                }
            }
            ("serves", pods) => {
                world.target.as_mut().expect("a target").available = Some(pods.parse().unwrap());
            }
            ("metric" | "hook", name) => {
                world.reactions.insert(name.to_owned(), reaction(tail));
            }
            ("route", "missing") => world.route = RouteObserved::Missing,
            ("route", weight) => {
                let routing = Routing::candidate_percent(weight.parse().unwrap());
                world.route = RouteObserved::Present { routing, current: true, unaccepted: None };
            }
            ("window", "open") => world.hold = None,
            ("window", _) => {
                let (until, reason) = match tail.split_once(' ') {
                    Some((until, reason)) if until.starts_with("until=") => (until.strip_prefix("until="), reason),
                    _ => (None, tail),
                };
                let until = until.map(|until| world.now.checked_add(duration(until)).unwrap());
                world.hold = Some(Hold::Window { reason: reason.to_owned(), until });
            }
            ("environment", "done") => world.hold = None,
            ("environment", name) => {
                let (until, reason) = match tail.split_once(' ') {
                    Some((until, reason)) if until.starts_with("until=") => (until.strip_prefix("until="), reason),
                    _ => (None, tail),
                };
                let until = until.map(|until| world.now.checked_add(duration(until)).unwrap());
                world.hold = Some(Hold::Environment { name: name.to_owned(), reason: reason.to_owned(), until });
            }
            ("requests", count) => world.requests = Some(count.parse().unwrap()),
            ("former", name) => world.former = Some(name.to_owned()),
            ("canary-service", _) => world.reachable = false,
            ("router", switch) => world.router_works = switch == "on",
            ("copies", switch) => world.copies_show = switch == "on",
            ("sync", switch) => world.sync_works = switch == "on",
            ("suspend", switch) => world.policy.suspended = switch == "on",
            ("skip-analysis", switch) => world.policy.skip_analysis = switch == "on",
            ("blocked", _) => world.blocked = (!rest.is_empty()).then(|| rest.to_owned()),
            ("unrecorded", _) => world.unrecorded = (!rest.is_empty()).then(|| rest.to_owned()),
            ("projected", _) => world.projected = Projected::from(full(rest).as_str()),
            ("rollback", release) => {
                let (what, words) = tail.split_once(' ').unwrap_or((tail, ""));
                let (reason, message) = words.split_once(' ').unwrap_or((words, ""));
                let fate = match what {
                    "made" => RollbackFate::Made { commit: "d8fa777".repeat(6)[..40].parse().unwrap() },
                    "missing" => RollbackFate::Missing { reason: reason.into(), message: message.into() },
                    "needless" => RollbackFate::Needless { message: words.into() },
                    other => panic!("unknown fate {other}"),
                };
                let release = full(release).parse().unwrap();
                world.rollback = Some(RollbackNote { release, branch: "main".into(), fate });
            }
            ("rebuilt", _) => world.rebuilt = Some(rest.to_owned()),
            ("crash", _) => world.crash(),
            ("lose", "actions") => world.dies_after_effects = Some(0),
            (word, _) => panic!("unknown line: {word} {rest}"),
        }
    }

    fn show(&mut self) {
        let Self { world, transcript, .. } = self;
        let text = &mut transcript.text;
        let side = |side: &Option<super::world::Workload>| match side {
            Some(side) => format!("{} x{}", named(side.digest.as_str()), side.replicas),
            None => "none".to_owned(),
        };
        write_line(text, &format!("        target {}, primary {}", side(&world.target), side(&world.primary)));
        if let Some(held) = world.state.held_minimum {
            write_line(text, &format!("        the target's minimum is held at {}, was {}", held.at, held.before));
        }
        let condition = world.state.promoted_condition();
        write_line(
            text,
            &format!("        Promoted={} {}: {}", condition.status, condition.reason, named(&condition.message)),
        );
        if let Some(Trouble { reason, message }) = world.state.git_trouble() {
            write_line(text, &format!("        Recorded=False {reason}: {message}"));
        }
        if let Some(rebuilt) = world.state.rebuilt_from_record() {
            write_line(text, &format!("        Rebuilt=True: {}", rebuilt.source));
        }
        for outcome in &world.state.outbox {
            let cause = outcome.cause.as_ref().map_or(String::new(), |cause| format!(": {}", cause.message));
            let revision = named(&outcome.revision.digest.to_string());
            let line = format!("        {} {revision} {:?}{cause}", outcome.release, outcome.kind);
            write_line(text, &named(&line));
        }
        for check in world.state.last_outcome.iter().flat_map(|outcome| &outcome.checks) {
            let value = check.value.map_or("-".to_owned(), |value| value.to_string());
            write_line(text, &format!("        {} {value}, limit {}: {}", check.name, check.limit, check.verdict));
        }
    }
}

fn write_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// The opposite of [`named`]: `2-v2` becomes a release's id.
fn full(text: &str) -> String {
    REVISIONS.iter().fold(text.to_owned(), |text, name| text.replace(name, digest(name).short()))
}

fn named(text: &str) -> String {
    let mut text = text.to_owned();
    for name in REVISIONS {
        text = text.replace(digest(name).as_str(), name).replace(digest(name).short(), name);
    }
    text.replace("2026-01-01T", "")
}

fn action_words(action: &Action) -> String {
    match action {
        Action::CreatePrimary { expect, .. } => format!("CreatePrimary {}", named(expect.as_str())),
        Action::EnsurePrimaryAutoscaler { floor: 0 } => "EnsurePrimaryAutoscaler".to_owned(),
        Action::EnsurePrimaryAutoscaler { floor } => format!("EnsurePrimaryAutoscaler, at least {floor}"),
        Action::HoldTarget { minimum } => format!("HoldTarget at {minimum}"),
        Action::EnsureServices { apex: Side::Stable } => "EnsureServices".to_owned(),
        Action::EnsureServices { apex: Side::Candidate } => "EnsureServices, in front of the candidate".to_owned(),
        Action::Route(routing) => format!("Route {routing}"),
        Action::Scale { side: Side::Candidate, replicas } => format!("Scale candidate to {replicas}"),
        Action::Scale { side: Side::Stable, replicas } => format!("Scale stable to {replicas}"),
        Action::ReturnTemplate { expect } => format!("ReturnTemplate {}", named(expect.digest.as_str())),
        Action::DropFormer { workload } => format!("DropFormer {workload}"),
        Action::ReachTarget => "ReachTarget".to_owned(),
        Action::LeadBack => "LeadBack".to_owned(),
        Action::Leave => "Leave".to_owned(),
        Action::LetGo => "LetGo".to_owned(),
        Action::StoreLastGood { expect } => format!("StoreLastGood {}", named(expect.as_str())),
        Action::CopyToPrimary { expect } => format!("CopyToPrimary {}", named(expect.digest.as_str())),
        Action::RestorePrimary { expect } => format!("RestorePrimary {}", named(expect.as_str())),
        Action::SwitchStable { expect } => format!("SwitchStable {}", named(expect.digest.as_str())),
    }
}

fn verb(word: &str) -> Option<Verb> {
    Some(match word {
        "promote" => Verb::Promote,
        "abort" => Verb::Abort,
        "retry" => Verb::Retry,
        "pause" => Verb::Pause,
        "resume" => Verb::Resume,
        "release" => Verb::Release,
        "quarantine" => Verb::Quarantine,
        _ => return None,
    })
}

fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split_whitespace().map(|pair| pair.split_once('=').expect("key=value"))
}

fn duration(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.len() - 1);
    let number: u64 = number.parse().unwrap();
    match unit {
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number * 60),
        "h" => Duration::from_secs(number * 3600),
        other => panic!("unknown unit {other}"),
    }
}

/// `recreate`, or how many percent may be missing.
fn updates(how: &str) -> Updates {
    match how {
        "recreate" => Updates::Recreate,
        percent => {
            Updates::Rolling { missing: Count::Percent(percent.parse().unwrap()), surge: Count::Percent(25) }
        }
    }
}

/// `10`, `10+5`, `mirror:100` or `users:100`: a share of all, one beside a third backend, of copies, or of users with a header.
fn routing(word: &str) -> Routing {
    if let Some((candidate, extra)) = word.split_once('+') {
        let split = Split::candidate_percent(candidate.parse().unwrap());
        return Routing::all(split.with_extra("experiment", extra.parse().unwrap()));
    }
    match word.split_once(':') {
        Some(("mirror", percent)) => Routing::all(Split::default().mirrored(percent.parse().unwrap())),
        Some(("users", percent)) => {
            let when = vec![serde_json::json!({"headers": {"x-canary": {"exact": "insider"}}})];
            let split = Split::candidate_percent(percent.parse().unwrap());
            Routing { rules: vec![Rule { name: "podinfo-match".into(), when, split }], ..Routing::default() }
        }
        _ => Routing::candidate_percent(word.parse().unwrap()),
    }
}

/// `canary` or `canary,primary`: names of cookies.
fn stickiness(names: &str) -> Stickiness {
    let shape = |name: &str| CookieShape { name: name.to_owned(), max_age: 60, attributes: String::new() };
    let (candidate, stable) = names.split_once(',').map_or((names, None), |(one, other)| (one, Some(other)));
    Stickiness { candidate: shape(candidate), stable: stable.map(shape) }
}

fn policy_step(word: &str) -> PolicyStep {
    match word.split_once(':') {
        Some(("pause", time)) => PolicyStep::Pause(Some(duration(time))),
        None if word == "pause" => PolicyStep::Pause(None),
        None if word == "analyse" => PolicyStep::Analyse,
        None if word == "gate" => PolicyStep::Gate,
        _ => PolicyStep::Route(routing(word)),
    }
}

fn check(text: &str) -> Check {
    let (name, rest) = text.split_once(' ').unwrap();
    let source = match name {
        "request-success-rate" => CheckSource::SuccessRate,
        "request-duration" => CheckSource::Duration,
        other => template(other),
    };
    let mut check = Check {
        name: name.to_owned(),
        source,
        condition: Condition::Range(Range::default()),
        window: Duration::from_secs(60),
        own_window: false,
        patience: Duration::from_secs(30),
        on_no_data: OnMissing::Fail,
        on_error: OnMissing::Fail,
        min_samples: 0,
        on_few: OnMissing::Hold,
    };
    let mut range = Range::default();
    let missing = |value: &str| match value {
        "hold" => OnMissing::Hold,
        "fail" => OnMissing::Fail,
        "pass" => OnMissing::Pass,
        other => panic!("unknown policy {other}"),
    };
    for (key, value) in pairs(rest) {
        match key {
            "min" => range.min = Some(value.parse().unwrap()),
            "max" => range.max = Some(value.parse().unwrap()),
            "window" => check.window = duration(value),
            "window-of-its-own" => (check.window, check.own_window) = (duration(value), true),
            "nodata" => check.on_no_data = missing(value),
            "error" => check.on_error = missing(value),
            "samples" => check.min_samples = value.parse().unwrap(),
            "few" => check.on_few = missing(value),
            "as" => check.source = template(value),
            other => panic!("unknown key {other}"),
        }
    }
    check.condition = Condition::Range(range);
    check
}

fn compare(world: &mut World, text: &str) {
    let (mode, rest) = text.split_once(' ').unwrap_or((text, ""));
    world.policy.comparison = match mode {
        "off" => None,
        "advise" => Some(plan(Standing::Advises)),
        "enforce" => Some(plan(Standing::Enforces)),
        other => panic!("unknown mode {other}"),
    };
    let counters = &mut world.counters;
    for (key, value) in pairs(rest) {
        match key {
            "rate" => counters.rate = value.parse().unwrap(),
            "canary" => counters.canary = value.parse().unwrap(),
            "primary" => counters.primary = value.parse().unwrap(),
            "past" => counters.past = duration(value).as_secs(),
            other => panic!("unknown key {other}"),
        }
    }
}

fn template(label: &str) -> CheckSource {
    CheckSource::Template { template: NamespacedName::new("istio-system", label), variables: BTreeMap::new() }
}

fn hook(text: &str) -> Hook {
    let (name, kind) = text.split_once(' ').unwrap();
    let (kind, label) = kind.split_once(' ').unwrap_or((kind, name));
    let kinds = [
        HookKind::ConfirmRollout,
        HookKind::PreRollout,
        HookKind::Rollout,
        HookKind::ConfirmTrafficIncrease,
        HookKind::ConfirmPromotion,
        HookKind::PostRollout,
        HookKind::Rollback,
    ];
    Hook {
        name: name.to_owned(),
        kind: kinds.into_iter().find(|known| known.as_str() == kind).expect("a hook kind"),
        url: format!("http://flagger-loadtester.test/{label}"),
        timeout: Duration::from_secs(10),
        retries: 0,
        disable_tls: false,
        metadata: BTreeMap::new(),
    }
}

fn reaction(text: &str) -> Reaction {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    match word {
        "silent" => Reaction::Silent,
        "ok" => Reaction::Accepts,
        "fail" => Reaction::Refuses(rest.to_owned()),
        "nodata" => Reaction::Reads(Reading::NoData { reason: rest.to_owned() }),
        "error" => Reaction::Reads(Reading::Error { reason: rest.to_owned() }),
        "several" => Reaction::Reads(Reading::Several { reason: rest.to_owned() }),
        "misconfigured" => Reaction::Reads(Reading::Misconfigured { reason: rest.to_owned() }),
        value => Reaction::Reads(Reading::Value { value: value.parse().unwrap() }),
    }
}
