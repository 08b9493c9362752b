//! Small helpers over JSON values.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// The text of a value, empty if it has none.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Now, as `metav1.Time`: whole seconds.
pub(super) fn now() -> String {
    seconds(Timestamp::now())
}

/// A time as `metav1.Time`: whole seconds.
pub(super) fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The value at a path of field names.
pub(super) fn at<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, name| value.get(name))
}

/// Sets the value at a path of field names, creating objects on the way.
pub(super) fn set_at(value: &mut Value, path: &[String], new: Value) {
    let [first, rest @ ..] = path else {
        *value = new;
        return;
    };
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    set_at(&mut value[first.as_str()], rest, new);
}

/// Sets a field of an object; a value that is none is replaced by one.
pub(super) fn set(value: &mut Value, name: &str, new: Value) {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value[name] = new;
}

/// Sets a field unless it is there.
pub(super) fn default(value: &mut Value, name: &str, fill: impl Into<Value>) {
    if value.get(name).is_none_or(Value::is_null) {
        set(value, name, fill.into());
    }
}

/// Removes a field and tells whether it was there.
pub(super) fn remove(value: &mut Value, name: &str) -> bool {
    value.as_object_mut().is_some_and(|map| map.remove(name).is_some())
}

/// Removes `null` fields, at every depth. Go's decoder treats them as absent.
pub(super) fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, field| !field.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Strings of a list.
pub(super) fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Standard base64 with padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = (byte(0) << 16) | (byte(1) << 8) | byte(2);
        for place in 0..4_usize {
            if place > chunk.len() {
                text.push('=');
                continue;
            }
            let index = (bits >> (18 - 6 * place)) & 0x3f;
            let letter = usize::try_from(index).ok().and_then(|index| ALPHABET.get(index)).copied();
            text.push(char::from(letter.unwrap_or(b'=')));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_base64() {
        for (plain, encoded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }
}
