//! Aggregations: `sum`, `avg`, `min`, `max`, `count`, with `by` and `without`.

use std::collections::BTreeMap;

use promql_parser::parser::token::{T_AVG, T_COUNT, T_MAX, T_MIN, T_SUM};
use promql_parser::parser::{AggregateExpr, LabelModifier};

use super::{Evaluation, Labels, QueryError, Sample, unsupported, without_name};

#[derive(Debug, Clone, Copy)]
enum Operation {
    Sum,
    Avg,
    Min,
    Max,
    Count,
}

pub(super) fn evaluate(evaluation: &Evaluation<'_>, aggregate: &AggregateExpr) -> Result<Vec<Sample>, QueryError> {
    let AggregateExpr { op, expr, param, modifier } = aggregate;
    let operation = match op.id() {
        T_SUM => Operation::Sum,
        T_AVG => Operation::Avg,
        T_MIN => Operation::Min,
        T_MAX => Operation::Max,
        T_COUNT => Operation::Count,
        _ => return Err(unsupported(&format!("the aggregation {op}"))),
    };
    if param.is_some() {
        return Err(QueryError::BadData(format!("the aggregation {op} takes no parameter")));
    }
    let mut groups: BTreeMap<Labels, Vec<f64>> = BTreeMap::new();
    for Sample { labels, value } in evaluation.vector(expr, &format!("aggregation {op}"))? {
        groups.entry(group(labels, modifier.as_ref())).or_default().push(value);
    }
    Ok(groups.into_iter().map(|(labels, values)| Sample { labels, value: operation.over(&values) }).collect())
}

/// The labels a sample is grouped under.
fn group(labels: Labels, modifier: Option<&LabelModifier>) -> Labels {
    match modifier {
        None => Labels::new(),
        Some(LabelModifier::Include(kept)) => {
            labels.into_iter().filter(|(name, _)| kept.labels.contains(name)).collect()
        }
        Some(LabelModifier::Exclude(dropped)) => {
            without_name(labels).into_iter().filter(|(name, _)| !dropped.labels.contains(name)).collect()
        }
    }
}

impl Operation {
    fn over(self, values: &[f64]) -> f64 {
        match self {
            Self::Sum => values.iter().sum(),
            Self::Avg => values.iter().sum::<f64>() / values.len() as f64,
            // NaN loses against any number, which `f64::min` and `max` do.
            Self::Min => values.iter().copied().fold(f64::NAN, f64::min),
            Self::Max => values.iter().copied().fold(f64::NAN, f64::max),
            Self::Count => values.len() as f64,
        }
    }
}
