//! What several subjects share: processes that end with the test, programs that may be missing, folders.

pub(crate) mod forge;
pub(crate) mod world;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// The binary under test.
pub(crate) const SERIN: &str = env!("CARGO_BIN_EXE_serin");

/// The path of a program, or `None` with a visible note that the test is skipped.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file());
    if found.is_none() {
        eprintln!("SKIPPED: {name} is not on the PATH");
    }
    found
}

/// A child process that is killed when the test ends, however it ends.
pub(crate) struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts `command`; its stderr goes to `log`.
    pub(crate) fn start(name: &str, command: &mut Command, log: &Path) -> Self {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).expect("the log can be opened");
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(log))
            .spawn()
            .unwrap_or_else(|error| panic!("{name} can be started: {error}"));
        Self { child, name: name.to_owned() }
    }

    /// The first line of stdout, within `limit`. Later output is read and dropped, so that the child never blocks on it.
    pub(crate) fn first_line(&mut self, limit: Duration) -> String {
        let stdout = self.child.stdout.take().expect("stdout is read once");
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                sender.send(line).ok();
            }
        });
        receiver.recv_timeout(limit).unwrap_or_else(|_| panic!("{} says nothing within {limit:?}", self.name))
    }

    /// SIGKILL: no handler runs, nothing is flushed.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the process can be killed");
        self.child.wait().expect("the process ends");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; either way it is gone afterwards.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs a program to its end and returns its stdout; panics with its stderr if it fails.
pub(crate) fn output(command: &mut Command) -> String {
    let out = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        out.status.success(),
        "{command:?} failed: {}\n{}",
        String::from_utf8_lossy(&out.stderr),
        String::from_utf8_lossy(&out.stdout)
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// A git command with an identity and without the user's configuration.
pub(crate) fn git(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .args(["-c", "user.name=Dev", "-c", "user.email=dev@example.com"]);
    command
}

/// Copies the files of a folder, not its subfolders.
pub(crate) fn copy_files(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("the folder can be listed") {
        let entry = entry.expect("the entry can be read");
        if entry.file_type().expect("it has a type").is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("the file can be copied");
        }
    }
}
