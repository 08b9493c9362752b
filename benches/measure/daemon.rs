//! A `serin run` process and what the kernel says of it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::Result;

/// Ticks of /proc/<pid>/stat per second on every Linux that matters.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running daemon; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts the binary of this build, or the one named by `SERIN_BENCH_BINARY`, with a settings file.
    pub(crate) fn start(config: &Path, log: &Path) -> Result<Self> {
        let built = || PathBuf::from(env!("CARGO_BIN_EXE_serin"));
        let binary = std::env::var_os("SERIN_BENCH_BINARY").map_or_else(built, PathBuf::from);
        let child = Command::new(binary)
            .args(["--log", "warn", "run", "--install-crds", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(log)?)
            .spawn()?;
        Ok(Self { child })
    }

    /// Resident memory in MiB.
    pub(crate) fn rss_mib(&self) -> Result<f64> {
        Ok(self.field("status", "VmRSS:")? / 1024.0)
    }

    /// Bytes that went to a disk so far.
    pub(crate) fn written_bytes(&self) -> Result<f64> {
        self.field("io", "write_bytes:")
    }

    /// Processor time so far, user and system.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().ok_or("no fields")?.split_whitespace().collect();
        let ticks = |index: usize| -> Result<f64> { Ok(fields.get(index).ok_or("too few fields")?.parse()?) };
        // Fields 14 and 15 of proc(5); the first two are before the closing parenthesis.
        Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
    }

    fn field(&self, file: &str, name: &str) -> Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id()))?;
        let line = text.lines().find(|line| line.starts_with(name)).ok_or_else(|| format!("no {name}"))?;
        Ok(line.split_whitespace().nth(1).ok_or("no value")?.parse()?)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone afterwards.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
