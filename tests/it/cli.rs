//! The command line as a newcomer meets it: help, `validate`, `get` against the embedded API server, exit codes.
//!
//! Every screen is a committed file under `snapshots/`; run with `INSTA_UPDATE=always` to write them anew, then read the diff.

mod get;
mod plan;
mod rollouts;
mod validate;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::SERIN;

/// The binary with nothing of the user's environment but the path.
fn serin(folder: &Path) -> Command {
    let mut command = Command::new(SERIN);
    command
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder)
        .stdin(Stdio::null());
    command
}

/// Exit code, stdout and stderr as one text for a snapshot.
fn screen(output: &Output) -> String {
    let Output { status, stdout, stderr } = output;
    let part = |name: &str, bytes: &[u8]| match String::from_utf8_lossy(bytes).trim_end() {
        "" => String::new(),
        text => format!("----- {name}\n{text}\n"),
    };
    let code = status.code().map_or_else(|| "killed".to_owned(), |code| code.to_string());
    format!("exit {code}\n{}{}", part("stdout", stdout), part("stderr", stderr))
}

fn run(folder: &Path, args: &[&str]) -> Output {
    serin(folder).args(args).output().expect("serin can be started")
}

#[test]
fn help_is_as_committed() {
    let folder = tempfile::tempdir().expect("a folder");
    let verbs = [
        "demo",
        "sandbox",
        "run",
        "validate",
        "plan",
        "get",
        "why",
        "logs",
        "wait",
        "retry",
        "rollouts",
        "loadtest",
        "crds",
        "completions",
    ];
    insta::assert_snapshot!("help", screen(&run(folder.path(), &["--help"])));
    for verb in verbs {
        insta::assert_snapshot!(format!("help-{verb}"), screen(&run(folder.path(), &[verb, "--help"])));
    }
}

#[test]
fn bad_usage_exits_with_2() {
    let folder = tempfile::tempdir().expect("a folder");
    for args in [
        &["vaildate"][..],
        &["get", "podinfo", "-A"],
        &["get", "--kubeconfig", "none.yaml"],
        &["run", "--config", "none.yaml"],
        &["--log", "serin=loud", "run", "--cluster-name", "a", "--git-url", "b"],
        &["validate", "none.yaml"],
        &["--log", "foo=bar=baz", "crds"],
        &["run", "--cluster-name", "a", "--git-url", "https://h/x", "--path", "../.."],
        &["run", "--cluster-name", "a", "--git-url", "https://h/x", "--metrics-server", "prom:9090"],
    ] {
        let output = run(folder.path(), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", screen(&output));
        assert!(output.stdout.is_empty(), "{args:?}: messages go to stderr");
    }
}

#[test]
fn errors_name_object_cause_and_hint_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let write =
        |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("it can be written");
    write("unclosed.yaml", "cluster: [a\n");
    write("twice.yaml", "git: {url: a}\ngit: {url: b}\n");
    write("unknown.yaml", "cluster: {name: a}\ngit: {url: ., brnch: y}\n");
    write(
        "kubeconfig",
        "apiVersion: v1\nkind: Config\nclusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]\n\
         contexts: [{name: a, context: {cluster: a, user: a}}]\nusers: [{name: a}]\ncurrent-context: a\n",
    );
    let screens: String = [
        &["run"][..],
        &["run", "--config", "none.yaml"],
        &["run", "--config", "unclosed.yaml"],
        &["run", "--config", "twice.yaml"],
        &["run", "--config", "unknown.yaml"],
        &["get"],
        &["get", "--kubeconfig", "none"],
        &["get", "--kubeconfig", "kubeconfig", "--context", "none"],
        &["get", "podinfo", "--kubeconfig", "kubeconfig"],
        &["sandbox", "--attach", "none"],
    ]
    .iter()
    .map(|args| format!("$ serin {}\n{}\n", args.join(" "), screen(&run(folder.path(), args))))
    .collect();
    write("empty", "");
    let with_variable = |name: &str| {
        let output =
            serin(folder.path()).arg("get").env("KUBECONFIG", name).output().expect("serin can be started");
        format!("$ KUBECONFIG={name} serin get\n{}\n", screen(&output))
    };
    insta::assert_snapshot!("errors", screens + &with_variable("/nowhere") + &with_variable("empty"));
}

#[test]
fn a_closed_pipe_is_no_error() {
    let folder = tempfile::tempdir().expect("a folder");
    for verb in [&["crds"][..], &["completions", "bash"]] {
        let mut child =
            serin(folder.path()).args(verb).stdout(Stdio::piped()).spawn().expect("serin can be started");
        drop(child.stdout.take());
        assert!(child.wait().expect("it ends").success(), "{verb:?}");
    }
}

#[test]
fn completions_know_the_verbs() {
    let folder = tempfile::tempdir().expect("a folder");
    for shell in ["bash", "zsh", "fish"] {
        let output = run(folder.path(), &["completions", shell]);
        let script = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && script.contains("validate") && script.contains("deny-warnings"),
            "{shell}"
        );
    }
}
