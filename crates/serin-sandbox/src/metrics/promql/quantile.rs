//! `histogram_quantile` over classic buckets.

use std::collections::BTreeMap;

use super::{Labels, QueryError, Sample, unique, without_name};

/// The label that holds a bucket's upper bound.
const BUCKET: &str = "le";

#[derive(Debug, Clone, Copy)]
struct Bucket {
    upper: f64,
    count: f64,
}

pub(super) fn histogram_quantile(quantile: f64, samples: Vec<Sample>) -> Result<Vec<Sample>, QueryError> {
    let mut histograms: BTreeMap<Labels, Vec<Bucket>> = BTreeMap::new();
    for Sample { labels, value } in samples {
        let mut labels = without_name(labels);
        // Prometheus skips series without a readable bound too.
        let Some(upper) = labels.remove(BUCKET).and_then(|bound| bound.parse::<f64>().ok()) else { continue };
        histograms.entry(labels).or_default().push(Bucket { upper, count: value });
    }
    let results = histograms
        .into_iter()
        .map(|(labels, buckets)| Sample { labels, value: bucket_quantile(quantile, buckets) })
        .collect();
    unique(results)
}

fn bucket_quantile(quantile: f64, mut buckets: Vec<Bucket>) -> f64 {
    if quantile.is_nan() {
        return f64::NAN;
    }
    if quantile < 0.0 {
        return f64::NEG_INFINITY;
    }
    if quantile > 1.0 {
        return f64::INFINITY;
    }
    buckets.sort_by(|a, b| a.upper.total_cmp(&b.upper));
    let buckets = monotonic(merged(buckets));
    let [lower @ .., highest] = buckets.as_slice() else { return f64::NAN };
    let Some(last_finite) = lower.last() else { return f64::NAN };
    if highest.upper != f64::INFINITY || highest.count == 0.0 || highest.count.is_nan() {
        return f64::NAN;
    }
    let rank = quantile * highest.count;
    let index = lower.partition_point(|bucket| bucket.count < rank);
    let Some(bucket) = lower.get(index) else { return last_finite.upper };
    let below = index.checked_sub(1).and_then(|index| lower.get(index));
    match below {
        None if bucket.upper <= 0.0 => bucket.upper,
        None => bucket.upper * (rank / bucket.count),
        Some(below) => {
            let share = (rank - below.count) / (bucket.count - below.count);
            below.upper + (bucket.upper - below.upper) * share
        }
    }
}

/// Adds up buckets with the same bound.
fn merged(buckets: Vec<Bucket>) -> Vec<Bucket> {
    let mut merged: Vec<Bucket> = Vec::with_capacity(buckets.len());
    for bucket in buckets {
        match merged.last_mut() {
            Some(last) if last.upper == bucket.upper => last.count += bucket.count,
            _ => merged.push(bucket),
        }
    }
    merged
}

/// Lifts counts that fall, as rates of buckets that were not sampled at once may.
fn monotonic(mut buckets: Vec<Bucket>) -> Vec<Bucket> {
    let mut highest = f64::NEG_INFINITY;
    for bucket in &mut buckets {
        highest = highest.max(bucket.count);
        bucket.count = highest;
    }
    buckets
}
