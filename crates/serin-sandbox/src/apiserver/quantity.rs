//! Resource quantities: their canonical form, in which a real server stores them, and their order.

use std::cmp::Ordering;

use serde_json::{Value, json};

use super::schema::Schema;

/// Digits after the point that survive: quantities are exact to the nano.
const NANO_DIGITS: usize = 9;
const NANO: i128 = 1_000_000_000;
/// Decimal suffixes with their power of ten.
const DECIMAL: &[(&str, i32)] =
    &[("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
/// Binary suffixes with their power of two.
const BINARY: &[(&str, u32)] = &[("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

/// How a quantity was written, which its canonical form keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Notation {
    Decimal,
    Binary,
    Exponent,
}

/// An amount, in nano units.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quantity {
    nano: i128,
    notation: Notation,
}

impl Quantity {
    /// Reads a quantity; a number is one too.
    pub(super) fn parse(value: &Value) -> Option<Self> {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
        };
        let end = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '+' | '-')).unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        if let Some((_, power)) = BINARY.iter().find(|(name, _)| *name == suffix) {
            let nano = nano_of(number, 0)?.checked_mul(1_i128.checked_shl(*power)?)?;
            return Some(Self { nano, notation: Notation::Binary });
        }
        if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
            return Some(Self { nano: nano_of(number, *power)?, notation: Notation::Decimal });
        }
        let power = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
        Some(Self { nano: nano_of(number, power)?, notation: Notation::Exponent })
    }

    /// The shortest exact text in the notation it was written in.
    fn canonical(self) -> String {
        let Self { nano, notation } = self;
        if nano == 0 {
            return "0".to_owned();
        }
        if notation == Notation::Binary && nano % NANO == 0 {
            let whole = nano / NANO;
            // A binary notation below 1024 falls back to plain numbers.
            let fits = |(_, power): &&(&str, u32)| whole % (1_i128 << power) == 0;
            return match BINARY.iter().rev().find(fits) {
                Some((name, power)) => format!("{}{name}", whole >> power),
                None => whole.to_string(),
            };
        }
        let fits = |(_, power): &&(&str, i32)| {
            u32::try_from(power + 9)
                .ok()
                .and_then(|power| 10_i128.checked_pow(power))
                .is_some_and(|unit| nano % unit == 0)
        };
        let (name, power) = DECIMAL.iter().rev().find(fits).copied().unwrap_or(("n", -9));
        let unit = u32::try_from(power + 9).ok().and_then(|power| 10_i128.checked_pow(power)).unwrap_or(1);
        match notation {
            Notation::Exponent if power != 0 => format!("{}e{power}", nano / unit),
            Notation::Exponent | Notation::Decimal | Notation::Binary => format!("{}{name}", nano / unit),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.nano.partial_cmp(&other.nano)
    }
}

/// A decimal number times a power of ten, in nano units; what is finer is rounded up, as Kubernetes does.
fn nano_of(number: &str, power: i32) -> Option<i128> {
    let (negative, digits) = match number.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() || !format!("{whole}{fraction}").bytes().all(|c| c.is_ascii_digit())
    {
        return None;
    }
    let mantissa: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let shift = power + i32::try_from(NANO_DIGITS).ok()? - i32::try_from(fraction.len()).ok()?;
    let scale = 10_i128.checked_pow(shift.unsigned_abs())?;
    let nano = if shift >= 0 {
        mantissa.checked_mul(scale)?
    } else {
        mantissa / scale + i128::from(mantissa % scale != 0)
    };
    Some(if negative { -nano } else { nano })
}

/// Rewrites every quantity of a built-in object in canonical form, and base64 in one line; what is malformed is left for
/// validation.
pub(super) fn canonicalize(value: &mut Value, schema: Schema<'_>) {
    match value {
        Value::Object(map) => {
            for (name, field) in map.iter_mut() {
                let node = schema.property_node(name).or_else(|| schema.keyword("additionalProperties"));
                let Some(node) = node else { continue };
                if is_quantity(node) {
                    if let Some(quantity) = Quantity::parse(field) {
                        *field = json!(quantity.canonical());
                    }
                } else {
                    canonicalize(field, Schema::new(node));
                }
            }
        }
        Value::Array(items) => {
            if let Some(inner) = schema.items() {
                items.iter_mut().for_each(|item| canonicalize(item, inner));
            }
        }
        Value::String(text) if schema.keyword("format").is_some_and(|format| format == "byte") => {
            text.retain(|c| !matches!(c, '\r' | '\n'));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether a schema node is an amount.
pub(super) fn is_quantity(node: &Value) -> bool {
    node.get("$ref").and_then(Value::as_str).is_some_and(|name| name.ends_with(".resource.Quantity"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_in_lines_is_stored_in_one() {
        let schema =
            json!({"properties": {"data": {"additionalProperties": {"type": "string", "format": "byte"}}}});
        let mut secret = json!({"data": {"a": "aGVsbG8g\nd29ybGQ=\r\n"}, "kind": "a\nb"});
        canonicalize(&mut secret, Schema::new(&schema));
        assert_eq!(secret, json!({"data": {"a": "aGVsbG8gd29ybGQ="}, "kind": "a\nb"}));
    }

    #[test]
    fn writes_what_kubernetes_writes() {
        for (written, canonical) in [
            ("2000m", "2"),
            ("1500m", "1500m"),
            ("0.1", "100m"),
            ("1024Mi", "1Gi"),
            ("0.5Gi", "512Mi"),
            ("1000", "1k"),
            ("1e3", "1e3"),
            ("0", "0"),
            ("-3", "-3"),
        ] {
            assert_eq!(Quantity::parse(&json!(written)).unwrap().canonical(), canonical, "{written}");
        }
        assert!(Quantity::parse(&json!("lots")).is_none() && Quantity::parse(&json!("")).is_none());
        assert!(Quantity::parse(&json!("1Ki")) > Quantity::parse(&json!("1k")));
    }
}
