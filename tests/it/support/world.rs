//! A whole installation as processes: `serin sandbox`, a clone of its repository, `serin run`, kubectl.
//!
//! With `SERIN_E2E_KUBECONFIG` it is built on that control plane, with `serin sandbox --attach` as its node and traffic.
//! What was not there before is removed at the end.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Process, SERIN, copy_files, git, output, program};

/// Longest time to the sandbox's first line.
const START_MAX: Duration = Duration::from_secs(60);
/// Longest wait for one state on the embedded cluster: many times what it takes on two busy cores.
const WAIT_MAX: Duration = Duration::from_secs(150);
/// The same on a real control plane, where autoscalers look every 15 s and analysis runs slower.
const WAIT_MAX_REAL: Duration = Duration::from_secs(600);
/// How much faster than real time analysis runs.
const SPEED: &str = "30";
/// The same on a real control plane, where autoscalers look every 15 s.
const SPEED_REAL: &str = "10";
/// Between two looks at what has no watch, such as a branch.
const LOOK: Duration = Duration::from_millis(200);
/// The namespaces that the sandbox and the example make.
const NAMESPACES: [&str; 3] = ["test", "istio-system", "serin-system"];
/// Groups of the definitions that the sandbox and the daemon install.
const GROUPS: [&str; 2] = [".istio.io", ".flagger.app"];

/// A sandbox, a clone of its repository and a daemon.
pub(crate) struct World {
    daemon: Option<Process>,
    sandbox: Option<Process>,
    urls: Value,
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    clone: PathBuf,
    real: Option<RealCluster>,
    dir: tempfile::TempDir,
}

/// A control plane that outlives the test.
struct RealCluster {
    /// Namespaces, nodes and definitions that were there before.
    before: BTreeSet<String>,
    /// One test at a time may use it.
    _lock: File,
}

impl World {
    /// Starts everything; `None`, with a visible note, when a program is missing. `args` go to the sandbox.
    pub(crate) fn start(args: &[&str]) -> Option<Self> {
        let kubectl = program("kubectl")?;
        for needed in ["git", "bash", "curl"] {
            program(needed)?;
        }
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(dir.path().join("logs")).expect("a folder for logs");
        let attached = std::env::var_os("SERIN_E2E_KUBECONFIG").map(PathBuf::from);
        let real = attached.as_deref().map(|kubeconfig| RealCluster::lock(&kubectl, kubeconfig));
        let mut command = Command::new(SERIN);
        command.args(["sandbox", "-o", "json"]).args(args).arg("--dir").arg(dir.path());
        match &attached {
            Some(kubeconfig) => command.args(["--speed", SPEED_REAL, "--attach"]).arg(kubeconfig),
            None => command.args(["--speed", SPEED]),
        };
        let mut sandbox = Process::start("serin sandbox", &mut command, &dir.path().join("logs/sandbox.log"));
        let line = sandbox.first_line(START_MAX);
        let urls: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let mut world = Self {
            kubeconfig: urls["kubeconfig"].as_str().expect("a kubeconfig").into(),
            clone: dir.path().join("clone"),
            daemon: None,
            sandbox: Some(sandbox),
            urls,
            kubectl,
            real,
            dir,
        };
        output(git(world.dir.path()).args(["clone", "-q", world.url("repository"), "clone"]));
        world.run();
        Some(world)
    }

    /// Pushes the example and waits until the release engine has taken it over.
    pub(crate) fn initialize(&self) {
        copy_files(example(), &self.clone);
        let canary = self.clone.join("canary.yaml");
        let text = std::fs::read_to_string(&canary).expect("the Canary can be read");
        std::fs::write(canary, patient(&text)).expect("the Canary can be written");
        self.push("Add podinfo 3.1.0");
        self.kubectl(&["wait", "--for=create", "crd/canaries.flagger.app", &self.timeout()]);
        self.kubectl(&["-n", "test", "wait", "--for=create", "canary/podinfo", &self.timeout()]);
        self.wait("{.status.phase}", "Initialized");
    }

    /// One of the addresses that the sandbox prints.
    pub(crate) fn url(&self, name: &str) -> &str {
        self.urls[name].as_str().unwrap_or_else(|| panic!("no {name} in {}", self.urls))
    }

    /// The folder of everything.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts the daemon with the settings that the sandbox wrote.
    pub(crate) fn run(&mut self) {
        self.run_logging("info");
    }

    fn run_logging(&mut self, level: &str) {
        let config = self.dir.path().join("serin.yaml");
        let mut command = Command::new(SERIN);
        command.args(["--log", level, "run", "--install-crds", "--config"]).arg(config);
        self.daemon = Some(Process::start("serin run", &mut command, &self.dir.path().join("logs/serin.log")));
    }

    /// SIGKILL to the daemon, and another one, which says less: what is not logged must still be done. It has to wait until
    /// its predecessor's lease expires.
    pub(crate) fn kill_and_run(&mut self) {
        self.daemon.take().expect("a daemon runs").kill();
        self.run_logging("warn");
    }

    /// kubectl's output.
    pub(crate) fn kubectl(&self, args: &[&str]) -> String {
        output(Command::new(&self.kubectl).arg("--kubeconfig").arg(&self.kubeconfig).args(args))
    }

    /// Waits until a field of the Canary has a value. Every version of the Canary is looked at: none is too short-lived.
    pub(crate) fn wait(&self, path: &str, value: &str) {
        self.wait_for("canary/podinfo", path, value);
    }

    /// The same for any object of the example's namespace.
    pub(crate) fn wait_for(&self, object: &str, path: &str, value: &str) {
        let condition = format!("--for=jsonpath={path}={value}");
        let mut command = Command::new(&self.kubectl);
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        command.args(["-n", "test", "wait", object, &condition, &self.timeout()]);
        let out = command.output().expect("kubectl runs");
        assert!(
            out.status.success(),
            "{object} never had {path}={value}: {}\n{}\n{}",
            String::from_utf8_lossy(&out.stderr),
            self.kubectl(&["-n", "test", "get", "canary/podinfo", "-o", "yaml"]),
            self.log_tail()
        );
    }

    /// Waits until a look outside the cluster finds what it wants.
    pub(crate) fn eventually<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let until = Instant::now() + self.wait_max();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < until, "never: {what}\n{}", self.log_tail());
            std::thread::sleep(LOOK);
        }
    }

    /// Commits everything in the clone and pushes it.
    pub(crate) fn push(&self, subject: &str) {
        output(git(&self.clone).args(["add", "-A"]));
        output(git(&self.clone).args(["commit", "-q", "-m", subject]));
        output(git(&self.clone).args(["push", "-q", "origin", "HEAD:main"]));
    }

    /// What a developer does to release: one tag on one line.
    pub(crate) fn push_tag(&self, tag: &str) {
        let text = self.deployment_file();
        let old = text.split("podinfo:").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("a tag");
        let text = text.replacen(&format!("podinfo:{old}"), &format!("podinfo:{tag}"), 1);
        std::fs::write(self.clone.join("deployment.yaml"), text).expect("the Deployment can be written");
        self.push(&format!("Release {tag}"));
    }

    /// Takes over what others pushed to the watched branch.
    pub(crate) fn pull(&self) {
        output(git(&self.clone).args(["pull", "-q", "--ff-only", "origin", "main"]));
    }

    /// A commit's text; `revision` as git names it.
    pub(crate) fn git_show(&self, args: &[&str]) -> String {
        output(git(&self.clone).args(args))
    }

    /// The Deployment's file in the clone.
    pub(crate) fn deployment_file(&self) -> String {
        std::fs::read_to_string(self.clone.join("deployment.yaml")).expect("the Deployment can be read")
    }

    /// The record's file on the status branch, waited for until it has this line.
    pub(crate) fn wait_record(&self, line: &str) -> String {
        self.eventually(&format!("`{line}` on the status branch"), || {
            output(git(&self.clone).args(["fetch", "-q", "origin"]));
            let mut show = git(&self.clone);
            let shown = show.args(["show", "origin/serin/status/sandbox:test/podinfo.yaml"]).output();
            let text = String::from_utf8_lossy(&shown.expect("git runs").stdout).into_owned();
            text.contains(line).then_some(text)
        })
    }

    /// How the release of a commit ended, waited for in the history on the status branch.
    pub(crate) fn wait_outcome(&self, commit: &str) -> String {
        self.eventually(&format!("the outcome of {commit}"), || {
            output(git(&self.clone).args(["fetch", "-q", "origin"]));
            let mut grep = git(&self.clone);
            grep.args(["grep", "-h", "-B1", "-e"]).arg(format!("^revision: .*@{commit}$"));
            let found = grep.args(["origin/serin/status/sandbox", "--", "history"]).output().expect("git runs");
            let text = String::from_utf8_lossy(&found.stdout).into_owned();
            text.lines().find_map(|line| line.strip_prefix("outcome: ")).map(str::to_owned)
        })
    }

    /// The image that a Deployment asks for.
    pub(crate) fn image(&self, deployment: &str) -> String {
        let path = "jsonpath={.spec.template.spec.containers[0].image}";
        self.kubectl(&["-n", "test", "get", "deploy", deployment, "-o", path])
    }

    /// The uids of the pods of a Deployment of the example: others mean that something was restarted.
    pub(crate) fn pods(&self, app: &str) -> BTreeSet<String> {
        let living =
            "{{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.uid}}{{\"\\n\"}}{{end}}{{end}}";
        let label = format!("app={app}");
        let pods =
            self.kubectl(&["-n", "test", "get", "pods", "-l", &label, "-o", "go-template", "--template", living]);
        pods.lines().map(str::to_owned).collect()
    }

    fn wait_max(&self) -> Duration {
        if self.real.is_some() { WAIT_MAX_REAL } else { WAIT_MAX }
    }

    fn timeout(&self) -> String {
        format!("--timeout={}s", self.wait_max().as_secs())
    }

    /// The end of the daemon's log, for messages.
    fn log_tail(&self) -> String {
        /// Lines that tell what was going on without hiding the message.
        const LINES: usize = 40;
        let text = std::fs::read_to_string(self.dir.path().join("logs/serin.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let Some(real) = self.real.take() else { return };
        // The daemon still runs: it answers for its finalizer. Then it must not put anything back.
        let kubectl = || {
            let mut command = Command::new(&self.kubectl);
            command.arg("--kubeconfig").arg(&self.kubeconfig);
            command
        };
        let delete = |args: &[&str]| {
            let mut command = kubectl();
            let done = command.arg("delete").args(args).args(["--ignore-not-found", "--timeout=120s"]).output();
            if let Ok(out) = done
                && !out.status.success()
            {
                eprintln!("not cleaned up: {args:?}: {}", String::from_utf8_lossy(&out.stderr));
            }
        };
        delete(&["-n", "test", "canary", "podinfo"]);
        drop(self.daemon.take());
        // A daemon that could not answer for it must not leave a cluster that no further test can use.
        let unheld = r#"{"metadata":{"finalizers":null}}"#;
        kubectl().args(["-n", "test", "patch", "canary", "podinfo", "--type=merge", "-p", unheld]).output().ok();
        for object in RealCluster::list(&self.kubectl, &self.kubeconfig).difference(&real.before) {
            if RealCluster::is_ours(object) {
                delete(&[object]);
            }
        }
        // Last: it is the node that lets pods go.
        drop(self.sandbox.take());
        for node in RealCluster::list(&self.kubectl, &self.kubeconfig).difference(&real.before) {
            if node.starts_with("node/") {
                delete(&[node]);
            }
        }
    }
}

impl RealCluster {
    fn lock(kubectl: &Path, kubeconfig: &Path) -> Self {
        let path = std::env::temp_dir().join("serin-e2e.lock");
        let lock = File::options().create(true).append(true).open(path).expect("the lock's file can be opened");
        lock.lock().expect("the lock can be taken");
        let before = Self::list(kubectl, kubeconfig);
        assert!(
            !before.contains("namespace/test"),
            "the cluster of SERIN_E2E_KUBECONFIG has a namespace `test`: this test would take it over; remove it first"
        );
        Self { before, _lock: lock }
    }

    fn list(kubectl: &Path, kubeconfig: &Path) -> BTreeSet<String> {
        let mut command = Command::new(kubectl);
        command.arg("--kubeconfig").arg(kubeconfig).args(["get", "namespaces,nodes,crds", "-o", "name"]);
        output(&mut command).lines().map(str::to_owned).collect()
    }

    fn is_ours(object: &str) -> bool {
        match object.split_once('/') {
            Some(("namespace", name)) => NAMESPACES.contains(&name),
            Some(("customresourcedefinition.apiextensions.k8s.io", name)) => {
                GROUPS.iter().any(|group| name.ends_with(group))
            }
            Some(_) | None => false,
        }
    }
}

/// The Canary with ten times the readiness deadline: divided by the speed, the example's is two seconds, and a busy machine
/// may need longer to start two pods.
pub(crate) fn patient(canary: &str) -> String {
    let text = canary.replace("progressDeadlineSeconds: 60\n", "progressDeadlineSeconds: 600\n");
    assert_ne!(text, canary, "the example has a deadline");
    text
}

/// The example's folder.
pub(crate) fn example() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/podinfo"))
}
