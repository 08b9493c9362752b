//! End to end: `serin run` as a process, `git push` with the git CLI, reading with kubectl, SIGKILL.
//!
//! With `SERIN_E2E_KUBECONFIG` the same runs against that cluster, with `serin sandbox --attach` as its node and traffic.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Process, SERIN, copy_files, git, output, program};

/// Longest wait for one state: many times what it takes on two busy cores at this speed.
const WAIT: &str = "--timeout=120s";
/// Longest time to the sandbox's first line.
const START_MAX: Duration = Duration::from_secs(60);
/// How much faster than real time analysis runs.
const SPEED: &str = "30";

/// A sandbox, a clone of its repository and a daemon.
struct World {
    dir: tempfile::TempDir,
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    clone: PathBuf,
    daemon: Option<Process>,
    _sandbox: Process,
}

impl World {
    fn start() -> Option<Self> {
        let kubectl = program("kubectl")?;
        program("git")?;
        let dir = tempfile::tempdir().expect("a folder");
        let logs = dir.path().join("logs");
        std::fs::create_dir_all(&logs).expect("a folder for logs");
        let mut command = Command::new(SERIN);
        command.args(["sandbox", "-o", "json", "--speed", SPEED, "--dir"]).arg(dir.path());
        if let Some(kubeconfig) = std::env::var_os("SERIN_E2E_KUBECONFIG") {
            command.arg("--attach").arg(kubeconfig);
        }
        let mut sandbox = Process::start("serin sandbox", &mut command, &logs.join("sandbox.log"));
        let line = sandbox.first_line(START_MAX);
        let urls: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let text = |name: &str| urls[name].as_str().unwrap_or_else(|| panic!("no {name} in {line}")).to_owned();
        let clone = dir.path().join("clone");
        output(git(dir.path()).args(["clone", "-q", &text("repository"), "clone"]));
        let mut world =
            Self { kubeconfig: text("kubeconfig").into(), kubectl, clone, daemon: None, _sandbox: sandbox, dir };
        world.run();
        Some(world)
    }

    /// Starts the daemon with the settings that the sandbox wrote.
    fn run(&mut self) {
        let config = self.dir.path().join("serin.yaml");
        let mut command = Command::new(SERIN);
        command.args(["run", "--install-crds", "--config"]).arg(config);
        self.daemon = Some(Process::start("serin run", &mut command, &self.dir.path().join("logs/serin.log")));
    }

    fn kill(&mut self) {
        self.daemon.take().expect("a daemon runs").kill();
    }

    fn kubectl(&self, args: &[&str]) -> String {
        output(Command::new(&self.kubectl).arg("--kubeconfig").arg(&self.kubeconfig).args(args))
    }

    /// Waits until a field of the Canary has a value; the CRDs may not be there yet when this begins.
    fn wait(&self, path: &str, value: &str) {
        let condition = format!("--for=jsonpath={{.status.{path}}}={value}");
        self.kubectl(&["-n", "test", "wait", "canary/podinfo", &condition, WAIT]);
    }

    fn push(&self, subject: &str) {
        output(git(&self.clone).args(["add", "-A"]));
        output(git(&self.clone).args(["commit", "-q", "-m", subject]));
        output(git(&self.clone).args(["push", "-q", "origin", "HEAD:main"]));
    }

    fn push_tag(&self, tag: &str) {
        let path = self.clone.join("deployment.yaml");
        let text = std::fs::read_to_string(&path).expect("the Deployment can be read");
        let old = text.split("podinfo:").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("a tag");
        let text = text.replacen(&format!("podinfo:{old}"), &format!("podinfo:{tag}"), 1);
        std::fs::write(&path, text).expect("the Deployment can be written");
        self.push(&format!("Release {tag}"));
    }

    fn image(&self, deployment: &str) -> String {
        self.kubectl(&[
            "-n",
            "test",
            "get",
            "deploy",
            deployment,
            "-o",
            "jsonpath={.spec.template.spec.containers[0].image}",
        ])
    }

    fn status_branch(&self) -> String {
        output(git(&self.clone).args(["fetch", "-q", "origin"]));
        output(git(&self.clone).args(["show", "origin/serin/status/sandbox:test/podinfo.yaml"]))
    }
}

fn example() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/podinfo"))
}

/// Whether these lines follow each other in the text, with others in between.
fn in_order(text: &str, lines: &[&str]) -> Result<(), String> {
    let mut rest = text;
    for line in lines {
        rest = rest.split_once(line).ok_or_else(|| format!("`{line}` is missing or too early in\n{text}"))?.1;
    }
    Ok(())
}

#[test]
fn a_push_is_released_through_a_kill_and_a_bad_one_is_rolled_back_in_git() {
    let Some(mut world) = World::start() else { return };
    copy_files(example(), &world.clone);
    world.push("Add podinfo 3.1.0");
    world.kubectl(&["wait", "--for=create", "crd/canaries.flagger.app", WAIT]);
    world.kubectl(&["-n", "test", "wait", "--for=create", "canary/podinfo", WAIT]);
    world.wait("phase", "Initialized");
    assert!(world.image("podinfo-primary").ends_with(":3.1.0"));

    world.push_tag("3.1.1");
    world.wait("canaryWeight", "20");
    world.kill();
    world.run();
    world.wait("phase", "Succeeded");
    assert!(world.image("podinfo-primary").ends_with(":3.1.1"));
    let described = world.kubectl(&["-n", "test", "describe", "canary/podinfo"]);
    let seed = [
        "all the metrics providers are available!",
        "Initialization done! podinfo.test",
        "New revision detected! Scaling up podinfo.test",
        "Starting canary analysis for podinfo.test",
        "Pre-rollout check acceptance-test passed",
        "Advance podinfo.test canary weight 10",
        "Advance podinfo.test canary weight 20",
        "Advance podinfo.test canary weight 50",
        "Promotion completed! Scaling down podinfo.test",
    ];
    in_order(&described, &seed).unwrap_or_else(|problem| panic!("{problem}"));

    world.push_tag("3.1.2-errors-50");
    world.wait("phase", "Failed");
    assert!(world.image("podinfo-primary").ends_with(":3.1.1"), "primary keeps what it had");
    let limit = Duration::from_secs(60);
    let began = std::time::Instant::now();
    // The rollback commit follows the phase; fetching is the only way to see it from outside.
    let restored = loop {
        output(git(&world.clone).args(["pull", "-q", "--ff-only", "origin", "main"]));
        let text = std::fs::read_to_string(world.clone.join("deployment.yaml")).expect("the Deployment");
        if text.contains("podinfo:3.1.1") || began.elapsed() > limit {
            break text;
        }
    };
    let original = std::fs::read_to_string(example().join("deployment.yaml")).expect("the example");
    assert_eq!(
        restored,
        original.replacen("podinfo:3.1.0", "podinfo:3.1.1", 1),
        "comments and neighbours as they were"
    );
    let log = output(git(&world.clone).args(["log", "-1", "--format=%B"]));
    assert!(log.contains("Serin-Rollback:") && log.contains("request-success-rate"), "{log}");
    assert!(world.status_branch().contains("phase: Failed"));
    assert!(world.image("podinfo-primary").ends_with(":3.1.1"), "the rollback commit releases nothing");
}
