//! What a command started, however it got away from its shell.
//!
//! A process group holds only those that stay in it: `setsid`, a daemon or a shell with job control leaves. Each command
//! carries a mark in its environment, which its children inherit; what carries the mark when the command has ended is killed.
//! Who loses its parent becomes a child of the load tester ([`adopt`]), which has to look for its end, or it stays as a zombie.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, set_child_subreaper, waitpid,
};

/// The variable that carries the mark.
pub(super) const MARK: &str = "SERIN_TASK";
/// Looks at the processes until nothing carries the mark: each kills a generation, and who forks faster than that is left to
/// the pod's limit of processes.
const LOOKS_MAX: u32 = 20;
/// Between two looks: the kernel ends what was killed within that, unless the machine is overloaded.
const LOOK: Duration = Duration::from_millis(10);
/// Bytes of an environment that are searched; ours is among the first, since the shell puts it where it was.
const ENVIRONMENT_MAX: usize = 256 << 10;

/// Makes orphans of commands children of this process, as they are anyway where it is a container's first.
///
/// # Errors
/// When the kernel does not offer it.
pub fn adopt() -> std::io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// A command's processes; they end with it: at its end, at a timeout, when the caller hangs up.
#[derive(Debug)]
pub(super) struct Family {
    mark: String,
    /// The shell, which leads a group of its own.
    shell: Option<Pid>,
}

impl Family {
    /// A mark that no other command of this load tester has, to be put into the environment under [`MARK`].
    pub(super) fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self { mark: format!("{}-{number}", getpid().as_raw_nonzero()), shell: None }
    }

    pub(super) fn mark(&self) -> &str {
        &self.mark
    }

    /// Says which process was started with the mark.
    pub(super) fn started(&mut self, id: Option<u32>) {
        self.shell = id.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        let Some(shell) = self.shell else { return };
        if let Err(error) = kill_process_group(shell, Signal::KILL)
            && error != rustix::io::Errno::SRCH
        {
            tracing::warn!(%error, "cannot kill a command's process group");
        }
        let mark = format!("{MARK}={}", self.mark);
        // A thread, because `/proc` is read and this may be dropped on one that serves requests.
        let sweeper = std::thread::Builder::new().name("sweep".to_owned()).spawn(move || sweep(&mark, shell));
        if let Err(error) = sweeper {
            tracing::warn!(%error, "cannot look for what a command left behind");
        }
    }
}

/// Kills what carries the mark, and looks for the end of those that are children of ours. `shell` is the runtime's to look for.
fn sweep(mark: &str, shell: Pid) {
    let mut ours = Vec::new();
    for _ in 0..LOOKS_MAX {
        let strays = marked(mark, shell);
        for &stray in &strays {
            // Gone in between: as wanted.
            let _gone = kill_process(stray, Signal::KILL);
            if !ours.contains(&stray) {
                ours.push(stray);
            }
        }
        if !strays.is_empty() {
            std::thread::sleep(LOOK);
        }
        // An error says that it is nobody's child of ours: whose it is looks for it.
        ours.retain(|&stray| matches!(waitpid(Some(stray), WaitOptions::NOHANG), Ok(None)));
        if strays.is_empty() && ours.is_empty() {
            return;
        }
        if strays.is_empty() {
            std::thread::sleep(LOOK);
        }
    }
    tracing::warn!("a command starts processes faster than they can be ended: some are left");
}

/// Processes that carry the mark, but for `shell`.
fn marked(mark: &str, shell: Pid) -> Vec<Pid> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids =
        processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
    pids.filter(|&pid| pid != shell && carries(pid, mark)).collect()
}

fn carries(pid: Pid, mark: &str) -> bool {
    let path = Path::new("/proc").join(pid.as_raw_nonzero().to_string()).join("environ");
    let Ok(environment) = std::fs::read(path) else { return false };
    let searched = environment.get(..ENVIRONMENT_MAX).unwrap_or(&environment);
    searched.split(|&byte| byte == 0).any(|variable| variable == mark.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_differ() {
        assert_ne!(Family::new().mark(), Family::new().mark());
    }
}
