//! Plain scalars as kubectl reads them: YAML 1.1 by way of Go's yaml.v2, then JSON.
//!
//! `0644` is 420, `yes` and `n` are booleans, `1_000` is 1000, `089` is 89, a date is a string, and a float without a
//! fraction becomes an integer on its way through JSON. A table test compares with kubectl itself.

use serde_json::{Number, Value};

/// Why a scalar has no JSON form.
pub(super) const NOT_FINITE: &str = "JSON has no infinity and no NaN";
/// From here on Go's JSON writes floats with an exponent, which is no integer any more.
const GO_EXPONENT_FROM: f64 = 1e21;

/// How a scalar was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quoting {
    /// Without quotes: its type follows from its text.
    Plain,
    /// Quoted or a block: a string unless a tag says otherwise.
    Quoted,
}

/// The value of a scalar, by its text, quoting and tag (the suffix of a core tag: `str`, `int` …).
pub(super) fn resolve(text: &str, quoting: Quoting, tag: Option<&str>) -> Result<Value, String> {
    match (tag, quoting) {
        (Some("str"), _) | (None, Quoting::Quoted) => Ok(Value::String(text.to_owned())),
        (None, Quoting::Plain) => resolve_plain(text),
        (Some(tag @ ("int" | "float" | "bool" | "null")), _) => {
            let value = resolve_plain(text)?;
            let fits = match tag {
                "int" => value.is_i64() || value.is_u64(),
                "float" => value.is_number(),
                "bool" => value.is_boolean(),
                _ => value.is_null(),
            };
            if fits { Ok(value) } else { Err(format!("`{text}` is not a value of !!{tag}")) }
        }
        (Some("binary"), _) => decode_base64(text).map(Value::String),
        // As with Go: a tag that is not known leaves the text as it is.
        (Some(_), _) => Ok(Value::String(text.to_owned())),
    }
}

/// The text of a mapping key; JSON has string keys only.
pub(super) fn key_text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Null => Err("a key must not be null".to_owned()),
        Value::Array(_) | Value::Object(_) => Err("a key must be a scalar".to_owned()),
    }
}

fn resolve_plain(text: &str) -> Result<Value, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Ok(Value::Bool(true));
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Ok(Value::Bool(false));
        }
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf"
        | "-.INF" => return Err(NOT_FINITE.to_owned()),
        _ => {}
    }
    let number = match text.as_bytes().first() {
        Some(b'.') => float(text),
        Some(b'0'..=b'9' | b'+' | b'-') => {
            let plain = text.replace('_', "");
            match integer(&plain) {
                Some(number) => Some(number),
                None => float(&plain),
            }
        }
        _ => None,
    };
    Ok(number.map_or_else(|| Value::String(text.to_owned()), Value::Number))
}

/// Go's `strconv.ParseInt(text, 0, 64)`, then `ParseUint`. What exceeds 63 bits is a float in JSON's hands.
fn integer(text: &str) -> Option<Number> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, lower.get(2..)?),
        [b'0', b'b', ..] => (2, lower.get(2..)?),
        [b'0', b'o', ..] => (8, lower.get(2..)?),
        [b'0', _, ..] => (8, lower.get(1..)?),
        _ => (10, lower.as_str()),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    let signed = if negative { -i128::from(magnitude) } else { i128::from(magnitude) };
    match i64::try_from(signed) {
        Ok(small) => Some(Number::from(small)),
        Err(_) if negative => None,
        #[expect(clippy::cast_precision_loss, reason = "Go's JSON decoding loses the same digits")]
        Err(_) => Number::from_f64(magnitude as f64),
    }
}

fn float(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let well_formed = match mantissa.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty()),
        None => !mantissa.is_empty() && digits(mantissa),
    };
    if !well_formed || exponent.is_some_and(|part| part.is_empty() || !digits(part)) {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    normalise_float(value)
}

/// A float as it comes out of Go's JSON: whole numbers in range are integers there.
pub(super) fn normalise_float(value: f64) -> Option<Number> {
    let whole = value.fract() == 0.0 && value.abs() < GO_EXPONENT_FROM;
    #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^63 was just checked")]
    if whole && value.abs() < 9.2e18 {
        return Some(Number::from(value as i64));
    }
    Number::from_f64(value)
}

fn decode_base64(text: &str) -> Result<String, String> {
    let invalid = || "`!!binary` needs base64 of UTF-8 text".to_owned();
    let (mut bits, mut count, mut bytes) = (0_u32, 0_u32, Vec::new());
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=') {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(invalid()),
        };
        bits = (bits << 6) | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    String::from_utf8(bytes).map_err(|_| invalid())
}
