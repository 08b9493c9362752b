//! How findings are printed: for people, with what is alike told once; for machines, all of it.

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::cli::output;

use super::finding::{Finding, Rule, Severity};

/// Findings of one kind that are told one by one; the others are counted.
const ALIKE_MAX: usize = 5;

/// `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Table,
    /// For machines.
    Json,
    /// For machines and people.
    Yaml,
    /// For code scanning: SARIF 2.1.0.
    Sarif,
}

/// Prints all findings, sorted by place.
pub(super) fn print(findings: &[Finding], format: Format) -> anyhow::Result<()> {
    let text = match format {
        Format::Table => table(findings, output::colours()),
        Format::Json => format!("{}\n", serde_json::to_string_pretty(findings)?),
        Format::Yaml => serde_yaml::to_string(findings)?,
        Format::Sarif => format!("{}\n", serde_json::to_string_pretty(&sarif(findings))?),
    };
    output::data(&text)?;
    Ok(())
}

fn table(findings: &[Finding], colours: bool) -> String {
    let mut told: BTreeMap<(Severity, Rule, String), usize> = BTreeMap::new();
    let mut text = String::new();
    for finding in findings {
        let count = told.entry((finding.severity, finding.rule, shape(&finding.message))).or_default();
        *count += 1;
        if *count <= ALIKE_MAX {
            text.push_str(&finding.render(colours));
        }
    }
    for ((severity, rule, shape), count) in told.into_iter().filter(|(_, count)| *count > ALIKE_MAX) {
        let more = count - ALIKE_MAX;
        let word = severity.as_str();
        let hint = rule.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
        text.push_str(&format!("and {more} more of this {word}: {shape}{hint} (-o json has all)\n"));
    }
    text
}

/// A message without what differs from one finding to the next: names, places, numbers.
fn shape(message: &str) -> String {
    let mut quoted = false;
    let bare: String = message
        .chars()
        .filter_map(|c| {
            let mark = c == '`' || c == '"';
            let was = quoted;
            quoted ^= mark;
            match (was, mark) {
                (false, true) => Some('…'),
                (true, _) => None,
                (false, false) => Some(c),
            }
        })
        .collect();
    let names = |word: &str| word.contains('/') || word.contains(|c: char| c.is_ascii_digit());
    bare.split(' ').map(|word| if names(word) { "…" } else { word }).collect::<Vec<_>>().join(" ")
}

fn sarif(findings: &[Finding]) -> Value {
    let rules: Vec<Value> = Rule::ALL
        .iter()
        .map(|rule| json!({"id": rule.as_str(), "shortDescription": {"text": rule.description()}}))
        .collect();
    let results: Vec<Value> = findings
        .iter()
        .map(|finding| {
            json!({
                "ruleId": finding.rule.as_str(),
                "level": finding.severity.as_str(),
                "message": {"text": finding.message},
                "locations": [{"physicalLocation": {
                    "artifactLocation": {"uri": finding.file},
                    "region": {"startLine": finding.line, "startColumn": finding.column},
                }}],
            })
        })
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "serin", "version": env!("CARGO_PKG_VERSION"), "rules": rules}},
            "results": results,
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(message: String) -> Finding {
        Finding::of_file(Severity::Error, Rule::Duplicate, "a.yaml".to_owned(), message)
    }

    #[test]
    fn what_is_alike_is_told_a_few_times_and_counted() {
        let mut findings: Vec<Finding> =
            (0..99).map(|n| finding(format!("Service shop/a{n} is also defined in b{n}.yaml:{n}"))).collect();
        findings.push(finding("`metadata.name` is missing".to_owned()));
        let text = table(&findings, false);
        assert_eq!(text.matches("a.yaml:1:1: error").count(), ALIKE_MAX + 1, "{text}");
        assert!(text.contains("and 94 more of this error: Service … is also defined in …; "), "{text}");
        assert!(text.contains("`metadata.name` is missing"), "the other is not hidden");
    }

    #[test]
    fn code_scanning_gets_rule_level_and_place() {
        let sarif = sarif(&[finding("no".to_owned())]);
        let run = &sarif["runs"][0];
        let result = &run["results"][0];
        assert_eq!((&result["ruleId"], &result["level"]), (&json!("duplicate"), &json!("error")));
        assert_eq!(result["locations"][0]["physicalLocation"]["region"]["startLine"], 1);
        let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
        assert!(rules.iter().any(|rule| rule["id"] == result["ruleId"]), "every rule is described");
    }
}
