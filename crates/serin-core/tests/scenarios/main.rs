//! Scripted scenarios: `tests/scripts/*.txt` played against the engine in a small world, transcripts beside them in
//! `*.out`. `UPDATE_SCENARIOS=1` writes the transcripts anew.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test's helpers fail the test"
)]

mod budgets;
mod crashes;
mod defects;
mod dice;
mod fate;
mod history;
mod mutants;
mod paces;
mod policies;
mod properties;
mod script;
mod trials;
mod upgrade;
mod wire;
mod world;

use std::fs;
use std::path::Path;

#[test]
fn scenarios_play_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let update = std::env::var_os("UPDATE_SCENARIOS").is_some();
    let mut scripts: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "no scenarios in {}", folder.display());
    for path in scripts {
        let transcript = script::run(&fs::read_to_string(&path).unwrap());
        let golden = path.with_extension("out");
        if update {
            fs::write(&golden, &transcript).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        pretty_assertions::assert_eq!(transcript, expected, "{} differs", golden.display());
    }
}
