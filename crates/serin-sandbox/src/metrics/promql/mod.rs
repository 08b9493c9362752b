//! PromQL, as Prometheus 3 evaluates it, for the constructs in use; any other construct is an error that names it.
//!
//! Evaluated are: selectors with every matcher and `offset`, `rate`, `irate`, `increase`, `histogram_quantile`, `sum`,
//! `avg`, `min`, `max`, `count` with `by` and `without`, arithmetic and comparison between scalars and vectors with
//! one-to-one matching (`on`, `ignoring`, `bool`), `and`, `or`, `unless`, `vector`, numbers, strings and parentheses.

mod aggregate;
mod binary;
mod functions;
mod quantile;
mod select;
#[cfg(test)]
mod tests;

use promql_parser::parser::{self, Expr, UnaryExpr};

use super::store::{Labels, Store};

/// The label that holds a series' name.
const NAME: &str = "__name__";

/// What a query evaluates to.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number.
    Scalar(f64),
    /// One value for each label set.
    Vector(Vec<Sample>),
    /// Samples over time for each label set.
    Matrix(Vec<Range>),
    /// A text.
    Text(String),
}

/// A value with its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Labels, the name among them unless an operation dropped it.
    pub labels: Labels,
    /// The value.
    pub value: f64,
}

/// The samples of a series in a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Range {
    /// Labels, the name among them.
    pub labels: Labels,
    /// (time in milliseconds, value), oldest first.
    pub samples: Vec<(i64, f64)>,
}

/// Why a query has no result, in Prometheus' two kinds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Cannot be parsed, or uses a construct that is not evaluated here (`bad_data`).
    #[error("{0}")]
    BadData(String),
    /// Failed on the data (`execution`).
    #[error("{0}")]
    Execution(String),
}

/// Evaluates `query` over `store` at `at_ms` (milliseconds since the epoch).
///
/// # Errors
/// When the query is wrong, uses what is not evaluated here, or fails on the data.
pub fn evaluate(store: &Store, query: &str, at_ms: i64) -> Result<Value, QueryError> {
    let expr = parser::parse(query)
        .map_err(|error| QueryError::BadData(format!("invalid parameter \"query\": {error}")))?;
    Evaluation { store, at_ms }.expr(&expr)
}

fn unsupported(construct: &str) -> QueryError {
    QueryError::BadData(format!("the sandbox does not evaluate {construct}: use a real Prometheus for this query"))
}

/// One evaluation: the data and the instant.
struct Evaluation<'a> {
    store: &'a Store,
    at_ms: i64,
}

impl Evaluation<'_> {
    fn expr(&self, expr: &Expr) -> Result<Value, QueryError> {
        match expr {
            Expr::NumberLiteral(number) => Ok(Value::Scalar(number.val)),
            Expr::StringLiteral(text) => Ok(Value::Text(text.val.clone())),
            Expr::Paren(paren) => self.expr(&paren.expr),
            Expr::VectorSelector(selector) => Ok(Value::Vector(select::instant(self, selector)?)),
            Expr::MatrixSelector(selector) => Ok(Value::Matrix(select::range(self, selector)?.series)),
            Expr::Aggregate(aggregate) => aggregate::evaluate(self, aggregate).map(Value::Vector),
            Expr::Unary(UnaryExpr { expr }) => self.negate(expr),
            Expr::Binary(binary) => binary::evaluate(self, binary),
            Expr::Call(call) => functions::call(self, call).map(Value::Vector),
            Expr::Subquery(_) => Err(unsupported("subqueries")),
            Expr::Extension(extension) => Err(unsupported(extension.expr.name())),
        }
    }

    fn negate(&self, expr: &Expr) -> Result<Value, QueryError> {
        match self.expr(expr)? {
            Value::Scalar(number) => Ok(Value::Scalar(-number)),
            Value::Vector(samples) => {
                let negated = samples
                    .into_iter()
                    .map(|Sample { labels, value }| Sample { labels: without_name(labels), value: -value });
                unique(negated.collect()).map(Value::Vector)
            }
            Value::Matrix(_) | Value::Text(_) => {
                Err(QueryError::BadData("unary minus takes a scalar or an instant vector".to_owned()))
            }
        }
    }

    /// Evaluates an operand that has to be an instant vector.
    fn vector(&self, expr: &Expr, place: &str) -> Result<Vec<Sample>, QueryError> {
        match self.expr(expr)? {
            Value::Vector(samples) => Ok(samples),
            Value::Scalar(_) | Value::Matrix(_) | Value::Text(_) => {
                Err(QueryError::BadData(format!("expected type instant vector in {place}")))
            }
        }
    }
}

fn without_name(mut labels: Labels) -> Labels {
    labels.remove(NAME);
    labels
}

/// Refuses two samples with the same labels, which dropping the name may bring about.
fn unique(samples: Vec<Sample>) -> Result<Vec<Sample>, QueryError> {
    let mut seen = std::collections::HashSet::with_capacity(samples.len());
    if samples.iter().all(|sample| seen.insert(&sample.labels)) {
        return Ok(samples);
    }
    Err(QueryError::Execution("vector cannot contain metrics with the same labelset".to_owned()))
}
