//! `serin validate`: what it says of good and bad manifests.

use std::path::Path;

use super::{run, screen};

/// A Canary with everything that it needs beside it.
const GOOD: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: podinfo, namespace: test}
spec:
  selector: {matchLabels: {app: podinfo}}
  template:
    metadata: {labels: {app: podinfo}}
    spec: {containers: [{name: app, image: podinfo:1}]}
---
apiVersion: flagger.app/v1beta1
kind: Canary
metadata:
  name: podinfo
  namespace: test
spec:
  targetRef: {apiVersion: apps/v1, kind: Deployment, name: podinfo}
  service: {port: 9898}
  analysis:
    interval: 1m
    stepWeight: 10
    metrics: [{name: request-success-rate, interval: 1m, thresholdRange: {min: 99}}]
";

/// The screen after `files` were checked.
fn validated(files: &[(&str, &str)], args: &[&str]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
        std::fs::write(path, text).expect("the file can be written");
    }
    screen(&run(folder.path(), &[&["validate"], args].concat()))
}

#[test]
fn good_manifests_pass_in_yaml_and_json() {
    let json = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}"#;
    let screen = validated(&[("app.yaml", GOOD), ("config.json", json)], &[]);
    assert_eq!(screen, "exit 0\n----- stderr\n3 objects in 2 files: 0 errors, 0 warnings\n");
}

#[test]
fn the_example_has_nothing_to_complain_of() {
    let example = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/podinfo"));
    insta::assert_snapshot!("validate-example", screen(&run(example, &["validate"])));
    assert_eq!(run(example, &["validate", "--deny-warnings"]).status.code(), Some(0));
}

#[test]
fn an_old_api_version_is_a_warning_as_in_sync() {
    let folder = tempfile::tempdir().unwrap();
    let old = include_str!("../../../examples/podinfo/hpa.yaml").replace("autoscaling/v2", "autoscaling/v2beta2");
    std::fs::write(folder.path().join("hpa.yaml"), old).unwrap();
    insta::assert_snapshot!("validate-old-version", screen(&run(folder.path(), &["validate"])));
    assert_eq!(run(folder.path(), &["validate", "--deny-warnings"]).status.code(), Some(2));
}

#[test]
fn what_is_not_yaml_is_shown_with_a_caret_and_a_hint() {
    let syntax = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n   labels: {}\n";
    let helm = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\n";
    let kustomization =
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [a.yaml]\nnamespace: test\n";
    let files = [("helm.yaml", helm), ("k/kustomization.yaml", kustomization), ("syntax.yaml", syntax)];
    insta::assert_snapshot!("validate-syntax", validated(&files, &[]));
}

#[test]
fn unknown_fields_are_errors_with_a_suggestion() {
    let text = GOOD.replace("stepWeight: 10", "stepWeight: 10\n    stepWeigth: 10\n    threshold: many");
    insta::assert_snapshot!("validate-schema", validated(&[("app.yaml", &text)], &[]));
}

#[test]
fn what_this_version_does_not_carry_out_is_refused_as_the_daemon_refuses_it() {
    let with = |line: &str| GOOD.replace("stepWeight: 10", line);
    let files = [
        ("a.yaml", with("stepWeight: 10\n    iterations: 5000")),
        (
            "b.yaml",
            with("stepWeight: 10\n    primaryReadyThreshold: 75")
                .replace("name: podinfo, namespace", "name: other, namespace")
                .replace("name: podinfo}", "name: other}")
                .replace("name: podinfo\n", "name: other\n")
                .replace("app: podinfo", "app: other"),
        ),
    ];
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    insta::assert_snapshot!("validate-unsupported", validated(&files, &[]));
}

#[test]
fn what_would_block_a_canary_for_ever_is_no_success() {
    let metrics = "metrics: [{name: request-success-rate, interval: 1m, thresholdRange: {min: 99}}]";
    let template = "---\napiVersion: flagger.app/v1beta1\nkind: MetricTemplate\nmetadata: {name: errors, namespace: test}\n\
                    spec: {provider: {type: prometheus, address: \"prometheus:9090\"}, query: \"up\"}\n";
    for (field, words) in [
        ("metrics: [{name: request-success-rate}]", "no limit to be held against"),
        ("metrics: [{name: request-duration, thresholdRange: {min: 3, max: 1}}]", "no value is in 3 to 1"),
        (
            "metrics: [{name: errors, templateRef: {name: errors}, thresholdRange: {max: 1}}]",
            "MetricTemplate test/errors: spec.provider.address: the address is not",
        ),
        ("webhooks: [{name: load, url: flagger-loadtester.test}]", "webhook `load`: url: the address is not"),
        ("webhooks: [{name: load, url: \"http://localhost/\"}]", "unless http.proxy says where addresses lead"),
    ] {
        let text = format!("{}{template}", GOOD.replace(metrics, field));
        let screen = validated(&[("app.yaml", &text)], &["--deny-warnings"]);
        assert!(screen.starts_with("exit 2") && screen.contains(words), "{field}: {screen}");
    }
}

#[test]
fn objects_are_held_against_each_other() {
    let (_, canary) = GOOD.split_once("---\n").expect("two documents");
    let second = canary.replacen("name: podinfo", "name: second", 1);
    let missing = "\
apiVersion: flagger.app/v1beta1
kind: Canary
metadata: {name: lost, namespace: test}
spec:
  targetRef: {apiVersion: apps/v1, kind: Deployment, name: nowhere}
  service: {port: 80}
  analysis:
    stepWeight: 50
    metrics:
      - name: errors
        templateRef: {name: errors}
    alerts:
      - {name: chat, providerRef: {name: chat}}
";
    let list = "apiVersion: v1\nkind: List\nitems:\n  - apiVersion: v1\n    kind: ConfigMap\n    metadata: {name: a}\n  \
                - apiVersion: v1\n    kind: ConfigMap\n    metadata: {name: a}\n    data: {}\n";
    let files = [("app.yaml", GOOD), ("list.yaml", list), ("lost.yaml", missing), ("second.yaml", &second)];
    insta::assert_snapshot!("validate-references", validated(&files, &[]));
}

#[test]
fn what_a_canary_generates_does_not_belong_into_git() {
    let route = |name: &str, hosts: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: test}}\n\
             spec:\n  hosts:\n    - {hosts}\n  http: []\n"
        )
    };
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: podinfo-canary, namespace: test}\nspec: {ports: [{port: 80}]}\n";
    let elsewhere = route("elsewhere", "podinfo").replace("namespace: test", "namespace: other");
    let files = [
        ("app.yaml", GOOD),
        ("elsewhere.yaml", &elsewhere),
        ("host.yaml", &route("mine", "podinfo.test.svc.cluster.local")),
        ("route.yaml", &route("podinfo", "podinfo")),
        ("service.yaml", service),
    ];
    insta::assert_snapshot!("validate-generated", validated(&files, &[]));
}

#[test]
fn what_cannot_be_told_apart_is_refused_by_name() {
    let workload = |kind: &str, name: &str, labels: &str| {
        format!(
            "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: test}}\nspec:\n  selector: {{matchLabels: \
             {{{labels}}}}}\n  template:\n    metadata: {{labels: {{{labels}}}}}\n    spec: {{containers: [{{name: a, image: a}}]}}\n"
        )
    };
    let service = |selector: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: podinfo, namespace: test}}\nspec: {{selector: {{{selector}}}, ports: [{{name: a, port: 1}}]}}\n"
        )
    };
    let beside = |file: &str| validated(&[("app.yaml", GOOD), ("beside.yaml", file)], &[]);
    for (other, named) in [
        (
            workload("Deployment", "worker", "app: podinfo, role: worker"),
            "the pods of Deployment worker carry app=podinfo",
        ),
        (
            workload("StatefulSet", "store", "app: podinfo-primary"),
            "the pods of StatefulSet store carry app=podinfo-primary",
        ),
        (service("app: payments"), "Service test/podinfo selects the pods with app=payments"),
    ] {
        let screen = beside(&other);
        assert!(screen.contains("error: ") && screen.contains(named), "{screen}");
    }
    for good in [
        workload("Deployment", "other", "app: other"),
        workload("Deployment", "worker", "app: podinfo").replace("namespace: test", "namespace: elsewhere"),
        service("app: podinfo"),
    ] {
        let screen = beside(&good);
        assert!(screen.contains("0 errors, 0 warnings"), "{screen}");
    }
    // Two parts of one app, each by its whole selector.
    let part = |text: &str, name: &str| {
        let text = text.replace("app: podinfo}", &format!("app: store, part: {name}}}"));
        text.replace("name: podinfo", &format!("name: {name}"))
    };
    let screen = validated(&[("web.yaml", &part(GOOD, "web")), ("api.yaml", &part(GOOD, "api"))], &[]);
    assert!(screen.contains("0 errors, 0 warnings"), "{screen}");
    let unlabelled = GOOD.replace("app: podinfo", "k8s-app: podinfo");
    let screen = validated(&[("app.yaml", &unlabelled)], &[]);
    assert!(
        screen.contains("warning: deployment test/podinfo: spec.selector.matchLabels must contain one of"),
        "{screen}"
    );
}

#[test]
fn a_missing_namespace_is_the_default_one() {
    let canary = GOOD.replace(", namespace: test}", "}").replace("  namespace: test\n", "  namespace: default\n");
    let screen = validated(&[("app.yaml", &canary)], &[]);
    assert_eq!(screen, "exit 0\n----- stderr\n2 objects in 1 file: 0 errors, 0 warnings\n");
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    let twice = format!("{config}---\n{}", config.replace("name: a", "name: a, namespace: default"));
    let same = validated(&[("app.yaml", &twice)], &[]);
    assert!(
        same.contains("warning: ConfigMap default/a is also defined in app.yaml:1, with the same content"),
        "{same}"
    );
    let other = validated(&[("app.yaml", &format!("{twice}data: {{}}\n"))], &[]);
    assert!(other.contains("error: ConfigMap default/a is also defined in app.yaml:1\n"), "{other}");
}

#[test]
fn a_metric_provider_that_cannot_be_asked_is_a_warning() {
    let template = "apiVersion: flagger.app/v1beta1\nkind: MetricTemplate\nmetadata: {name: a}\nspec:\n  provider: \
                    {type: datadog}\n  query: a\n";
    let screen = validated(&[("app.yaml", template)], &[]);
    assert!(screen.contains("warning: provider type datadog is not supported yet"), "{screen}");
    assert!(screen.contains("exit 0"), "{screen}");
}

#[test]
fn a_file_that_cannot_be_read_does_not_hide_the_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let write =
        |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).expect("it can be written");
    write("app.yaml", GOOD.as_bytes());
    write("bom.yml", b"\xef\xbb\xbfapiVersion: v1\r\nkind: ConfigMap\r\nmetadata: {name: a}\r\n");
    write("huge.json", &vec![b' '; 5 * 1024 * 1024 + 1]);
    write("latin1.yaml", b"name: caf\xe9\n");
    std::os::unix::fs::symlink("app.yaml", folder.path().join("link.yaml")).expect("it can be linked");
    insta::assert_snapshot!("validate-unread", screen(&run(folder.path(), &["validate", ".", "app.yaml"])));
}

#[test]
fn what_another_program_prints_is_checked() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("printed");
    std::fs::write(&file, format!("{GOOD}---\nkind: x\n")).expect("the file can be written");
    let printed = std::fs::File::open(file).expect("the file can be read");
    let output = super::serin(folder.path()).args(["validate", "-"]).stdin(printed).output().expect("it runs");
    let screen = screen(&output);
    assert!(screen.contains("standard input:23:1: error: not a Kubernetes object"), "{screen}");
    assert!(screen.ends_with("2 objects in 1 file: 1 error, 0 warnings\n"), "{screen}");
}

#[test]
fn findings_are_data_for_machines() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = GOOD.replace("stepWeight: 10", "stepWieght: 10\n    stepWeight: 10");
    std::fs::write(folder.path().join("app.yaml"), text).expect("the file can be written");
    let output = run(folder.path(), &["validate", "-o", "json"]);
    assert_eq!(output.status.code(), Some(2));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&found[0]["severity"], &found[0]["line"], &found[0]["column"]),
        (&"error".into(), &20.into(), &5.into())
    );
}

#[test]
fn nothing_to_check_is_no_success() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("empty")).expect("it can be made");
    std::fs::write(folder.path().join("comment.yaml"), "# nothing\n---\n").expect("it can be written");
    // Standard input is empty here, as behind a pipe whose other end has failed.
    for paths in [&["empty"][..], &["comment.yaml"], &["-"]] {
        let output = run(folder.path(), &[&["validate"][..], paths].concat());
        assert_eq!(output.status.code(), Some(2), "{paths:?}: {}", screen(&output));
        assert!(screen(&output).contains("nothing to check"), "{}", screen(&output));
    }
}

#[test]
fn built_in_kinds_are_checked_as_a_server_would() {
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n  annotations:\n    prometheus.io/port: 9797\n  labels:\n    \
        enabled: yes\nspec:\n  replicas: \"2\"\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    \
        spec:\n      containers:\n      - name: web\n        image: web:1\n        env:\n        - {name: PORT, value: 8080}\n        - {name: PORT, \
        value: a}\n        resources: {limits: {memory: 512Mb}}\n        imagee: x\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: \
        {port: 8080}\n---\napiVersion: extensions/v1beta1\nkind: Ingress\nmetadata: {name: old}\n";
    insta::assert_snapshot!("validate-built-in", validated(&[("app.yaml", text)], &[]));
}

#[test]
fn what_leaves_primary_out_and_who_shares_a_service_is_named() {
    let budget = "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: podinfo, namespace: test}\nspec:\n  minAvailable: 1\n  \
        selector: {matchLabels: {app: podinfo}}\n";
    let screen = validated(&[("app.yaml", GOOD), ("budget.yaml", budget)], &[]);
    assert!(
        screen.contains(
            "budget.yaml:6:3: warning: it selects the pods of Deployment podinfo and not those of podinfo-primary"
        ),
        "{screen}"
    );
    let shared =
        validated(&[("app.yaml", GOOD), ("budget.yaml", &budget.replace("app: podinfo", "team: a"))], &[]);
    assert!(!shared.contains("it selects"), "{shared}");
}

#[test]
fn a_kustomization_says_what_it_leaves_out_and_what_is_rendered() {
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    let files = [
        ("kustomization.yaml", "resources: [a.yaml]\n"),
        ("a.yaml", config),
        ("left-out.yaml", "this is: [no manifest\n"),
    ];
    let screen = validated(&files, &[]);
    assert!(
        screen.starts_with("exit 0")
            && screen.contains("left-out.yaml:1:1: warning: it is left out: kustomization.yaml does not"),
        "{screen}"
    );
    let overlay = [
        ("base/kustomization.yaml", "resources: [a.yaml]\n"),
        ("base/a.yaml", config),
        ("prod/kustomization.yaml", "namePrefix: x-\nresources: [../base]\n"),
        ("prod/patch.yaml", "kind: Deployment\n"),
        ("plain.yaml", config),
    ];
    let screen = validated(&overlay, &[]);
    assert!(
        screen.starts_with("exit 0") && screen.contains("1 object in 5 files: 0 errors, 1 warning"),
        "{screen}"
    );
    assert!(screen.contains("kubectl kustomize prod | serin validate -"), "{screen}");
}

#[test]
fn what_is_ignored_is_not_checked_and_code_scanning_gets_the_rest() {
    let files = [(".serinignore", "*.json\n"), ("package.json", "{}"), ("app.yaml", "kind: Secret\n")];
    let screen = validated(&files, &["-o", "sarif"]);
    let sarif = screen.split("----- stdout\n").nth(1).unwrap().split("----- stderr").next().unwrap();
    let sarif: serde_json::Value = serde_json::from_str(sarif).unwrap();
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    assert_eq!((results.len(), &results[0]["ruleId"]), (1, &serde_json::json!("syntax")));
}

#[test]
fn a_hint_says_what_is_written_and_not_what_it_was_read_as() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata: {name: a}\n  data:\n    version: 1.10\n    \
        mode: 0400\n    sha: 1234567e8\n    time: 1_000\n    flag: yes\n";
    let screen = validated(&[("app.yaml", text)], &[]);
    for written in ["1.10", "0400", "1234567e8", "1_000", "yes"] {
        assert!(screen.contains(&format!("write \"{written}\", in quotes")), "{written}: {screen}");
    }
}

#[test]
fn kinds_that_no_server_has_are_errors_and_secrets_have_to_be_base64() {
    let object = |version: &str, kind: &str, rest: &str| {
        format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a}}\n{rest}")
    };
    for (text, words) in [
        (
            object("v1", "Deployment", ""),
            "2:1: error: no API server knows Deployment in v1, did you mean apps/v1 Deployment?",
        ),
        (object("app/v1", "Deployment", ""), "no API server knows Deployment in app/v1"),
        (object("v1", "Secret", "data: {x: \"not base64!\"}\n"), "`data.x` is no base64"),
    ] {
        let screen = validated(&[("a.yaml", &text)], &[]);
        assert!(screen.starts_with("exit 2") && screen.contains(words), "{screen}");
    }
}

#[test]
fn a_kustomization_that_the_daemon_refuses_is_an_error_where_it_is_written() {
    let good = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    let files = [
        ("missing/kustomization.yaml", "resources:\n- a.yaml\n- nosuch.yaml\n"),
        ("missing/a.yaml", good),
        ("helm/kustomization.yaml", "helmCharts: [{name: podinfo, repo: 'https://x'}]\n"),
        ("remote/kustomization.yaml", "resources: ['https://github.com/foo/bar//base?ref=v1']\n"),
        ("deep/kustomization.yaml", "resources: [../remote]\n"),
        ("circle/kustomization.yaml", "resources: [../circle2]\n"),
        ("circle2/kustomization.yaml", "resources: [../circle]\n"),
    ];
    insta::assert_snapshot!("validate-kustomizations", validated(&files, &[]));
}

#[test]
fn templates_of_argos_analysis_are_read_as_a_run_reads_them() {
    let template = "\
apiVersion: argoproj.io/v1alpha1
kind: AnalysisTemplate
metadata: {name: istio-success-rate}
spec:
  args: [{name: service}, {name: namespace}]
  metrics:
  - name: success-rate
    interval: 20s
    successCondition: result[0] > 0.90
    provider:
      prometheus: {address: 'http://prometheus:9090', query: 'up{service=\"{{args.service}}\"}'}
";
    let good = validated(&[("template.yaml", template)], &["--deny-warnings"]);
    assert_eq!(good, "exit 0\n----- stderr\n1 object in 1 file: 0 errors, 0 warnings\n");
    let wrong =
        template.replace("> 0.90", ">= ").replace("interval", "intervall").replace("args.service", "args.servce");
    insta::assert_snapshot!("validate-analysis", validated(&[("template.yaml", &wrong)], &[]));
}
