//! A status in the form in which API servers give it back, so that an unchanged one is not written again.

use serde::Serialize;
use serde_json::{Number, Value};

/// Largest float that is still an exact integer.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Without nulls (a merge patch cannot store them) and with whole floats as integers (Go's JSON prints `99.0` as `99`).
pub(super) fn normal(status: &impl Serialize) -> Value {
    normalised(serde_json::to_value(status).unwrap_or_default())
}

fn normalised(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key, normalised(value)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(normalised).collect()),
        Value::Number(number) => Value::Number(whole(&number).unwrap_or(number)),
        other @ (Value::Null | Value::Bool(_) | Value::String(_)) => other,
    }
}

fn whole(number: &Number) -> Option<Number> {
    let float = number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0 && float.abs() <= EXACT)?;
    // Exact by the filter above.
    #[expect(clippy::cast_possible_truncation)]
    let integer = float as i64;
    Some(Number::from(integer))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_like_what_an_api_server_returns() {
        let written = json!({"value": 99.0, "share": 0.5, "until": null, "list": [1.0, null], "n": 7});
        assert_eq!(normal(&written).to_string(), r#"{"list":[1,null],"n":7,"share":0.5,"value":99}"#);
    }
}
