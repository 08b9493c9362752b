//! The rules of the house: which room may import which, and what the pure rooms must never know.

mod touched;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A room and the rooms it may import. `sync`, `controller` and `report` never import each other: they meet in objects.
const ROOMS: &[(&str, &[&str])] = &[
    ("api", &["model"]),
    ("manifest", &["model"]),
    ("git", &["model"]),
    ("calendar", &["api"]),
    ("config", &["api", "calendar", "forge", "git", "http", "model"]),
    ("cluster", &["model"]),
    ("render", &["git", "manifest", "model"]),
    ("sync", &["api", "cluster", "git", "manifest", "model", "render", "rollout", "workload"]),
    ("workload", &["api", "manifest", "model", "release"]),
    ("rollout", &["analysis", "api", "manifest", "model", "release"]),
    ("analysisrun", &["analysis", "api", "model"]),
    ("router", &["api", "metrics", "model", "release", "workload"]),
    ("http", &[]),
    ("forge", &["http", "model"]),
    ("metrics", &["analysis", "http", "template"]),
    ("template", &[]),
    ("hook", &["http", "release"]),
    (
        "controller",
        &[
            "analysis",
            "analysisrun",
            "api",
            "calendar",
            "cluster",
            "hook",
            "http",
            "manifest",
            "metrics",
            "model",
            "release",
            "rollout",
            "router",
            "workload",
        ],
    ),
    ("alert", &["http"]),
    (
        "report",
        &[
            "alert", "analysis", "api", "cluster", "forge", "git", "manifest", "model", "release", "render",
            "rollout",
        ],
    ),
    ("server", &["forge", "http", "report"]),
    ("loadtest", &["http"]),
];
/// The rooms of the pure core.
const CORE_ROOMS: &[(&str, &[&str])] =
    &[("model", &[]), ("analysis", &["model"]), ("release", &["analysis", "model"])];
/// Wires everything together; nobody imports it.
const CLI: &str = "cli";
/// What the core may be built from. Its purity is this list: nothing here can wait, read, write or be random by itself.
const CORE_DEPENDENCIES: &[&str] = &["jiff", "serde", "serde_json", "sha2", "thiserror"];
/// What std and jiff offer that a pure room must not even name.
const IMPURE: &[&str] = &[
    "SystemTime",
    "Instant",
    "Timestamp::now",
    "Zoned::now",
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "std::thread",
    "RandomState",
    "println",
    "eprintln",
    "async fn",
    ".await",
];

#[test]
fn the_core_is_built_from_pure_crates_only() {
    let manifest = fs::read_to_string(root().join("crates/serin-core/Cargo.toml")).unwrap();
    let dependencies = manifest.split("\n[dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap();
    let names: Vec<&str> =
        dependencies.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name).collect();
    assert_eq!(names, CORE_DEPENDENCIES);
}

#[test]
fn rooms_import_what_the_table_says_and_no_permission_is_unused() {
    let mut wrong = Vec::new();
    for (sources, table, others) in
        [(product(), ROOMS, &[CLI, "lib.rs", "main.rs"][..]), (core(), CORE_ROOMS, &["lib.rs"][..])]
    {
        let mut used: BTreeSet<(String, String)> = BTreeSet::new();
        for path in sources_of(&sources) {
            let room = room_of(&sources, &path);
            let Some((_, allowed)) = table.iter().find(|(name, _)| *name == room) else {
                assert!(others.contains(&room.as_str()), "{room} is not in the table of rooms");
                continue;
            };
            for import in imports(&code(&path)) {
                if import != room && !allowed.contains(&import.as_str()) {
                    wrong.push(format!("{} imports {import}", path.display()));
                }
                used.insert((room.clone(), import));
            }
        }
        for (room, allowed) in table {
            let unused = allowed.iter().filter(|it| !used.contains(&((*room).to_owned(), (**it).to_owned())));
            wrong.extend(unused.map(|import| format!("{room} may import {import} and does not")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_rooms_know_no_world() {
    let mut wrong = Vec::new();
    for path in sources_of(&core()) {
        let code = code(&path);
        wrong.extend(
            IMPURE.iter().filter(|word| names(&code, word)).map(|word| format!("{} names {word}", path.display())),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_daemon_reads_one_clock() {
    // A person's command runs on the person's machine.
    let exempt = |path: &Path| path.ends_with("cluster/clock.rs") || path.starts_with(product().join("cli"));
    let mut wrong = Vec::new();
    for path in sources_of(&product()).into_iter().filter(|path| !exempt(path)) {
        let code = code(&path);
        let named = ["Timestamp::now", "Zoned::now", "SystemTime"].into_iter().filter(|word| names(&code, word));
        wrong.extend(named.map(|word| format!("{} names {word}", path.display())));
    }
    assert!(wrong.is_empty(), "ask cluster::Clock: {}", wrong.join("\n"));
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
    // The lease is what the door asks; a person's command is no effect of the daemon.
    let exempt = |path: &Path| {
        [
            "cluster/lease.rs",
            "cli/request.rs",
            "cli/rollouts/ask.rs",
            "cli/rollouts/analysis.rs",
            "cli/prune.rs",
            "cli/sync.rs",
        ]
        .iter()
        .any(|it| path.ends_with(it))
    };
    let mut wrong = Vec::new();
    for path in sources_of(&product()).into_iter().filter(|path| !exempt(path)) {
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

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn product() -> PathBuf {
    root().join("src")
}

fn core() -> PathBuf {
    root().join("crates/serin-core/src")
}

fn sources_of(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources_of(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn room_of(sources: &Path, path: &Path) -> String {
    let inside = path.strip_prefix(sources).unwrap();
    inside.iter().next().unwrap().to_string_lossy().into_owned()
}

/// A file without comments and without its unit tests.
fn code(path: &Path) -> String {
    const TESTS: [&str; 3] = [
        "#[cfg(test)]\nmod ",
        "#[cfg(test)]\n#[cfg(unix)]\nmod ",
        "#[cfg(all(test, feature = \"sandbox\"))]\nmod ",
    ];
    let text = fs::read_to_string(path).unwrap();
    let code = TESTS.iter().fold(text.as_str(), |code, mark| code.split(*mark).next().unwrap_or_default());
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
