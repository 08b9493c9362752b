//! Functions: `rate`, `irate`, `increase`, `histogram_quantile`, `vector`.

use promql_parser::parser::{Call, Expr};

use super::select::{self, Window};
use super::{Evaluation, Labels, QueryError, Sample, Value, quantile, unique, unsupported, without_name};

/// Beyond this many average sample distances from the window's edge a series is taken to begin or end inside the window.
const EXTRAPOLATION_LIMIT: f64 = 1.1;

pub(super) fn call(evaluation: &Evaluation<'_>, call: &Call) -> Result<Vec<Sample>, QueryError> {
    let arguments: Vec<&Expr> = call.args.args.iter().map(|argument| &**argument).collect();
    match (call.func.name, arguments.as_slice()) {
        ("rate", [argument]) => over_window(evaluation, argument, |samples, window| {
            Some(extrapolated_increase(samples, window)? / window.seconds())
        }),
        ("increase", [argument]) => over_window(evaluation, argument, extrapolated_increase),
        ("irate", [argument]) => over_window(evaluation, argument, |samples, _| instant_rate(samples)),
        ("histogram_quantile", [quantile, buckets]) => {
            let quantile = match evaluation.expr(quantile)? {
                Value::Scalar(number) => number,
                Value::Vector(_) | Value::Matrix(_) | Value::Text(_) => {
                    return Err(QueryError::BadData("expected type scalar in histogram_quantile()".to_owned()));
                }
            };
            quantile::histogram_quantile(quantile, evaluation.vector(buckets, "histogram_quantile()")?)
        }
        ("vector", [number]) => match evaluation.expr(number)? {
            Value::Scalar(value) => Ok(vec![Sample { labels: Labels::default(), value }]),
            Value::Vector(_) | Value::Matrix(_) | Value::Text(_) => {
                Err(QueryError::BadData("expected type scalar in call to function \"vector\"".to_owned()))
            }
        },
        (name, _) => Err(unsupported(&format!("the function {name}()"))),
    }
}

/// A window without its series, for the arithmetic.
struct Bounds {
    start_ms: i64,
    end_ms: i64,
}

impl Bounds {
    fn seconds(&self) -> f64 {
        seconds(self.end_ms - self.start_ms)
    }
}

fn over_window(
    evaluation: &Evaluation<'_>,
    argument: &Expr,
    function: impl Fn(&[(i64, f64)], &Bounds) -> Option<f64>,
) -> Result<Vec<Sample>, QueryError> {
    let Window { series, start_ms, end_ms } = match strip(argument) {
        Expr::MatrixSelector(selector) => select::range(evaluation, selector)?,
        Expr::Subquery(_) => return Err(unsupported("subqueries")),
        _ => return Err(QueryError::BadData("expected type range vector in a call to rate()".to_owned())),
    };
    let bounds = Bounds { start_ms, end_ms };
    let samples = series
        .into_iter()
        .filter_map(|range| {
            let value = function(&range.samples, &bounds)?;
            Some(Sample { labels: without_name(range.labels), value })
        })
        .collect();
    unique(samples)
}

fn strip(expr: &Expr) -> &Expr {
    match expr {
        Expr::Paren(paren) => strip(&paren.expr),
        other => other,
    }
}

/// The increase over the whole window, extrapolated from the samples in it as Prometheus does: to the window's edges
/// where samples reach near them, else by half a sample distance, and never below zero.
fn extrapolated_increase(samples: &[(i64, f64)], window: &Bounds) -> Option<f64> {
    let [(first_ms, first), .., (last_ms, _)] = samples else { return None };
    let increase = increase(samples);
    let sampled = seconds(last_ms - first_ms);
    let average_distance = sampled / (samples.len() - 1) as f64;
    let limit = average_distance * EXTRAPOLATION_LIMIT;

    let mut to_start = seconds(first_ms - window.start_ms);
    if to_start >= limit {
        to_start = average_distance / 2.0;
    }
    if increase > 0.0 && *first >= 0.0 {
        // A counter cannot have been below zero: it did not begin earlier than where its slope meets zero.
        to_start = to_start.min(sampled * (first / increase));
    }
    let mut to_end = seconds(window.end_ms - last_ms);
    if to_end >= limit {
        to_end = average_distance / 2.0;
    }
    Some(increase * ((sampled + to_start + to_end) / sampled))
}

/// What a counter gained, a fall being a reset to zero.
fn increase(samples: &[(i64, f64)]) -> f64 {
    samples
        .windows(2)
        .map(|pair| match pair {
            [(_, before), (_, after)] if after < before => *after,
            [(_, before), (_, after)] => after - before,
            _ => 0.0,
        })
        .sum()
}

fn instant_rate(samples: &[(i64, f64)]) -> Option<f64> {
    let [.., (before_ms, before), (last_ms, last)] = samples else { return None };
    let gained = if last < before { *last } else { last - before };
    Some(gained / seconds(last_ms - before_ms))
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}
