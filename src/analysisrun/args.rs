//! Arguments: what `{{args.<name>}}` stands for, and where it is found.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::api::argo::{Argument, SecretKeyRef, ValueFrom};

/// What stands for a Secret's value wherever it may be shown.
const REDACTED: &str = "*****";
/// Shorter values are no secrets, and would blot out every text.
const SECRET_MIN: usize = 3;

/// The arguments of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Args {
    values: BTreeMap<String, String>,
    secrets: Vec<SecretArg>,
}

/// An argument whose value is in a Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretArg {
    /// The argument.
    pub name: String,
    /// Where its value is.
    pub key: SecretKeyRef,
}

impl Args {
    /// What a run's arguments say.
    ///
    /// # Errors
    /// When one has no value, in upstream's words.
    pub fn of(args: &[Argument]) -> Result<Self, String> {
        let mut found = Self::default();
        for Argument { name, value, value_from } in args {
            match (value, value_from) {
                (Some(value), _) => drop(found.values.insert(name.clone(), value.clone())),
                (None, Some(ValueFrom { secret_key_ref: Some(key), field_ref: _ })) => {
                    found.secrets.push(SecretArg { name: name.clone(), key: key.clone() });
                }
                (None, _) => return Err(format!("argument \"{name}\" was not supplied")),
            }
        }
        Ok(found)
    }

    /// Those whose values are in Secrets.
    pub fn secrets(&self) -> &[SecretArg] {
        &self.secrets
    }

    /// With the values of Secrets, of which every one has to be there.
    #[must_use]
    pub fn with(mut self, secrets: BTreeMap<String, String>) -> Self {
        self.values.extend(secrets);
        self
    }

    /// Fills in every text of a value.
    ///
    /// # Errors
    /// When something is named that is not known, in upstream's words.
    pub fn fill(&self, value: &Value) -> Result<Value, String> {
        Ok(match value {
            Value::String(text) => Value::String(self.fill_text(text)?),
            Value::Array(items) => {
                Value::Array(items.iter().map(|item| self.fill(item)).collect::<Result<_, _>>()?)
            }
            Value::Object(map) => Value::Object(
                map.iter()
                    .map(|(key, value)| Ok((key.clone(), self.fill(value)?)))
                    .collect::<Result<_, String>>()?,
            ),
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        })
    }

    fn fill_text(&self, text: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (named, after) =
                after.split_once("}}").ok_or_else(|| format!("`{{{{` of \"{}\" has no end", shortened(text)))?;
            out.push_str(before);
            let known = named.trim().strip_prefix("args.").and_then(|name| self.values.get(name));
            out.push_str(known.ok_or_else(|| format!("failed to resolve {{{{{named}}}}}"))?);
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }

    /// Whether a value holds what is in a Secret.
    pub(super) fn reads_secret(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => self.secrets.iter().any(|secret| names(text, &secret.name)),
            Value::Array(items) => items.iter().any(|item| self.reads_secret(item)),
            Value::Object(map) => map.values().any(|value| self.reads_secret(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }

    /// The same arguments with a word instead of every Secret's value: for what does not leave the process.
    pub(super) fn without_secrets(&self) -> Self {
        let hidden = self.secrets.iter().map(|secret| (secret.name.clone(), REDACTED.to_owned()));
        self.clone().with(hidden.collect())
    }

    /// A text without the values of Secrets.
    pub fn redact(&self, text: &str) -> String {
        let secrets = self.secrets.iter().filter_map(|secret| self.values.get(&secret.name));
        let worth = secrets.filter(|value| value.len() >= SECRET_MIN);
        worth.fold(text.to_owned(), |text, value| text.replace(value.as_str(), REDACTED))
    }
}

fn names(text: &str, argument: &str) -> bool {
    let mut tags = text.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")).map(|(tag, _)| tag.trim());
    tags.any(|tag| tag.strip_prefix("args.") == Some(argument))
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

/// A field of an object by its path, in words: `metadata.namespace`, `metadata.labels['app']`, `status.pauseConditions[0].reason`.
///
/// # Errors
/// When there is none, or it is no single value, in upstream's words.
pub fn field(object: &Value, path: &str) -> Result<String, String> {
    let missing = || format!("invalid path {path} in rollout");
    let mut found = object;
    let mut rest = path;
    while !rest.is_empty() {
        let (step, after) = next_step(rest).ok_or_else(missing)?;
        rest = after;
        found = match found {
            Value::Array(items) => {
                let index: usize = step.parse().map_err(|_| format!("invalid index '{step}'"))?;
                items.get(index).ok_or_else(|| format!("index {index} out of range"))?
            }
            Value::Object(map) => map.get(step).ok_or_else(missing)?,
            _ => return Err(missing()),
        };
    }
    match found {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Null => Err(missing()),
        Value::Array(_) | Value::Object(_) => {
            Err(format!("path {path} in rollout must terminate in a primitive value"))
        }
    }
}

/// The first step of a path, and the rest: a name up to a dot or a bracket, or what is within brackets, quoted or not.
fn next_step(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_prefix('.').unwrap_or(path);
    let Some(inner) = path.strip_prefix('[') else {
        let end = path.find(['.', '[']).unwrap_or(path.len());
        return Some((path.get(..end)?, path.get(end..)?));
    };
    let quote = inner.chars().next().filter(|first| matches!(first, '\'' | '"'));
    let (step, rest) = match quote {
        Some(quote) => inner.get(1..)?.split_once(quote)?,
        None => (inner.get(..inner.find(']')?)?, inner.get(inner.find(']')?..)?),
    };
    Some((step, rest.strip_prefix(']')?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn args() -> Args {
        let args = json!([
            {"name": "service", "value": "web"},
            {"name": "token", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        ]);
        Args::of(&serde_json::from_value::<Vec<Argument>>(args).unwrap()).unwrap()
    }

    #[test]
    fn texts_are_filled_in_wherever_they_stand() {
        let args = args().with([("token".to_owned(), "S3CRET".to_owned())].into());
        let metric = json!({"query": "up{s=\"{{args.service}}\"}", "count": 3, "headers": [{"value": "Bearer {{ args.token }}"}]});
        let filled = json!({"query": "up{s=\"web\"}", "count": 3, "headers": [{"value": "Bearer S3CRET"}]});
        assert_eq!(args.fill(&metric), Ok(filled));
        assert_eq!(args.fill(&json!("{{args.missing}}")), Err("failed to resolve {{args.missing}}".to_owned()));
        assert!(args.fill(&json!("{{args.service")).is_err());
        assert!(args.reads_secret(&metric) && !args.reads_secret(&json!("{{args.service}}")));
        assert_eq!(args.redact("401 for S3CRET"), "401 for *****");
        assert_eq!(args.without_secrets().fill(&json!("{{args.token}}")), Ok(json!("*****")));
    }

    #[test]
    fn an_argument_without_a_value_is_told() {
        let missing: Vec<Argument> = serde_json::from_value(json!([{"name": "service"}])).unwrap();
        assert_eq!(Args::of(&missing), Err("argument \"service\" was not supplied".to_owned()));
    }

    #[test]
    fn fields_of_a_rollout() {
        let rollout = json!({
            "metadata": {"namespace": "demo", "labels": {"app.kubernetes.io/name": "web", "app": "w"}},
            "status": {"pauseConditions": [{"reason": "x"}], "replicas": 3, "abort": true},
        });
        for (path, found) in [
            ("metadata.namespace", Ok("demo")),
            ("metadata.labels['app.kubernetes.io/name']", Ok("web")),
            ("metadata.labels[\"app\"]", Ok("w")),
            ("status.pauseConditions[0].reason", Ok("x")),
            ("status.replicas", Ok("3")),
            ("status.abort", Ok("true")),
            ("status.pauseConditions[1].reason", Err("index 1 out of range")),
            ("status.pauseConditions[a]", Err("invalid index 'a'")),
            ("status.missing", Err("invalid path status.missing in rollout")),
            ("metadata.labels", Err("path metadata.labels in rollout must terminate in a primitive value")),
            ("metadata.labels['app", Err("invalid path metadata.labels['app in rollout")),
        ] {
            assert_eq!(field(&rollout, path).as_deref().map_err(String::as_str), found, "{path}");
        }
    }
}
