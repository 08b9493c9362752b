//! A value with its path: what cannot be read is told by it.

use std::time::Duration;

use serde_json::{Map, Value};

use super::SpecError;
use crate::release::Count;

/// A value with its path.
pub(super) struct At<'a> {
    pub(super) value: &'a Value,
    pub(super) path: String,
}

/// What does not say anything.
const NOTHING: &Value = &Value::Null;

impl<'a> At<'a> {
    pub(super) fn field(&self, key: &str) -> At<'a> {
        At { value: self.value.get(key).unwrap_or(NOTHING), path: format!("{}.{key}", self.path) }
    }

    pub(super) fn problem<T>(&self, message: impl Into<String>) -> Result<T, SpecError> {
        Err(SpecError { path: self.path.clone(), message: message.into() })
    }

    pub(super) fn is_absent(&self) -> bool {
        self.value.is_null()
    }

    /// An object of which these fields are carried out, and these have no effect here with Argo Rollouts either.
    pub(super) fn object(
        &self,
        known: &[&str],
        without_effect: &[&str],
    ) -> Result<&'a Map<String, Value>, SpecError> {
        let Some(map) = self.value.as_object() else { return self.problem("Required value") };
        let unknown = map.iter().find(|(key, value)| {
            !value.is_null() && !known.contains(&key.as_str()) && !without_effect.contains(&key.as_str())
        });
        match unknown {
            None => Ok(map),
            Some((key, _)) => self.field(key).problem("Forbidden: Serin does not carry this out yet; remove it"),
        }
    }

    pub(super) fn text(&self) -> Result<String, SpecError> {
        match self.value.as_str() {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            Some(_) | None => self.problem("Required value"),
        }
    }

    pub(super) fn number<T: TryFrom<i64>>(&self, default: T) -> Result<T, SpecError> {
        if self.is_absent() { Ok(default) } else { self.whole() }
    }

    fn whole<T: TryFrom<i64>>(&self) -> Result<T, SpecError> {
        match self.value.as_i64().and_then(|number| T::try_from(number).ok()) {
            Some(number) => Ok(number),
            None => self.problem(format!("Invalid value: {}: must be a number that is not negative", self.value)),
        }
    }

    /// A number that may be left out.
    pub(super) fn optional<T: TryFrom<i64>>(&self) -> Result<Option<T>, SpecError> {
        if self.is_absent() { Ok(None) } else { self.whole().map(Some) }
    }

    pub(super) fn seconds(&self, default: u64) -> Result<Duration, SpecError> {
        let seconds = self.number(u32::try_from(default).unwrap_or(u32::MAX))?;
        Ok(Duration::from_secs(u64::from(seconds)))
    }

    pub(super) fn flag(&self) -> Result<bool, SpecError> {
        match self.value {
            Value::Null => Ok(false),
            Value::Bool(flag) => Ok(*flag),
            other => self.problem(format!("Invalid value: {other}: must be true or false")),
        }
    }

    pub(super) fn items(&self) -> Vec<At<'a>> {
        let items = self.value.as_array().into_iter().flatten().enumerate();
        items.map(|(index, value)| At { value, path: format!("{}[{index}]", self.path) }).collect()
    }

    /// A number of pods, or percent.
    pub(super) fn count(&self, default: Count) -> Result<Count, SpecError> {
        let read = match self.value {
            Value::Null => return Ok(default),
            Value::Number(pods) => pods.as_i64().and_then(|pods| i32::try_from(pods).ok()).map(Count::Pods),
            Value::String(text) => {
                text.strip_suffix('%').and_then(|percent| percent.parse().ok()).map(Count::Percent)
            }
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        match read {
            Some(count @ (Count::Pods(number) | Count::Percent(number))) if number >= 0 => Ok(count),
            Some(_) | None => {
                self.problem(format!("Invalid value: {}: must be a number of pods or a percentage", self.value))
            }
        }
    }
}
