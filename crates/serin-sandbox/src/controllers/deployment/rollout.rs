//! The arithmetic of a rollout, as kube-controller-manager does it: how many pods each ReplicaSet should have next.
//! Pure: sizes in, sizes out.

use k8s_openapi::api::apps::v1::DeploymentSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// What the API server defaults `maxSurge` and `maxUnavailable` to, in percent.
const DEFAULT_PERCENT: i32 = 25;

/// What the Deployment asks for, with percentages resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Desired {
    pub(super) replicas: i32,
    /// Pods above `replicas` during a rolling update; 0 for Recreate.
    pub(super) max_surge: i32,
    /// Pods below `replicas` that may be unavailable; 0 for Recreate.
    pub(super) max_unavailable: i32,
}

/// What the arithmetic needs of a ReplicaSet. Slices of these are ordered oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) name: String,
    /// `spec.replicas`.
    pub(super) replicas: i32,
    /// `status.availableReplicas`.
    pub(super) available: i32,
    /// The Deployment's `replicas + maxSurge` when the set was last sized (annotation `max-replicas`).
    pub(super) max_before: Option<i32>,
}

/// A ReplicaSet's next `spec.replicas`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resize {
    pub(super) name: String,
    pub(super) replicas: i32,
}

/// Whether old pods go before new ones come.
pub(super) fn is_recreate(spec: &DeploymentSpec) -> bool {
    spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
}

impl Desired {
    pub(super) fn of(spec: &DeploymentSpec) -> Self {
        let replicas = spec.replicas.unwrap_or(1);
        if is_recreate(spec) {
            return Self { replicas, max_surge: 0, max_unavailable: 0 };
        }
        let rolling = spec.strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref());
        let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
        let max_surge = resolve(surge, replicas, Round::Up);
        let max_unavailable = resolve(unavailable, replicas, Round::Down);
        // With both at zero (a small percentage of few replicas) the rollout could not move at all.
        let max_unavailable = if max_surge == 0 && max_unavailable == 0 { 1 } else { max_unavailable };
        Self { replicas, max_surge, max_unavailable: max_unavailable.min(replicas) }
    }

    /// Most pods that may exist.
    pub(super) fn ceiling(&self) -> i32 {
        self.replicas.saturating_add(self.max_surge)
    }

    /// Fewest pods that must be available.
    pub(super) fn floor(&self) -> i32 {
        self.replicas - self.max_unavailable
    }
}

#[derive(Clone, Copy)]
enum Round {
    Up,
    Down,
}

fn resolve(value: Option<&IntOrString>, replicas: i32, round: Round) -> i32 {
    match value {
        None => percent_of(DEFAULT_PERCENT, replicas, round),
        Some(IntOrString::Int(count)) => (*count).max(0),
        Some(IntOrString::String(text)) => {
            let percent = text.strip_suffix('%').and_then(|digits| digits.parse().ok());
            percent.map_or(0, |percent| percent_of(percent, replicas, round))
        }
    }
}

fn percent_of(percent: i32, replicas: i32, round: Round) -> i32 {
    let hundredfold = i64::from(percent.max(0)) * i64::from(replicas.max(0));
    let count = match round {
        Round::Up => (hundredfold + 99) / 100,
        Round::Down => hundredfold / 100,
    };
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Next size of the new ReplicaSet in a rolling update; `others` is what all other sets ask for.
pub(super) fn next_new(desired: &Desired, new: i32, others: i32) -> i32 {
    if new >= desired.replicas {
        return desired.replicas;
    }
    let room = desired.ceiling() - new - others;
    if room <= 0 { new } else { new + room.min(desired.replicas - new) }
}

/// Next sizes of old ReplicaSets in a rolling update: first pods that are not available anyway, then available ones as
/// far as the floor allows.
pub(super) fn shrink_old(desired: &Desired, new: &Size, old: &[Size]) -> Vec<Resize> {
    let mut sets = old.to_vec();
    let total: i32 = sets.iter().map(|set| set.replicas).sum::<i32>() + new.replicas;
    let new_unavailable = new.replicas - new.available;
    let budget = total - desired.floor() - new_unavailable;
    if budget <= 0 {
        return Vec::new();
    }
    let cleaned = drop_unavailable(&mut sets, budget);
    let available: i32 = sets.iter().map(|set| set.available).sum::<i32>() + new.available;
    // What was dropped above counts against the same budget: a stale status must not free pods twice.
    let spare = (available - desired.floor()).min(budget - cleaned);
    drop_available(&mut sets, spare);
    sets.into_iter()
        .zip(old)
        .filter(|(next, before)| next.replicas != before.replicas)
        .map(|(next, _)| Resize { name: next.name, replicas: next.replicas })
        .collect()
}

fn drop_unavailable(sets: &mut [Size], budget: i32) -> i32 {
    let mut dropped = 0;
    for set in sets {
        let idle = (set.replicas - set.available).max(0);
        let take = idle.min(budget - dropped);
        set.replicas -= take;
        dropped += take;
    }
    dropped
}

fn drop_available(sets: &mut [Size], spare: i32) {
    let mut left = spare.max(0);
    for set in sets {
        let take = set.replicas.min(left);
        set.replicas -= take;
        left -= take;
    }
}

/// Sizes after `spec.replicas` changed in mid-rollout: every set keeps its share, the largest takes what rounding leaves.
/// `before` is the Deployment's observed size, for sets that do not say what they were sized for.
pub(super) fn proportional(desired: &Desired, sets: &[Size], before: i32) -> Vec<Resize> {
    let total: i32 = sets.iter().map(|set| set.replicas).sum();
    let allowed = if desired.replicas > 0 { desired.ceiling() } else { 0 };
    let to_add = allowed - total;
    let mut order: Vec<(usize, &Size)> = sets.iter().enumerate().collect();
    // Largest first; among equals the newest grows and the oldest shrinks.
    order.sort_by_key(|(age, set)| {
        let age = i32::try_from(*age).unwrap_or(i32::MAX);
        (-set.replicas, if to_add > 0 { -age } else { age })
    });
    let mut added = 0;
    let mut next: Vec<Resize> = Vec::new();
    for (_, set) in order {
        let share = proportion(desired, set, before, to_add, added);
        added += share;
        next.push(Resize { name: set.name.clone(), replicas: set.replicas + share });
    }
    if let Some(first) = next.first_mut() {
        first.replicas = (first.replicas + to_add - added).max(0);
    }
    next
}

fn proportion(desired: &Desired, set: &Size, before: i32, to_add: i32, added: i32) -> i32 {
    let left = to_add - added;
    if set.replicas == 0 || left == 0 {
        return 0;
    }
    let fraction = fraction(desired, set, before);
    if to_add > 0 { fraction.min(left) } else { fraction.max(left) }
}

fn fraction(desired: &Desired, set: &Size, before: i32) -> i32 {
    let max_before = set.max_before.unwrap_or(before);
    if desired.replicas == 0 || max_before <= 0 {
        return -set.replicas;
    }
    let scaled = f64::from(set.replicas) * f64::from(desired.ceiling()) / f64::from(max_before);
    // Replica counts are far below 2^31, so the rounded value fits.
    #[expect(clippy::cast_possible_truncation, reason = "float to int saturates")]
    let size = scaled.round() as i32;
    size - set.replicas
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::{DeploymentStrategy, RollingUpdateDeployment};
    use proptest::prelude::*;

    use super::*;

    fn desired(replicas: i32, surge: &str, unavailable: &str) -> Desired {
        let parse = |text: &str| match text.parse() {
            Ok(count) => IntOrString::Int(count),
            Err(_) => IntOrString::String(text.to_owned()),
        };
        Desired::of(&DeploymentSpec {
            replicas: Some(replicas),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(parse(surge)),
                    max_unavailable: Some(parse(unavailable)),
                }),
            }),
            ..DeploymentSpec::default()
        })
    }

    fn size(name: &str, replicas: i32, available: i32) -> Size {
        Size { name: name.to_owned(), replicas, available, max_before: None }
    }

    fn resize(name: &str, replicas: i32) -> Resize {
        Resize { name: name.to_owned(), replicas }
    }

    #[test]
    fn surge_rounds_up_and_unavailable_down() {
        assert_eq!(desired(10, "25%", "25%"), Desired { replicas: 10, max_surge: 3, max_unavailable: 2 });
        assert_eq!(desired(1, "25%", "25%"), Desired { replicas: 1, max_surge: 1, max_unavailable: 0 });
        assert_eq!(desired(3, "0", "10%"), Desired { replicas: 3, max_surge: 0, max_unavailable: 1 });
        assert_eq!(desired(2, "0", "5"), Desired { replicas: 2, max_surge: 0, max_unavailable: 2 });
    }

    #[test]
    fn new_set_grows_into_the_surge() {
        let desired = desired(4, "1", "0");
        assert_eq!(next_new(&desired, 0, 4), 1);
        assert_eq!(next_new(&desired, 1, 4), 1);
        assert_eq!(next_new(&desired, 1, 3), 2);
        assert_eq!(next_new(&desired, 6, 0), 4);
    }

    #[test]
    fn unavailable_old_pods_go_first() {
        let desired = desired(4, "0", "1");
        let old = [size("oldest", 3, 3), size("broken", 1, 0)];
        assert_eq!(shrink_old(&desired, &size("new", 0, 0), &old), [resize("broken", 0)]);
    }

    #[test]
    fn old_pods_stay_until_new_ones_are_available() {
        let desired = desired(3, "1", "0");
        let old = [size("old", 3, 3)];
        assert_eq!(shrink_old(&desired, &size("new", 1, 0), &old), []);
        assert_eq!(shrink_old(&desired, &size("new", 1, 1), &old), [resize("old", 2)]);
    }

    #[test]
    fn scaling_in_mid_rollout_keeps_shares() {
        let desired = desired(10, "0", "1");
        let mut sets = [size("old", 3, 3), size("new", 2, 2)];
        for set in &mut sets {
            set.max_before = Some(5);
        }
        assert_eq!(proportional(&desired, &sets, 5), [resize("old", 6), resize("new", 4)]);
    }

    proptest! {
        /// From any state, repeating the steps with every pod becoming available ends in the new set alone, and at no
        /// point are there more pods than the ceiling or fewer available ones than the floor.
        #[test]
        fn rolling_update_keeps_its_bounds(
            replicas in 1..30_i32, surge in 0..100_i32, unavailable in 0..100_i32, broken in 0..5_i32,
        ) {
            let desired = desired(replicas, &format!("{surge}%"), &format!("{unavailable}%"));
            let mut new = size("new", 0, 0);
            let mut old = vec![size("old", replicas, (replicas - broken).max(0))];
            let floor = desired.floor().min(old[0].available);
            for _ in 0..200 {
                new.replicas = next_new(&desired, new.replicas, old[0].replicas);
                for change in shrink_old(&desired, &new, &old) {
                    old[0].replicas = change.replicas;
                    old[0].available = old[0].available.min(change.replicas);
                }
                prop_assert!(new.replicas + old[0].replicas <= desired.ceiling());
                prop_assert!(new.available + old[0].available >= floor);
                new.available = new.replicas;
            }
            prop_assert_eq!((new.replicas, old[0].replicas), (replicas, 0));
        }
    }
}
