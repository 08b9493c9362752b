//! The syntax of names, as Kubernetes defines and explains it.

/// Longest DNS label, label value and label name.
const LABEL_LEN_MAX: usize = 63;
/// Longest DNS subdomain.
const SUBDOMAIN_LEN_MAX: usize = 253;

fn is_lower_alphanumeric(c: u8) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().all(|c| is_lower_alphanumeric(*c) || *c == b'-')
        && bytes.first().is_some_and(|c| is_lower_alphanumeric(*c))
        && bytes.last().is_some_and(|c| is_lower_alphanumeric(*c))
}

/// Why `text` is no RFC 1123 label.
pub(super) fn dns_label(text: &str) -> Option<String> {
    if text.len() > LABEL_LEN_MAX {
        return Some(format!("must be no more than {LABEL_LEN_MAX} characters"));
    }
    (!is_label(text)).then(|| {
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end \
         with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
         '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            .to_owned()
    })
}

/// Why `text` is no RFC 1123 subdomain.
pub(super) fn dns_subdomain(text: &str) -> Option<String> {
    if text.len() > SUBDOMAIN_LEN_MAX {
        return Some(format!("must be no more than {SUBDOMAIN_LEN_MAX} characters"));
    }
    (!text.split('.').all(is_label)).then(|| {
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
         start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
         '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            .to_owned()
    })
}

/// Why `text` cannot be a name in a path, which is all that RBAC asks for.
pub(super) fn path_segment(text: &str) -> Option<String> {
    if matches!(text, "." | "..") {
        return Some(format!("may not be '{text}'"));
    }
    text.chars().find(|c| matches!(c, '/' | '%')).map(|c| format!("may not contain '{c}'"))
}

fn is_qualified_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= LABEL_LEN_MAX
        && bytes.iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

/// Why `text` is no label or annotation key.
pub(super) fn qualified_name(text: &str) -> Option<String> {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    if let Some(why) = prefix.and_then(dns_subdomain) {
        return Some(format!("prefix part {why}"));
    }
    (!is_qualified_part(name)).then(|| {
        "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
         alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
         '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
            .to_owned()
    })
}

/// Why `text` is no label value.
pub(super) fn label_value(text: &str) -> Option<String> {
    if text.len() > LABEL_LEN_MAX {
        return Some(format!("must be no more than {LABEL_LEN_MAX} characters"));
    }
    (!text.is_empty() && !is_qualified_part(text)).then(|| {
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start \
         and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for \
         validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
            .to_owned()
    })
}

/// Why `text` is no port name.
pub(super) fn port_name(text: &str) -> Option<String> {
    const LEN_MAX: usize = 15;
    let well_formed = text.len() <= LEN_MAX
        && is_label(text)
        && !text.contains("--")
        && text.bytes().any(|c| c.is_ascii_lowercase());
    (!well_formed).then(|| {
        format!(
            "must be no more than {LEN_MAX} characters of a-z, 0-9 and single '-', with at least one letter, and must \
             not start or end with '-'"
        )
    })
}

/// Why `text` cannot be a key of a ConfigMap or Secret.
pub(super) fn config_key(text: &str) -> Option<String> {
    let well_formed = !text.is_empty()
        && text.len() <= SUBDOMAIN_LEN_MAX
        && !matches!(text, "." | "..")
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'));
    (!well_formed).then(|| {
        "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  \
         or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_names_from_nonsense() {
        assert!(dns_label("my-name").is_none() && dns_label("-x").is_some() && dns_label("A").is_some());
        assert!(dns_subdomain("a.b-c.d").is_none() && dns_subdomain("a..b").is_some());
        assert!(qualified_name("serin.dev/pending").is_none() && qualified_name("a/b/c").is_some());
        assert!(label_value("").is_none() && label_value("v1:x").is_some());
        assert!(port_name("http-2").is_none() && port_name("80").is_some());
    }
}
