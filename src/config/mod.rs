//! What was typed becomes settings: `serin.yaml` and flags in, [`Settings`] out, all errors at once, with line and caret.

mod args;
mod environments;
mod forge;
mod git;
mod load_tester;
mod reader;
mod schema;
mod settings;
mod windows;

pub use args::{RunArgs, SourceArgs};
pub use environments::EnvironmentSettings;
pub use git::GitSettings;
pub use reader::ConfigError;
pub use schema::schema;
pub use settings::{HttpSettings, LeaseSettings, RollbackMode, SELECTOR_LABELS, Settings};
