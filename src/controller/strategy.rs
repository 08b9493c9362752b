//! Which strategy a Canary means, and its steps. As with Flagger it is never declared: `iterations` with `match` are A/B
//! testing, without it blue/green, and everything else is weights.

use std::time::Duration;

use serde_json::Value;

use crate::api::{CanaryAnalysis, CanarySpec, SessionAffinity};
use crate::model::{Routing, Rule, Split};
use crate::release::{CookieShape, PolicyStep, Stickiness};
use crate::router::{Capabilities, Mirror, RouteAsk, Router, merged_matches};

use super::policy::{Notice, PolicyError, invalid};

/// Most iterations: at the shortest interval hours, at the default one most of a day; and each is a step of the policy.
const ITERATIONS_MAX: i64 = 1_000;
/// Flagger's iterations of a Canary that its provider cannot carry out as written.
const ITERATIONS_INSTEAD: u32 = 10;
/// Flagger's default of `sessionAffinity.maxAge`: a day.
const MAX_AGE_DEFAULT: i64 = 24 * 60 * 60;
/// What a cookie's name may hold besides letters and digits (RFC 6265, a token).
const NAME_MARKS: &str = "!#$%&'*+-.^_`|~";

/// What of a policy follows from the strategy.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Strategy {
    pub(super) steps: Vec<PolicyStep>,
    pub(super) iterations: Option<u32>,
    pub(super) way_back: Vec<Routing>,
    pub(super) stickiness: Option<Stickiness>,
}

/// Compiles it for a router.
///
/// # Errors
/// With the field that conflicts with another, or that the router cannot carry out.
pub(super) fn compile(
    namespace: &str,
    spec: &CanarySpec,
    router: &dyn Router,
    interval: Duration,
) -> Result<Strategy, PolicyError> {
    let Some(service) = &spec.service else { return Ok(Strategy::default()) };
    let reader = Reader { spec, router, can: router.check(&RouteAsk { namespace, spec: service, rules: &[] })? };
    if spec.skip_analysis {
        return Ok(Strategy::default());
    }
    let iterations = reader.iterations()?;
    let rules = reader.rules()?;
    router.check(&RouteAsk { namespace, spec: service, rules: &rules })?;
    let steps = match iterations {
        Some(count) if rules.is_empty() => reader.blue_green(count)?,
        Some(count) => ab(&rules, count),
        None => reader.weighted(&rules)?,
    };
    let way_back = way_back(&steps, spec.analysis.step_weight_promotion);
    Ok(Strategy { steps, iterations, way_back, stickiness: reader.stickiness(interval, &rules)? })
}

/// Parts that have no effect in this combination, as with Flagger.
pub(super) fn notices(spec: &CanarySpec, router: &dyn Router) -> Vec<Notice> {
    let CanaryAnalysis { mirror, mirror_weight, match_, session_affinity, .. } = &spec.analysis;
    let iterations = spec.analysis.iterations.is_some_and(|count| count > 0);
    let ab = !match_.is_empty() && iterations;
    let weights = !spec.analysis.weights().is_empty();
    let notice =
        |path: &str, message: &str| Notice { path: path.to_owned(), message: format!("{path} {message}") };
    let Some(service) = spec.service.as_ref().filter(|_| !spec.skip_analysis) else { return Vec::new() };
    let can = router.check(&RouteAsk { namespace: "", spec: service, rules: &[] });
    let all_or_nothing = can.is_ok_and(|can| !can.weights);
    let found = [
        (ab && *mirror == Some(true))
            .then(|| notice("spec.analysis.mirror", "has no effect with match and iterations")),
        (ab && session_affinity.is_some())
            .then(|| notice("spec.analysis.sessionAffinity", "has no effect with match and iterations")),
        spec.analysis.max_weight.filter(|weight| !(0..=100).contains(weight)).map(|weight| {
            let counts = weight.clamp(0, 100);
            notice("spec.analysis.maxWeight", &format!("is {weight} percent and counts as {counts}"))
        }),
        spec.analysis.threshold.filter(|threshold| *threshold < 0).map(|threshold| {
            notice(
                "spec.analysis.threshold",
                &format!("is {threshold} and counts as 1: the first failed check ends a release"),
            )
        }),
        (mirror_weight.is_some() && *mirror != Some(true))
            .then(|| notice("spec.analysis.mirrorWeight", "has no effect without mirror: true")),
        (all_or_nothing && !match_.is_empty())
            .then(|| notice("spec.analysis.match", "has no effect: this provider treats all requests alike")),
        (iterations && weights).then(|| {
            let path = if spec.analysis.step_weights.is_empty() { "stepWeight" } else { "stepWeights" };
            let instead = if ab { "A/B testing" } else { "blue/green" };
            notice(
                &format!("spec.analysis.{path}"),
                &format!("has no effect with iterations, which ask for {instead}"),
            )
        }),
        (all_or_nothing && weights && !iterations).then(|| {
            let message = "has no effect: this provider moves all traffic at once, after 10 iterations";
            notice("spec.analysis.stepWeight", message)
        }),
    ];
    found.into_iter().flatten().collect()
}

struct Reader<'a> {
    spec: &'a CanarySpec,
    router: &'a dyn Router,
    can: Capabilities,
}

impl Reader<'_> {
    /// How many there are; `None` for weights.
    fn iterations(&self) -> Result<Option<u32>, PolicyError> {
        let analysis = &self.spec.analysis;
        let path = "spec.analysis.iterations";
        let weights = !analysis.weights().is_empty();
        match analysis.iterations.filter(|count| *count > 0) {
            None if !self.can.weights && weights => Ok(Some(ITERATIONS_INSTEAD)),
            None => Ok(None),
            Some(count) if count > ITERATIONS_MAX => {
                Err(invalid(path, &format!("is {count}, more than {ITERATIONS_MAX}: use a longer interval")))
            }
            Some(count) => Ok(u32::try_from(count).ok()),
        }
    }

    /// The users that are treated apart.
    fn rules(&self) -> Result<Vec<Rule>, PolicyError> {
        let special = &self.spec.analysis.match_;
        let (Some(service), false) = (&self.spec.service, special.is_empty()) else { return Ok(Vec::new()) };
        if !self.can.rules && !self.can.weights {
            // Flagger leaves them out, too; there is a notice.
            return Ok(Vec::new());
        }
        if !self.can.rules {
            return Err(self.cannot("spec.analysis.match", "treat some requests apart", "remove it"));
        }
        let special: Vec<Value> = special.iter().filter_map(|found| serde_json::to_value(found).ok()).collect();
        if special.iter().any(|found| found.as_object().is_none_or(serde_json::Map::is_empty)) {
            let message = "has an empty condition, which all requests meet: name a header, or remove match";
            return Err(invalid("spec.analysis.match", message));
        }
        for (path, conditions) in [("spec.analysis.match", &special), ("spec.service.match", &service.match_)] {
            if let Some(why) = conditions.iter().find_map(unreadable_regex) {
                return Err(invalid(path, &why));
            }
        }
        let name = format!("{}-match", self.spec.service_name());
        let when = merged_matches(&special, &service.match_);
        Ok(vec![Rule { name, when, split: Split::candidate_percent(100) }])
    }

    /// Each weight is analysed before the next; promotion follows the last. With rules they are weights of those requests.
    fn weighted(&self, rules: &[Rule]) -> Result<Vec<PolicyStep>, PolicyError> {
        let weights = self.spec.analysis.weights();
        if weights.is_empty() {
            return Err(PolicyError::Invalid {
                path: "spec.analysis".to_owned(),
                message:
                    "spec.analysis needs a positive stepWeight, stepWeights, iterations, or spec.skipAnalysis"
                        .to_owned(),
            });
        }
        let routing = |weight: u8| {
            let split = Split::candidate_percent(weight);
            match rules {
                [] => Routing::all(split),
                rules => of_rules(rules, &split),
            }
        };
        let copies = self.mirror()?.into_iter().map(|percent| Routing::all(Split::default().mirrored(percent)));
        let all = copies.chain(weights.into_iter().map(routing));
        Ok(all.flat_map(|routing| [PolicyStep::Route(routing), PolicyStep::Analyse]).collect())
    }

    /// All users move at once, after checks of a candidate that has none, or copies; and are watched once more there.
    fn blue_green(&self, count: u32) -> Result<Vec<PolicyStep>, PolicyError> {
        let copies = self.mirror()?.map(|percent| Routing::all(Split::default().mirrored(percent)));
        let rounds = (0..count).map(|_| PolicyStep::Analyse);
        let switch = [PolicyStep::Gate, PolicyStep::Route(Routing::candidate_percent(100)), PolicyStep::Analyse];
        Ok(copies.map(PolicyStep::Route).into_iter().chain(rounds).chain(switch).collect())
    }

    /// Percent of the requests to copy.
    fn mirror(&self) -> Result<Option<u8>, PolicyError> {
        let CanaryAnalysis { mirror, mirror_weight, .. } = &self.spec.analysis;
        if *mirror != Some(true) {
            return Ok(None);
        }
        // Zero is how Flagger's own objects say that nothing is said.
        let percent = mirror_weight.filter(|percent| *percent != 0).unwrap_or(100);
        let Some(percent) = u8::try_from(percent).ok().filter(|percent| (1..=100).contains(percent)) else {
            return Err(invalid("spec.analysis.mirrorWeight", "must be between 1 and 100"));
        };
        match self.can.mirror {
            Mirror::Never => Err(self.cannot("spec.analysis.mirror", "copy requests", "remove it")),
            Mirror::All if percent < 100 => Err(self.cannot(
                "spec.analysis.mirrorWeight",
                "copy a share of the requests",
                "remove it to copy all",
            )),
            Mirror::All | Mirror::Share => Ok(Some(percent)),
        }
    }

    fn stickiness(&self, interval: Duration, rules: &[Rule]) -> Result<Option<Stickiness>, PolicyError> {
        let Some(affinity) = &self.spec.analysis.session_affinity else { return Ok(None) };
        let path = |field: &str| format!("spec.analysis.sessionAffinity.{field}");
        let SessionAffinity { cookie_name, primary_cookie_name, max_age, .. } = affinity;
        if !rules.is_empty() && self.iterations()?.is_some() {
            return Ok(None);
        }
        if !self.can.sticky {
            return Err(self.cannot("spec.analysis.sessionAffinity", "set cookies", "remove it"));
        }
        let primary = primary_cookie_name.as_ref().filter(|name| !name.is_empty());
        for (field, name) in [("cookieName", Some(cookie_name)), ("primaryCookieName", primary)] {
            if let Some(name) = name.filter(|name| !is_cookie_name(name)) {
                let message = format!("`{name}` is no name of a cookie: use letters, digits and - _ .");
                return Err(invalid(&path(field), &message));
            }
        }
        if primary == Some(cookie_name) {
            let message = "is the same as cookieName: both sides would take the same users; give it another name";
            return Err(invalid(&path("primaryCookieName"), message));
        }
        let max_age = max_age.unwrap_or(MAX_AGE_DEFAULT);
        if max_age <= 0 {
            return Err(invalid(&path("maxAge"), "must be a positive number of seconds"));
        }
        let attributes = attributes(affinity).map_err(|(field, message)| invalid(&path(field), &message))?;
        let shape =
            |name: &String, max_age| CookieShape { name: name.clone(), max_age, attributes: attributes.clone() };
        // Long enough to not change sides between two raises; after that chance decides anew.
        let between_raises = i64::try_from(interval.as_secs()).unwrap_or(i64::MAX).max(1);
        Ok(Some(Stickiness {
            candidate: shape(cookie_name, max_age),
            stable: primary.map(|name| shape(name, between_raises)),
        }))
    }

    fn cannot(&self, path: &str, what: &str, remedy: &str) -> PolicyError {
        invalid(path, &format!("asks for what provider {} cannot do, {what}: {remedy}", self.router.name()))
    }
}

/// Why a regular expression in a condition cannot be read, in words. A mesh or a gateway that finds that out refuses the whole
/// route, and with it all users.
fn unreadable_regex(condition: &Value) -> Option<String> {
    match condition {
        Value::Object(fields) => fields.iter().find_map(|(field, value)| match value.as_str() {
            Some(text) if field == "regex" => regex::Regex::new(text).is_err().then(|| {
                format!(
                    "has the regular expression `{text}`, which is none in RE2's syntax: proxies know no look-around and no \
                     backreferences"
                )
            }),
            Some(_) | None => unreadable_regex(value),
        }),
        Value::Array(items) => items.iter().find_map(unreadable_regex),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// Some users, all of them, for a number of rounds.
fn ab(rules: &[Rule], count: u32) -> Vec<PolicyStep> {
    let routing = of_rules(rules, &Split::candidate_percent(100));
    [PolicyStep::Route(routing)].into_iter().chain((0..count).map(|_| PolicyStep::Analyse)).collect()
}

fn of_rules(rules: &[Rule], split: &Split) -> Routing {
    let rules = rules.iter().map(|rule| Rule { split: split.clone(), ..rule.clone() }).collect();
    Routing { rules, ..Routing::default() }
}

/// The last routing, lowered step by step.
fn way_back(steps: &[PolicyStep], step: Option<i64>) -> Vec<Routing> {
    let Some(step) = step.and_then(|step| u8::try_from(step.min(100)).ok()).filter(|step| *step > 0) else {
        return Vec::new();
    };
    let last = steps.iter().rev().find_map(|step| match step {
        PolicyStep::Route(routing) => Some(routing),
        PolicyStep::Analyse | PolicyStep::Pause(_) | PolicyStep::Gate | PolicyStep::Size(_) => None,
    });
    let Some(last) = last else { return Vec::new() };
    let lowered = |split: &Split, by: u8| Split::candidate_percent(split.candidate().saturating_sub(by));
    let lower = (1..=100_u8).map_while(|times| times.checked_mul(step)).map(|by| Routing {
        rules: last.rules.iter().map(|rule| Rule { split: lowered(&rule.split, by), ..rule.clone() }).collect(),
        ..Routing::all(lowered(&last.base, by))
    });
    lower.take_while(Routing::exposes).collect()
}

/// A cookie's attributes besides `Max-Age`, or the field that cannot be one.
fn attributes(affinity: &SessionAffinity) -> Result<String, (&'static str, String)> {
    let SessionAffinity { domain, path, http_only, partitioned, same_site, secure, .. } = affinity;
    let text = |field: &'static str, attribute: &str, value: &Option<String>| match value.as_deref() {
        None | Some("") => Ok(String::new()),
        Some(value) if value.chars().any(|it| it == ';' || it.is_control()) => {
            Err((field, format!("`{value}` cannot stand in a cookie: it has a semicolon or a control character")))
        }
        Some(value) => Ok(format!("; {attribute}={value}")),
    };
    let flag = |attribute: &str, set: Option<bool>| match set {
        Some(true) => format!("; {attribute}"),
        Some(false) | None => String::new(),
    };
    Ok([
        text("domain", "Domain", domain)?,
        text("path", "Path", path)?,
        flag("HttpOnly", *http_only),
        flag("Secure", *secure),
        flag("Partitioned", *partitioned),
        text("sameSite", "SameSite", same_site)?,
    ]
    .concat())
}

fn is_cookie_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|it| it.is_ascii_alphanumeric() || NAME_MARKS.contains(it))
}

#[cfg(test)]
mod tests;
