//! What was typed becomes settings: `serin.yaml` and flags in, [`Settings`] out, all errors at once, with line and caret.

mod args;
mod reader;
mod settings;

pub use args::RunArgs;
pub use reader::ConfigError;
pub use settings::{GitSettings, HttpSettings, LeaseSettings, RollbackMode, Settings};
