//! Versioned content digests.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The only digest algorithm so far; the product's room `manifest` says what is hashed.
const VERSION: &str = "v1";
/// Hexadecimal characters kept of the SHA-256: 80 bits, far beyond an accidental collision in one repository.
const HEX_LEN: usize = 20;

/// A digest of canonical bytes, written `v1:<20 hex characters>`.
///
/// The version names the canonical form, so a later form can be introduced without starting a release.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// A string that is not a digest of a known version.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a digest: expected `v1:` and {HEX_LEN} hexadecimal characters")]
pub struct DigestError(String);

impl Digest {
    /// The digest of bytes that are already in canonical form.
    pub fn of_canonical(bytes: &[u8]) -> Self {
        let hash = Sha256::digest(bytes);
        let mut hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        hex.truncate(HEX_LEN);
        Self(format!("{VERSION}:{hex}"))
    }

    /// `v1:…`, whole.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Eight hexadecimal characters for names and tables.
    pub fn short(&self) -> &str {
        let hex = self.0.split_once(':').map_or(self.0.as_str(), |(_, hex)| hex);
        hex.get(..8).unwrap_or(hex)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = text.strip_prefix("v1:").ok_or_else(|| DigestError(text.to_owned()))?;
        let well_formed =
            hex.len() == HEX_LEN && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if well_formed { Ok(Self(text.to_owned())) } else { Err(DigestError(text.to_owned())) }
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_through_text() {
        let digest = Digest::of_canonical(b"{}");
        assert_eq!(digest.as_str().parse(), Ok(digest.clone()));
        assert_eq!(digest.short().len(), 8);
    }

    #[test]
    fn refuses_other_versions_and_lengths() {
        for text in ["", "v1:", "v2:0123456789abcdef0123", "v1:0123456789ABCDEF0123", "0123456789abcdef0123"] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }
}
