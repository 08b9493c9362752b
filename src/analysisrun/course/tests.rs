//! Runs played against scripted answers; each story is played twice, once with a new process after every look.

use std::collections::HashSet;

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::super::Language;
use super::*;

const START: &str = "2026-01-01T00:00:00Z";
/// Longest story.
const LOOKS_MAX: usize = 400;

/// What a metric answers, slot by slot; the last one goes on.
type Script = BTreeMap<&'static str, Vec<Value>>;

struct Outside {
    script: Script,
    taken: HashMap<(String, u32), Taken>,
    begun: HashSet<(String, u32)>,
    /// How often each slot was asked.
    asked: BTreeMap<(String, u32), u32>,
}

impl Given for Outside {
    fn taken(&self, metric: &str, slot: u32) -> Option<&Taken> {
        self.taken.get(&(metric.to_owned(), slot))
    }

    fn asking_since(&self) -> Timestamp {
        START.parse().unwrap()
    }

    fn has_begun(&self, metric: &str, slot: u32) -> bool {
        self.begun.contains(&(metric.to_owned(), slot))
    }
}

impl Outside {
    fn answer(&mut self, plan: &Plan, slots: &[Slot], now: Timestamp) {
        for slot in slots {
            let planned = &plan.metrics[slot.metric];
            let key = (planned.name.clone(), slot.number);
            *self.asked.entry(key.clone()).or_default() += 1;
            self.begun.insert(key.clone());
            let answers = &self.script[planned.name.as_str()];
            let answer = answers.get(slot.number as usize).or(answers.last()).unwrap().clone();
            let reading = match &answer {
                Value::String(error) => Reading::Error { reason: error.clone() },
                Value::Array(items) => {
                    Reading::List { values: items.iter().map(|it| it.as_f64().unwrap()).collect() }
                }
                other => Reading::Json { value: other.clone() },
            };
            let value = Some(answer.to_string());
            let taken = Taken { reading, value, message: None, metadata: BTreeMap::new(), started: now };
            self.taken.insert(key, taken);
        }
    }
}

struct Story {
    spec: Value,
    script: Script,
    /// A new process after every look.
    crashes: bool,
    /// After how many looks somebody ends it.
    terminate: Option<usize>,
}

impl Story {
    fn new(metrics: Value, script: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        let script =
            script.into_iter().map(|(name, answers)| (name, answers.as_array().unwrap().clone())).collect();
        Self { spec: json!({"metrics": metrics}), script, crashes: false, terminate: None }
    }

    fn play(&self) -> (AnalysisRunStatus, Outside, Timestamp) {
        let mut now: Timestamp = START.parse().unwrap();
        let plan = Plan::of(&self.spec, &Language::at(now)).unwrap();
        let fresh = || (HashMap::new(), HashSet::new());
        let mut outside = Outside {
            script: self.script.clone(),
            taken: HashMap::new(),
            begun: HashSet::new(),
            asked: BTreeMap::new(),
        };
        let mut status = AnalysisRunStatus::default();
        for look in 0..LOOKS_MAX {
            let terminate = self.terminate.is_some_and(|at| look >= at);
            let next = advance(Look { plan: &plan, status: &status, terminate, given: &outside, now });
            // As it is stored and read again.
            status = serde_json::from_value(serde_json::to_value(&next.status).unwrap()).unwrap();
            if status.phase.is_over() {
                return (status, outside, now);
            }
            if self.crashes && look % 2 == 1 {
                // What was answered is lost before it was judged.
                (outside.taken, outside.begun) = fresh();
                continue;
            }
            outside.answer(&plan, &next.asks, now);
            if next.asks.is_empty() {
                now = next.wake.expect("a run that is not over is waited for");
            }
        }
        panic!("the run does not end: {status:#?}");
    }

    /// Both ways; what was measured and what came of it is the same.
    fn outcome(self) -> (String, Option<String>, AnalysisRunStatus) {
        let (status, ..) = self.play();
        let (again, ..) = Self { crashes: true, ..self }.play();
        let counts = |status: &AnalysisRunStatus| {
            let of =
                |it: &MetricResult| (it.name.clone(), it.phase, it.count, it.failed, it.error, it.inconclusive);
            (status.phase, status.message.clone(), status.metric_results.iter().map(of).collect::<Vec<_>>())
        };
        assert_eq!(counts(&status), counts(&again), "a crash changes nothing");
        (status.phase.to_string(), status.message.clone(), status)
    }
}

fn prometheus(name: &str, change: Value) -> Value {
    let mut metric = json!({
        "name": name, "interval": "20s", "successCondition": "result[0] > 0.90",
        "provider": {"prometheus": {"address": "http://p", "query": "up"}},
    });
    metric.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    metric
}

fn seconds_between(status: &AnalysisRunStatus) -> i64 {
    status.completed_at.unwrap().duration_since(status.started_at.unwrap()).as_secs()
}

#[test]
fn a_count_of_measurements_that_pass() {
    let story = Story::new(json!([prometheus("rate", json!({"count": 3}))]), [("rate", json!([[0.95]]))]);
    let (phase, message, status) = story.outcome();
    assert_eq!((phase.as_str(), message), ("Successful", None));
    assert_eq!(seconds_between(&status), 40);
    let result = &status.metric_results[0];
    assert_eq!((result.count, result.successful, result.consecutive_success), (3, 3, 3));
    assert_eq!(result.measurements[0].value.as_deref(), Some("[0.95]"));
    assert_eq!(status.run_summary, Some(RunSummary { count: 1, successful: 1, ..RunSummary::default() }));
    assert_eq!(status.dry_run_summary, Some(RunSummary::default()));
}

#[test]
fn the_seeds_metric_fails_at_once_and_says_value_and_limit() {
    let metric = prometheus("success-rate", json!({"initialDelay": "60s"}));
    let (phase, message, status) = Story::new(json!([metric]), [("success-rate", json!([[0.5]]))]).outcome();
    assert_eq!(phase, "Failed");
    assert_eq!(
        message.as_deref(),
        Some("Metric \"success-rate\" assessed Failed due to failed (1) > failureLimit (0)")
    );
    assert_eq!(seconds_between(&status), 60);
}

#[test]
fn a_query_that_selects_nothing_is_no_failure_of_the_version() {
    let metric = prometheus("success-rate", json!({"initialDelay": "60s"}));
    let (phase, message, status) = Story::new(json!([metric]), [("success-rate", json!([[]]))]).outcome();
    assert_eq!(phase, "Error");
    let message = message.unwrap();
    assert!(message.starts_with("Metric \"success-rate\" assessed Error due to consecutiveErrors (5) > consecutiveErrorLimit (4): \"Error Message: could not evaluate successCondition \"result[0] > 0.90\": metric result is nil or empty"), "{message}");
    assert_eq!(seconds_between(&status), 100, "60 s, and 10 s after each error");
    assert_eq!(status.metric_results[0].measurements.len(), 5);
}

#[test]
fn errors_in_between_are_waited_out() {
    let metric = prometheus("rate", json!({"count": 2, "failureLimit": 1}));
    let script = json!(["refused", "refused", [0.95], "refused", [0.5]]);
    let (phase, _, status) = Story::new(json!([metric]), [("rate", script)]).outcome();
    assert_eq!(phase, "Successful");
    let result = &status.metric_results[0];
    assert_eq!((result.count, result.error, result.failed, result.consecutive_error), (2, 3, 1, 0));
    assert_eq!(result.measurements[0].message.as_deref(), Some("refused"));
}

#[test]
fn both_conditions_and_neither_holds() {
    let metric =
        prometheus("rate", json!({"failureCondition": "result[0] < 0.5", "count": 3, "inconclusiveLimit": 1}));
    let (phase, message, _) = Story::new(json!([metric]), [("rate", json!([[0.7]]))]).outcome();
    assert_eq!(phase, "Inconclusive");
    let said = "Metric \"rate\" assessed Inconclusive due to inconclusive (2) > inconclusiveLimit (1)";
    assert_eq!(message.as_deref(), Some(said));
}

#[test]
fn successes_in_a_row_end_a_metric_and_too_few_of_them_say_nothing() {
    let metric = |change: Value| json!([prometheus("rate", change)]);
    let early = metric(json!({"consecutiveSuccessLimit": 2, "failureLimit": 5}));
    let (phase, _, status) = Story::new(early, [("rate", json!([[0.1], [0.95], [0.95]]))]).outcome();
    assert_eq!((phase.as_str(), status.metric_results[0].count), ("Successful", 3));
    let few = metric(json!({"consecutiveSuccessLimit": 2, "failureLimit": 2, "count": 4}));
    let (phase, ..) = Story::new(few, [("rate", json!([[0.95], [0.1], [0.95], [0.1]]))]).outcome();
    assert_eq!(phase, "Inconclusive");
    let only = metric(json!({"consecutiveSuccessLimit": 2, "failureLimit": -1, "count": 2}));
    let (phase, ..) = Story::new(only, [("rate", json!([[0.1], [0.95]]))]).outcome();
    assert_eq!(phase, "Failed");
}

#[test]
fn a_metric_that_only_tries_ends_nothing_and_is_counted_apart() {
    let metrics = json!([prometheus("rate", json!({"count": 2})), prometheus("trial", json!({"count": 2}))]);
    let mut story = Story::new(metrics, [("rate", json!([[0.95]])), ("trial", json!([[0.1]]))]);
    story.spec["dryRun"] = json!([{"metricName": "trial"}]);
    let (phase, message, status) = story.outcome();
    assert_eq!((phase.as_str(), message), ("Successful", None));
    assert_eq!(status.run_summary.unwrap().count, 1);
    assert_eq!(status.dry_run_summary, Some(RunSummary { count: 1, failed: 1, ..RunSummary::default() }));
    let trial = status.metric_results.iter().find(|result| result.name == "trial").unwrap();
    let said = "Metric assessed Failed due to failed (1) > failureLimit (0)";
    assert_eq!((trial.dry_run, trial.message.as_deref()), (true, Some(said)));
}

#[test]
fn the_worst_metric_ends_the_others() {
    let metrics = json!([prometheus("endless", json!({})), prometheus("bad", json!({"initialDelay": "30s"}))]);
    let (phase, message, status) =
        Story::new(metrics, [("endless", json!([[0.95]])), ("bad", json!([[0.1]]))]).outcome();
    assert_eq!(phase, "Failed");
    assert!(message.unwrap().starts_with("Metric \"bad\" assessed Failed"));
    assert_eq!(status.metric_results[0].phase, RunPhase::Successful);
    assert_eq!(
        status.run_summary,
        Some(RunSummary { count: 2, successful: 1, failed: 1, ..RunSummary::default() })
    );
}

#[test]
fn who_ends_a_run_gets_what_was_good_so_far() {
    let story = Story::new(json!([prometheus("rate", json!({}))]), [("rate", json!([[0.95]]))]);
    let (status, ..) = Story { terminate: Some(5), ..story }.play();
    assert_eq!((status.phase, status.message.as_deref()), (RunPhase::Successful, Some("Run Terminated")));
    let nothing =
        Story::new(json!([prometheus("rate", json!({"initialDelay": "1h"}))]), [("rate", json!([[0.95]]))]);
    let (status, ..) = Story { terminate: Some(1), ..nothing }.play();
    assert_eq!((status.phase, status.metric_results.len()), (RunPhase::Successful, 0));
}

#[test]
fn only_the_last_measurements_are_kept_and_all_count() {
    let metric = prometheus("rate", json!({"count": 30}));
    let mut story = Story::new(json!([metric]), [("rate", json!([[0.95]]))]);
    story.spec["measurementRetention"] = json!([{"metricName": "rate", "limit": 2}]);
    let (_, _, status) = story.outcome();
    assert_eq!((status.metric_results[0].count, status.metric_results[0].measurements.len()), (30, 2));
}

fn post() -> Value {
    json!([{
        "name": "check", "count": 3, "interval": "20s", "successCondition": "result.ok", "failureLimit": 0,
        "provider": {"web": {"url": "http://x", "method": "POST", "jsonBody": {"a": 1}}},
    }])
}

#[test]
fn what_may_be_made_once_is_never_made_twice_for_a_slot() {
    let story = Story::new(post(), [("check", json!([{"ok": true}]))]);
    let (status, outside, _) = story.play();
    assert_eq!((status.phase, status.metric_results[0].count), (RunPhase::Successful, 3));
    assert!(outside.asked.values().all(|asked| *asked == 1));

    // The process dies after each second look: what was under way then nobody knows.
    let (status, outside, _) =
        Story { crashes: true, ..Story::new(post(), [("check", json!([{"ok": true}]))]) }.play();
    assert!(outside.asked.values().all(|asked| *asked == 1), "{:?}", outside.asked);
    let result = &status.metric_results[0];
    assert!(result.error > 0 && status.phase != RunPhase::Failed, "{status:#?}");
    let said = "nobody knows whether it was asked: the process ended meanwhile";
    assert!(result.measurements.iter().any(|measurement| measurement.message.as_deref() == Some(said)));
}

#[test]
fn a_job_that_is_ended_is_inconclusive_as_upstream_has_it() {
    let job = json!([{"name": "job", "provider": {"job": {"spec": {"template": {}}}}}]);
    let plan = Plan::of(&json!({"metrics": job}), &Language::at(START.parse().unwrap())).unwrap();
    let outside =
        Outside { script: BTreeMap::new(), taken: HashMap::new(), begun: HashSet::new(), asked: BTreeMap::new() };
    let now: Timestamp = START.parse().unwrap();
    let look = |status: &AnalysisRunStatus, terminate: bool| {
        advance(Look { plan: &plan, status, terminate, given: &outside, now })
    };
    let begun = look(&AnalysisRunStatus::default(), false);
    assert_eq!(begun.asks, [Slot { metric: 0, number: 0 }]);
    assert_eq!(begun.status.metric_results[0].measurements[0].phase, RunPhase::Running);
    assert_eq!(look(&begun.status, false).asks, begun.asks, "asked for until it has ended, by its name");
    let ended = look(&begun.status, true).status;
    let measurement = &ended.metric_results[0].measurements[0];
    assert_eq!((ended.phase, measurement.message.as_deref()), (RunPhase::Inconclusive, Some("Metric Terminated")));
}

#[test]
fn a_run_that_argo_began_goes_on_where_it_is() {
    let spec = json!({"metrics": [prometheus("rate", json!({"count": 3}))]});
    let now: Timestamp = "2026-01-01T00:05:00Z".parse().unwrap();
    let plan = Plan::of(&spec, &Language::at(now)).unwrap();
    let status: AnalysisRunStatus = serde_json::from_value(json!({
        "phase": "Running", "startedAt": START, "dryRunSummary": {}, "runSummary": {"count": 1},
        "metricResults": [{
            "name": "rate", "phase": "Running", "count": 2, "successful": 2, "consecutiveSuccess": 2,
            "measurements": [{"phase": "Successful", "value": "[0.95]", "startedAt": START, "finishedAt": "2026-01-01T00:04:50Z"}],
        }],
    }))
    .unwrap();
    let given =
        Outside { script: BTreeMap::new(), taken: HashMap::new(), begun: HashSet::new(), asked: BTreeMap::new() };
    let next = advance(Look { plan: &plan, status: &status, terminate: false, given: &given, now });
    assert_eq!((next.asks, next.wake), (vec![], Some("2026-01-01T00:05:10Z".parse().unwrap())));
    assert_eq!(next.status, status, "nothing is written while nothing is due");
}

#[test]
fn runs_that_are_over_go_when_their_time_has_come() {
    let ends = |phase: RunPhase, ttl: Value| {
        let spec: AnalysisRunSpec = serde_json::from_value(json!({"metrics": [], "ttlStrategy": ttl})).unwrap();
        let completed_at = Some(START.parse().unwrap());
        let status = AnalysisRunStatus { phase, completed_at, ..AnalysisRunStatus::default() };
        expires(&spec, &status).map(|at| at.to_string())
    };
    let ttl = json!({"secondsAfterCompletion": 60, "secondsAfterFailure": 3600});
    assert_eq!(ends(RunPhase::Successful, ttl.clone()).as_deref(), Some("2026-01-01T00:01:00Z"));
    assert_eq!(ends(RunPhase::Failed, ttl.clone()).as_deref(), Some("2026-01-01T01:00:00Z"));
    assert_eq!(ends(RunPhase::Running, ttl), None);
    assert_eq!(ends(RunPhase::Error, json!({"secondsAfterSuccess": 1})), None);
}
