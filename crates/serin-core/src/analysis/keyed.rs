//! Keys of what is asked. They are made here, of what a thing is; what a user calls it is a name to show and nothing else.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::Digest;

/// Identifies a check or a webhook within its policy: a digest of its definition, and a number where several are alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(String);

impl Key {
    /// As it is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something that is asked.
pub trait Defined {
    /// Everything that makes it what it is.
    fn definition(&self) -> Definition;
}

/// Parts of a definition, written so that two different lists of parts never read alike.
#[derive(Debug, Default)]
pub struct Definition(String);

impl Definition {
    /// With one more part.
    #[must_use]
    pub fn with(mut self, part: impl fmt::Display) -> Self {
        let part = part.to_string();
        self.0.push_str(&format!("{}:{part},", part.len()));
        self
    }

    /// With a part that may be missing.
    #[must_use]
    pub fn with_option(self, part: Option<impl fmt::Display>) -> Self {
        match part {
            Some(part) => self.with(part),
            None => self.with(""),
        }
    }

    /// With a list of parts.
    #[must_use]
    pub fn with_all<T: fmt::Display>(self, parts: impl IntoIterator<Item = T>) -> Self {
        let nested = parts.into_iter().fold(Self::default(), Self::with);
        self.with(nested.0)
    }
}

/// Things that are asked, in order, each under a key of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Keyed<T> {
    entries: Vec<(Key, T)>,
}

impl<T> Keyed<T> {
    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &T)> {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    /// In order, without their keys.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, value)| value)
    }

    /// The one with this key.
    pub fn get(&self, key: &Key) -> Option<&T> {
        self.entries.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

impl<T: Defined> Keyed<T> {
    /// Adds one and gives it its key.
    pub fn push(&mut self, value: T) {
        let digest = Digest::of_canonical(value.definition().0.as_bytes());
        let alike = |key: &Key| key.0.split('.').next() == Some(digest.short());
        let before = self.entries.iter().filter(|(key, _)| alike(key)).count();
        let key = if before == 0 { digest.short().to_owned() } else { format!("{}.{before}", digest.short()) };
        self.entries.push((Key(key), value));
    }
}

impl<T> Default for Keyed<T> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<T: Defined> FromIterator<T> for Keyed<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut keyed = Self::default();
        values.into_iter().for_each(|value| keyed.push(value));
        keyed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Named(&'static str, &'static str);

    impl Defined for Named {
        fn definition(&self) -> Definition {
            Definition::default().with(self.0).with(self.1)
        }
    }

    #[test]
    fn a_key_is_what_a_thing_is_and_unique_whatever_it_is_called() {
        let keyed: Keyed<Named> =
            [Named("a", "1"), Named("a", "2"), Named("a", "1"), Named("a1", ""), Named("a", "1")]
                .into_iter()
                .collect();
        let keys: std::collections::BTreeSet<_> = keyed.iter().map(|(key, _)| key.clone()).collect();
        assert_eq!(keys.len(), 5);
        for (key, value) in keyed.iter() {
            assert_eq!(keyed.get(key), Some(value));
        }
        let reordered: Keyed<Named> = [Named("a", "2"), Named("a", "1")].into_iter().collect();
        assert_eq!(reordered.iter().next().unwrap().0, keyed.iter().nth(1).unwrap().0);
    }
}
