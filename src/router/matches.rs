//! Conditions of two places that have to hold together.

use serde_json::{Map, Value};

/// Fields that hold conditions by name; those of both sides hold together.
const BY_NAME: [&str; 4] = ["headers", "withoutHeaders", "queryParams", "sourceLabels"];

/// Each of `special` together with each of `common`, in Istio's words; where both say something of the same thing, `special`
/// counts. Without `common` just `special`.
pub fn merged(special: &[Value], common: &[Value]) -> Vec<Value> {
    if common.is_empty() {
        return special.to_vec();
    }
    special.iter().flat_map(|special| common.iter().map(|common| both(special, common))).collect()
}

fn both(special: &Value, common: &Value) -> Value {
    let (Some(special), Some(common)) = (special.as_object(), common.as_object()) else { return special.clone() };
    let mut out = common.clone();
    for (field, value) in special {
        let known = out.get(field).and_then(Value::as_object).filter(|_| BY_NAME.contains(&field.as_str()));
        let value = match (known, value.as_object()) {
            (Some(known), Some(more)) => {
                let all: Map<String, Value> = known.clone().into_iter().chain(more.clone()).collect();
                Value::Object(all)
            }
            _ => value.clone(),
        };
        out.insert(field.clone(), value);
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_special_condition_holds_with_every_common_one() {
        let special = [
            json!({"headers": {"x": {"exact": "1"}}}),
            json!({"headers": {"cookie": {"regex": "a"}}, "uri": {"exact": "/s"}}),
        ];
        let common =
            [json!({"uri": {"prefix": "/a"}, "headers": {"x": {"exact": "0"}, "y": {"exact": "2"}}}), json!({})];
        assert_eq!(
            merged(&special, &common),
            [
                json!({"uri": {"prefix": "/a"}, "headers": {"x": {"exact": "1"}, "y": {"exact": "2"}}}),
                json!({"headers": {"x": {"exact": "1"}}}),
                json!({"uri": {"exact": "/s"}, "headers": {"x": {"exact": "0"}, "y": {"exact": "2"}, "cookie": {"regex": "a"}}}),
                json!({"headers": {"cookie": {"regex": "a"}}, "uri": {"exact": "/s"}}),
            ]
        );
        assert_eq!(merged(&special, &[]), special);
        assert!(merged(&[], &common).is_empty());
    }
}
