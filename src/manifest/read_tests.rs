use std::process::Command;

use pretty_assertions::assert_eq;
use serde_json::json;

use super::super::Locator;
use super::*;

const CONFIG: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";

fn one(body: &str) -> Result<Value, ManifestError> {
    let mut manifests = parse("m.yaml", &format!("{CONFIG}{body}"))?;
    assert_eq!(manifests.len(), 1);
    Ok(manifests.remove(0).object)
}

/// Bodies that both must read, and in the same way. No nulls: the comparison goes through a merge patch, which drops them.
const READ_ALIKE: [&str; 12] = [
    r#"d: {a: 0644, b: yes, c: 1_000, d: 0x1F, e: 0o17, f: 089, g: 1e3, h: 1.0, i: y, k: on, l: Off, n: 0b11, u: -0b1}"#,
    r#"d: {m: 2001-01-01, p: 12:30:45, q: 1.5, r: +5, s: .5, t: "yes", v: '1', w: +.5, x: 1., z: -0, zz: 0.0}"#,
    r#"d: {a: !!str 5, b: !!int "5", c: !foo 7, d: !!binary aGk=}"#,
    "d: {yes: 1, 5: x, off: 3}",
    "x: &x {k: 1, z: 2}\nd:\n  k: 5\n  <<: *x\n",
    "x: &x {k: 1, z: 2}\nd:\n  <<: *x\n  k: 5\n",
    "x: &x {k: 1}\ny: &y {k: 2, z: 3}\nd:\n  <<: [*x, *y]\n",
    "d: {a: 0o, b: 0x, c: 1__0, d: _1, e: 1_, f: 0_7, g: True, i: tRUE, l: \"<<\", o: 1e, p: 1.2.3, q: 0xZ}",
    "d:\n  lit: |\n    a\n     b\n\n  fold: >-\n    c\n    d\n  keep: |+\n    e\n\n",
    "d: \"a\\tb\\u00e9\"\ne: 'it''s'\nf: plain # comment\ng: a#b\n",
    "d: \"a\nb\n\n c\\\n d\"\ne: 'x\ny'\nf:\n- 'o\np'\n- g: \"q\n  r: s\"\n  h: 1\n",
    "d: &a\n- 1\n- {b: *a1, c: &a1 2}\n",
];

fn kubectl(body: &str) -> Option<Result<Value, String>> {
    let dir = tempfile::tempdir().ok()?;
    let base = dir.path().join("base.yaml");
    std::fs::write(&base, CONFIG).ok()?;
    let output = Command::new("kubectl")
        .args(["patch", "--local", "--type", "merge", "-o", "json", "-f"])
        .arg(&base)
        .args(["-p", body])
        .output()
        .ok()?;
    if output.status.success() {
        return Some(serde_json::from_slice(&output.stdout).map_err(|error| error.to_string()));
    }
    Some(Err(String::from_utf8_lossy(&output.stderr).into_owned()))
}

#[test]
fn reads_as_kubectl_does() {
    for body in READ_ALIKE {
        let Some(theirs) = kubectl(body) else {
            eprintln!("SKIP: kubectl is not on PATH, its reading was not compared");
            return;
        };
        match (one(body), theirs) {
            (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs, "{body}"),
            (Err(_), Err(_)) => {}
            (ours, theirs) => panic!("{body}\nours: {ours:?}\nkubectl: {theirs:?}"),
        }
    }
    for refused in ["d: {a: .inf}", "d: {~: 1}", "d: [1", "d: *missing"] {
        assert!(one(refused).is_err() && kubectl(refused).is_none_or(|read| read.is_err()), "{refused}");
    }
}

#[test]
fn takes_files_apart() {
    let text = "# head\n---\n---\napiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: s}\n\
                - {apiVersion: apps/v1, kind: Deployment, metadata: {name: d, namespace: test}}\n...\n---\n# only a comment\n---\n\
                {\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {\"name\": \"c\"}}\n";
    let manifests = parse("a/b.yaml", text).unwrap();
    let seen: Vec<_> =
        manifests.iter().map(|found| (found.document, found.line, found.object_ref().to_string())).collect();
    assert_eq!(
        seen,
        [
            (1, 7, "Service s".to_owned()),
            (1, 10, "Deployment test/d".to_owned()),
            (3, 15, "ConfigMap c".to_owned())
        ]
    );
    assert_eq!(manifests[1].object_ref().group, "apps");
    assert_eq!(&text[manifests[2].range.clone()], text.lines().last().unwrap());
}

#[test]
fn json_with_tabs_crlf_and_bom_are_read() {
    let json = "\u{feff}{\r\n\t\"apiVersion\": \"v1\",\r\n\t\"kind\": \"Secret\",\r\n\t\"metadata\": {\"name\": \"s\"}\r\n}\r\n";
    assert_eq!(parse("s.json", json).unwrap()[0].kind(), "Secret");
    let crlf = CONFIG.replace('\n', "\r\n") + "d: |\r\n  x\r\n  y\r\n";
    assert_eq!(parse("c.yaml", &crlf).unwrap()[0].object["d"], json!("x\ny\n"));
}

#[test]
fn errors_point_at_the_place() {
    let error = one("data:\n  a: 1\n  b: 2\n  a: 3\n").unwrap_err();
    assert_eq!(error.to_string(), "m.yaml:7:3: duplicate key `a`, first on line 5");
    assert!(error.render().ends_with(" 7 |   a: 3\n   |   ^"), "{}", error.render());

    let error = parse("t.yaml", "image: {{ .Values.image }}\n").unwrap_err();
    assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("helm template")), "{error:?}");

    let error = parse("t.yaml", "kind: Service\nmetadata: {name: x}\n").unwrap_err();
    assert_eq!(error.to_string(), "t.yaml:1:1: not a Kubernetes object: `apiVersion` is missing");

    let error = parse("t.yaml", "a: b: c\n").unwrap_err();
    assert_eq!((error.line, error.file.as_str()), (1, "t.yaml"));
}

#[test]
fn alias_bombs_and_deep_nesting_end_early() {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for level in 1..9 {
        let below = format!("*a{}", level - 1);
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", [below.as_str(); 10].join(",")));
    }
    assert!(parse("b.yaml", &bomb).unwrap_err().message.contains("aliases expanded"));
    let deep = format!("a: {}{}", "[".repeat(3000), "]".repeat(3000));
    assert!(parse("d.yaml", &deep).is_err());
    assert!(parse("r.yaml", "a: &a [*a]").is_err());
}

#[test]
fn fields_are_found_by_path() {
    let text = "---\nspec:\n  tmpl: &t\n    list: [{name: a, image: \"é:1\"}]  # note\n  other: *t\n";
    let locator = Locator::new(text);
    let item = locator.key(0, &["spec", "tmpl", "list", "0"]).unwrap();
    assert_eq!((item.line, item.column, &text[item.range]), (4, 12, "{name: a, image: \"é:1\"}"));
    let key = locator.key(0, &["spec", "other"]).unwrap();
    assert_eq!((key.line, key.column, &text[key.range]), (5, 3, "other"));
    assert_eq!(locator.key(0, &["spec", "missing"]), None);
}

#[test]
fn a_document_that_is_no_object_does_not_hide_the_others() {
    let text = "{apiVersion: v1, kind: Secret, metadata: {name: a}}\n---\nname: b\n---\n\
                {apiVersion: v1, kind: Secret, metadata: {name: c, name: d}}\n---\n{apiVersion: batch/v1, kind: Job, \
                metadata: {generateName: e-}}\n---\n{apiVersion: v1, kind: Secret, metadata: {name: \"f-${SIDE}\"}}\n---\n\
                {apiVersion: v1, kind: Secret, metadata: {name: z}}\n";
    let Parsed { manifests, faults } = parse_each("m.yaml", text);
    assert_eq!(manifests.iter().map(Manifest::name).collect::<Vec<_>>(), ["a", "z"]);
    assert_eq!(
        faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "m.yaml:3:1: not a Kubernetes object: `apiVersion` is missing",
            "m.yaml:5:52: duplicate key `name`, first on line 5",
            "m.yaml:7:1: `metadata.generateName` makes another object at every apply: give it a `metadata.name`",
            "m.yaml:9:1: `metadata.name` is a placeholder, `f-${SIDE}`: what fills it in must run first",
        ]
    );
}

#[test]
fn empty_files_and_lists_hold_nothing() {
    let empty = [
        "",
        "# c\n",
        "---\n---\n",
        "\u{feff}",
        "apiVersion: v1\nkind: List\nitems:\n",
        "{apiVersion: v1, kind: List}",
    ];
    for text in empty {
        assert_eq!(parse("m.yaml", text), Ok(Vec::new()), "{text:?}");
    }
    let list = "apiVersion: v1\nkind: ServiceList\nitems: [{metadata: {name: a}}]\n";
    assert_eq!(parse("m.yaml", list).unwrap()[0].kind(), "Service");
}

#[test]
fn what_people_keep_beside_manifests_is_told_apart() {
    let told = |path: &str, text: &str| {
        let error = parse(path, text).unwrap_err();
        format!("{}; {}", error.message, error.hint.unwrap_or_default())
    };
    let helm = told("t.yaml", "metadata:\n  labels:\n    {{- include \"x\" . | nindent 4 }}\n");
    assert!(helm.contains("Helm template"), "{helm}");
    let chart = told("a/Chart.yaml", "apiVersion: v2\nname: podinfo\n");
    assert!(chart.contains("Helm chart"), "{chart}");
    let overlay = told("a/kustomization.yaml", "resources: [../base]\n");
    assert!(overlay.contains("asked for `../base`") && overlay.contains("kubectl kustomize"), "{overlay}");
    assert_eq!(parse("a/kustomization.yaml", "resources: [deployment.yaml]\n"), Ok(Vec::new()));
    let rule = told("r.yaml", "a: b: c\ndescription: 'at {{ $value }}'\n");
    assert!(!rule.contains("Helm"), "a text with braces is no template: {rule}");
}
