//! What was written becomes windows.

use super::window::{Window, WindowKind};
use crate::api::{ReleaseWindow, ReleaseWindowKind, duration};

/// Most windows of one list: every one of them is looked at at every look.
const WINDOWS_MAX: usize = 50;

/// A window that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct WindowProblem {
    /// Which one, from 0; `None`: the list.
    pub index: Option<usize>,
    /// The field in it.
    pub field: &'static str,
    /// What is wrong.
    pub message: String,
}

/// Reads a list of windows.
///
/// # Errors
/// With the first that cannot be used.
pub fn compile(windows: &[ReleaseWindow]) -> Result<Vec<Window>, WindowProblem> {
    if windows.len() > WINDOWS_MAX {
        let message = format!("{} windows are more than {WINDOWS_MAX}", windows.len());
        return Err(WindowProblem { index: None, field: "", message });
    }
    windows.iter().enumerate().map(|(index, window)| one(index, window)).collect()
}

fn one(index: usize, window: &ReleaseWindow) -> Result<Window, WindowProblem> {
    let problem = |field, message| WindowProblem { index: Some(index), field, message };
    let ReleaseWindow { kind, schedule, time_zone, duration } = window;
    let kind = match kind {
        ReleaseWindowKind::Allow => WindowKind::Allow,
        ReleaseWindowKind::Freeze => WindowKind::Freeze,
    };
    let duration = duration::parse(duration).map_err(|error| problem("duration", error.to_string()))?;
    Window::new(kind, schedule, time_zone.as_deref(), duration)
        .map_err(|error| problem(error.field(), error.to_string()))
}
