//! Kubernetes quantities by value: `0.5`, `500m` and 5e-1 are one amount, and the API server rewrites them.

/// Decimal places kept: `n` is the smallest suffix, as in the API server.
const SCALE: i32 = 9;

/// The amount in a form that is the same for every spelling; `None` if it is no quantity (or beyond 128 bits).
pub(super) fn canonical(text: &str) -> Option<String> {
    let text = text.trim();
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let split = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (mantissa, suffix) = unsigned.split_at_checked(split)?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (factor, exponent) = suffix_value(suffix)?;
    let exponent = exponent + SCALE - i32::try_from(fraction.len()).ok()?;
    let scaled = digits.checked_mul(factor)?;
    let nano = if exponent >= 0 {
        scaled.checked_mul(10_i128.checked_pow(exponent.unsigned_abs())?)?
    } else {
        // As the API server: what is finer than nano is rounded up.
        let divisor = 10_i128.checked_pow(exponent.unsigned_abs())?;
        (scaled + divisor - 1) / divisor
    };
    let sign = if negative && nano != 0 { "-" } else { "" };
    let unit = 10_i128.pow(SCALE.unsigned_abs());
    let fraction = format!("{:09}", nano % unit);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    Some(format!("{sign}{}{point}{fraction}", nano / unit))
}

/// A factor and a power of ten.
fn suffix_value(suffix: &str) -> Option<(i128, i32)> {
    let binary = |power: u32| Some((1_i128 << (10 * power), 0));
    let decimal = |power: i32| Some((1, power));
    match suffix {
        "" => decimal(0),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => decimal(suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    }
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn spellings_of_one_amount_agree() {
        for same in [
            &["0.5", "500m", ".5", "5e-1", "+0.50"][..],
            &["1Gi", "1024Mi", "1073741824", "1048576Ki"],
            &["1k", "1000", "1e3", "1E3", "1000000m"],
            &["0", "0m", "-0", "0.000"],
            &["1n", "0.1n", "1e-9"],
        ] {
            let forms: Vec<_> = same.iter().map(|text| canonical(text)).collect();
            assert!(forms.iter().all(|form| form.is_some() && *form == forms[0]), "{same:?}: {forms:?}");
        }
        assert_ne!(canonical("1M"), canonical("1Mi"));
        for wrong in ["", "Gi", "1GiB", "one", "1.2.3", "1e", "1e99999"] {
            assert_eq!(canonical(wrong), None, "{wrong}");
        }
    }
}
