//! Selectors: which series, and their samples in a window.

use std::time::Duration;

use promql_parser::label::Matchers;
use promql_parser::parser::{AtModifier, MatrixSelector, Offset, VectorSelector};

use super::{Evaluation, Labels, NAME, QueryError, Range, Sample, unsupported};
use crate::metrics::store::SeriesId;

/// How far back an instant selector looks for the newest sample: Prometheus' default.
const LOOKBACK: Duration = Duration::from_secs(5 * 60);

/// A range selector's series and the window they were read in.
pub(super) struct Window {
    pub(super) series: Vec<Range>,
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
}

pub(super) fn instant(evaluation: &Evaluation<'_>, selector: &VectorSelector) -> Result<Vec<Sample>, QueryError> {
    let at_ms = shifted(evaluation.at_ms, selector)?;
    let matching = matching(evaluation, selector)?;
    Ok(matching
        .into_iter()
        .filter_map(|(id, labels)| {
            let value = evaluation.store.value_at(id, at_ms - millis(LOOKBACK), at_ms)?;
            Some(Sample { labels: labels.clone(), value })
        })
        .collect())
}

pub(super) fn range(evaluation: &Evaluation<'_>, selector: &MatrixSelector) -> Result<Window, QueryError> {
    let MatrixSelector { vs, range } = selector;
    let end_ms = shifted(evaluation.at_ms, vs)?;
    let start_ms = end_ms - millis(*range);
    let series = matching(evaluation, vs)?
        .into_iter()
        .map(|(id, labels)| Range {
            labels: labels.clone(),
            samples: evaluation.store.samples(id, start_ms, end_ms),
        })
        .filter(|range| !range.samples.is_empty())
        .collect();
    Ok(Window { series, start_ms, end_ms })
}

fn shifted(at_ms: i64, selector: &VectorSelector) -> Result<i64, QueryError> {
    match &selector.at {
        None => {}
        Some(AtModifier::Start | AtModifier::End | AtModifier::At(_)) => {
            return Err(unsupported("the @ modifier"));
        }
    }
    Ok(match &selector.offset {
        None => at_ms,
        Some(Offset::Pos(offset)) => at_ms - millis(*offset),
        Some(Offset::Neg(offset)) => at_ms + millis(*offset),
    })
}

fn matching<'a>(
    evaluation: &Evaluation<'a>,
    selector: &VectorSelector,
) -> Result<Vec<(SeriesId, &'a Labels)>, QueryError> {
    let Matchers { matchers, or_matchers } = &selector.matchers;
    if !or_matchers.is_empty() {
        return Err(unsupported("`or` between label matchers"));
    }
    let mut found: Vec<_> = evaluation
        .store
        .sampled()
        .filter(|(_, labels)| selector.name.as_ref().is_none_or(|name| labels.get(NAME) == Some(name)))
        .filter(|(_, labels)| {
            // A label that is missing is the empty string to a matcher.
            matchers.iter().all(|matcher| matcher.is_match(labels.get(&matcher.name).map_or("", String::as_str)))
        })
        .collect();
    found.sort_by_key(|(_, labels)| *labels);
    Ok(found)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
