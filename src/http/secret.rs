//! Tokens: read where they are kept at each use, so that they can be rotated, and shown nowhere.

use std::fmt;
use std::path::PathBuf;

use subtle::ConstantTimeEq as _;

/// Largest file that is taken for a token, in bytes: an RSA key of 8192 bits in PEM takes 6.4 kB.
const FILE_MAX: u64 = 16 << 10;

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a text; blanks around it, a last line's end most of all, are no part of it.
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// The text, to be sent and not to be shown.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether somebody said the same; how much of it was right cannot be told from how long this takes.
    pub fn is(&self, said: &str) -> bool {
        self.0.as_bytes().ct_eq(said.as_bytes()).into()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where a secret is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// In a file that may be replaced at any time.
    File(PathBuf),
    /// In an environment variable.
    Env(String),
}

impl SecretSource {
    /// The secret as it is now.
    ///
    /// # Errors
    /// When it is not there, empty, or no text of a secret's size; the words hold nothing of it.
    pub fn read(&self) -> Result<Secret, String> {
        let text = match self {
            Self::File(path) => {
                let fail = |reason: String| format!("{} cannot be read: {reason}", path.display());
                let size = std::fs::metadata(path).map_err(|error| fail(error.to_string()))?.len();
                if size > FILE_MAX {
                    return Err(fail(format!("it has {size} bytes, more than a secret's {FILE_MAX}")));
                }
                std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?
            }
            Self::Env(name) => {
                std::env::var(name).map_err(|_| format!("the environment variable {name} is not set"))?
            }
        };
        let secret = Secret::new(&text);
        match secret.is_empty() {
            true => Err(format!("{self} is empty")),
            false => Ok(secret),
        }
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Env(name) => write!(f, "the environment variable {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_anew_each_time_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let source = SecretSource::File(path.clone());
        assert!(source.read().unwrap_err().contains("No such file"));
        for token in ["PLANTED-1", "PLANTED-2"] {
            std::fs::write(&path, format!("{token}\n")).unwrap();
            let secret = source.read().unwrap();
            assert_eq!(secret.expose(), token);
            assert!(!format!("{secret:?} {source:?} {source}").contains("PLANTED"));
        }
        std::fs::write(&path, " \n").unwrap();
        assert!(source.read().unwrap_err().contains("is empty"));
        std::fs::write(&path, "x".repeat(20_000)).unwrap();
        assert!(source.read().unwrap_err().contains("20000 bytes"));
    }
}
