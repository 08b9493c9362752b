use pretty_assertions::assert_eq;

use super::*;

const PATH: [&str; 2] = ["spec", "template"];

fn podinfo() -> ObjectRef {
    ObjectRef {
        group: "apps".into(),
        kind: "Deployment".into(),
        namespace: Some("test".into()),
        name: "podinfo".into(),
    }
}

const GOOD: &str = "\
# The service everybody knows.
apiVersion: v1
kind: Service
metadata: {name: podinfo, namespace: test}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: podinfo   # the name
  namespace: test
spec:
  replicas: 2
  template:
    metadata:
      annotations:
        prometheus.io/port: '9797'  # a string
    spec:
      containers:
      - name: podinfod
        image: \"stefanprodan/podinfo:3.1.0\" # {\"$imagepolicy\": \"x\"}
        command:
        - ./podinfo
        - --port=9898
        env:
        - {name: COLOR, value: blue}
        # Kept for the dashboards.
        - name: LEVEL
          value: info
";

fn rolled_back(tip: &str, good: &str) -> Result<String, SpliceError> {
    restore(tip, &podinfo(), &PATH, good)
}

#[test]
fn only_the_scalar_that_differs_is_touched() {
    let tip = GOOD
        .replace("3.1.0\"", "3.1.1\"")
        .replace("replicas: 2", "replicas: 5 # more")
        .replace("everybody", "nobody");
    let back = rolled_back(&tip, GOOD).unwrap();
    assert_eq!(back, tip.replace("3.1.1\"", "3.1.0\""));
    // Nothing differs: nothing is touched, not even spelling.
    let respelled = GOOD.replace("'9797'", "\"9797\"");
    assert_eq!(rolled_back(&respelled, GOOD).unwrap(), respelled);
}

#[test]
fn crlf_and_missing_last_line_break_stay() {
    let tip = GOOD.replace("3.1.0\"", "bad\"").replace("value: info\n", "value: debug\n").replace('\n', "\r\n");
    let tip = tip.trim_end();
    let back = rolled_back(tip, GOOD).unwrap();
    assert_eq!(back, tip.replace("bad\"", "3.1.0\"").replace("value: debug", "value: info"));
}

#[test]
fn entries_and_items_come_and_go_line_by_line() {
    let tip = GOOD
        .replace("        command:\n        - ./podinfo\n        - --port=9898\n", "        args: [a]\n        tty: true # new\n")
        .replace("        - {name: COLOR, value: blue}\n", "")
        .replace("          value: info\n", "          value: info\n        - name: EXTRA\n          value: |\n            x\n            y\n# end\n");
    let back = rolled_back(&tip, GOOD).unwrap();
    assert_eq!(value_at(&back, &podinfo(), &PATH), value_at(GOOD, &podinfo(), &PATH));
    assert_eq!(back, format!("{GOOD}# end\n"));
}

#[test]
fn other_indentation_and_other_style_are_adapted() {
    let tip = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: podinfo, namespace: test}\nspec:\n    # four\n    template:\n        spec:\n            containers:\n                - name: other\n                  image: x:2 # stays not\n    replicas: 1\n";
    let back = rolled_back(tip, GOOD).unwrap();
    assert!(back.starts_with("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: podinfo, namespace: test}\nspec:\n    # four\n    template:\n"), "{back}");
    assert!(back.ends_with("\n    replicas: 1\n"), "{back}");
    assert!(back.contains("# Kept for the dashboards."), "{back}");

    let flow = "{\"apiVersion\": \"apps/v1\", \"kind\": \"Deployment\", \"metadata\": {\"name\": \"podinfo\", \"namespace\": \"test\"},\n \"spec\": {\"template\": {\"spec\": {\"containers\": [{\"name\": \"a\", \"image\": \"x:2\"}]}}, \"replicas\": 1}}\n";
    let good = flow.replace("x:2", "x:1");
    assert_eq!(rolled_back(flow, &good).unwrap(), good);
    let back = rolled_back(flow, GOOD).unwrap();
    assert!(serde_json::from_str::<Value>(&back).is_ok(), "JSON stays JSON: {back}");
}

#[test]
fn block_scalars_are_put_back_whole() {
    let with = |script: &str| GOOD.replace("        - ./podinfo\n", &format!("        - |\n{script}"));
    let good = with("          set -e\n\n          run # not a comment\n");
    let tip = with("          exit 1\n");
    assert_eq!(rolled_back(&tip, &good).unwrap(), good);
    assert_eq!(rolled_back(GOOD, &good).unwrap(), good);
    assert_eq!(rolled_back(&good, GOOD).unwrap(), GOOD);
}

#[test]
fn what_an_anchor_shares_is_refused() {
    let shared = |image: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: podinfo, namespace: test}}\nspec:\n  template:\n    spec:\n      containers:\n      - name: a\n        image: &image {image}\n  note: *image\n"
        )
    };
    let error = rolled_back(&shared("x:2"), &shared("x:1")).unwrap_err();
    assert!(matches!(error, SpliceError::Entangled { .. }), "{error}");
    // An alias inside the template is spelled out.
    let tip = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: podinfo, namespace: test}\nx: &x {name: a, image: \"x:2\"}\nspec:\n  template:\n    spec:\n      containers: [*x]\n";
    let good = tip.replace("x:2", "x:1");
    let back = rolled_back(tip, &good).unwrap();
    assert_eq!(value_at(&back, &podinfo(), &PATH), value_at(&good, &podinfo(), &PATH));
    assert!(back.contains("x: &x {name: a, image: \"x:2\"}"), "{back}");
}

#[test]
fn lists_are_searched_and_absence_is_said() {
    let list = |image: &str| {
        format!(
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: apps/v1\n  kind: Deployment\n  metadata:\n    name: podinfo\n    namespace: test\n  spec:\n    template:\n      spec:\n        containers:\n        - image: {image}   # why\n          name: a\n"
        )
    };
    assert_eq!(rolled_back(&list("x:2"), &list("x:1")).unwrap(), list("x:1"));
    let error = rolled_back("a: 1\n", GOOD).unwrap_err();
    assert_eq!(error.to_string(), "Deployment test/podinfo is 0 times in the current file, expected once");
    let gone = GOOD.replace("  template:", "  tmpl:");
    assert!(matches!(rolled_back(GOOD, &gone), Err(SpliceError::NoField { which: "promoted", .. })));
}

fn deployment(container: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: podinfo\n  namespace: test\nspec:\n  template:\n    spec:\n      \
         containers:\n{container}"
    )
}

#[test]
fn json_stays_json() {
    let good = deployment(
        "      - name: app\n        image: podinfo:3.1.0\n        args: [a, \"b c\", 'd: e']\n        command:\n        - sh\n        - |-\n          \
         one\n          two\n",
    );
    let tip = "{\n\t\"apiVersion\": \"apps/v1\",\n\t\"kind\": \"Deployment\",\n\t\"metadata\": {\"name\": \"podinfo\", \"namespace\": \
               \"test\"},\n\t\"spec\": {\"template\": {\"spec\": {\"containers\": [{\"name\": \"app\", \"image\": \"podinfo:3.1.1\", \"args\": \
               [\"x\"], \"tty\": true}]}}}\n}\n";
    let back = rolled_back(tip, &good).unwrap();
    let value: Value = serde_json::from_str(&back).unwrap();
    let container = &value["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["args"], serde_json::json!(["a", "b c", "d: e"]));
    assert_eq!(container["command"][1], "one\ntwo");
    assert!(container["tty"].is_null(), "{back}");
    // The smallest edit is one string.
    let one = tip.replace("podinfo:3.1.1", "podinfo:3.1.0");
    assert_eq!(rolled_back(tip, &one).unwrap(), one);
    let block =
        deployment("      - name: app\n        image: podinfo:3.1.0\n        args: [x]\n        tty: true\n");
    assert_eq!(rolled_back(tip, &block).unwrap(), one);
}

#[test]
fn blanks_inside_a_block_scalar_are_content() {
    for scalar in ["|", "|-", "|+", ">-"] {
        for inner in
            ["            one\n              \n            two\n", "            one\n\n   \n            two\n"]
        {
            let good = deployment(&format!(
                "      - name: app\n        args:\n        - {scalar}\n{inner}        tty: true\n"
            ));
            let tip = good.replace("            one", "            other");
            assert_eq!(rolled_back(&tip, &good).unwrap(), good, "{scalar} {inner:?}");
            // Another indentation.
            let wide = deployment(&format!(
                "        - name: app\n          args:\n            - {scalar}\n{}          tty: true\n",
                inner.replace("            ", "                ").replace("one", "other")
            ));
            let back = rolled_back(&wide, &good).unwrap();
            let args =
                |text: &str| value_at(text, &podinfo(), &PATH).unwrap()["spec"]["containers"][0]["args"].clone();
            assert_eq!(args(&back), args(&good), "{scalar} {inner:?}\n{back}");
        }
    }
}

#[test]
fn comments_travel_with_their_entries() {
    let good = deployment(
        "      - name: app\n        env:\n        # the first\n        - name: A\n          value: a\n        # asked for by ops,\n        # in 2025\n        \
         - name: B\n          value: b # behind\n        - name: C\n          value: c\n",
    );
    let tip = deployment(
        "      - name: app\n        env:\n        # the first\n        - name: A\n          value: a\n        # a new one\n        - name: X\n          \
         value: x\n        - name: C\n          value: c\n",
    );
    assert_eq!(
        rolled_back(&tip, &good).unwrap(),
        good,
        "what is added brings its comments, what goes takes them along"
    );
    assert_eq!(rolled_back(&good, &tip).unwrap(), tip);
    // An entry without a value, and with a comment.
    let none = deployment("      - name: app\n        env:\n        tty: true\n");
    let some = deployment(
        "      - name: app\n        env: # why\n        # A\n        - name: A\n          value: a\n        tty: true\n",
    );
    assert_eq!(rolled_back(&some, &none).unwrap(), none);
}

#[test]
fn an_alias_stays_when_its_anchor_gives_the_value() {
    let good = deployment(
        "      - name: app\n        livenessProbe: &probe\n          httpGet: {path: /healthz, port: 80}\n        readinessProbe: *probe\n",
    );
    let tip = good.replace("port: 80", "port: 81");
    assert_eq!(rolled_back(&tip, &good).unwrap(), good);
    // One that does not is written out.
    let apart = deployment(
        "      - name: app\n        livenessProbe:\n          httpGet: {path: /healthz, port: 80}\n        readinessProbe:\n          httpGet: {path: \
         /readyz, port: 80}\n",
    );
    let back = rolled_back(&tip, &apart).unwrap();
    assert_eq!(value_at(&back, &podinfo(), &PATH), value_at(&apart, &podinfo(), &PATH));
}
