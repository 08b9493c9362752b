//! How Go's `fmt` prints values.

use super::eval::Meter;
use super::value::Value;

/// Widest field and most digits after the point; Go's own limit is a million.
const WIDTH_MAX: usize = 1_000;

/// As `fmt.Sprint` of one value.
///
/// # Errors
/// For what is not there.
pub(super) fn print(value: &Value) -> Result<String, String> {
    Ok(match value {
        // Go prints this of a nil interface that a template's action yields.
        Value::Nil => "<no value>".to_owned(),
        Value::Missing(name) => return Err(missing(name)),
        Value::Bool(truth) => truth.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => general(*number, None),
        Value::Text(text) => text.text.to_string(),
        Value::List(values) => {
            let words = values.iter().map(inner).collect::<Result<Vec<_>, _>>()?;
            format!("[{}]", words.join(" "))
        }
        Value::Map { entries, .. } => {
            let words = entries.iter().map(|(key, value)| Ok(format!("{key}:{}", inner(value)?)));
            format!("map[{}]", words.collect::<Result<Vec<_>, String>>()?.join(" "))
        }
    })
}

fn inner(value: &Value) -> Result<String, String> {
    if *value == Value::Nil { Ok("<nil>".to_owned()) } else { print(value) }
}

/// What is said of a key that is not there.
pub(super) fn missing(name: &str) -> String {
    format!("there is no variable \"{name}\"")
}

/// As `fmt.Sprint`: blanks stand between two operands of which none is a text.
pub(super) fn sprint(values: &[Value]) -> Result<String, String> {
    let mut text = String::new();
    for (index, value) in values.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|before| values.get(before));
        let blank =
            before.is_some_and(|before| !matches!(before, Value::Text(_)) && !matches!(value, Value::Text(_)));
        if blank {
            text.push(' ');
        }
        text.push_str(&inner(value)?);
    }
    Ok(text)
}

/// As `fmt.Sprintln`.
pub(super) fn sprintln(values: &[Value]) -> Result<String, String> {
    let words = values.iter().map(inner).collect::<Result<Vec<_>, _>>()?;
    Ok(format!("{}\n", words.join(" ")))
}

/// The flags of one verb.
#[derive(Debug, Default, Clone)]
struct Flags {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// As `fmt.Sprintf`.
///
/// # Errors
/// For what is not there, and what gets too long.
pub(super) fn sprintf(format: &str, values: &[Value], meter: &mut Meter) -> Result<String, String> {
    let mut text = String::new();
    let mut rest = format.chars().peekable();
    let mut arguments = values.iter();
    while let Some(character) = rest.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        let flags = flags(&mut rest, &mut arguments)?;
        let verb = rest.next();
        let piece = match verb {
            None => "%!(NOVERB)".to_owned(),
            Some('%') => "%".to_owned(),
            Some(verb) => match arguments.next() {
                None => format!("%!{verb}(MISSING)"),
                Some(Value::Missing(name)) => return Err(missing(name)),
                Some(value) => padded(one(verb, value, &flags)?, value, &flags),
            },
        };
        text.push_str(&piece);
        meter.make(text.len())?;
    }
    let extra = arguments.map(|value| Ok(format!("{}={}", value.type_name(), inner(value)?)));
    let extra = extra.collect::<Result<Vec<_>, String>>()?;
    if !extra.is_empty() {
        text.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    Ok(text)
}

fn flags<'a>(
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
    arguments: &mut impl Iterator<Item = &'a Value>,
) -> Result<Flags, String> {
    let mut flags = Flags::default();
    while let Some(flag) = rest.next_if(|it| "+-# 0".contains(*it)) {
        match flag {
            '-' => flags.minus = true,
            '+' => flags.plus = true,
            '#' => flags.sharp = true,
            '0' => flags.zero = true,
            _ => flags.space = true,
        }
    }
    flags.width = count(rest, arguments)?;
    if rest.next_if_eq(&'.').is_some() {
        flags.precision = Some(count(rest, arguments)?.unwrap_or(0));
    }
    if rest.peek() == Some(&'[') {
        return Err("argument indexes such as %[1]d are not supported in queries".to_owned());
    }
    Ok(flags)
}

/// Digits, or `*` for the next argument.
fn count<'a>(
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
    arguments: &mut impl Iterator<Item = &'a Value>,
) -> Result<Option<usize>, String> {
    let mut number: Option<usize> = None;
    if rest.next_if_eq(&'*').is_some() {
        match arguments.next() {
            Some(Value::Int(width)) => number = usize::try_from(*width).ok(),
            _ => return Err("* wants a whole number".to_owned()),
        }
    }
    while let Some(digit) = rest.peek().and_then(|it| it.to_digit(10)) {
        rest.next();
        number = Some(number.unwrap_or(0).saturating_mul(10).saturating_add(digit as usize));
    }
    match number {
        Some(number) if number > WIDTH_MAX => Err(format!("a width or precision of more than {WIDTH_MAX}")),
        number => Ok(number),
    }
}

/// One value by its verb, without padding.
fn one(verb: char, value: &Value, flags: &Flags) -> Result<String, String> {
    let wrong = || Ok(format!("%!{verb}({}={})", value.type_name(), inner(value)?));
    Ok(match (verb, value) {
        ('v' | 's', Value::Text(text)) => cut(&text.text, flags.precision),
        ('q', Value::Text(text)) => quoted(&cut(&text.text, flags.precision)),
        ('x', Value::Text(text)) => text.text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ('X', Value::Text(text)) => text.text.bytes().map(|byte| format!("{byte:02X}")).collect(),
        ('v' | 't', Value::Bool(truth)) => truth.to_string(),
        ('v' | 'd', Value::Int(number)) => signed(number.unsigned_abs().to_string(), *number < 0, flags),
        ('x', Value::Int(number)) => based(format!("{:x}", number.unsigned_abs()), "0x", *number < 0, flags),
        ('X', Value::Int(number)) => based(format!("{:X}", number.unsigned_abs()), "0X", *number < 0, flags),
        ('o', Value::Int(number)) => based(format!("{:o}", number.unsigned_abs()), "0", *number < 0, flags),
        ('b', Value::Int(number)) => based(format!("{:b}", number.unsigned_abs()), "0b", *number < 0, flags),
        ('c', Value::Int(number)) => {
            u32::try_from(*number).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER).to_string()
        }
        ('U', Value::Int(number)) => format!("U+{number:04X}"),
        ('q', Value::Int(number)) => {
            format!(
                "{:?}",
                u32::try_from(*number).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER)
            )
        }
        ('f' | 'F', Value::Float(number)) => {
            signed(format!("{:.*}", flags.precision.unwrap_or(6), number.abs()), number.is_sign_negative(), flags)
        }
        ('e' | 'E', Value::Float(number)) => {
            let text = scientific(number.abs(), Some(flags.precision.unwrap_or(6)));
            let text = if verb == 'E' { text.to_uppercase() } else { text };
            signed(text, number.is_sign_negative(), flags)
        }
        ('g' | 'G', Value::Float(number)) => {
            let text = general(number.abs(), flags.precision);
            let text = if verb == 'G' { text.to_uppercase() } else { text };
            signed(text, number.is_sign_negative(), flags)
        }
        ('v', Value::Float(number)) => {
            signed(general(number.abs(), flags.precision), number.is_sign_negative(), flags)
        }
        ('v', Value::Nil) => "<nil>".to_owned(),
        (_, Value::Nil) => format!("%!{verb}(<nil>)"),
        ('v', Value::List(_) | Value::Map { .. }) => print(value)?,
        (_, Value::List(values)) => {
            let words = values.iter().map(|value| one(verb, value, flags)).collect::<Result<Vec<_>, _>>()?;
            format!("[{}]", words.join(" "))
        }
        ('T', _) => value.type_name().to_owned(),
        _ => return wrong(),
    })
}

fn cut(text: &str, precision: Option<usize>) -> String {
    match precision {
        Some(most) => text.chars().take(most).collect(),
        None => text.to_owned(),
    }
}

fn signed(digits: String, negative: bool, flags: &Flags) -> String {
    let sign = match () {
        () if negative => "-",
        () if flags.plus => "+",
        () if flags.space => " ",
        () => "",
    };
    format!("{sign}{digits}")
}

fn based(digits: String, prefix: &str, negative: bool, flags: &Flags) -> String {
    let prefix = if flags.sharp { prefix } else { "" };
    signed(format!("{prefix}{digits}"), negative, flags)
}

fn padded(text: String, value: &Value, flags: &Flags) -> String {
    let missing = flags.width.unwrap_or(0).saturating_sub(text.chars().count());
    if missing == 0 {
        return text;
    }
    let number = matches!(value, Value::Int(_) | Value::Float(_));
    if flags.minus {
        return format!("{text}{}", " ".repeat(missing));
    }
    if flags.zero && number {
        let sign = usize::from(text.starts_with(['-', '+', ' ']));
        return format!("{}{}{}", &text[..sign], "0".repeat(missing), &text[sign..]);
    }
    let fill = if flags.zero { "0" } else { " " };
    format!("{}{text}", fill.repeat(missing))
}

/// As `strconv.Quote`, which PromQL's double-quoted strings read as well.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\u{b}' => out.push_str("\\v"),
            control if control.is_control() && u32::from(control) < 0x80 => {
                out.push_str(&format!("\\x{:02x}", u32::from(control)));
            }
            control if control.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// As the verb `%g`: the shortest digits that read back the same, or so many; with an exponent where it is below -4, or
/// not below the number of digits.
fn general(number: f64, precision: Option<usize>) -> String {
    /// What counts as the number of digits when they are as few as possible.
    const SHORTEST: i32 = 6;
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() };
    }
    let digits = precision.map(|digits| digits.max(1) - 1);
    let text = scientific(number, digits);
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let limit = precision.map_or(SHORTEST, |digits| i32::try_from(digits.max(1)).unwrap_or(SHORTEST));
    // Digits that were asked for and are zero are not shown.
    let mantissa = match mantissa.contains('.') {
        true => mantissa.trim_end_matches('0').trim_end_matches('.'),
        false => mantissa,
    };
    if exponent < -4 || exponent >= limit {
        return format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    }
    match format!("{mantissa}e{exponent}").parse::<f64>() {
        Ok(rounded) => rounded.to_string(),
        Err(_) => text,
    }
}

/// `1.5e+06`, with so many digits after the point, or as few as read back the same.
fn scientific(number: f64, digits: Option<usize>) -> String {
    let text = match digits {
        Some(digits) => format!("{number:.digits$e}"),
        None => format!("{number:e}"),
    };
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}
