//! `serin.yaml` while the daemon runs.
//!
//! What is new and can be used begins the daemon anew, in this process: a restart and the happy path are one path, so nobody has
//! to know which setting may change under whom. What cannot be used is said and changes nothing. The file is read every few
//! seconds: kubelet swaps a folder of links, editors rename, and some file systems tell nobody.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::config::{RunArgs, Settings};

/// Time between two looks at the file: a small file on this machine. kubelet itself takes a minute.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A daemon that ends with an error this soon after new settings ended for them: the former ones are taken back.
pub(super) const TRIAL: Duration = Duration::from_secs(30);

/// Whether the settings file says what the daemon goes by.
#[derive(Debug, Clone)]
pub struct SettingsHealth(Arc<AtomicBool>);

impl Default for SettingsHealth {
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl SettingsHealth {
    /// `false` while the file cannot be used and the settings before it hold.
    pub fn is_current(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, is_current: bool) {
        self.0.store(is_current, Ordering::Relaxed);
    }
}

/// The settings file, looked at again and again.
#[derive(Debug)]
pub(super) struct Reloads {
    file: Option<PathBuf>,
    args: RunArgs,
    /// What was read last, usable or not.
    seen: Option<String>,
    health: SettingsHealth,
}

impl Reloads {
    /// Of these arguments' file; what it says now has just been read.
    pub(super) fn of(args: RunArgs, health: SettingsHealth) -> Self {
        let seen = args.source.config.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
        Self { file: args.source.config.clone(), args, seen, health }
    }

    /// Waits until the file says something that can be used and is not `current`; for ever without a file.
    pub(super) async fn next(&mut self, current: &Settings) -> Settings {
        let Some(file) = self.file.clone() else { return std::future::pending().await };
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            // Between two links there may be none for a moment.
            let Ok(text) = tokio::fs::read_to_string(&file).await else { continue };
            if self.seen.as_ref() == Some(&text) {
                continue;
            }
            let read = Settings::for_here(&file.display().to_string(), &text, &self.args);
            self.seen = Some(text);
            self.health.set(read.is_ok());
            match read {
                Ok(settings) if settings != *current => return settings,
                Ok(_) => tracing::info!("{} changed and means the same", file.display()),
                Err(error) => {
                    tracing::error!(
                        "{} changed and cannot be used; what it said before holds:\n{error}",
                        file.display()
                    );
                }
            }
        }
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;
    use crate::config::SourceArgs;

    fn text(branch: &str) -> String {
        format!("cluster: {{name: prod}}\ngit: {{url: https://git.example.com/a.git, branch: {branch}}}\n")
    }

    /// A ConfigMap as kubelet mounts it: the file is a link through `..data`, which is swapped as a whole.
    fn swap(folder: &Path, generation: &str, text: &str) {
        let data = folder.join(generation);
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("serin.yaml"), text).unwrap();
        symlink(generation, folder.join("..tmp")).unwrap();
        std::fs::rename(folder.join("..tmp"), folder.join("..data")).unwrap();
        let file = folder.join("serin.yaml");
        if !file.exists() {
            symlink("..data/serin.yaml", file).unwrap();
        }
    }

    async fn soon(reloads: &mut Reloads, current: &Settings) -> Option<Settings> {
        tokio::time::timeout(Duration::from_secs(60), reloads.next(current)).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_swapped_config_map_is_read_and_what_cannot_be_used_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        swap(folder.path(), "..1", &text("main"));
        let args =
            RunArgs::from(SourceArgs { config: Some(folder.path().join("serin.yaml")), ..SourceArgs::default() });
        let (first, health) = (args.settings().unwrap(), SettingsHealth::default());
        let mut reloads = Reloads::of(args, health.clone());
        assert_eq!(soon(&mut reloads, &first).await, None, "nothing has changed");
        swap(folder.path(), "..2", &text("live"));
        let second = soon(&mut reloads, &first).await.unwrap();
        assert_eq!(second.git.branch.short(), "live");
        swap(folder.path(), "..3", "git: {url: nowhere, brunch: main}\n");
        assert_eq!(soon(&mut reloads, &second).await, None);
        assert!(!health.is_current());
        std::fs::remove_file(folder.path().join("..data")).unwrap();
        assert_eq!(soon(&mut reloads, &second).await, None, "a file that is gone for a moment is no news");
        swap(folder.path(), "..4", &(text("live") + "# the same\n"));
        assert_eq!(soon(&mut reloads, &second).await, None, "it means the same");
        assert!(health.is_current());
        // Edited in place, as on a machine without Kubernetes.
        std::fs::write(folder.path().join("..4/serin.yaml"), text("next")).unwrap();
        assert_eq!(soon(&mut reloads, &second).await.unwrap().git.branch.short(), "next");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_file_there_is_nothing_to_read() {
        let args = RunArgs::default();
        let current = Settings::from_text("serin.yaml", &text("main"), &args).unwrap();
        assert_eq!(soon(&mut Reloads::of(args, SettingsHealth::default()), &current).await, None);
    }
}
