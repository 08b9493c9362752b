//! What the language knows besides its own: the sample as a value, and Argo Rollouts' functions over it.

use expr::{Environment, Error, Value};
use jiff::Timestamp;

use crate::analysis::Reading;
use crate::api::duration;

/// Argo Rollouts' functions, and times as seconds.
pub(super) fn environment(now: Timestamp) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.add_function("asInt", |call| {
        let argument = one("asInt", call.args)?;
        match &argument {
            Value::Integer(_) => Ok(argument),
            // As Go converts: towards zero, and at the ends what fits.
            #[expect(clippy::cast_possible_truncation)]
            Value::Float(number) => Ok(Value::Integer(*number as i64)),
            Value::String(text) => {
                text.parse().map(Value::Integer).map_err(|_| refused(&format!("asInt() of \"{text}\"")))
            }
            other => Err(refused(&format!("asInt() not supported on {}", name(other)))),
        }
    });
    environment.add_function("asFloat", |call| {
        let argument = one("asFloat", call.args)?;
        match &argument {
            Value::Float(_) => Ok(argument),
            Value::Integer(number) => Ok(Value::Float(*number as f64)),
            Value::String(text) => {
                text.parse().map(Value::Float).map_err(|_| refused(&format!("asFloat() of \"{text}\"")))
            }
            other => Err(refused(&format!("asFloat() not supported on {}", name(other)))),
        }
    });
    environment.add_function("isNaN", |call| number("isNaN", call.args).map(|it| Value::Bool(it.is_nan())));
    environment.add_function("isInf", |call| number("isInf", call.args).map(|it| Value::Bool(it.is_infinite())));
    environment.add_function("isNil", |call| Ok(Value::Bool(one("isNil", call.args)? == Value::Nil)));
    environment.add_function("default", |call| match <[Value; 2]>::try_from(call.args) {
        Ok([Value::Nil, fallback]) => Ok(fallback),
        Ok([value, _]) => Ok(value),
        Err(_) => Err(refused("default() takes a value and what stands for none")),
    });
    environment.add_function("now", move |_| Ok(Value::Float(seconds(now))));
    environment.add_function("duration", |call| {
        let text = text("duration", call.args)?;
        let parsed = duration::parse(&text).map_err(|error| refused(&error.to_string()))?;
        Ok(Value::Float(parsed.as_secs_f64()))
    });
    environment.add_function("date", |call| {
        let text = text("date", call.args)?;
        let parsed =
            text.parse::<Timestamp>().map_err(|_| refused(&format!("\"{text}\" is no time in RFC 3339")))?;
        Ok(Value::Float(seconds(parsed)))
    });
    environment
}

/// The sample as the language sees it, and of how many items it is made.
pub(super) fn of(sample: &Reading) -> (Value, u64) {
    match sample {
        Reading::Value { value } => (Value::Float(*value), 1),
        Reading::List { values } => {
            (Value::Array(values.iter().copied().map(Value::Float).collect()), values.len().max(1) as u64)
        }
        Reading::Json { value } => {
            let mut items = 0;
            (of_json(value, &mut items), items)
        }
        Reading::NoData { .. }
        | Reading::Error { .. }
        | Reading::Several { .. }
        | Reading::Misconfigured { .. } => (Value::Nil, 1),
    }
}

/// Numbers of JSON are floats, as in Go.
fn of_json(value: &serde_json::Value, items: &mut u64) -> Value {
    *items += 1;
    match value {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(flag) => Value::Bool(*flag),
        serde_json::Value::Number(number) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(text) => {
            *items += text.len() as u64 / 8;
            Value::String(text.clone())
        }
        serde_json::Value::Array(all) => Value::Array(all.iter().map(|value| of_json(value, items)).collect()),
        serde_json::Value::Object(map) => {
            Value::Map(map.iter().map(|(key, value)| (key.clone(), of_json(value, items))).collect())
        }
    }
}

/// A value's type, as Go names it.
pub(super) fn name(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) => "int",
        Value::Bool(_) => "bool",
        Value::Float(_) => "float64",
        Value::Nil => "nil",
        Value::String(_) => "string",
        Value::Array(_) | Value::Bytes(_) => "list",
        Value::Map(_) | Value::KeyedMap(_) => "map",
    }
}

/// The moment so many seconds after 1970; `None` beyond what there is.
pub(super) fn moment(seconds: f64) -> Option<Timestamp> {
    let millis = (seconds * 1000.0).round();
    // Exact far beyond the year 9999.
    #[expect(clippy::cast_possible_truncation)]
    let millis = (millis.abs() < 1e15).then_some(millis as i64)?;
    Timestamp::from_millisecond(millis).ok()
}

fn seconds(time: Timestamp) -> f64 {
    time.as_millisecond() as f64 / 1000.0
}

fn refused(why: &str) -> Error {
    Error::ExprError(why.to_owned())
}

fn one(function: &str, mut arguments: Vec<Value>) -> Result<Value, Error> {
    match (arguments.pop(), arguments.is_empty()) {
        (Some(argument), true) => Ok(argument),
        _ => Err(refused(&format!("{function}() takes exactly one argument"))),
    }
}

fn number(function: &str, arguments: Vec<Value>) -> Result<f64, Error> {
    match one(function, arguments)? {
        Value::Float(number) => Ok(number),
        Value::Integer(number) => Ok(number as f64),
        other => Err(refused(&format!("{function}() takes a number, not {}", name(&other)))),
    }
}

fn text(function: &str, arguments: Vec<Value>) -> Result<String, Error> {
    match one(function, arguments)? {
        Value::String(text) => Ok(text),
        other => Err(refused(&format!("{function}() takes a text, not {}", name(&other)))),
    }
}
