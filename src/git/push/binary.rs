//! Pushing to a local repository with the `git` binary, which runs the receiver's hooks.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::super::error::{GitError, redact};
use super::super::store::Inner;
use super::{Move, Stopped};

/// Longest output of `git push` that is read: hooks may be talkative.
const OUTPUT_MAX: u64 = 64 << 10;

/// The running `git`, so that a caller who stops waiting can end it.
pub(super) type Slot = Arc<Mutex<Option<Child>>>;

/// Ends the running `git` when the caller stops waiting.
#[derive(Default)]
pub(super) struct Guard {
    child: Slot,
}

impl Guard {
    pub(super) fn slot(&self) -> Slot {
        Arc::clone(&self.child)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut child) = child {
            // It may have ended by itself in between.
            child.kill().and_then(|()| child.wait().map(drop)).unwrap_or_default();
        }
    }
}

/// Whether there is a `git` binary; looked up once.
pub(super) fn is_there() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let probe = Command::new("git").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        probe.is_ok_and(|status| status.success())
    })
}

pub(super) fn push(inner: &Inner, step: &Move<'_>, path: &Path, slot: &Slot) -> Result<(), Stopped> {
    let Move { remote, reference, old, new, until: _ } = step;
    let unreachable = |reason: String| GitError::Unreachable { url: remote.to_string(), reason: redact(&reason) };
    let lease = format!("--force-with-lease={reference}:{}", old.map_or("", |old| old.as_str()));
    let mut command = Command::new("git");
    command
        .arg("--git-dir")
        .arg(&inner.dir)
        .args(["push", "--porcelain", "--no-verify", &lease, "--"])
        .arg(path)
        .arg(format!("{new}:{reference}"))
        .env("LC_ALL", "C")
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // Set by hooks and other gits that may have started us: they would redirect this one.
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_QUARANTINE_PATH"] {
        command.env_remove(name);
    }
    let mut child = command.spawn().map_err(|error| unreachable(format!("failed to start git: {error}")))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    slot.lock().unwrap_or_else(PoisonError::into_inner).replace(child);
    let errors = std::thread::spawn(move || read(err));
    let output = read(out);
    let errors = errors.join().unwrap_or_default();
    let child = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut child) = child else { return Err(unreachable("git push was ended".to_owned()).into()) };
    let status = child.wait().map_err(|error| unreachable(error.to_string()))?;
    if status.success() {
        return Ok(());
    }
    match output.lines().find_map(|line| line.strip_prefix("!\t")) {
        Some(refusal) => Err(Stopped::Refused(reason(refusal, &errors))),
        None => Err(unreachable(errors.trim().to_owned()).into()),
    }
}

/// The porcelain line's summary, with what a hook said.
fn reason(refusal: &str, errors: &str) -> String {
    let summary = refusal.split('\t').nth(1).unwrap_or(refusal).trim();
    let said: Vec<&str> = errors.lines().filter_map(|line| line.strip_prefix("remote: ")).map(str::trim).collect();
    let said = said.join(" ");
    if said.is_empty() { summary.to_owned() } else { format!("{summary}: {said}") }
}

fn read(from: Option<impl std::io::Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        // What was read until an error is what there is to say; the rest is read away so that git does not block.
        from.by_ref().take(OUTPUT_MAX).read_to_end(&mut bytes).unwrap_or_default();
        std::io::copy(&mut from, &mut std::io::sink()).unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
