//! Reading Kubernetes' protobuf bodies, which kubectl's `create` subcommands send. Answers are always JSON.
//!
//! The wire format knows field numbers, the schemas know names and types; `kinds/wire.json` joins the two.

use std::collections::HashMap;
use std::sync::LazyLock;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::json::base64;
use super::schema::{Schema, named, types};
use super::status::ApiError;

/// First bytes of every Kubernetes protobuf document.
const MAGIC: &[u8] = b"k8s\0";
/// Messages within messages; Kubernetes' own types are less than half as deep.
const DEPTH_MAX: usize = 64;
const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

/// Per type: field number to JSON name; see `kinds/wire_names.py` for the notation.
static WIRE: LazyLock<HashMap<String, HashMap<u64, String>>> = LazyLock::new(|| {
    let parsed = serde_json::from_str(include_str!("kinds/wire.json"));
    parsed.unwrap_or_else(|error| {
        // A test proves that the embedded file parses.
        tracing::error!(%error, "embedded wire.json does not parse");
        HashMap::new()
    })
});

/// A field's content as it comes off the wire.
enum Raw<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
}

/// What went wrong, without the words around it.
struct Malformed(String);

impl From<&str> for Malformed {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Decodes a document.
pub(super) fn decode(body: &[u8]) -> Result<Value, ApiError> {
    document(body).map_err(|Malformed(why)| ApiError::bad_request(format!("error decoding protobuf: {why}")))
}

fn document(body: &[u8]) -> Result<Value, Malformed> {
    let envelope = body.strip_prefix(MAGIC).ok_or("the magic prefix is missing")?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in Fields(envelope) {
        match field? {
            (1, Raw::Bytes(meta)) => {
                for field in Fields(meta) {
                    match field? {
                        (1, Raw::Bytes(bytes)) => api_version = text(bytes)?,
                        (2, Raw::Bytes(bytes)) => kind = text(bytes)?,
                        _ => {}
                    }
                }
            }
            (2, Raw::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let name = type_name(&api_version, &kind)
        .ok_or_else(|| Malformed(format!("no type {kind} in {api_version} is known by its wire format")))?;
    let schema = named(name).ok_or("the type has no schema")?;
    let mut object = message(raw, name, schema, 0)?;
    object.insert("apiVersion".to_owned(), json!(api_version));
    object.insert("kind".to_owned(), json!(kind));
    Ok(Value::Object(object))
}

fn type_name(api_version: &str, kind: &str) -> Option<&'static str> {
    if kind == "DeleteOptions" {
        return Some(DELETE_OPTIONS);
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let wanted = json!({"group": group, "kind": kind, "version": version});
    let of_kind = |node: &Value| {
        node["x-kubernetes-group-version-kind"].as_array().is_some_and(|kinds| kinds.contains(&wanted))
    };
    types().iter().find(|(_, node)| of_kind(node)).map(|(name, _)| name.as_str())
}

/// Decodes a message. `name` finds its numbers, `schema` its types; they differ for messages whose fields stand inline.
fn message(bytes: &[u8], name: &str, schema: Schema<'_>, depth: usize) -> Result<Map<String, Value>, Malformed> {
    if depth > DEPTH_MAX {
        return Err("nested too deeply".into());
    }
    let numbers = WIRE.get(name).ok_or_else(|| Malformed(format!("{name} has no known wire format")))?;
    let mut object = Map::new();
    for field in Fields(bytes) {
        let (number, raw) = field?;
        // A number from a newer version is skipped, as protobuf means it to be.
        let Some(entry) = numbers.get(&number) else { continue };
        if let Some(inline) = entry.strip_prefix('>') {
            let Raw::Bytes(bytes) = raw else { return Err("an inline message is no message".into()) };
            object.append(&mut message(bytes, inline, schema, depth + 1)?);
            continue;
        }
        let (field_name, drops_empty) = match entry.strip_suffix('?') {
            Some(field_name) => (field_name, true),
            None => (entry.as_str(), false),
        };
        let Some(node) = schema.property_node(field_name) else { continue };
        let slot = object.entry(field_name).or_insert(Value::Null);
        add(slot, node, raw, depth)?;
        if drops_empty && is_empty(slot) {
            object.remove(field_name);
        }
    }
    Ok(object)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// Adds one occurrence of a field: lists and maps come item by item.
fn add(slot: &mut Value, node: &Value, raw: Raw<'_>, depth: usize) -> Result<(), Malformed> {
    let schema = Schema::new(node);
    if let (Some("array"), Some(items)) = (schema.kind(), node.get("items")) {
        let item = single(items, raw, depth)?;
        match slot {
            Value::Array(list) => list.push(item),
            _ => *slot = json!([item]),
        }
        return Ok(());
    }
    if let Some(values) = node.get("additionalProperties").filter(|values| values.is_object()) {
        let Raw::Bytes(bytes) = raw else { return Err("a map entry is no message".into()) };
        let (mut key, mut value) = (String::new(), Value::Null);
        for field in Fields(bytes) {
            match field? {
                (1, Raw::Bytes(bytes)) => key = text(bytes)?,
                (2, raw) => value = single(values, raw, depth)?,
                _ => {}
            }
        }
        slot[key] = if value.is_null() { json!("") } else { value };
        return Ok(());
    }
    *slot = single(node, raw, depth)?;
    Ok(())
}

fn single(node: &Value, raw: Raw<'_>, depth: usize) -> Result<Value, Malformed> {
    let schema = Schema::new(node);
    let name = node.get("$ref").and_then(Value::as_str).unwrap_or_default();
    match (schema.kind(), raw) {
        (_, Raw::Bytes(bytes)) if !name.is_empty() => reference(name, schema, bytes, depth),
        (Some("string"), Raw::Bytes(bytes)) if schema.keyword("format").is_some_and(|f| f == "byte") => {
            Ok(json!(base64(bytes)))
        }
        (Some("string"), Raw::Bytes(bytes)) => Ok(json!(text(bytes)?)),
        (Some("boolean"), Raw::Varint(number)) => Ok(json!(number != 0)),
        // Negative numbers are sign-extended to 64 bits.
        (Some("integer"), Raw::Varint(number)) => Ok(json!(number.cast_signed())),
        (Some("number"), Raw::Fixed64(bytes)) => Ok(json!(f64::from_le_bytes(bytes))),
        _ => Err("a field is not of its type".into()),
    }
}

/// Types with a form of their own, and messages.
fn reference(name: &str, schema: Schema<'_>, bytes: &[u8], depth: usize) -> Result<Value, Malformed> {
    match name.rsplit('.').next().unwrap_or_default() {
        "Time" | "MicroTime" => time(bytes, name.ends_with("MicroTime")),
        "Quantity" => Ok(nested(bytes, 1)?.map_or_else(|| json!("0"), |text| json!(text))),
        "IntOrString" => int_or_string(bytes),
        "FieldsV1" | "RawExtension" => {
            let raw = nested(bytes, 1)?.unwrap_or_default();
            serde_json::from_str(&raw).map_err(|error| Malformed(error.to_string()))
        }
        _ => Ok(Value::Object(message(bytes, name, schema, depth + 1)?)),
    }
}

/// The text in a field of a small message.
fn nested(bytes: &[u8], wanted: u64) -> Result<Option<String>, Malformed> {
    for field in Fields(bytes) {
        if let (number, Raw::Bytes(bytes)) = field?
            && number == wanted
        {
            return text(bytes).map(Some);
        }
    }
    Ok(None)
}

fn int_or_string(bytes: &[u8]) -> Result<Value, Malformed> {
    let (mut is_text, mut number) = (false, 0);
    for field in Fields(bytes) {
        match field? {
            (1, Raw::Varint(kind)) => is_text = kind == 1,
            (2, Raw::Varint(value)) => number = value.cast_signed(),
            _ => {}
        }
    }
    if is_text { Ok(json!(nested(bytes, 3)?.unwrap_or_default())) } else { Ok(json!(number)) }
}

/// An absent time is an empty message.
fn time(bytes: &[u8], micro: bool) -> Result<Value, Malformed> {
    let (mut seconds, mut nanos) = (None, 0);
    for field in Fields(bytes) {
        match field? {
            (1, Raw::Varint(value)) => seconds = Some(value.cast_signed()),
            (2, Raw::Varint(value)) => nanos = i32::try_from(value).unwrap_or(0),
            _ => {}
        }
    }
    let Some(seconds) = seconds else { return Ok(Value::Null) };
    let time = Timestamp::new(seconds, nanos).map_err(|error| Malformed(error.to_string()))?;
    let format = if micro { "%Y-%m-%dT%H:%M:%S%.6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(json!(time.strftime(format).to_string()))
}

fn text(bytes: &[u8]) -> Result<String, Malformed> {
    String::from_utf8(bytes.to_vec()).map_err(|error| Malformed(error.to_string()))
}

/// Iterates over the fields of a message; stops after the first error.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0_u64;
        for shift in (0..u64::BITS).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or("cut short")?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("a number is too long".into())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or("cut short")?;
        self.0 = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u64, Raw<'a>), Malformed> {
        let tag = self.varint()?;
        let raw = match tag & 0x7 {
            0 => Raw::Varint(self.varint()?),
            1 => Raw::Fixed64(self.take(8)?.try_into().map_err(|_error| "cut short")?),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_error| "cut short")?;
                Raw::Bytes(self.take(length)?)
            }
            5 => Raw::Bytes(self.take(4)?),
            _ => return Err("an unknown wire type".into()),
        };
        Ok((tag >> 3, raw))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Raw<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![(number << 3) | 2, u8::try_from(bytes.len()).unwrap()];
        out.extend_from_slice(bytes);
        out
    }

    #[test]
    fn decodes_an_envelope_with_metadata_and_maps() {
        let label = [field(1, b"app"), field(2, b"podinfo")].concat();
        let metadata = [field(1, b"test"), field(2, b""), field(11, &label), field(8, b"")].concat();
        let kind = [field(1, b"v1"), field(2, b"Namespace")].concat();
        let body = [MAGIC.to_vec(), field(1, &kind), field(2, &field(1, &metadata))].concat();
        let expected = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "test", "labels": {"app": "podinfo"}}
        });
        assert_eq!(decode(&body).unwrap(), expected);
    }

    #[test]
    fn refuses_what_is_cut_short() {
        assert!(decode(b"k8s\0\x0a\x7f").is_err());
        assert!(decode(b"{}").is_err());
    }
}
