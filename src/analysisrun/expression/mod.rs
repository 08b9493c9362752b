//! The conditions of a metric, in the language of Argo Rollouts (expr), and the times of a range query.
//!
//! Upstream's functions over the sample are there: `asInt`, `asFloat`, `isNaN`, `isInf`, `isNil`, `default`. What differs is what
//! nobody measured: an empty answer and NaN are no sample, unless the condition itself says what they mean. Times are numbers of
//! seconds here: `now()`, `duration("5m")` and `date("2026-01-01T00:00:00Z")` may be added and compared.

mod lexed;
mod values;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use expr::{Context, Environment, Program, Value};
use jiff::Timestamp;

use crate::analysis::{Expression, Predicate, Reading};

use lexed::{Lexed, lex};

/// Items of a sample that one evaluation may go through: a fraction of a second.
const COST_MAX: u64 = 4_000_000;

/// Which of a metric's two conditions it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// `successCondition`.
    Success,
    /// `failureCondition`.
    Failure,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Success => "successCondition",
            Self::Failure => "failureCondition",
        })
    }
}

/// The language at a moment: what `now()` is.
#[derive(Clone)]
pub struct Language(Arc<Environment<'static>>);

impl Language {
    /// The language as it is now.
    pub fn at(now: Timestamp) -> Self {
        Self(Arc::new(values::environment(now)))
    }

    /// A condition.
    ///
    /// # Errors
    /// When it cannot be read, in words.
    pub fn condition(&self, side: Side, text: &str) -> Result<Expression, String> {
        let named = |why: String| format!("{side} \"{text}\" cannot be read: {why}");
        let lexed = lex(text).map_err(named)?;
        let program = compile(text).map_err(named)?;
        let condition = Condition { side, text: text.to_owned(), lexed, program, language: self.clone() };
        Ok(Expression::new(condition))
    }

    /// A moment, of an expression that gives one.
    ///
    /// # Errors
    /// When it cannot be read or gives something else, in words.
    pub fn time(&self, text: &str) -> Result<Timestamp, String> {
        lex(text)?;
        let program = compile(text)?;
        let value = self.run(&program, &Context::default())?;
        let seconds = match value {
            Value::Float(seconds) => seconds,
            Value::Integer(seconds) => seconds as f64,
            other => return Err(format!("expected a time, but got {}", values::name(&other))),
        };
        values::moment(seconds).ok_or_else(|| format!("{seconds} s is no time that there is"))
    }

    fn run(&self, program: &Program, context: &Context) -> Result<Value, String> {
        // What is wrong in the language's own code is this condition's error and nobody else's.
        let done = catch_unwind(AssertUnwindSafe(|| self.0.run(program, context)));
        match done {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("it cannot be evaluated".to_owned()),
        }
    }
}

fn compile(text: &str) -> Result<Program, String> {
    match catch_unwind(|| expr::compile(text)) {
        Ok(Ok(program)) => Ok(program),
        Ok(Err(error)) => Err(on_one_line(&error.to_string())),
        Err(_) => Err("it is none of the language".to_owned()),
    }
}

/// The parser's excerpt with its caret says where and what in its first and its last line.
fn on_one_line(said: &str) -> String {
    let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    let (first, last) = (lines.next().unwrap_or_default(), lines.next_back());
    match (first.strip_prefix("--> "), last.and_then(|last| last.strip_prefix("= "))) {
        (Some(place), Some(what)) => format!("{place}: {what}"),
        _ => said.replace('\n', " "),
    }
}

struct Condition {
    side: Side,
    text: String,
    lexed: Lexed,
    program: Program,
    language: Language,
}

impl Condition {
    fn evaluate(&self, sample: &Reading) -> Result<bool, String> {
        if is_nothing(sample) && !self.lexed.knows_nothing {
            return Err("metric result is nil or empty: no data returned from the metric provider".to_owned());
        }
        if let Some(number) = not_a_number(sample)
            && !self.lexed.knows_nan
        {
            return Err(format!(
                "the query gives {number}, which is no measurement: it divides by zero where there were no requests; \
                 `isNaN(…)` in the condition says what that means"
            ));
        }
        let (result, items) = values::of(sample);
        let cost = items.checked_pow(self.lexed.depth.max(1)).unwrap_or(u64::MAX);
        if cost > COST_MAX {
            return Err(format!("the answer has {items} items, too many for what the condition does with them"));
        }
        let mut context = Context::default();
        context.insert("result", result);
        match self.language.run(&self.program, &context)? {
            Value::Bool(holds) => Ok(holds),
            other => Err(format!("expected bool, but got {}", values::name(&other))),
        }
    }
}

impl Predicate for Condition {
    fn text(&self) -> &str {
        &self.text
    }

    fn holds(&self, sample: &Reading) -> Result<bool, String> {
        let (side, text) = (self.side, &self.text);
        self.evaluate(sample).map_err(|why| format!("could not evaluate {side} \"{text}\": {why}"))
    }
}

fn is_nothing(sample: &Reading) -> bool {
    match sample {
        Reading::List { values } => values.is_empty(),
        Reading::Json { value } => value.is_null() || value.as_array().is_some_and(Vec::is_empty),
        Reading::Value { .. } => false,
        Reading::NoData { .. }
        | Reading::Error { .. }
        | Reading::Several { .. }
        | Reading::Misconfigured { .. } => true,
    }
}

fn not_a_number(sample: &Reading) -> Option<f64> {
    match sample {
        Reading::Value { value } => Some(*value).filter(|value| !value.is_finite()),
        Reading::List { values } => values.iter().copied().find(|value| !value.is_finite()),
        Reading::Json { .. }
        | Reading::NoData { .. }
        | Reading::Error { .. }
        | Reading::Several { .. }
        | Reading::Misconfigured { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holds(text: &str, sample: Reading) -> Result<bool, String> {
        let language = Language::at("2026-01-01T00:10:00Z".parse().unwrap());
        let lexed = lex(text)?;
        let program = compile(text)?;
        Condition { side: Side::Success, text: text.to_owned(), lexed, program, language }.holds(&sample)
    }

    fn list(values: &[f64]) -> Reading {
        Reading::List { values: values.to_vec() }
    }

    fn json(value: serde_json::Value) -> Reading {
        Reading::Json { value }
    }

    #[test]
    fn upstreams_documented_conditions() {
        let cases = [
            ("result[0] >= 0.95", list(&[0.95]), true),
            ("result[0] > 0.90", list(&[0.5]), false),
            ("result == 'true'", json(json!("true")), true),
            ("result < 0.95", Reading::Value { value: 0.9 }, true),
            ("isNaN(result) || result >= 0.95", Reading::Value { value: f64::NAN }, true),
            ("isInf(result)", Reading::Value { value: f64::INFINITY }, true),
            ("isInf(result)", Reading::Value { value: 1.0 }, false),
            ("len(result) == 0 || result[0] >= 0.95", list(&[]), true),
            ("len(result) > 0 && result[0] >= 0.95", list(&[]), false),
            ("default(result, 0) < 0.05", json(json!(null)), true),
            ("default(result, 0) < 0.05", json(json!(0.5)), false),
            ("isNil(result) or result > 1", json(json!(null)), true),
            ("all(result, # >= 0.9)", list(&[0.9, 1.0]), true),
            ("any(result, # >= 0.9)", list(&[0.1, 1.0]), true),
            ("all(result, {# >= 0.9})", list(&[0.1, 1.0]), false),
            ("len(filter(result, # > 0.5)) == 1", list(&[0.1, 1.0]), true),
            ("none(result, # > 5)", list(&[0.1, 1.0]), true),
            ("mean(result) < 0.6 && max(result) <= 1", list(&[0.1, 1.0]), true),
            ("result[-1] == 1", list(&[0.1, 1.0]), true),
            ("asFloat(result.data.rate) >= 0.95", json(json!({"data": {"rate": "0.96"}})), true),
            ("asInt(result.count) > 3", json(json!({"count": "4"})), true),
            ("asInt(result.count) == 4", json(json!({"count": 4.7})), true),
            ("result.ok && result.count == 4", json(json!({"ok": true, "count": 4})), true),
            ("result.data?.missing?.deep == nil", json(json!({"data": {}})), true),
            ("'a' in result and not ('b' in result)", json(json!(["a"])), true),
            ("result startsWith 'ok' ? true : false", json(json!("okay")), true),
            ("result matches '^v[0-9]+$'", json(json!("v12")), true),
            ("asInt(result) < now() - duration('5m')", json(json!(1_767_225_000.0)), true),
        ];
        for (text, sample, expected) in cases {
            assert_eq!(holds(text, sample.clone()), Ok(expected), "{text} of {sample:?}");
        }
    }

    #[test]
    fn what_nobody_measured_neither_passes_nor_fails() {
        let nan = || list(&[f64::NAN]);
        for (text, sample, said) in [
            (
                "result[0] > 0.9",
                list(&[]),
                "could not evaluate successCondition \"result[0] > 0.9\": metric result is nil or empty: no data returned from the metric provider",
            ),
            ("result[0] != 0", list(&[]), "nil or empty"),
            ("all(result, # > 0.9)", list(&[]), "nil or empty"),
            ("result > 1", json(json!(null)), "nil or empty"),
            ("result[0] > 0.9", nan(), "the query gives NaN"),
            ("result[0] < 0.9", nan(), "divides by zero"),
            ("result > 0.9", Reading::Value { value: f64::NEG_INFINITY }, "the query gives -inf"),
            ("result[5] > 1", list(&[1.0]), "Invalid operands"),
            ("result[0]", list(&[1.0]), "expected bool, but got float"),
            ("asInt(result) > 1", json(json!("x")), "asInt"),
            ("asFloat(result) > 1", json(json!([])), "nil or empty"),
            ("missing(result)", list(&[1.0]), "missing"),
        ] {
            let error = holds(text, sample).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn no_expression_takes_the_process_with_it() {
        let many = list(&vec![1.0; 3000]);
        assert!(holds("all(result, all(result, # > 0))", many.clone()).unwrap_err().contains("3000 items"));
        assert_eq!(holds("all(result, # > 0)", many), Ok(true));
        let deep = [
            format!("true{}", " && true".repeat(60)),
            format!("{}true{}", "(".repeat(15), ")".repeat(15)),
            format!("1{} > 0", " + 1".repeat(60)),
            format!("{}true{}", "true ? ".repeat(30), " : false".repeat(30)),
            format!("result{}", "[result[0]]".repeat(5)),
            "result[result[result[result[result[0]]]]] == 1".to_owned(),
            "result % 0 == 0".to_owned(),
            "split('a', '') == 1".to_owned(),
            "'a'[99] == ''".to_owned(),
            "max() > 1".to_owned(),
            "get(result)".to_owned(),
        ];
        for text in deep {
            drop(holds(&text, list(&[0.0, 1.0])));
        }
    }

    #[test]
    fn times_of_a_range() {
        let language = Language::at("2026-01-01T00:10:00Z".parse().unwrap());
        let time = |text: &str| language.time(text).map(|time| time.to_string());
        assert_eq!(time("now()").as_deref(), Ok("2026-01-01T00:10:00Z"));
        assert_eq!(time("now() - duration(\"5m\")").as_deref(), Ok("2026-01-01T00:05:00Z"));
        assert_eq!(time("date('2026-01-01T00:00:00Z') + duration('90s')").as_deref(), Ok("2026-01-01T00:01:30Z"));
        for wrong in ["duration('5x')", "'yesterday'", "now() * 1e300", "date('soon')"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
