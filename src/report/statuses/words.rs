//! How far a release is, within a status's length: `step 3/6 · 25% · error-rate 0.2 (≤ 1) · ~4m left`. Pure.

use std::time::Duration;

use crate::analysis::Verdict;
use crate::api::CanarySpec;
use crate::release::{CheckResult, End, Release, Stage, State, WaitingOn};

/// What is said of a commit whose release went back to what served before.
pub(super) const WITHDRAWN: &str = "withdrawn before it was promoted";
/// Characters of the worst check's words.
const CHECK_MAX: usize = 60;
/// Characters of what is waited for.
const WAIT_MAX: usize = 60;

/// Whether it has failed, and traffic goes back.
pub(super) fn is_failing(release: &Release) -> bool {
    match &release.stage {
        Stage::Restoring { .. } | Stage::Ending { end: End::Failed { .. }, .. } => true,
        Stage::Ending { end: End::Succeeded | End::Superseded, .. }
        | Stage::Confirming
        | Stage::ScalingUp { .. }
        | Stage::Preparing
        | Stage::Analysing
        | Stage::ConfirmingPromotion
        | Stage::Promoting { .. } => false,
    }
}

/// How far it is.
pub(super) fn progress(state: &State, release: &Release, spec: &CanarySpec) -> String {
    let stage = match &release.stage {
        Stage::Confirming => "waits to be confirmed".to_owned(),
        Stage::ScalingUp { .. } => "candidate starts".to_owned(),
        Stage::Preparing => "pre-rollout checks".to_owned(),
        Stage::Analysing => analysis(state, release, spec),
        Stage::ConfirmingPromotion => "passed; promotion waits to be confirmed".to_owned(),
        Stage::Promoting { .. } | Stage::Ending { end: End::Succeeded, .. } => "passed; being promoted".to_owned(),
        Stage::Restoring { cause, .. } | Stage::Ending { end: End::Failed { cause }, .. } => {
            format!("failed, rolling back: {}", cause.message)
        }
        Stage::Ending { end: End::Superseded, .. } => "superseded; traffic goes back".to_owned(),
    };
    match hold(state, release) {
        Some(hold) => format!("{stage} · {hold}"),
        None => stage,
    }
}

/// What keeps it where it is.
fn hold(state: &State, release: &Release) -> Option<String> {
    if release.paused {
        return Some("paused".to_owned());
    }
    let wait = match state.waiting_on.as_ref()? {
        WaitingOn::Gate { name, .. } => format!("gate {name} is closed"),
        WaitingOn::Data { check, .. } => format!("no data for {check}"),
        WaitingOn::Readiness { workload, .. } => format!("{workload} is not ready"),
        WaitingOn::Suspended => "suspended".to_owned(),
        _ => return None,
    };
    Some(cut(&wait, WAIT_MAX))
}

fn analysis(state: &State, release: &Release, spec: &CanarySpec) -> String {
    let mut parts = Vec::new();
    if let Some(progress) = &state.progress {
        parts.push(format!("step {}/{}", progress.step, progress.of));
    }
    parts.push(format!("{}%", state.canary_weight()));
    if let Some(check) = worst(&release.checks()) {
        parts.push(check);
    }
    let left = state.progress.map(|progress| progress.of.saturating_sub(progress.step) + 1);
    if let (Some(rounds), Ok(interval)) = (left, spec.analysis.interval()) {
        parts.push(format!("~{} left", about(interval.saturating_mul(rounds))));
    }
    parts.join(" · ")
}

/// The check that says the worst.
fn worst(checks: &[CheckResult]) -> Option<String> {
    let rank = |verdict: Verdict| match verdict {
        Verdict::Fail => 0,
        Verdict::Misconfigured => 1,
        Verdict::Error => 2,
        Verdict::Several => 3,
        Verdict::NoData => 4,
        Verdict::Few => 5,
        Verdict::Inconclusive => 6,
        Verdict::Early => 7,
        Verdict::Pass => 8,
    };
    let CheckResult { name, verdict, value, limit } = checks.iter().min_by_key(|check| rank(check.verdict))?;
    let value = value.map_or_else(|| verdict.as_str().to_owned(), number);
    Some(cut(&format!("{name} {value} ({limit})"), CHECK_MAX))
}

fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Whole minutes from one minute on: the words change when a step does, not with the clock.
fn about(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds.div_ceil(60)),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

fn cut(text: &str, max: usize) -> String {
    match text.chars().count() > max {
        true => text.chars().take(max.saturating_sub(1)).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, verdict: Verdict, value: Option<f64>) -> CheckResult {
        CheckResult { name: name.into(), verdict, value, limit: "≥ 99".into() }
    }

    #[test]
    fn the_worst_check_is_told_and_fits() {
        let passing = check("latency", Verdict::Pass, Some(120.0));
        let failing = check("success-rate", Verdict::Fail, Some(69.174));
        let missing = check("x", Verdict::NoData, None);
        assert_eq!(worst(&[passing.clone(), failing, missing.clone()]).unwrap(), "success-rate 69.17 (≥ 99)");
        assert_eq!(worst(&[passing.clone(), missing]).unwrap(), "x no data (≥ 99)");
        assert_eq!(worst(&[passing]).unwrap(), "latency 120 (≥ 99)");
        let long = worst(&[check(&"n".repeat(200), Verdict::Pass, Some(1.0))]).unwrap();
        assert_eq!(long.chars().count(), CHECK_MAX);
        assert_eq!(worst(&[]), None);
    }

    #[test]
    fn time_is_told_in_words_that_stay() {
        let about = |seconds| about(Duration::from_secs(seconds));
        assert_eq!(
            [about(5), about(60), about(61), about(3600), about(5400)],
            ["5s", "1m", "2m", "1h00m", "1h30m"]
        );
    }
}
