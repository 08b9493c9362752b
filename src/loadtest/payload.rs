//! What a webhook sends, and what it asks for.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What Go's `strconv.ParseBool`, and so flagger-loadtester, takes for true.
const TRUE: [&str; 6] = ["1", "t", "T", "true", "TRUE", "True"];

/// The body of a webhook; fields the load tester has no use for are ignored. A hand-written one may leave the canary out.
#[derive(Debug, Deserialize)]
pub(super) struct Payload {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) namespace: String,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Run in the background.
    Background { command: String, log_output: bool },
    /// Run while the caller waits.
    Wait { command: String, return_output: bool },
}

/// Why a payload asks for nothing that can be done.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PayloadError {
    #[error("webhook of canary {canary} has no metadata.cmd: say which command to run")]
    NoCommand { canary: String },
    #[error("webhook of canary {canary} has metadata.type {kind:?}, which is not supported: use cmd or bash")]
    UnknownType { canary: String, kind: String },
}

impl Payload {
    /// `<name>.<namespace>`, as Flagger names a canary.
    pub(super) fn canary(&self) -> String {
        format!("{}.{}", self.name, self.namespace)
    }

    pub(super) fn request(&self) -> Result<Request, PayloadError> {
        let kind = self.metadata.get("type").map_or("cmd", String::as_str);
        let flag = |name: &str| self.metadata.get(name).is_some_and(|value| TRUE.contains(&value.as_str()));
        let command = || {
            let command = self.metadata.get("cmd").filter(|command| !command.trim().is_empty());
            command.cloned().ok_or_else(|| PayloadError::NoCommand { canary: self.canary() })
        };
        match kind {
            "cmd" => Ok(Request::Background { command: command()?, log_output: flag("logCmdOutput") }),
            "bash" => Ok(Request::Wait { command: command()?, return_output: flag("returnCmdOutput") }),
            kind => Err(PayloadError::UnknownType { canary: self.canary(), kind: kind.to_owned() }),
        }
    }
}
