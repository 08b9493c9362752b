//! What a route does to headers on their way.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

/// Changes of the request's headers and of the answer's.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::traffic) struct Headers {
    pub(in crate::traffic) request: Changes,
    pub(in crate::traffic) response: Changes,
}

/// Changes of headers: set, then added, then removed.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::traffic) struct Changes {
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
    remove: Vec<HeaderName>,
}

impl Headers {
    /// Istio's `headers`.
    pub(super) fn of_istio(headers: &Value) -> Result<Self, String> {
        Ok(Self {
            request: Changes::of_istio(&headers["request"])?,
            response: Changes::of_istio(&headers["response"])?,
        })
    }

    /// Both, these first.
    pub(super) fn and(&self, more: &Self) -> Self {
        Self { request: self.request.and(&more.request), response: self.response.and(&more.response) }
    }
}

impl Changes {
    fn of_istio(changes: &Value) -> Result<Self, String> {
        let pairs = |field: &str| {
            let pairs = changes[field].as_object().into_iter().flatten();
            pairs.map(|(name, value)| pair(name, value)).collect::<Result<Vec<_>, String>>()
        };
        Ok(Self { set: pairs("set")?, add: pairs("add")?, remove: removed(changes)? })
    }

    /// Gateway API's header modifier.
    pub(super) fn of_modifier(modifier: &Value) -> Result<Self, String> {
        let pairs = |field: &str| {
            let pairs = modifier[field].as_array().into_iter().flatten();
            let pairs = pairs.map(|one| pair(one["name"].as_str().unwrap_or_default(), &one["value"]));
            pairs.collect::<Result<Vec<_>, String>>()
        };
        Ok(Self { set: pairs("set")?, add: pairs("add")?, remove: removed(modifier)? })
    }

    pub(super) fn and(&self, more: &Self) -> Self {
        Self {
            set: [&self.set[..], &more.set].concat(),
            add: [&self.add[..], &more.add].concat(),
            remove: [&self.remove[..], &more.remove].concat(),
        }
    }

    /// Makes them.
    pub(in crate::traffic) fn apply(&self, headers: &mut HeaderMap) {
        let Self { set, add, remove } = self;
        for (name, value) in set {
            headers.insert(name, value.clone());
        }
        for (name, value) in add {
            headers.append(name, value.clone());
        }
        for name in remove {
            headers.remove(name);
        }
    }
}

fn pair(name: &str, value: &Value) -> Result<(HeaderName, HeaderValue), String> {
    let text = value.as_str().unwrap_or_default();
    match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(text)) {
        (Ok(name), Ok(value)) => Ok((name, value)),
        _ => Err(format!("`{name}: {text}` is no header")),
    }
}

fn removed(changes: &Value) -> Result<Vec<HeaderName>, String> {
    let names = changes["remove"].as_array().into_iter().flatten().filter_map(Value::as_str);
    names
        .map(|name| HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is no header")))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn headers_are_set_added_and_removed() {
        let istio = json!({"response": {"add": {"Set-Cookie": "a=1"}, "set": {"x": "2"}, "remove": ["y"]}});
        let gateway = json!({"add": [{"name": "set-cookie", "value": "a=1"}], "set": [{"name": "X", "value": "2"}], "remove": ["Y"]});
        for changes in [Headers::of_istio(&istio).unwrap().response, Changes::of_modifier(&gateway).unwrap()] {
            let mut headers = HeaderMap::new();
            headers.insert("set-cookie", HeaderValue::from_static("b=1"));
            headers.insert("x", HeaderValue::from_static("1"));
            headers.insert("y", HeaderValue::from_static("1"));
            changes.apply(&mut headers);
            assert_eq!(headers.get_all("set-cookie").iter().collect::<Vec<_>>(), ["b=1", "a=1"]);
            assert_eq!((headers.get("x").unwrap(), headers.get("y")), (&HeaderValue::from_static("2"), None));
        }
        assert!(Headers::of_istio(&json!({"request": {"add": {"a b": "c"}}})).is_err());
    }
}
