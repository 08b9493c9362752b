//! The functions: Go's own, and of sprig's those that templates of metrics use.

use std::cmp::Ordering;
use std::rc::Rc;

use super::eval::Meter;
use super::value::{Map, Value};
use super::{printf, strings};

/// Go's own functions.
const OWN: &[&str] = &[
    "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "len", "index", "slice", "print", "printf", "println",
    "html", "urlquery",
];
/// Sprig's, beside those on texts.
const COMMON: &[&str] = &[
    "default", "empty", "coalesce", "ternary", "list", "first", "last", "rest", "initial", "has", "dict", "get",
    "hasKey", "keys", "int", "int64", "float64", "atoi", "add", "add1", "sub", "mul", "div", "mod", "max", "min",
    "fail",
];

/// Whether there is such a function.
pub(super) fn exists(name: &str) -> bool {
    OWN.contains(&name) || COMMON.contains(&name) || strings::NAMES.contains(&name)
}

/// Calls a function.
///
/// # Errors
/// In words, when the arguments do not fit, or it costs too much.
pub(super) fn call(name: &str, arguments: &[Value], meter: &mut Meter) -> Result<Value, String> {
    meter.step(arguments.iter().map(size).sum())?;
    let foreign = arguments.iter().any(Value::is_foreign);
    let text = |text: String, meter: &mut Meter| {
        meter.make(text.len())?;
        Ok(Value::text_of(text, foreign))
    };
    match (name, arguments) {
        ("and" | "or", []) => wants(name, "at least 1", 0),
        // Arguments are looked at one by one before; what is left here is one of them.
        ("and" | "or", [.., last]) => Ok(last.clone()),
        ("not", [value]) => Ok(Value::Bool(!value.is_true())),
        ("eq", [first, rest @ ..]) if !rest.is_empty() => {
            let same = rest.iter().map(|other| equal(first, other)).collect::<Result<Vec<_>, _>>()?;
            Ok(Value::Bool(same.into_iter().any(|same| same)))
        }
        ("ne", [first, second]) => Ok(Value::Bool(!equal(first, second)?)),
        ("lt", [first, second]) => Ok(Value::Bool(compare(first, second)? == Some(Ordering::Less))),
        ("gt", [first, second]) => Ok(Value::Bool(compare(first, second)? == Some(Ordering::Greater))),
        ("le", [first, second]) => {
            Ok(Value::Bool(matches!(compare(first, second)?, Some(Ordering::Less | Ordering::Equal))))
        }
        ("ge", [first, second]) => {
            Ok(Value::Bool(matches!(compare(first, second)?, Some(Ordering::Greater | Ordering::Equal))))
        }
        ("len", [value]) => len(value),
        ("index", [value, keys @ ..]) => keys.iter().try_fold(value.clone(), |value, key| index(&value, key)),
        ("slice", [value, bounds @ ..]) => slice(value, bounds),
        ("print", values) => text(printf::sprint(values)?, meter),
        ("println", values) => text(printf::sprintln(values)?, meter),
        ("printf", [Value::Text(format), values @ ..]) => {
            let made = printf::sprintf(&format.text, values, meter)?;
            text(made, meter)
        }
        ("printf", [other, ..]) => {
            Err(format!("wrong type for value; expected string; got {}", other.type_name()))
        }
        ("html", values) => text(strings::html(&joined(values)?), meter),
        ("urlquery", values) => text(strings::url_query(&joined(values)?), meter),
        ("default", [fallback]) => Ok(fallback.clone()),
        ("default", [fallback, value]) => Ok(if value.is_true() { value } else { fallback }.clone()),
        ("empty", [value]) => Ok(Value::Bool(!value.is_true())),
        ("coalesce", values) => Ok(values.iter().find(|value| value.is_true()).cloned().unwrap_or(Value::Nil)),
        ("ternary", [yes, no, truth]) => Ok(if truth.is_true() { yes } else { no }.clone()),
        ("list", values) => Ok(Value::list(values.to_vec())),
        ("first", [Value::List(values)]) => Ok(values.first().cloned().unwrap_or(Value::Nil)),
        ("last", [Value::List(values)]) => Ok(values.last().cloned().unwrap_or(Value::Nil)),
        ("rest", [Value::List(values)]) => Ok(Value::list(values.get(1..).unwrap_or_default().to_vec())),
        ("initial", [Value::List(values)]) => {
            Ok(Value::list(values.get(..values.len().saturating_sub(1)).unwrap_or_default().to_vec()))
        }
        ("has", [needle, Value::List(values)]) => Ok(Value::Bool(values.contains(needle))),
        ("dict", pairs) => dict(pairs),
        ("get", [Value::Map { entries, .. }, Value::Text(key)]) => {
            Ok(entries.get(&*key.text).cloned().unwrap_or_else(|| Value::text("")))
        }
        ("hasKey", [Value::Map { entries, .. }, Value::Text(key)]) => {
            Ok(Value::Bool(entries.contains_key(&*key.text)))
        }
        ("keys", [Value::Map { entries, .. }]) => {
            Ok(Value::list(entries.keys().map(|key| Value::text_of(key.as_str(), foreign)).collect()))
        }
        ("int" | "int64" | "atoi", [value]) => Ok(Value::Int(whole(value))),
        ("float64", [value]) => Ok(Value::Float(real(value))),
        ("add", values) => Ok(Value::Int(values.iter().map(whole).fold(0, i64::wrapping_add))),
        ("add1", [value]) => Ok(Value::Int(whole(value).wrapping_add(1))),
        ("mul", [first, rest @ ..]) => {
            Ok(Value::Int(rest.iter().map(whole).fold(whole(first), i64::wrapping_mul)))
        }
        ("sub", [first, second]) => Ok(Value::Int(whole(first).wrapping_sub(whole(second)))),
        ("div" | "mod", [_, second]) if whole(second) == 0 => Err("division by zero".to_owned()),
        ("div", [first, second]) => Ok(Value::Int(whole(first).wrapping_div(whole(second)))),
        ("mod", [first, second]) => Ok(Value::Int(whole(first).wrapping_rem(whole(second)))),
        ("max", [first, rest @ ..]) => Ok(Value::Int(rest.iter().map(whole).fold(whole(first), i64::max))),
        ("min", [first, rest @ ..]) => Ok(Value::Int(rest.iter().map(whole).fold(whole(first), i64::min))),
        ("fail", [value]) => Err(printf::print(value)?),
        (name, values) if strings::NAMES.contains(&name) => strings::call(name, values, foreign, meter),
        (name, values) => wants(name, "other arguments", values.len()),
    }
}

pub(super) fn wants<T>(name: &str, wanted: &str, got: usize) -> Result<T, String> {
    Err(format!("wrong number or type of args for {name}: want {wanted} got {got}"))
}

/// Bytes that an argument takes, roughly.
fn size(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.text.len(),
        Value::List(values) => values.iter().map(size).sum::<usize>() + values.len(),
        Value::Map { entries, .. } => entries.iter().map(|(key, value)| key.len() + size(value)).sum(),
        Value::Nil | Value::Missing(_) | Value::Bool(_) | Value::Int(_) | Value::Float(_) => 1,
    }
}

fn joined(values: &[Value]) -> Result<String, String> {
    match values {
        [Value::Text(text)] => Ok(text.text.to_string()),
        values => printf::sprint(values),
    }
}

fn equal(first: &Value, second: &Value) -> Result<bool, String> {
    match (first, second) {
        (Value::Missing(_) | Value::Nil, other) | (other, Value::Missing(_) | Value::Nil) => {
            Ok(matches!(other, Value::Missing(_) | Value::Nil))
        }
        (Value::Bool(first), Value::Bool(second)) => Ok(first == second),
        (Value::Int(first), Value::Int(second)) => Ok(first == second),
        (Value::Float(first), Value::Float(second)) => Ok(first == second),
        (Value::Text(first), Value::Text(second)) => Ok(first.text == second.text),
        (Value::List(_) | Value::Map { .. }, _) | (_, Value::List(_) | Value::Map { .. }) => {
            Err("non-comparable types".to_owned())
        }
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

fn compare(first: &Value, second: &Value) -> Result<Option<Ordering>, String> {
    match (first, second) {
        (Value::Int(first), Value::Int(second)) => Ok(Some(first.cmp(second))),
        (Value::Float(first), Value::Float(second)) => Ok(first.partial_cmp(second)),
        (Value::Text(first), Value::Text(second)) => Ok(Some(first.text.cmp(&second.text))),
        (Value::Missing(name), _) | (_, Value::Missing(name)) => Err(printf::missing(name)),
        (Value::Bool(_) | Value::Nil | Value::List(_) | Value::Map { .. }, _) => {
            Err("invalid type for comparison".to_owned())
        }
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

fn len(value: &Value) -> Result<Value, String> {
    let length = match value {
        Value::Text(text) => text.text.len(),
        Value::List(values) => values.len(),
        Value::Map { entries, .. } => entries.len(),
        Value::Missing(name) => return Err(printf::missing(name)),
        Value::Nil | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
            return Err(format!("len of type {}", value.type_name()));
        }
    };
    Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
}

fn index(value: &Value, key: &Value) -> Result<Value, String> {
    let out_of_range = |at: i64| format!("index out of range: {at}");
    match (value, key) {
        (Value::Map { entries, texts }, Value::Text(key)) => {
            let zero = || if *texts { Value::text("") } else { Value::Missing(key.text.to_string()) };
            Ok(entries.get(&*key.text).cloned().unwrap_or_else(zero))
        }
        (Value::List(values), Value::Int(at)) => {
            usize::try_from(*at).ok().and_then(|at| values.get(at)).cloned().ok_or_else(|| out_of_range(*at))
        }
        (Value::Text(text), Value::Int(at)) => {
            let byte = usize::try_from(*at).ok().and_then(|at| text.text.as_bytes().get(at)).copied();
            byte.map(|byte| Value::Int(i64::from(byte))).ok_or_else(|| out_of_range(*at))
        }
        (Value::Nil | Value::Missing(_), _) => Err("index of untyped nil".to_owned()),
        (Value::Map { .. }, other) => Err(format!("value has type {}; should be string", other.type_name())),
        (Value::List(_) | Value::Text(_), other) => {
            Err(format!("cannot index slice/array with type {}", other.type_name()))
        }
        (other, _) => Err(format!("can't index item of type {}", other.type_name())),
    }
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, String> {
    let length = match value {
        Value::Text(text) => text.text.len(),
        Value::List(values) => values.len(),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    let bound = |value: &Value| match value {
        Value::Int(at) => usize::try_from(*at).ok().filter(|at| *at <= length),
        _ => None,
    };
    let (from, to) = match bounds {
        [] => (Some(0), Some(length)),
        [from] => (bound(from), Some(length)),
        [from, to] => (bound(from), bound(to)),
        _ => return wants("slice", "at most 2 bounds", bounds.len()),
    };
    let (Some(from), Some(to)) = (from, to) else { return Err("index out of range".to_owned()) };
    match value {
        Value::Text(text) => match text.text.get(from..to) {
            Some(part) => Ok(Value::text_of(part, text.foreign)),
            None => Err(format!("invalid slice index: {from} > {to}, or within a character")),
        },
        Value::List(values) => match values.get(from..to) {
            Some(part) => Ok(Value::list(part.to_vec())),
            None => Err(format!("invalid slice index: {from} > {to}")),
        },
        other => Ok(other.clone()),
    }
}

fn dict(pairs: &[Value]) -> Result<Value, String> {
    let mut entries = Map::new();
    for pair in pairs.chunks(2) {
        let [key, rest @ ..] = pair else { continue };
        let value = rest.first().cloned().unwrap_or_else(|| Value::text(""));
        entries.insert(printf::print(key)?, value);
    }
    Ok(Value::Map { entries: Rc::new(entries), texts: false })
}

/// As spf13/cast: what is no number is 0.
#[expect(clippy::cast_possible_truncation, reason = "as Go's conversion, which truncates")]
pub(super) fn whole(value: &Value) -> i64 {
    match value {
        Value::Int(number) => *number,
        Value::Float(number) => *number as i64,
        Value::Bool(truth) => i64::from(*truth),
        Value::Text(text) => text.text.trim().parse().unwrap_or(0),
        Value::Nil | Value::Missing(_) | Value::List(_) | Value::Map { .. } => 0,
    }
}

#[expect(clippy::cast_precision_loss, reason = "as Go's conversion")]
fn real(value: &Value) -> f64 {
    match value {
        Value::Float(number) => *number,
        Value::Text(text) => text.text.trim().parse().unwrap_or(0.0),
        other => whole(other) as f64,
    }
}
