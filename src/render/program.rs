//! The program that renders, confined: an export in a folder of its own, no `git`, no proxy that answers, bounded time and
//! output.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use super::collect::Export;
use crate::model::told_lines;

/// Longest rendering: overlays of thousands of objects take seconds.
const RENDER_MAX: Duration = Duration::from_secs(60);
/// Bytes that may come out: what one snapshot may hold in all.
const OUTPUT_BYTES_MAX: u64 = 32 << 20;
/// Bytes of its complaints that are read.
const ERROR_BYTES_MAX: u64 = 16 << 10;
/// Of its complaints that are told, in bytes.
const ERROR_MAX: usize = 800;
/// An address at which nobody answers: whatever asks for a network gets an error at once.
const NOWHERE: &str = "http://127.0.0.1:9";

/// The program that renders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    path: PathBuf,
    verb: &'static str,
}

/// Why nothing came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The same input fails again.
    Lasting(String),
    /// The machine is at fault, perhaps.
    Passing(String),
}

impl Program {
    /// The first that is found: `kustomize`, or else `kubectl`, which has it built in.
    pub fn find(search: Option<&OsStr>) -> Option<Self> {
        let folders: Vec<PathBuf> =
            search.map(|search| std::env::split_paths(search).collect()).unwrap_or_default();
        [("kustomize", "build"), ("kubectl", "kustomize")].into_iter().find_map(|(name, verb)| {
            let path = folders.iter().map(|folder| folder.join(name)).find(|path| is_executable(path))?;
            Some(Self { path, verb })
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Renders an export in a new folder below `scratch`.
    pub(super) async fn render(&self, export: &Export, scratch: &Path) -> Result<String, Failure> {
        let passing = |what: &str, error: std::io::Error| Failure::Passing(format!("failed to {what}: {error}"));
        let (files, scratch) = (export.clone(), scratch.to_owned());
        let written = tokio::task::spawn_blocking(move || write(&files, &scratch)).await;
        let home = written.map_err(|error| Failure::Passing(error.to_string()))?;
        let home = home.map_err(|error| passing("write the files to render", error))?;
        let mut command = Command::new(&self.path);
        command
            .arg(self.verb)
            .arg(home.path().join(TREE).join(&export.folder))
            .current_dir(home.path())
            .env_clear()
            .env("PATH", home.path().join(EMPTY))
            .env("HOME", home.path().join(EMPTY))
            .env("KUBECONFIG", "/dev/null")
            .envs(
                ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"].map(|key| (key, NOWHERE)),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child =
            command.spawn().map_err(|error| passing(&format!("run {}", self.path.display()), error))?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let run = async {
            let (out, err) = tokio::join!(read(out, OUTPUT_BYTES_MAX), read(err, ERROR_BYTES_MAX));
            if out.len() as u64 > OUTPUT_BYTES_MAX {
                return Err(Failure::Lasting(format!("it makes more than {} MiB", OUTPUT_BYTES_MAX >> 20)));
            }
            let status = child.wait().await.map_err(|error| passing("wait for it", error))?;
            if status.success() {
                return String::from_utf8(out)
                    .map_err(|_| Failure::Lasting("what it makes is no text".to_owned()));
            }
            // It names files by where they were exported to.
            let place = format!("{}/", home.path().join(TREE).display());
            let words = String::from_utf8_lossy(&err).replace(&place, "");
            Err(Failure::Lasting(told_lines(complaint(words.trim()).trim(), ERROR_MAX)))
        };
        match tokio::time::timeout(RENDER_MAX, run).await {
            Ok(result) => result,
            Err(_elapsed) => Err(Failure::Passing(format!("it took more than {} s", RENDER_MAX.as_secs()))),
        }
    }
}

/// What it complains about: kubectl logs it with the time and its process id, which differ at each run.
fn complaint(words: &str) -> String {
    const LOGGED: &str = "] \"command failed\" err=";
    let line = |line: &str| match line.split_once(LOGGED) {
        Some((_, quoted)) => serde_json::from_str(quoted).unwrap_or_else(|_| quoted.trim_matches('"').to_owned()),
        None => line.to_owned(),
    };
    words.lines().map(line).collect::<Vec<String>>().join("\n")
}

/// The folder of the export, and one in which there is no program.
const TREE: &str = "tree";
const EMPTY: &str = "empty";

fn write(export: &Export, scratch: &Path) -> std::io::Result<tempfile::TempDir> {
    std::fs::create_dir_all(scratch)?;
    let home = tempfile::Builder::new().prefix("render-").tempdir_in(scratch)?;
    std::fs::create_dir(home.path().join(EMPTY))?;
    let tree = home.path().join(TREE);
    for (path, (_, bytes)) in &export.files {
        let path = tree.join(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, bytes)?;
    }
    Ok(home)
}

/// At most a byte more than `limit`: the caller sees that there was more.
async fn read(pipe: Option<impl AsyncRead + Unpin>, limit: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What was read before it broke is all there is.
        pipe.take(limit + 1).read_to_end(&mut bytes).await.unwrap_or_default();
    }
    bytes
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_complains_about_is_told_without_when_and_by_whom() {
        let logged =
            r#"E1126 23:43:09.735061   14130 run.go:72] "command failed" err="accumulating: \"a.yaml\" is gone""#;
        assert_eq!(complaint(logged), r#"accumulating: "a.yaml" is gone"#);
        assert_eq!(complaint("Error: no such file\nsecond"), "Error: no such file\nsecond");
    }
}
