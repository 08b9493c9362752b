//! Arithmetic and comparison between scalars and vectors, and the set operators between vectors.

use std::collections::{BTreeMap, BTreeSet};

use promql_parser::parser::token::{
    T_ADD, T_DIV, T_EQLC, T_GTE, T_GTR, T_LAND, T_LOR, T_LSS, T_LTE, T_LUNLESS, T_MOD, T_MUL, T_NEQ, T_POW, T_SUB,
};
use promql_parser::parser::{BinModifier, BinaryExpr, LabelModifier, VectorMatchCardinality};

use super::{Evaluation, Labels, QueryError, Sample, Value, unique, unsupported, without_name};

const DUPLICATE_RIGHT: &str = "found duplicate series for the match group on the right hand-side of the operation: \
     many-to-many matching not allowed: matching labels must be unique on one side";
const DUPLICATE_LEFT: &str =
    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)";

#[derive(Debug, Clone, Copy)]
enum Operator {
    Arithmetic(fn(f64, f64) -> f64),
    Comparison(fn(&f64, &f64) -> bool),
}

pub(super) fn evaluate(evaluation: &Evaluation<'_>, binary: &BinaryExpr) -> Result<Value, QueryError> {
    let BinaryExpr { op, lhs, rhs, modifier } = binary;
    if let T_LAND | T_LOR | T_LUNLESS = op.id() {
        let matching =
            Matching { bool: false, labels: modifier.as_ref().and_then(|modifier| modifier.matching.as_ref()) };
        let (left, right) = (evaluation.vector(lhs, "a set operator")?, evaluation.vector(rhs, "a set operator")?);
        return Ok(Value::Vector(sets(op.id(), &matching, left, right)));
    }
    let operator = match op.id() {
        T_ADD => Operator::Arithmetic(|a, b| a + b),
        T_SUB => Operator::Arithmetic(|a, b| a - b),
        T_MUL => Operator::Arithmetic(|a, b| a * b),
        T_DIV => Operator::Arithmetic(|a, b| a / b),
        T_MOD => Operator::Arithmetic(|a, b| a % b),
        T_POW => Operator::Arithmetic(f64::powf),
        T_EQLC => Operator::Comparison(f64::eq),
        T_NEQ => Operator::Comparison(f64::ne),
        T_GTR => Operator::Comparison(f64::gt),
        T_LSS => Operator::Comparison(f64::lt),
        T_GTE => Operator::Comparison(f64::ge),
        T_LTE => Operator::Comparison(f64::le),
        _ => return Err(unsupported(&format!("the operator {op}"))),
    };
    let matching = Matching::of(modifier.as_ref())?;
    match (evaluation.expr(lhs)?, evaluation.expr(rhs)?) {
        (Value::Scalar(left), Value::Scalar(right)) => scalars(operator, matching.bool, left, right),
        (Value::Vector(samples), Value::Scalar(right)) => {
            each(operator, matching.bool, samples, |value| (value, right))
        }
        (Value::Scalar(left), Value::Vector(samples)) => {
            each(operator, matching.bool, samples, |value| (left, value))
        }
        (Value::Vector(left), Value::Vector(right)) => vectors(operator, &matching, left, right),
        (Value::Matrix(_) | Value::Text(_), _) | (_, Value::Matrix(_) | Value::Text(_)) => Err(
            QueryError::BadData("binary expression must contain only scalar and instant vector types".to_owned()),
        ),
    }
}

/// How the samples of two vectors find each other.
struct Matching<'a> {
    bool: bool,
    labels: Option<&'a LabelModifier>,
}

impl<'a> Matching<'a> {
    fn of(modifier: Option<&'a BinModifier>) -> Result<Self, QueryError> {
        let Some(BinModifier { card, matching, return_bool, fill_values }) = modifier else {
            return Ok(Self { bool: false, labels: None });
        };
        match card {
            VectorMatchCardinality::OneToOne => {}
            VectorMatchCardinality::ManyToOne(_) => return Err(unsupported("group_left")),
            VectorMatchCardinality::OneToMany(_) => return Err(unsupported("group_right")),
            // Set operators are evaluated before.
            VectorMatchCardinality::ManyToMany => return Err(unsupported("many-to-many matching")),
        }
        if fill_values.lhs.is_some() || fill_values.rhs.is_some() {
            return Err(unsupported("fill"));
        }
        Ok(Self { bool: *return_bool, labels: matching.as_ref() })
    }

    /// What two samples have to have in common; also the labels of their result.
    fn signature(&self, labels: Labels) -> Labels {
        match self.labels {
            None => without_name(labels),
            Some(LabelModifier::Include(on)) => {
                labels.into_iter().filter(|(name, _)| on.labels.contains(name)).collect()
            }
            Some(LabelModifier::Exclude(ignored)) => {
                without_name(labels).into_iter().filter(|(name, _)| !ignored.labels.contains(name)).collect()
            }
        }
    }

    /// The labels of a result: a comparison that filters keeps the left side's name.
    fn result(&self, operator: Operator, left: Labels) -> Labels {
        let keeps_name = matches!(operator, Operator::Comparison(_)) && !self.bool;
        let labels = if keeps_name { left } else { without_name(left) };
        match self.labels {
            None => labels,
            Some(LabelModifier::Include(on)) => {
                labels.into_iter().filter(|(name, _)| on.labels.contains(name)).collect()
            }
            Some(LabelModifier::Exclude(ignored)) => {
                labels.into_iter().filter(|(name, _)| !ignored.labels.contains(name)).collect()
            }
        }
    }
}

/// `and` and `unless` keep of the left side what has, or has not, a partner; `or` adds what has none on the left.
fn sets(operator: u16, matching: &Matching<'_>, left: Vec<Sample>, right: Vec<Sample>) -> Vec<Sample> {
    let signatures = |samples: &[Sample]| -> BTreeSet<Labels> {
        samples.iter().map(|sample| matching.signature(sample.labels.clone())).collect()
    };
    let has =
        |known: &BTreeSet<Labels>, sample: &Sample| known.contains(&matching.signature(sample.labels.clone()));
    if operator == T_LOR {
        let known = signatures(&left);
        let added: Vec<Sample> = right.into_iter().filter(|sample| !has(&known, sample)).collect();
        return left.into_iter().chain(added).collect();
    }
    let known = signatures(&right);
    left.into_iter().filter(|sample| has(&known, sample) == (operator == T_LAND)).collect()
}

fn scalars(operator: Operator, bool: bool, left: f64, right: f64) -> Result<Value, QueryError> {
    match operator {
        Operator::Arithmetic(function) => Ok(Value::Scalar(function(left, right))),
        Operator::Comparison(function) if bool => Ok(Value::Scalar(truth(function(&left, &right)))),
        Operator::Comparison(_) => {
            Err(QueryError::BadData("comparisons between scalars must use BOOL modifier".to_owned()))
        }
    }
}

/// One side is a scalar: `operands` puts the vector's value on its side.
fn each(
    operator: Operator,
    bool: bool,
    samples: Vec<Sample>,
    operands: impl Fn(f64) -> (f64, f64),
) -> Result<Value, QueryError> {
    let results = samples.into_iter().filter_map(|Sample { labels, value }| {
        let (left, right) = operands(value);
        match operator {
            Operator::Arithmetic(function) => {
                Some(Sample { labels: without_name(labels), value: function(left, right) })
            }
            Operator::Comparison(function) if bool => {
                Some(Sample { labels: without_name(labels), value: truth(function(&left, &right)) })
            }
            Operator::Comparison(function) => function(&left, &right).then_some(Sample { labels, value }),
        }
    });
    unique(results.collect()).map(Value::Vector)
}

fn vectors(
    operator: Operator,
    matching: &Matching<'_>,
    left: Vec<Sample>,
    right: Vec<Sample>,
) -> Result<Value, QueryError> {
    let mut by_signature = BTreeMap::new();
    for Sample { labels, value } in right {
        if by_signature.insert(matching.signature(labels), value).is_some() {
            return Err(QueryError::Execution(DUPLICATE_RIGHT.to_owned()));
        }
    }
    let mut used = BTreeSet::new();
    let mut results = Vec::new();
    for Sample { labels, value } in left {
        let signature = matching.signature(labels.clone());
        let Some(other) = by_signature.get(&signature) else { continue };
        let value = match operator {
            Operator::Arithmetic(function) => Some(function(value, *other)),
            Operator::Comparison(function) if matching.bool => Some(truth(function(&value, other))),
            Operator::Comparison(function) => function(&value, other).then_some(value),
        };
        if !used.insert(signature) {
            return Err(QueryError::Execution(DUPLICATE_LEFT.to_owned()));
        }
        if let Some(value) = value {
            results.push(Sample { labels: matching.result(operator, labels), value });
        }
    }
    Ok(Value::Vector(results))
}

fn truth(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}
