//! Reading request bodies: JSON, YAML or protobuf, duplicate fields noticed.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::call::Call;
use super::protobuf;
use super::prune::join;
use super::request::FieldValidation;
use super::status::ApiError;

/// A parsed document and the paths of fields that appear twice (the last one wins).
pub(super) struct Document {
    pub(super) value: Value,
    pub(super) duplicates: Vec<String>,
}

/// Parses a submitted object by its content type.
pub(super) fn parse(content_type: &str, body: &[u8]) -> Result<Document, ApiError> {
    let media = content_type.split(';').next().unwrap_or_default().trim();
    match media {
        "" | "application/json" => parse_json(body),
        "application/yaml" | "application/apply-patch+yaml" => parse_yaml(body),
        "application/vnd.kubernetes.protobuf" => {
            Ok(Document { value: protobuf::decode(body)?, duplicates: Vec::new() })
        }
        other => Err(ApiError::unsupported_media_type(format!(
            "the body of the request was in an unknown format - accepted media types include: application/json, \
             application/yaml; got \"{other}\""
        ))),
    }
}

fn parse_json(body: &[u8]) -> Result<Document, ApiError> {
    let duplicates = RefCell::default();
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let seed = Watched { path: String::new(), duplicates: &duplicates };
    let value = seed
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| ApiError::bad_request(format!("the object provided is unrecognized: {error}")))?;
    Ok(Document { value, duplicates: duplicates.into_inner() })
}

fn parse_yaml(body: &[u8]) -> Result<Document, ApiError> {
    // Most clients send JSON under YAML's name, and only there duplicates can be told.
    if body.first() == Some(&b'{') {
        return parse_json(body);
    }
    let value = serde_yaml::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("error decoding YAML: {error}")))?;
    Ok(Document { value, duplicates: Vec::new() })
}

/// Reports fields that are wrong but survivable, as `fieldValidation` says.
pub(super) fn report(call: &mut Call, problems: Vec<String>) -> Result<(), ApiError> {
    match call.options.field_validation {
        FieldValidation::Ignore => Ok(()),
        FieldValidation::Warn => {
            call.warnings.extend(problems);
            Ok(())
        }
        FieldValidation::Strict if problems.is_empty() => Ok(()),
        FieldValidation::Strict => Err(ApiError::bad_request(format!(
            "{} in version \"{}\" cannot be handled as a {}: strict decoding error: {}",
            call.resource.kind,
            call.resource.version,
            call.resource.kind,
            problems.join(", ")
        ))),
    }
}

/// Deserializes a value, noting duplicate fields with their path.
struct Watched<'a> {
    path: String,
    duplicates: &'a RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Watched<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Watched<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Watched {
            path: format!("{}[{}]", self.path, list.len()),
            duplicates: self.duplicates,
        })? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let path = join(&self.path, &name);
            if map.contains_key(&name) {
                self.duplicates.borrow_mut().push(path.clone());
            }
            let value = fields.next_value_seed(Watched { path, duplicates: self.duplicates })?;
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_duplicate_fields() {
        let document = parse_json(br#"{"spec": {"a": 1, "l": [{"x": 1, "x": 2}], "a": 2}}"#).unwrap();
        assert_eq!(document.duplicates, ["spec.l[0].x", "spec.a"]);
        assert_eq!(document.value["spec"]["a"], 2);
    }
}
