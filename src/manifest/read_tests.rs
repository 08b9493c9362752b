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

#[test]
fn each_document_is_read_as_if_it_were_alone() {
    let secret = |name: &str| format!("{{apiVersion: v1, kind: Secret, metadata: {{name: {name}}}}}\n");
    let names = |text: &str| {
        let manifests = parse("m.yaml", text).unwrap();
        manifests.iter().map(|found| (found.name().to_owned(), found.document, found.line)).collect::<Vec<_>>()
    };
    let marked = format!("\u{feff}{}---\n\u{feff}{}", secret("a"), secret("b"));
    assert_eq!(names(&marked), [("a".to_owned(), 0, 1), ("b".to_owned(), 1, 3)]);
    let json = |name: &str| {
        format!("{{\"apiVersion\": \"v1\", \"kind\": \"Secret\",\n\"metadata\": {{\"name\": \"{name}\"}}}}")
    };
    let stream = format!("{}{}\n\n{}\n---\n{}", json("a"), json("b"), json("c"), secret("d"));
    let expected = [("a", 0, 1), ("b", 1, 2), ("c", 2, 5), ("d", 3, 8)];
    assert_eq!(names(&stream), expected.map(|(name, document, line)| (name.to_owned(), document, line)));
    // Places are those of the file.
    let error = parse("m.yaml", &format!("{}{}{{\"x\": 1, \"x\": 2}}", json("a"), json("b"))).unwrap_err();
    assert_eq!(error.line, 3, "{error}");
    let text = format!("# é\n---\n{}--- # é\n{}", secret("a"), secret("b"));
    let manifests = parse("m.yaml", &text).unwrap();
    assert_eq!(&text[manifests[1].range.clone()], secret("b").trim_end());
}

#[test]
fn a_bad_item_does_not_hide_those_after_it() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: a}}\n- {kind: x}\n- 5\n\
                - {apiVersion: v1, kind: Secret, metadata: {name: z}}\n";
    let Parsed { manifests, faults } = parse_each("m.yaml", text);
    assert_eq!(
        manifests.iter().map(|found| (found.name(), found.item)).collect::<Vec<_>>(),
        [("a", Some(0)), ("z", Some(3))]
    );
    assert_eq!(faults.iter().map(|fault| fault.line).collect::<Vec<_>>(), [5, 6]);
}

#[test]
fn what_is_no_indentation_is_shown_where_it_is() {
    let error = one("data:\n\u{a0}\u{a0}a: b\n").unwrap_err();
    assert_eq!((error.line, error.column), (5, 1), "{error}");
    assert!(error.message.contains("U+00A0"), "{error}");
    assert!(one("data: {\"\u{a0}a\": b}\n").is_ok(), "in quotes it is meant");
}

#[test]
fn objects_that_no_cluster_takes_are_named() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: test}\n";
    let sops = format!("{secret}data: {{a: 'ENC[AES256_GCM,data:x]'}}\nsops: {{mac: 'ENC[x]', version: 3.8.1}}\n");
    let Parsed { manifests, faults } =
        parse_each("s.yaml", &format!("{sops}---\n{}", secret.replace("name: s", "name: t")));
    assert_eq!(manifests.len(), 1);
    assert!(faults[0].message.contains("SOPS"), "{}", faults[0]);
    assert_eq!(faults[0].object.as_ref().map(ToString::to_string).as_deref(), Some("Secret test/s"));
    let big = format!("{secret}stringData:\n  a: &a {}\n  b: *a\n", "x".repeat(900_000));
    let fault = &parse_each("b.yaml", &big).faults[0];
    assert!(fault.message.starts_with("it holds 1.7 MiB of text") && fault.object.is_some(), "{fault}");
}

/// CPU time of this thread; the clock's where there is none.
fn cpu(work: impl FnOnce()) -> std::time::Duration {
    let spent = || {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        Some(std::time::Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?))
    };
    let (began, before) = (std::time::Instant::now(), spent());
    work();
    before.zip(spent()).map_or_else(|| began.elapsed(), |(before, after)| after - before)
}

/// Shapes of text that some step could take quadratic time for, of a given number of repetitions.
fn shapes(count: usize) -> Vec<(&'static str, String)> {
    let lines = |line: &str| line.repeat(count);
    let numbered = |line: fn(usize) -> String| (0..count).map(line).collect::<String>();
    vec![
        (
            "quotes that are not indented",
            format!("{CONFIG}data:\n{}", numbered(|n| format!("  k{n}: 'x\ny\nz'\n"))),
        ),
        (
            "quotes and apostrophes",
            format!("{CONFIG}data:\n{}", numbered(|n| format!("  k{n}: \"x'\ny'\"\n  l{n}: it's\n"))),
        ),
        ("quotes on one line after one that is not indented", format!("a: 'x\ny'\nb: [{}]\n", lines("'a', "))),
        ("block headers on one line", format!("a: 'x\ny'\n{}\n", lines(": | "))),
        ("a long text far to the right", format!("a: {}'{}'\n", " ".repeat(count), lines("x\n"))),
        ("documents that are no objects", lines("---\nkind: A\n")),
        ("items that are no objects", format!("kind: List\nitems:\n{}", lines("- {}\n"))),
        ("items on one line", format!("kind: List\nitems: [{}]\n", lines("{}, "))),
        ("keys without a colon", format!("a:\n{}", lines("  ? b\n"))),
        ("absent values", format!("{CONFIG}data:\n{}", numbered(|n| format!("  k{n}:\n")))),
        ("documents in JSON", lines("{\"a\": 1}\n")),
        ("merges", format!("a: &a {{b: 1}}\nc:\n{}", numbered(|n| format!("  k{n}:\n    <<: *a\n")))),
        ("anchors", format!("{CONFIG}data:\n{}", numbered(|n| format!("  k{n}: &a{n} v\n")))),
        ("byte order marks", format!("{}{CONFIG}", lines("\u{feff}"))),
        ("ends of documents", lines("...\n")),
        ("open brackets", lines("[")),
        ("question marks", lines("? ")),
        ("a key that is said twice", format!("{CONFIG}data:\n  {0}: 1\n  {0}: 2\n", lines("k"))),
    ]
}

#[test]
fn no_file_costs_more_than_its_size() {
    const MANY: usize = 12_000;
    // Twice the size may take twice the time and, with caches and allocators in between, somewhat more; not four times.
    const RATIO: f64 = 3.0;
    /// Below this a ratio is noise.
    const FLOOR: std::time::Duration = std::time::Duration::from_millis(250);
    for ((name, half), (_, whole)) in shapes(MANY / 2).into_iter().zip(shapes(MANY)) {
        let once = cpu(|| drop(parse_each("m.yaml", &half)));
        let twice = cpu(|| drop(parse_each("m.yaml", &whole)));
        let limit = once.mul_f64(RATIO).max(FLOOR);
        assert!(twice <= limit, "{name}: {once:?} for half, {twice:?} for all of it");
    }
}

#[test]
fn aliases_are_counted_in_bytes_too() {
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), ["*a"; 3_000].join(","));
    let two = format!("a: &a {}\nb: &b [{1}]\nc: [{1}]\n", "x".repeat(40_000), ["*a"; 300].join(","));
    let nested = format!(
        "a: &a {}\nb: &b [{}]\nc: [{}]\n",
        "x".repeat(40_000),
        ["*a"; 300].join(","),
        ["*b"; 300].join(",")
    );
    let keys = format!("a: &a {}\nb: {{{}}}\n", "x".repeat(200_000), ["? *a"; 200].join(", "));
    for text in [long, two, nested, keys] {
        let message = parse("b.yaml", &text).unwrap_err().message;
        assert!(message.contains("MiB of text, aliases expanded"), "{message}");
    }
}
