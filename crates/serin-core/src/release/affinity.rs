//! Session affinity: users stay on the side that answered them first.

use crate::model::{Affinity, Cookie, Digest, ReleaseId};

/// Letters of a cookie's value: enough that no two releases share one, few enough for a header.
const VALUE_LETTERS: usize = 10;

/// How the cookies of a target's releases are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stickiness {
    /// Keeps a user on the candidate.
    pub candidate: CookieShape,
    /// Keeps a user on the stable side.
    pub stable: Option<CookieShape>,
}

/// A cookie before it has a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CookieShape {
    /// Its name.
    pub name: String,
    /// `Max-Age`, in seconds.
    pub max_age: i64,
    /// Further attributes as they are written: `; Path=/; Secure`.
    pub attributes: String,
}

impl Stickiness {
    /// The cookies of one release: always the same ones, so that a crash changes nobody's side.
    pub(super) fn of(&self, release: &ReleaseId) -> Affinity {
        let Self { candidate, stable } = self;
        Affinity { candidate: candidate.of(release), stable: stable.as_ref().map(|shape| shape.of(release)) }
    }
}

impl CookieShape {
    fn of(&self, release: &ReleaseId) -> Cookie {
        let Self { name, max_age, attributes } = self.clone();
        let value = value(&format!("{name}\n{release}"));
        Cookie { name, value, max_age, attributes }
    }
}

/// Lower-case letters that follow from `seed` and tell nothing about it.
fn value(seed: &str) -> String {
    let digest = Digest::of_canonical(seed.as_bytes());
    let hex = digest.as_str().bytes().rev().take(VALUE_LETTERS);
    // Hexadecimal digits become letters: cookies and regular expressions take them as they are.
    hex.map(|byte| char::from(if byte.is_ascii_digit() { byte - b'0' + b'g' } else { byte })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_release_has_a_cookie_of_its_own_and_keeps_it() {
        let shape = |name: &str| CookieShape { name: name.into(), max_age: 60, attributes: String::new() };
        let stickiness = Stickiness { candidate: shape("side"), stable: Some(shape("first")) };
        let release = |name: &str| ReleaseId::new(1, &Digest::of_canonical(name.as_bytes()));
        let (one, other) = (stickiness.of(&release("a")), stickiness.of(&release("b")));
        assert_eq!(one, stickiness.of(&release("a")));
        assert_ne!(one.candidate.value, other.candidate.value);
        assert_ne!(Some(&one.candidate.value), one.stable.as_ref().map(|cookie| &cookie.value));
        assert_eq!(one.candidate.value.len(), VALUE_LETTERS);
        assert!(one.candidate.value.bytes().all(|byte| byte.is_ascii_lowercase()));
    }
}
