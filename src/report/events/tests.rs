use crate::release::Event;

use super::*;

fn entry(seq: u64, message: &str) -> JournalEntry {
    JournalEntry {
        seq,
        at: Timestamp::from_second(1_700_000_000).unwrap(),
        release: 1,
        event: Event { kind: EventType::Normal, message: message.to_owned() },
    }
}

#[test]
fn only_neighbours_are_counted_together_so_that_order_is_kept() {
    let entries = [entry(1, "a"), entry(2, "a"), entry(3, "b"), entry(4, "a")];
    let runs: Vec<(u64, i32)> = runs(entries.iter()).iter().map(|run| (run.last.seq, run.count)).collect();
    assert_eq!(runs, [(2, 2), (3, 1), (4, 1)]);
}

#[test]
fn the_same_words_about_another_release_are_other_news() {
    let next = JournalEntry { release: 2, ..entry(2, "a") };
    let entries = [entry(1, "a"), next.clone()];
    assert_eq!(runs(entries.iter()).len(), 2);
    let journal =
        Journal { uid: "u".into(), resource_version: None, entries: Vec::new(), about: About::default() };
    let run = Run { first: &next, last: &next, count: 1 };
    let key = NamespacedName::new("test", "podinfo");
    let object = event(&key, &journal, &run.emitted(&key, &journal, None), run);
    assert_eq!(message_of(&object), Some((NORMAL, "a".to_owned(), 2)), "known again after a restart");
}

#[test]
fn names_sort_as_the_journal_and_are_not_those_of_a_former_canary() {
    let name = |seq| event_name("podinfo", "u1", seq);
    assert_eq!(name(9), event_name("podinfo", "u1", 9));
    assert!(name(9) < name(10) && name(255) < name(256));
    assert_ne!(name(9), event_name("podinfo", "u2", 9));
    assert_eq!(event_name(&"x".repeat(253), "u", 1).len(), NAME_MAX);
}
