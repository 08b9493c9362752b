//! A one-file commit in a repository of 100,000 manifests.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serin::git::{Credentials, Limits, Remote, Store, TreePath};
use serin::sync::{GitSource, Source as _};

use super::figure::Figure;
use super::{Result, number};

/// Files in a folder.
const FOLDER: usize = 100;
/// Commits that are measured; the median counts.
const COMMITS: usize = 15;
const MAIN: &str = "refs/heads/main";

pub(crate) async fn measure() -> Result<()> {
    let files: usize = number("SERIN_BENCH_FILES", 100_000)?;
    let dir = tempfile::tempdir()?;
    let bare = dir.path().join("repo.git");
    git(Command::new("git").args(["init", "-q", "--bare", "-b", "main"]).arg(&bare))?;
    import(&bare, None, (0..files).map(|index| (path(index), content(index, 0))))?;

    let store = Store::open(dir.path().join("store"))?;
    let remote = Remote::new(&bare.display().to_string(), Credentials::None)?;
    let source = GitSource::new(store.clone(), remote.clone(), "main".parse()?, TreePath::default());
    let began = Instant::now();
    let tip = store.fetch(&remote, MAIN).await?.ok_or("no main")?;
    say(&format!("first fetch of {files} files"), began.elapsed(), None);
    let began = Instant::now();
    let first = store.snapshot(&tip, "", Limits::default()).await?;
    say("first snapshot", began.elapsed(), None);
    if first.files.len() != files {
        return Err(format!("{} files instead of {files}", first.files.len()).into());
    }
    drop(first);
    let began = Instant::now();
    source.content(&tip).await?;
    say("first parse of everything", began.elapsed(), None);

    let (mut fetches, mut snapshots, mut contents) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=COMMITS {
        let changed = round * 7919 % files;
        import(&bare, Some(MAIN), std::iter::once((path(changed), content(changed, round))))?;
        let began = Instant::now();
        let tip = store.fetch(&remote, MAIN).await?.ok_or("no main")?;
        fetches.push(began.elapsed());
        let began = Instant::now();
        let snapshot = store.snapshot(&tip, "", Limits::default()).await?;
        snapshots.push(began.elapsed());
        drop(snapshot);
        // Asks the remote again, finds nothing new, and parses what changed.
        let began = Instant::now();
        source.content(&tip).await?;
        contents.push(began.elapsed());
    }
    say("one-file commit: fetch", median(fetches), None);
    say("one-file commit: snapshot", median(snapshots), Some(20.0));
    say("one-file commit: another probe, snapshot and parsed documents", median(contents), None);
    Ok(())
}

fn say(what: &str, took: Duration, budget: Option<f64>) {
    let value = took.as_secs_f64() * 1000.0;
    Figure { what: what.to_owned(), value, unit: "ms", budget, bench: "snapshot" }.print();
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn path(index: usize) -> String {
    let folder = index / FOLDER;
    format!("team-{:02}/app-{folder:04}/object-{index:06}.yaml", folder % FOLDER)
}

fn content(index: usize, round: usize) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: object-{index:06}\n  namespace: bench\ndata:\n  \
         round: \"{round}\"\n  greeting: hello from {index}\n"
    )
}

/// One commit of these files through `git fast-import`: one pack, however many they are.
fn import(bare: &Path, parent: Option<&str>, files: impl Iterator<Item = (String, String)>) -> Result<()> {
    let mut child = Command::new("git")
        .args(["fast-import", "--quiet", "--force"])
        .current_dir(bare)
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| format!("git fast-import: {error}"))?;
    let mut stream =
        "commit refs/heads/main\ncommitter Bench <bench@example.com> 1700000000 +0000\ndata 6\nchange\n"
            .to_owned();
    if let Some(parent) = parent {
        writeln!(stream, "from {parent}^0")?;
    }
    for (path, content) in files {
        write!(stream, "M 100644 inline {path}\ndata {}\n{content}\n", content.len())?;
    }
    stream.push_str("done\n");
    child.stdin.take().ok_or("no stdin")?.write_all(stream.as_bytes())?;
    if child.wait()?.success() { Ok(()) } else { Err("git fast-import failed".into()) }
}

fn git(command: &mut Command) -> Result<()> {
    if command.status()?.success() { Ok(()) } else { Err(format!("{command:?} failed").into()) }
}
