//! What may go wrong with a forge, by what is to be done about it.

use std::time::Duration;

/// A call that came to nothing. No variant carries a credential or a URL with one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForgeError {
    /// This very call is wrong for good: repeating it changes nothing.
    #[error("{forge} refuses it: {reason}")]
    Refused {
        /// Which forge.
        forge: &'static str,
        /// Its words.
        reason: String,
    },
    /// Who we are or what we may do has to be changed by a person.
    #[error("{forge} does not let us: {reason}; {hint}")]
    Denied {
        /// Which forge.
        forge: &'static str,
        /// Its words.
        reason: String,
        /// What helps.
        hint: &'static str,
    },
    /// Too much was asked; not before this time has passed.
    #[error("{forge} wants us to wait {} s", .wait.as_secs())]
    Limited {
        /// Which forge.
        forge: &'static str,
        /// How long.
        wait: Duration,
    },
    /// It is not there, or in trouble: later.
    #[error("{forge} cannot be reached: {reason}")]
    Away {
        /// Which forge.
        forge: &'static str,
        /// Why.
        reason: String,
    },
}
