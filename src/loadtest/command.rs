//! Runs one command: a `hey` line in the built-in generator, anything else in a shell, with a deadline and bounded output.

use std::num::NonZeroU32;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::family::{Family, MARK};
use super::hey::{self, HeyError};

/// Output kept of one command; the rest is read and dropped, so that the command does not block.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// How long output is awaited after the shell has ended: a grandchild may keep the pipe open for ever.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);

/// How commands run.
#[derive(Debug, Clone)]
pub(super) struct Runner {
    pub(super) timeout: Duration,
    pub(super) proxy: Option<String>,
    pub(super) speed: NonZeroU32,
}

/// Which shell runs a command that is not a `hey` line.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shell {
    /// `sh`, for `cmd`.
    Sh,
    /// `bash`, for `bash`.
    Bash,
}

/// Why a command did not succeed. The command itself is not said: people put tokens into it, and this reaches Events and Git.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    #[error("cannot start {shell} for the command: {source}")]
    Start { shell: &'static str, source: std::io::Error },
    #[error("cannot wait for the command: {source}")]
    Wait { source: std::io::Error },
    #[error("the command ran longer than {seconds} s and was killed; output: {output}")]
    Timeout { seconds: u64, output: String },
    #[error("the command failed with {status}; output: {output}")]
    Failed { status: std::process::ExitStatus, output: String },
    #[error("the command cannot run: {source}")]
    Hey { source: HeyError },
}

impl Runner {
    /// Runs a command to its end and returns what it wrote. Dropping the future kills the command.
    pub(super) async fn run(&self, shell: Shell, command: &str) -> Result<String, CommandError> {
        if let Some(arguments) = hey::arguments(command) {
            let context = hey::Context { proxy: self.proxy.clone(), speed: self.speed };
            let run = hey::run(&arguments, context);
            return match tokio::time::timeout(self.timeout, run).await {
                Ok(result) => result.map_err(|source| CommandError::Hey { source }),
                Err(_) => Err(self.timed_out(String::new())),
            };
        }
        self.shell(shell, command).await
    }

    async fn shell(&self, shell: Shell, command: &str) -> Result<String, CommandError> {
        let mut family = Family::new();
        let mut child = self.spawn(shell, command, &family)?;
        family.started(child.id());
        let mut output = Output::default();
        let mut stdout = child.stdout.take();
        let mut stderr = child.stderr.take();
        let ended = {
            let wait = async {
                let reading = output.read(&mut stdout, &mut stderr);
                tokio::pin!(reading);
                let status = tokio::select! {
                    status = child.wait() => status,
                    () = &mut reading => return child.wait().await,
                };
                // Only what is still in the pipe is missing; not reading on is then no loss.
                if tokio::time::timeout(OUTPUT_GRACE, reading).await.is_err() {
                    tracing::debug!("a child of the command keeps its output open: not waiting for it");
                }
                status
            };
            tokio::time::timeout(self.timeout, wait).await
        };
        drop(family);
        match ended {
            Err(_) => Err(self.timed_out(output.text())),
            Ok(Err(source)) => Err(CommandError::Wait { source }),
            Ok(Ok(status)) if status.success() => Ok(output.text()),
            Ok(Ok(status)) => Err(CommandError::Failed { status, output: output.text() }),
        }
    }

    fn spawn(&self, shell: Shell, command: &str, family: &Family) -> Result<Child, CommandError> {
        let program = match shell {
            Shell::Sh => "sh",
            Shell::Bash => "bash",
        };
        let mut process = Command::new(program);
        process.arg("-c").arg(command);
        process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own, so that the shell's children die with it.
        process.process_group(0).kill_on_drop(true).env(MARK, family.mark());
        if let Some(proxy) = &self.proxy {
            // The lower-case name is the one that every tool reads.
            process.env("http_proxy", proxy);
        }
        let started = process.spawn();
        started.map_err(|source| CommandError::Start { shell: program, source })
    }

    fn timed_out(&self, output: String) -> CommandError {
        CommandError::Timeout { seconds: self.timeout.as_secs(), output }
    }
}

/// Both outputs as they came, up to a bound.
#[derive(Debug, Default)]
struct Output {
    bytes: Vec<u8>,
    dropped: usize,
}

impl Output {
    async fn read(
        &mut self,
        stdout: &mut Option<impl AsyncRead + Unpin>,
        stderr: &mut Option<impl AsyncRead + Unpin>,
    ) {
        let mut first = [0; 4096];
        let mut second = [0; 4096];
        while stdout.is_some() || stderr.is_some() {
            tokio::select! {
                read = chunk(stdout, &mut first), if stdout.is_some() => match read {
                    0 => *stdout = None,
                    count => self.keep(first.get(..count).unwrap_or_default()),
                },
                read = chunk(stderr, &mut second), if stderr.is_some() => match read {
                    0 => *stderr = None,
                    count => self.keep(second.get(..count).unwrap_or_default()),
                },
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = OUTPUT_BYTES_MAX.saturating_sub(self.bytes.len()).min(bytes.len());
        self.bytes.extend_from_slice(bytes.get(..room).unwrap_or_default());
        self.dropped += bytes.len() - room;
    }

    fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.bytes).into_owned();
        if self.dropped > 0 {
            text.push_str(&format!("\n[{} more bytes dropped]", self.dropped));
        }
        text
    }
}

/// The next bytes; an error ends the output as its end does.
async fn chunk(from: &mut Option<impl AsyncRead + Unpin>, into: &mut [u8]) -> usize {
    match from {
        Some(reader) => reader.read(into).await.unwrap_or(0),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner(timeout: Duration) -> Runner {
        Runner { timeout, proxy: Some("http://127.0.0.1:1".to_owned()), speed: NonZeroU32::MIN }
    }

    #[tokio::test]
    async fn returns_output_and_failure() {
        let runner = runner(Duration::from_secs(20));
        assert_eq!(runner.run(Shell::Bash, "echo $http_proxy").await.unwrap(), "http://127.0.0.1:1\n");
        let error = runner.run(Shell::Bash, "echo no token >&2; false").await.unwrap_err().to_string();
        assert!(error.contains("exit status: 1") && error.contains("no token"), "{error}");
    }

    #[tokio::test]
    async fn bounds_output() {
        let output = runner(Duration::from_secs(20)).run(Shell::Sh, "yes | head -c 1000000").await.unwrap();
        assert!(output.ends_with("more bytes dropped]") && output.len() < OUTPUT_BYTES_MAX + 64);
    }

    /// Whoever leaves the group leaves the command no less.
    #[tokio::test]
    async fn what_left_the_group_ends_with_the_command() {
        let ways = [
            "setsid -f sleep 300",
            "setsid sh -c 'sleep 300 & exec sleep 300' &",
            "set -m; sleep 300 & disown; (setsid sh -c 'setsid sleep 300' &)",
        ];
        for way in ways {
            let dir = tempfile::tempdir().unwrap();
            let pipe = dir.path().join("alive");
            // Whoever lives holds the pipe; a reader meets its end when nobody does.
            let command = format!("mkfifo {0}; exec 3<>{0}; {way}", pipe.display());
            runner(Duration::from_secs(20)).run(Shell::Bash, &command).await.unwrap();
            let reader = tokio::process::Command::new("sh")
                .args(["-c", &format!("exec 3<>{0}; exec 4<{0}; exec 3>&-; cat <&4", pipe.display())])
                .kill_on_drop(true)
                .output();
            tokio::time::timeout(Duration::from_secs(20), reader).await.expect(way).unwrap();
        }
    }

    #[tokio::test]
    async fn kills_the_whole_group_at_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("alive");
        // The grandchild holds the pipe open for writing; its death is the reader's end of file.
        let command = format!("mkfifo {0}; (exec 3>{0}; sleep 300) & cat {0}; sleep 300", pipe.display());
        let started = std::time::Instant::now();
        let error = runner(Duration::from_millis(500)).run(Shell::Sh, &command).await.unwrap_err();
        assert!(matches!(error, CommandError::Timeout { .. }), "{error}");
        assert!(started.elapsed() < Duration::from_secs(20));
        let reader = tokio::process::Command::new("sh")
            .args(["-c", &format!("exec 3<>{0}; exec 4<{0}; exec 3>&-; cat <&4", pipe.display())])
            .kill_on_drop(true)
            .output();
        tokio::time::timeout(Duration::from_secs(20), reader).await.expect("nobody holds the pipe").unwrap();
    }
}
