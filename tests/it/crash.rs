//! The daemon dies at every effect of stories 1 to 4 and another one goes on: the end is the same.
//!
//! The real daemon (`cli::run::daemon_with`) runs in this process against the embedded API server, its controllers and a bare
//! repository on disk; time is paused, there is no socket. One run of a story without a crash keeps an image of the outside
//! (objects, refs, calls of webhooks, time) before and after every effect that passes `Writer::effect`. From each image a new
//! runtime, with a new daemon, new controllers and an empty Git cache, plays the rest of the story, and its end must be the
//! end of the uncrashed run. Every effect of the first sync (1), of a promotion (2), of a rollback with its commit (3) and of
//! a supersede (4) is a crash point, twice, and of the rollback of a config. An image that equals the one before it in every respect, time included, is not
//! played again: what "after effect k" and "before effect k+1" leave is mostly the same.
//!
//! The stories are those of `examples/podinfo`, with two weights instead of five and a threshold of two.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod end;
mod image;
mod play;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use end::End;
use image::Image;
use play::{Keep, Story, play};

/// Runs at a time per story: CI's machines have two cores.
const WORKERS: usize = 2;
/// Differences that are shown in full.
const SHOWN: usize = 3;

#[test]
fn a_first_sync_survives_a_crash_at_every_effect() {
    survives(Story::FirstSync, Image::new());
}

#[test]
fn a_promotion_survives_a_crash_at_every_effect() {
    survives(Story::Promotion, initialized());
}

#[test]
fn a_rollback_survives_a_crash_at_every_effect() {
    survives(Story::Rollback, initialized());
}

#[test]
fn a_supersede_survives_a_crash_at_every_effect() {
    survives(Story::Supersede, initialized());
}

#[test]
fn a_rollback_of_a_config_survives_a_crash_at_every_effect() {
    survives(Story::ConfigRollback, play(Story::Reading, &initialized(), Keep::Nothing).last);
}

/// The world after story 1.
fn initialized() -> Image {
    play(Story::FirstSync, &Image::new(), Keep::Nothing).last
}

fn survives(story: Story, begin: Image) {
    let whole = play(story, &begin, Keep::Images);
    story.check(&whole.end);
    assert!(whole.effects > 20, "{story:?} has more effects than {}", whole.effects);
    let began = std::time::Instant::now();
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(point) = whole.points.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let end = play(story, &point.image, Keep::Nothing).end;
                    if end != whole.end {
                        wrong.lock().unwrap().push((point.label.clone(), end));
                    }
                }
            });
        }
    });
    eprintln!(
        "{story:?}: {} effects, {} crash points played in {:.1} s",
        whole.effects,
        whole.points.len(),
        began.elapsed().as_secs_f64()
    );
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{story:?} ends otherwise after a crash\n{}", describe(&whole.end, &wrong));
}

fn describe(expected: &End, wrong: &[(String, End)]) -> String {
    let mut text: String = wrong.iter().map(|(label, _)| format!("- {label}\n")).collect();
    for (label, end) in wrong.iter().take(SHOWN) {
        text.push_str(&format!("\n{label}:\n{}\n", expected.difference(end)));
    }
    text
}
