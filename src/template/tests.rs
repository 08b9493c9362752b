//! Against what Go itself prints, and against templates that would not end.

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::*;

const BUDGET: Budget = Budget { bytes: 64 * 1024, steps: 100_000 };

fn scope<'a>() -> Scope<'a> {
    let variables = [("code", "404"), ("path", "/a/b"), ("empty", ""), ("quoted", "a\"b\\c")];
    let variables = variables.map(|(name, value)| (name.to_owned(), Value::text_of(value, true)));
    let texts = [
        ("name", "podinfo"),
        ("namespace", "test"),
        ("target", "podinfo"),
        ("service", "web"),
        ("ingress", ""),
        ("route", ""),
        ("interval", "1m"),
    ];
    let names = texts.into_iter().map(|(name, text)| (name, Value::text(text)));
    Scope { names: names.chain([("variables", Value::texts(variables))]).collect(), budget: BUDGET, guard: None }
}

fn rendered(template: &str) -> Result<String, TemplateError> {
    render(template, &scope())
}

/// What a program with Go 1.26's `text/template` and these names made of each.
#[derive(Deserialize)]
struct Row {
    template: String,
    /// Nothing where Go refuses it.
    result: Option<String>,
}

#[test]
fn renders_what_go_renders_and_refuses_what_go_refuses() {
    let rows: Vec<Row> = serde_json::from_str(include_str!("go.json")).unwrap();
    assert!(rows.len() > 150);
    let mut wrong = Vec::new();
    for Row { template, result } in rows {
        let ours = rendered(&template);
        // What is not there is refused where Go prints that there is nothing, which no query means.
        let expected = result.filter(|result| !result.contains("<no value>"));
        if ours.as_ref().ok() != expected.as_ref() {
            wrong.push(format!("{template}\n  Go: {expected:?}\n  we: {ours:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn common_functions_do_what_sprig_documents() {
    let cases = [
        (r#"{{ trim "  hello " }}"#, "hello"),
        (r#"{{ trimAll "$" "$5.00" }}"#, "5.00"),
        (r#"{{ trimSuffix "-" "hello-" }}{{ "-x" | trimPrefix "-" }}"#, "hellox"),
        (r#"{{ upper "hello" }}{{ "HELLO" | lower }}{{ title "hello world" }}"#, "HELLOhelloHello World"),
        (r#"{{ repeat 3 "hello" }}"#, "hellohellohello"),
        (
            r#"{{ substr 0 5 "hello world" }}|{{ trunc 5 "hello world" }}|{{ trunc -5 "hello world" }}"#,
            "hello|hello|world",
        ),
        (r#"{{ nospace "h e l l o" }}"#, "hello"),
        (
            r#"{{ contains "cat" "catch" }}{{ hasPrefix "cat" "catch" }}{{ hasSuffix "cat" "catch" }}"#,
            "truetruefalse",
        ),
        (
            r#"{{ quote "a" 1 }} {{ squote "b" }} {{ cat "hello" "beautiful" "world" }}"#,
            r#""a" "1" 'b' hello beautiful world"#,
        ),
        (r#"{{ "I Am Henry VIII" | replace " " "-" }}"#, "I-Am-Henry-VIII"),
        (r#"{{ indent 2 "a\nb" }}{{ nindent 1 "c" }}"#, "  a\n  b\n c"),
        (r#"{{ default "foo" ingress }}{{ default "foo" target }}"#, "foopodinfo"),
        (r#"{{ empty ingress }}{{ coalesce 0 "" "x" }}{{ ternary "y" "n" true }}"#, "truexy"),
        (r#"{{ list 1 2 "c" | join "," }}{{ range splitList "." "a.b" }}<{{ . }}>{{ end }}"#, "1,2,c<a><b>"),
        (
            r#"{{ first (list 1 2 3) }}{{ last (list 1 2 3) }}{{ rest (list 1 2 3) }}{{ has 2 (list 1 2) }}"#,
            "13[2 3]true",
        ),
        (
            r#"{{ $d := dict "a" 1 "b" 2 }}{{ $d.a }}{{ get $d "b" }}{{ hasKey $d "c" }}{{ keys $d }}"#,
            "12false[a b]",
        ),
        (
            r#"{{ add 1 2 3 }} {{ sub 5 2 }} {{ mul 2 3 4 }} {{ div 7 2 }} {{ mod 7 2 }} {{ max 1 9 3 }} {{ int "42" }}"#,
            "6 3 24 3 1 9 42",
        ),
        (r#"{{ regexMatch "^a+$" "aaa" }} {{ regexReplaceAll "a(x*)b" "-ab-axxb-" "${1}W" }}"#, "true -W-xxW-"),
        (r#"{{ default "5m" variables.window }}"#, "5m"),
    ];
    for (template, expected) in cases {
        assert_eq!(rendered(template).as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let cases = [
        ("a\n  {{ nmespace }}", "line 2, column 6: function \"nmespace\" not defined"),
        ("{{ variables.missing }}", "line 1, column 4: there is no variable \"missing\""),
        ("{{ define \"x\" }}{{ end }}", "line 1, column 1: {{define}} is not supported"),
        ("é{{ target", "line 1, column 2: unclosed action"),
        ("{{ if true }}x", "line 1, column 1: {{if}} has no {{end}}"),
        ("{{ repeat -1 \"a\" }}", "line 1, column 4: error calling repeat: a negative count"),
    ];
    for (template, expected) in cases {
        let error = rendered(template).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{template}: {error}");
    }
}

#[test]
fn a_template_that_would_not_end_ends_within_its_budget() {
    let deep = "{{ if true }}".repeat(5_000);
    let parentheses = format!("{{{{ {}1{} }}}}", "(".repeat(5_000), ")".repeat(5_000));
    let doubling = format!("{{{{ $x := \"aaaaaaaa\" }}}}{}", "{{ $x = printf \"%s%s\" $x $x }}".repeat(200));
    let loops = "{{ range 9000000 }}{{ range 9000000 }}{{ end }}{{ end }}";
    let nested = "{{ range 1000 }}{{ range 1000 }}{{ range 1000 }}{{ end }}{{ end }}{{ end }}";
    let attacks = [
        loops.to_owned(),
        nested.to_owned(),
        doubling,
        deep,
        parentheses,
        "{{ repeat 400000000 \"a\" }}".to_owned(),
        "{{ printf \"%400000000d\" 1 }}".to_owned(),
        "{{ indent 400000000 \"a\" }}".to_owned(),
        "{{ replace \"\" (repeat 60000 \"b\") (repeat 60000 \"a\") }}".to_owned(),
        "{{ $a := repeat 60000 \"a\" }}{{ range 30000 }}{{ $b := replace \"a\" \"b\" $a }}{{ end }}".to_owned(),
        "{{ $a := repeat 60000 \"a\" }}{{ range 30000 }}{{ regexMatch \"(a*)*b\" $a }}{{ end }}".to_owned(),
        "{{ regexMatch \"((a{1000}){1000}){1000}\" \"a\" }}".to_owned(),
        "{{ regexReplaceAll \"(a)\" (repeat 60000 \"a\") \"$1$1$1$1$1$1$1$1\" }}".to_owned(),
        "{{ $l := list 1 }}{{ range 100000 }}{{ $l = list $l $l }}{{ end }}{{ $l }}".to_owned(),
        "{{ range 1000 }}{{ repeat 1000 \"a\" }}{{ end }}".to_owned(),
        "x".repeat(TEMPLATE_MAX + 1),
    ];
    for attack in attacks {
        let began = Instant::now();
        let result = rendered(&attack);
        let shown: String = attack.chars().take(60).collect();
        assert!(result.is_err(), "{shown}");
        assert!(began.elapsed() < Duration::from_secs(5), "{shown}: {:?}", began.elapsed());
    }
}

#[test]
fn arbitrary_bytes_neither_panic_nor_hang() {
    let pieces = [
        "{{",
        "}}",
        "{{-",
        "-}}",
        "/*",
        "*/",
        "if",
        "range",
        "with",
        "end",
        "else",
        " ",
        ".",
        "$x",
        ":=",
        "=",
        "|",
        "(",
        ")",
        "\"",
        "`",
        "'",
        "1",
        "-",
        "target",
        "variables",
        ".a",
        "printf",
        "%d",
        "\\",
        "é",
        "\n",
        "index",
        ",",
    ];
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..20_000 {
        let template: String = (0..random.usize(1..24)).map(|_| *random.choice(&pieces).unwrap()).collect();
        // Whatever it is: an answer.
        let answered = rendered(&template).map_or_else(|error| error.line > 0, |text| text.len() <= BUDGET.bytes);
        assert!(answered, "{template}");
    }
}

#[test]
fn what_is_made_of_foreign_text_is_foreign() {
    let guard = |_: &str, text: &str| Ok(format!("<{text}>"));
    let cases = [
        ("{{ variables.code }}", "<404>"),
        ("{{ printf \"%s-%s\" target variables.code }}", "<podinfo-404>"),
        ("{{ $x := variables.code | upper }}{{ $x }}", "<404>"),
        ("{{ range $k, $v := variables }}{{ end }}{{ target }}", "podinfo"),
        ("{{ list 1 variables.code | join \"-\" }}", "<1-404>"),
        ("{{ range splitList \"/\" variables.path }}{{ . }}{{ end }}", "<><a><b>"),
        ("{{ slice variables.path 1 }}{{ len variables.path }}", "<a/b>4"),
        ("{{ (dict \"a\" variables.code).a }}", "<404>"),
        ("{{ quote variables.quoted }}", r#""a\"b\\c""#),
        ("{{ if variables.code }}x{{ end }}", "x"),
    ];
    for (template, expected) in cases {
        let scope = Scope { guard: Some(&guard), ..scope() };
        assert_eq!(render(template, &scope).as_deref(), Ok(expected), "{template}");
    }
}
