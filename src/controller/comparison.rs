//! How a Canary's candidate is compared with primary.

use std::time::Duration;

use crate::analysis::compare::{Comparison, HISTORY, Standing};
use crate::api::{CanarySpec, ComparisonMode};
use crate::router::{RouteAsk, Router};

use super::policy::{Notice, PolicyError, SHORTEST, invalid};
use super::settings::ControllerSettings;

/// Shortest wait between two looks: who samples more often than this is asked for several samples at once.
const WAIT_MIN: Duration = Duration::from_secs(2);
/// Longest wait between two looks: samples further apart are waited for no longer than this.
const WAIT_MAX: Duration = Duration::from_secs(15);
/// How long after it was taken a sample can be read: a scrape takes its time.
const SETTLES: Duration = Duration::from_secs(1);
/// Samples further apart than this are seen two or three at a time at the earliest, when the checks are as quick.
const COARSE: Duration = Duration::from_secs(30);
/// How far back a look reads raw samples: a metric system that was away for longer has lost them for us.
const REACH: Duration = Duration::from_secs(15 * 60);
/// Longest wait for an answer; the provider's own is shorter.
const PATIENCE: Duration = Duration::from_secs(30);

const PATH: &str = "spec.analysis.comparison";

/// What is asked for.
///
/// # Errors
/// With the field that it cannot be combined with.
pub(super) fn compile(
    spec: &CanarySpec,
    router: &dyn Router,
    settings: &ControllerSettings,
) -> Result<Option<Comparison>, PolicyError> {
    let noise = spec.analysis.comparison_noise;
    if let Some(noise) = noise.filter(|noise| !noise.is_finite() || *noise < 1.0) {
        return Err(invalid(
            "spec.analysis.comparisonNoise",
            &format!("is {noise}, and at least 1: failures that come alone"),
        ));
    }
    let standing = match spec.analysis.comparison {
        None | Some(ComparisonMode::Off) => return Ok(None),
        Some(ComparisonMode::Advise) => Standing::Advises,
        Some(ComparisonMode::Enforce) => Standing::Enforces,
    };
    if !spec.analysis.match_.is_empty() {
        let message = "cannot be combined with match: those users differ from the others, whatever the version is. \
            Remove it, or say off";
        return Err(invalid(PATH, message));
    }
    let Some(counters) = &router.built_in().counters else {
        return Err(invalid(
            PATH,
            &format!("needs counters of both sides, and provider {} has none", router.name()),
        ));
    };
    let sped = |duration: Duration| settings.sped(duration).max(SHORTEST);
    Ok(Some(Comparison {
        standing,
        caveat: caveat(spec, router).map(str::to_owned),
        counted: counters.counted,
        noise,
        speed: settings.pace(),
        waits: (sped(WAIT_MIN), sped(WAIT_MAX)),
        settles: sped(SETTLES),
        coarse: sped(COARSE),
        history: sped(Duration::from_secs(HISTORY)),
        reach: REACH,
        patience: PATIENCE,
    }))
}

/// Why it must not decide, whatever it sees.
fn caveat(spec: &CanarySpec, router: &dyn Router) -> Option<&'static str> {
    let service = spec.service.as_ref()?;
    let can = router.check(&RouteAsk { namespace: "", spec: service, rules: &[] }).ok()?;
    let analysis = &spec.analysis;
    let iterations = analysis.iterations.is_some_and(|count| count > 0);
    let reasons = [
        (
            analysis.session_affinity.is_some(),
            "with sessionAffinity the sides differ by their users, which no counter shows",
        ),
        (analysis.mirror == Some(true), "copies of requests fail for their side effects, too"),
        (iterations || !can.weights, "one side has all requests at a time: there is nothing to compare with"),
    ];
    reasons.into_iter().find(|(holds, _)| *holds).map(|(_, why)| why)
}

/// What it does not do, although it is asked for.
pub(super) fn notices(spec: &CanarySpec, router: &dyn Router) -> Option<Notice> {
    let caveat = caveat(spec, router).filter(|_| spec.analysis.comparison == Some(ComparisonMode::Enforce))?;
    Some(Notice { path: PATH.to_owned(), message: format!("{PATH} only advises: {caveat}") })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::observe::router_for;
    use super::*;

    fn spec(patch: Value) -> CanarySpec {
        let mut spec = json!({
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo"},
            "service": {"port": 9898},
            "analysis": {"stepWeight": 10, "comparison": "enforce"}
        });
        json_patch::merge(&mut spec, &patch);
        serde_json::from_value(spec).unwrap()
    }

    fn compiled(patch: Value) -> Result<Option<Comparison>, PolicyError> {
        let spec = spec(patch);
        compile(&spec, router_for(&spec), &ControllerSettings::of_nobody())
    }

    #[test]
    fn it_is_off_unless_asked_for_and_refuses_what_it_cannot_be() {
        assert_eq!(compiled(json!({"analysis": {"comparison": null}})), Ok(None));
        assert_eq!(compiled(json!({"analysis": {"comparison": "off"}})), Ok(None));
        let plan = compiled(json!({})).unwrap().unwrap();
        assert_eq!((plan.standing, plan.caveat, plan.noise), (Standing::Enforces, None, None));
        let cases = [
            (
                json!({"analysis": {"match": [{"headers": {"a": {"exact": "b"}}}]}}),
                "spec.analysis.comparison cannot be combined with match",
            ),
            (json!({"analysis": {"comparisonNoise": 0.5}}), "spec.analysis.comparisonNoise is 0.5"),
        ];
        for (patch, expected) in cases {
            let error = compiled(patch).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn where_it_must_not_decide_it_advises_and_says_why() {
        let cases = [
            (json!({"analysis": {"sessionAffinity": {"cookieName": "canary"}}}), "differ by their users"),
            (json!({"analysis": {"mirror": true}}), "copies of requests"),
            (json!({"analysis": {"iterations": 5}}), "nothing to compare with"),
            (json!({"provider": "kubernetes"}), "nothing to compare with"),
        ];
        for (patch, expected) in cases {
            let caveat = compiled(patch.clone()).unwrap().unwrap().caveat.unwrap_or_default();
            let spec = spec(patch);
            let notice = notices(&spec, router_for(&spec)).unwrap();
            assert!(caveat.contains(expected) && notice.message.ends_with(&caveat), "{caveat}");
        }
        assert_eq!(notices(&spec(json!({})), router_for(&spec(json!({})))), None);
    }

    #[test]
    fn a_demonstration_looks_as_much_more_often() {
        let settings = ControllerSettings { speed: 20.0, ..ControllerSettings::of_nobody() };
        let spec = spec(json!({}));
        let plan = compile(&spec, router_for(&spec), &settings).unwrap().unwrap();
        assert_eq!(plan.waits, (Duration::from_millis(100), Duration::from_millis(750)));
        assert_eq!((plan.history, plan.reach), (Duration::from_secs(18 * 60), REACH));
    }
}
