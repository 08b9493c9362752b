//! Events in Flagger's words.

use crate::analysis::{Breach, Check, CheckSource, Judged, Reading, Verdict, breach, words};

use super::policy::Names;
use super::report::Event;

/// `request-success-rate 69.17% < 99%`: a failed value against its limit, for causes.
pub(super) fn failed_value(check: &Check, value: f64) -> String {
    let (value, limit) = value_and_limit(check, value);
    match limit {
        Some((sign, limit)) => format!("{} {value} {sign} {limit}", check.name),
        None => format!("{} {value}", check.name),
    }
}

/// What a check that did not pass makes Flagger say; `None` for one that passed.
pub(super) fn halt(names: &Names, check: &Check, reading: &Reading, judged: &Judged) -> Option<Event> {
    let why = judged.text.as_deref().unwrap_or_default();
    let halted = || format!("Halt {} advancement {}", names.target_dotted(), check.name);
    let message = match (judged.verdict, reading) {
        (Verdict::Pass, _) => return None,
        (Verdict::Fail, Reading::Value { value }) => failed(names, check, *value),
        (Verdict::Fail, Reading::NoData { .. }) => format!("{}: {why}", halted()),
        (Verdict::Fail, _) => format!("{} {why} does not meet {}", halted(), judged.limit),
        (Verdict::Inconclusive, _) => format!("{} {why} is inconclusive", halted()),
        (Verdict::Misconfigured | Verdict::Several | Verdict::Few, _) => format!("{}: {why}", halted()),
        (Verdict::NoData | Verdict::Early, _) => no_data(names, check, why),
        (Verdict::Error, _) => query_failed(check, why),
    };
    Some(Event::warning(message))
}

fn failed(names: &Names, check: &Check, value: f64) -> String {
    let subject = match &check.source {
        CheckSource::SuccessRate => "success rate",
        CheckSource::Duration => "request duration",
        CheckSource::Template { .. } | CheckSource::Query(_) => &check.name,
    };
    let (value, limit) = value_and_limit(check, value);
    let (sign, limit) = limit.unwrap_or(("", String::new()));
    format!("Halt {} advancement {subject} {value} {sign} {limit}", names.target_dotted())
}

fn value_and_limit(check: &Check, value: f64) -> (String, Option<(&'static str, String)>) {
    let range = check.condition.range().unwrap_or_default();
    let limit = breach(value, range).map(|breach| match breach {
        Breach::Below(min) => ("<", min),
        Breach::Above(max) => (">", max),
    });
    match &check.source {
        CheckSource::SuccessRate => {
            (words::percent(value), limit.map(|(sign, limit)| (sign, format!("{limit}%"))))
        }
        CheckSource::Duration => {
            (words::milliseconds(value), limit.map(|(sign, limit)| (sign, words::milliseconds(limit))))
        }
        CheckSource::Template { .. } | CheckSource::Query(_) => {
            (format!("{value:.2}"), limit.map(|(sign, limit)| (sign, limit.to_string())))
        }
    }
}

fn no_data(names: &Names, check: &Check, reason: &str) -> String {
    let Names { provider, .. } = names;
    let name = &check.name;
    match &check.source {
        CheckSource::SuccessRate => format!(
            "Halt advancement no values found for {provider} metric {name} probably {} is not receiving traffic: \
             {reason}",
            names.target_dotted()
        ),
        CheckSource::Duration => {
            format!("Halt advancement no values found for {provider} metric {name}: {reason}")
        }
        CheckSource::Query(_) => format!("Halt advancement no values found for metric: {name}"),
        CheckSource::Template { .. } => {
            format!("Halt advancement no values found for custom metric: {name}: {reason}")
        }
    }
}

fn query_failed(check: &Check, reason: &str) -> String {
    match &check.source {
        CheckSource::SuccessRate | CheckSource::Duration => format!("Prometheus query failed: {reason}"),
        CheckSource::Query(_) => format!("Prometheus query failed for {}: {reason}", check.name),
        CheckSource::Template { .. } => format!("Metric query failed for {}: {reason}", check.name),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::analysis::{Condition, Measurement, OnMissing, Range};
    use crate::model::NamespacedName;
    use jiff::Timestamp;

    fn names() -> Names {
        Names {
            canary: NamespacedName::new("test", "podinfo"),
            target: "podinfo".into(),
            service: "podinfo".into(),
            provider: "istio".into(),
        }
    }

    fn said(name: &str, source: CheckSource, range: Range, reading: Reading) -> Option<String> {
        let check = Check {
            name: name.into(),
            source,
            condition: Condition::Range(range),
            window: Duration::from_secs(60),
            own_window: false,
            patience: Duration::from_secs(30),
            on_no_data: OnMissing::Hold,
            on_error: OnMissing::Hold,
            min_samples: 0,
            on_few: OnMissing::Hold,
        };
        let measured = Measurement { reading, query: String::new(), at: Timestamp::UNIX_EPOCH };
        let judged = Judged::of(&check, Some(&measured), check.window).0;
        halt(&names(), &check, &measured.reading, &judged).map(|event| event.message)
    }

    #[test]
    fn says_what_flagger_says() {
        let min = Range { min: Some(99.0), max: None };
        let max = |max| Range { min: None, max: Some(max) };
        let template = || CheckSource::Template {
            template: NamespacedName::new("istio-system", "not-found-percentage"),
            variables: BTreeMap::new(),
        };
        let value = |value| Reading::Value { value };
        let no_data = || Reading::NoData { reason: "empty vector".into() };
        let cases = [
            (
                said("request-success-rate", CheckSource::SuccessRate, min, value(69.172)),
                "Halt podinfo.test advancement success rate 69.17% < 99%",
            ),
            (
                said("request-duration", CheckSource::Duration, max(500.0), value(1205.4)),
                "Halt podinfo.test advancement request duration 1.205s > 500ms",
            ),
            (
                said("404s percentage", template(), max(5.0), value(12.0)),
                "Halt podinfo.test advancement 404s percentage 12.00 > 5",
            ),
            (
                said("request-success-rate", CheckSource::SuccessRate, min, no_data()),
                "Halt advancement no values found for istio metric request-success-rate probably podinfo.test is not \
                 receiving traffic: empty vector",
            ),
            (
                said("404s percentage", template(), max(5.0), no_data()),
                "Halt advancement no values found for custom metric: 404s percentage: empty vector",
            ),
            (
                said(
                    "404s percentage",
                    template(),
                    max(5.0),
                    Reading::Error { reason: "connection refused".into() },
                ),
                "Metric query failed for 404s percentage: connection refused",
            ),
        ];
        for (said, expected) in cases {
            assert_eq!(said.as_deref(), Some(expected));
        }
        assert_eq!(said("request-success-rate", CheckSource::SuccessRate, min, value(99.0)), None);
    }
}
