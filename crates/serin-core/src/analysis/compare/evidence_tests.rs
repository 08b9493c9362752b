use super::*;

fn counts(canary: f64, canary_failed: f64, primary: f64, primary_failed: f64) -> Counts {
    Counts { canary, canary_failed, primary, primary_failed }
}

fn cell((start, end): (i64, i64), [canary, canary_failed, primary, primary_failed]: [f64; 4]) -> Cell {
    Cell::new(start, end, counts(canary, canary_failed, primary, primary_failed))
}

fn is_near(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= 1e-8 * expected.abs().max(1.0)
}

#[test]
fn gains_and_evidence_of_single_cells_are_the_published_ones() {
    let rows = [
        ([100.0, 1.0, 900.0, 0.0], [0.399386062, 1.221436947, 1.972557796], 1.497125746, 0.406440987),
        ([100.0, 3.0, 900.0, 0.0], [1.198158186, 3.664310840, 5.917673389], 4.910048196, 1.271456524),
        ([100.0, 5.0, 900.0, 5.0], [1.643842474, 4.088124815, 0.046880305], 3.407899835, 0.877869395),
        ([100.0, 5.0, 900.0, 45.0], [-1.180860214, -12.064354530, -78.480389118], -3.626533184, -2.154663208),
        ([100.0, 0.0, 900.0, 10.0], [-0.706175672, -4.038119836, -19.631817356], -2.636292605, -1.362161581),
        ([10.0, 10.0, 90.0, 90.0], [-2.361720429, -24.128709060, -156.960778236], -5.035741051, -2.859516814),
        ([75.0, 40.0, 0.0, 0.0], [0.0, 0.0, 0.0], 0.0, 0.0),
        ([500.0, 9.0, 500.0, 0.0], [1.640894011, 3.973794155, 5.150542305], 4.497035217, 1.216484344),
        ([50.0, 2.5, 450.0, 0.5], [0.963156371, 2.851686375, 3.949803623], 3.406674867, 0.910890413),
    ];
    for ([canary, canary_failed, primary, primary_failed], gains, alone, tempered) in rows {
        let found = Gains::of(&counts(canary, canary_failed, primary, primary_failed));
        for (place, expected) in [0, 5, 15].into_iter().zip(gains) {
            assert!(is_near(found.0[place], expected), "g_{place} {} is not {expected}", found.0[place]);
        }
        assert!(is_near(found.evidence(1.0), alone) && is_near(found.evidence(3.5), tempered));
    }
}

/// A cell's stretch and counts, then the evidence with and without the peak, and whether it fails.
type Line = ((i64, i64), [f64; 4], f64, Option<f64>, bool);

fn play(noise: f64, lines: &[Line]) -> Evidence {
    let mut evidence = Evidence::since(0);
    for (stretch, counts, total, rest, fails) in lines {
        let failed = evidence.take(vec![cell(*stretch, *counts)], Guard::Scrape, noise);
        let reached = evidence.reached(noise);
        assert!((reached.total - total).abs() < 1e-6, "after {stretch:?}: {} is not {total}", reached.total);
        if let Some(rest) = rest {
            assert!((reached.rest - rest).abs() < 1e-6, "after {stretch:?}: {} is not {rest}", reached.rest);
        }
        assert_eq!((failed, reached.fails()), (*fails, *fails), "after {stretch:?}");
    }
    evidence
}

#[test]
fn a_bad_version_is_told_by_its_second_scrape() {
    play(
        1.0,
        &[
            ((0, 8), [16.0, 8.0, 144.0, 0.0], 14.199859, Some(0.0), false),
            ((8, 23), [30.0, 15.0, 270.0, 0.0], 43.171534, Some(14.199859), true),
        ],
    );
}

#[test]
fn one_incident_decides_nothing_and_a_single_later_failure_does_not_complete_it() {
    let evidence = play(
        1.0,
        &[
            ((0, 15), [30.0, 0.0, 270.0, 0.0], 0.0, Some(0.0), false),
            ((15, 30), [30.0, 12.0, 270.0, 0.0], 21.847334, Some(0.0), false),
            ((30, 45), [30.0, 0.0, 270.0, 1.0], 20.169549, Some(-0.657358), false),
            ((45, 60), [30.0, 1.0, 270.0, 0.0], 22.075134, Some(0.603460), false),
        ],
    );
    assert_eq!(evidence.reached(1.0).missing(), Some("one scrape carries it: waits for a second"));
}

#[test]
fn what_befalls_both_sides_is_no_evidence() {
    let equal = [30.0, 1.0, 270.0, 9.0];
    let evidence = play(
        1.0,
        &[
            ((0, 15), equal, -1.857957, Some(0.0), false),
            ((15, 30), equal, -2.471433, Some(-1.857957), false),
            ((30, 45), equal, -2.917763, Some(-2.471433), false),
        ],
    );
    assert!(is_near(evidence.odds_ratio().unwrap_or_default(), 1.0));
    let outage = [30.0, 30.0, 270.0, 270.0];
    play(1.0, &[((0, 15), outage, -9.856764, None, false), ((15, 30), outage, -16.942910, None, false)]);
}

#[test]
fn scrapes_of_several_observers_that_overlap_are_one() {
    play(
        1.0,
        &[
            ((0, 6), [10.0, 4.0, 90.0, 0.0], 6.718880, None, false),
            ((0, 11), [20.0, 9.0, 180.0, 0.0], 23.772331, Some(0.0), false),
            ((6, 21), [30.0, 8.0, 270.0, 0.0], 39.276270, Some(0.0), false),
            ((11, 26), [30.0, 7.0, 270.0, 0.0], 52.930801, Some(12.307168), true),
        ],
    );
}

#[test]
fn noise_takes_evidence_away() {
    let two = [30.0, 2.0, 270.0, 0.0];
    let evidence = play(
        2.0,
        &[
            ((0, 15), two, 1.497126, Some(0.0), false),
            ((15, 30), two, 3.156134, Some(1.497126), false),
            ((30, 45), two, 4.910048, Some(3.156134), true),
        ],
    );
    assert_eq!(evidence.reached(2.0).failed, 6.0);
}

#[test]
fn no_time_is_counted_twice_and_what_is_read_again_after_a_crash_makes_the_same_evidence() {
    let cells: Vec<Cell> = (0..12_i32)
        .map(|number| {
            let end = i64::from(number) * 5 + 15;
            cell((end - 15, end), [30.0, f64::from(number % 3), 270.0, f64::from(number % 2)])
        })
        .collect();
    let mut whole = Evidence::since(0);
    whole.take_all(cells.clone(), Guard::Scrape);
    for crash in 0..cells.len() {
        let mut stored = Evidence::since(0);
        stored.take_all(cells[..crash].to_vec(), Guard::Scrape);
        let stored = serde_json::to_value(&stored).and_then(serde_json::from_value);
        let mut again: Evidence = stored.unwrap_or_default();
        // The same samples once more, and looks that overlap.
        again.take_all(cells[..crash].to_vec(), Guard::Scrape);
        again.take_all(cells[crash / 2..].to_vec(), Guard::Scrape);
        let (found, expected) = (again.reached(1.0), whole.reached(1.0));
        assert!(is_near(found.total, expected.total) && is_near(found.rest, expected.rest), "{crash}");
        assert_eq!((again.up_to, again.seen), (whole.up_to, whole.seen));
    }
}

#[test]
fn kinds_of_clients_are_compared_among_themselves() {
    // One client reaches the candidate only and fails much: that says nothing of the version.
    let strata = vec![counts(100.0, 20.0, 0.0, 0.0), counts(30.0, 0.0, 270.0, 1.0)];
    let mut evidence = Evidence::since(0);
    evidence.take(vec![Cell { start: 0, end: 15, strata }], Guard::Scrape, 1.0);
    assert!(evidence.reached(1.0).total <= 0.0);
    assert_eq!(evidence.seen.canary, 30.0);
}

#[test]
fn the_stretch_with_most_failures_decides_nothing_either() {
    let guard = Guard::Stretch(15);
    let mut evidence = Evidence::since(0);
    let windows = |from: i64, to: i64, failed: f64| -> Vec<Cell> {
        (from..to).map(|window| cell((window * 5, window * 5 + 5), [10.0, failed, 90.0, 0.0])).collect()
    };
    assert!(!evidence.take(windows(0, 3, 4.0), guard, 1.0), "15 s are one stretch");
    assert!(!evidence.take(windows(3, 9, 0.0), guard, 1.0));
    assert!(evidence.take(windows(9, 12, 3.0), guard, 1.0), "a second one");
}
