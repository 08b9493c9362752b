//! The rules of the house: which room may import which, and what the pure rooms must never know.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A room and the rooms it may import. `sync`, `controller` and `report` never import each other: they meet in objects.
const ROOMS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("analysis", &[]),
    ("release", &["analysis", "model"]),
    ("api", &["model"]),
    ("manifest", &["model"]),
    ("git", &["model"]),
    ("config", &["api", "git", "model"]),
    ("cluster", &["api", "config", "model"]),
    ("sync", &["api", "cluster", "config", "git", "manifest", "model"]),
    ("workload", &["api", "cluster", "manifest", "model", "release"]),
    ("router", &["api", "cluster", "model", "release", "workload"]),
    ("metrics", &["analysis", "api", "cluster", "model", "release"]),
    ("hook", &["metrics", "model", "release"]),
    (
        "controller",
        &[
            "analysis", "api", "cluster", "config", "hook", "manifest", "metrics", "model", "release", "router",
            "workload",
        ],
    ),
    ("report", &["analysis", "api", "cluster", "config", "git", "manifest", "model", "release"]),
    ("server", &["api", "cluster", "config", "controller", "model", "release", "report", "sync"]),
    ("loadtest", &["model"]),
    // A load tester pod runs the real load tester.
    ("sandbox", &["api", "cluster", "config", "git", "loadtest", "manifest", "metrics", "model"]),
];
/// Wires everything together; nobody imports it.
const CLI: &str = "cli";
/// Rooms without I/O, clock, async or randomness.
const PURE: &[&str] = &["analysis", "model", "release"];
/// What a pure room must not even name.
const IMPURE: &[&str] = &[
    "tokio",
    "kube",
    "k8s_openapi",
    "git2",
    "reqwest",
    "axum",
    "hyper",
    "futures",
    "fastrand",
    "SystemTime",
    "Instant",
    "Timestamp::now",
    "Zoned::now",
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "async fn",
    ".await",
];

#[test]
fn rooms_import_only_what_they_may() {
    let mut wrong = Vec::new();
    for path in sources(&source_root()) {
        let room = room_of(&path);
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            assert!([CLI, "lib.rs", "main.rs"].contains(&room.as_str()), "{room} is not in the table of rooms");
            continue;
        };
        for import in imports(&code(&path)) {
            if import != room && !allowed.contains(&import.as_str()) {
                wrong.push(format!("{} imports {import}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_rooms_know_no_world() {
    let mut wrong = Vec::new();
    for path in sources(&source_root()).into_iter().filter(|path| PURE.contains(&room_of(path).as_str())) {
        let code = code(&path);
        wrong.extend(
            IMPURE.iter().filter(|word| names(&code, word)).map(|word| format!("{} names {word}", path.display())),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Calls that change the cluster.
const WRITES: &[&str] = &[
    ".create(",
    ".create_subresource(",
    ".delete(",
    ".delete_collection(",
    ".patch(",
    ".patch_metadata(",
    ".patch_scale(",
    ".patch_status(",
    ".patch_subresource(",
    ".replace(",
    ".replace_scale(",
    ".replace_status(",
    ".replace_subresource(",
];
/// Lines around a write in which the door must be named.
const NEAR: usize = 4;

#[test]
fn every_write_goes_through_the_one_door() {
    // The lease is what the door asks; a person's command is no effect of the daemon; the sandbox is the cluster's inside.
    let exempt = |path: &Path| {
        path.ends_with("cluster/lease.rs") || path.ends_with("cli/request.rs") || room_of(path) == "sandbox"
    };
    let mut wrong = Vec::new();
    for path in sources(&source_root()).into_iter().filter(|path| !exempt(path)) {
        let code = code(&path);
        let lines: Vec<&str> = code.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let writes = WRITES
                .iter()
                .any(|call| line.split(call).next().is_some_and(|receiver| receiver != *line && is_api(receiver)));
            let near = &lines[index.saturating_sub(NEAR)..lines.len().min(index + NEAR + 1)];
            let door = ["effect(", "effect_within(", ".dry_run()", "dry_run: true"];
            if writes && !near.iter().any(|line| door.iter().any(|door| line.contains(door))) {
                wrong.push(format!("{}:{}: {}", path.display(), index + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "writes that do not pass Writer::effect:\n{}", wrong.join("\n"));
}

/// Whether an expression ends in the name of a client of the API, by this house's habit.
fn is_api(receiver: &str) -> bool {
    ["api", "apis", "definitions"].iter().any(|name| {
        receiver
            .strip_suffix(name)
            .is_some_and(|rest| !rest.ends_with(|it: char| it.is_alphanumeric() || it == '_'))
    }) || receiver.contains("Api::")
}

fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn room_of(path: &Path) -> String {
    let inside = path.strip_prefix(source_root()).unwrap();
    inside.iter().next().unwrap().to_string_lossy().into_owned()
}

/// A file without comments and without its unit tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The rooms named after `crate::`, alone or in braces.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(group) => found.extend(heads(group)),
            None => found.extend(identifier(rest)),
        }
    }
    found
}

/// First identifiers of the members of a brace group.
fn heads(group: &str) -> Vec<String> {
    let (mut found, mut depth, mut start) = (Vec::new(), 0, true);
    for (index, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => start = true,
            character if start && character.is_alphabetic() => {
                found.extend(identifier(&group[index..]));
                start = false;
            }
            _ => {}
        }
    }
    found
}

fn identifier(text: &str) -> Option<String> {
    let end = text.find(|character: char| !character.is_alphanumeric() && character != '_');
    let name = &text[..end.unwrap_or(text.len())];
    // `crate::Type` is a re-export of the library's root, which has none.
    (!name.is_empty()).then(|| name.to_owned())
}

/// Whether a word stands in the code by itself.
fn names(code: &str, word: &str) -> bool {
    let part = |character: Option<char>| character.is_some_and(|it| it.is_alphanumeric() || it == '_');
    code.match_indices(word).any(|(index, _)| {
        !part(code[..index].chars().next_back()) && !part(code[index + word.len()..].chars().next())
    })
}
