//! Every command that the documentation shows is one that the binary takes.

use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};

use super::Cli;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Where people are told what to type.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    let mut pages =
        vec!["README.md", "ARCHITECTURE.md", "SECURITY.md"].into_iter().map(|page| root.join(page)).collect();
    for folder in ["docs", "examples"] {
        collect(&root.join(folder), &mut pages);
    }
    pages
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("md" | "yaml" | "yml") => into.push(path),
            _ if path.is_dir() => collect(&path, into),
            _ => {}
        }
    }
}

/// The commands of a page: what stands in backticks or after a prompt and begins with the binary's name.
fn commands(text: &str) -> Vec<String> {
    let quoted = text.split('`').skip(1).step_by(2).map(str::to_owned);
    let typed = text.lines().filter_map(|line| line.trim().strip_prefix("$ ").map(str::to_owned));
    let lines = quoted.chain(typed).flat_map(|code| {
        // A comment, a pipe or another command ends it.
        let parts =
            code.split(['|', ';', '#', '\n']).flat_map(|part| part.split("&&")).map(|part| part.trim().to_owned());
        parts.collect::<Vec<_>>()
    });
    lines.filter(|line| line.starts_with("serin ")).collect()
}

#[test]
fn every_command_of_the_documentation_can_be_typed() {
    let mut seen = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for command in commands(&text) {
            seen += 1;
            let words: Vec<&str> = command.split_whitespace().filter(|word| *word != "…").collect();
            let Err(error) = Cli::try_parse_from(&words) else { continue };
            // A verb may be spoken of without what it needs.
            let is_name = words.len() == 2
                && Cli::command()
                    .get_subcommands()
                    .any(|verb| verb.get_name_and_visible_aliases().contains(&words[1]));
            let is_help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            assert!(is_name || is_help, "{}: {command}\n{error}", page.display());
        }
    }
    assert!(seen > 40, "only {seen} commands were found");
}

/// Paths of the project that a page names are there.
#[test]
fn every_folder_that_a_page_names_is_there() {
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for word in text.split(|character: char| character.is_whitespace() || "`()[],:;'\"".contains(character)) {
            let word = word.trim_end_matches(['.', '/']);
            let named =
                ["examples/", "deploy/", "docs/", "scripts/"].iter().any(|folder| word.starts_with(folder));
            let is_path =
                word.chars().all(|character| character.is_ascii_alphanumeric() || "-_./".contains(character));
            if named && is_path {
                assert!(Path::new(ROOT).join(word).exists(), "{}: {word} is not there", page.display());
            }
        }
    }
}
