//! Queries against values computed by hand from Prometheus' definitions.

use std::time::Duration;

use super::*;

/// Name, labels, and the values at each sample.
type Given<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [f64]);

/// Series as in the exposition format, with the values they have at 1 s, 2 s, 3 s …
fn store(series: &[Given<'_>]) -> Store {
    let mut store = Store::new(Duration::from_secs(3600));
    let samples = series.iter().map(|(_, _, values)| values.len()).max().unwrap_or(0);
    for step in 0..samples {
        for (name, labels, values) in series {
            let Some(value) = values.get(step) else { continue };
            let mut set: Labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            set.insert(NAME.to_owned(), (*name).to_owned());
            let id = store.series(&set).unwrap();
            store.set(id, *value);
        }
        store.sample((step as i64 + 1) * 1000);
    }
    store
}

fn requests() -> Store {
    store(&[
        ("requests", &[("code", "200"), ("pod", "a")], &[0.0, 10.0, 20.0, 30.0, 40.0]),
        ("requests", &[("code", "503"), ("pod", "a")], &[0.0, 0.0, 5.0, 5.0, 10.0]),
        ("requests", &[("code", "200"), ("pod", "b")], &[100.0, 120.0, 20.0, 40.0, 60.0]),
        ("limit", &[("code", "200")], &[1.0, 1.0, 1.0, 1.0, 1.0]),
        ("le_bucket", &[("le", "10")], &[0.0, 10.0, 20.0, 30.0, 40.0]),
        ("le_bucket", &[("le", "100")], &[0.0, 18.0, 36.0, 54.0, 72.0]),
        ("le_bucket", &[("le", "+Inf")], &[0.0, 20.0, 40.0, 60.0, 80.0]),
    ])
}

/// `labels value` lines, or the scalar, or the error; values with six digits after the point.
fn show(query: &str, at_ms: i64) -> String {
    let line = |labels: &Labels, value: String| {
        let pairs: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        format!("{{{}}} {value}", pairs.join(","))
    };
    match evaluate(&requests(), query, at_ms) {
        Ok(Value::Scalar(number)) => format!("{number:.6}"),
        Ok(Value::Text(text)) => text,
        Ok(Value::Vector(samples)) => {
            samples.iter().map(|s| line(&s.labels, format!("{:.6}", s.value))).collect::<Vec<_>>().join("\n")
        }
        Ok(Value::Matrix(ranges)) => {
            ranges.iter().map(|r| line(&r.labels, format!("{:?}", r.samples))).collect::<Vec<_>>().join("\n")
        }
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn selectors_match_as_prometheus_does() {
    assert_eq!(show(r#"requests{code="503"}"#, 3_000), "{__name__=requests,code=503,pod=a} 5.000000");
    assert_eq!(show(r#"requests{code=~"50"}"#, 3_000), "", "regular expressions are anchored");
    assert_eq!(show(r#"requests{code=~"5.*",zone!="x"}"#, 3_500), "{__name__=requests,code=503,pod=a} 5.000000");
    assert_eq!(show(r#"requests{code!~"5.*",pod!="a"}"#, 3_000), "{__name__=requests,code=200,pod=b} 20.000000");
    assert_eq!(show(r#"requests{code="503"} offset 2s"#, 5_000), "{__name__=requests,code=503,pod=a} 5.000000");
    assert_eq!(show("limit", 5_000 + 299_999), "{__name__=limit,code=200} 1.000000");
    assert_eq!(show("limit", 5_000 + 300_000), "", "beyond the five minute lookback");
    assert_eq!(
        show(r#"requests{code="503"}[2s]"#, 4_000),
        "{__name__=requests,code=503,pod=a} [(3000, 5.0), (4000, 5.0)]"
    );
}

#[test]
fn rates_extrapolate() {
    // Window (1.5 s, 4.5 s]: samples at 2, 3, 4 s; both edges are half a step away, so 20 is stretched by 3/2.
    assert_eq!(show(r#"increase(requests{pod="a",code="200"}[3s])"#, 4_500), "{code=200,pod=a} 30.000000");
    assert_eq!(show(r#"rate(requests{pod="a",code="200"}[3s])"#, 4_500), "{code=200,pod=a} 10.000000");
    // From 0 at the first sample the counter cannot be extended to the left: 40 * (4 + 0 + 0) / 4 over ten seconds.
    assert_eq!(show(r#"rate(requests{pod="a",code="200"}[10s])"#, 5_000), "{code=200,pod=a} 4.000000");
    // The reset counts as 20 gained: 20 + 20 + 20 + 20 over 4 s, half a step added on the left (2 s away is too far).
    assert_eq!(show(r#"increase(requests{pod="b"}[6s])"#, 5_000), "{code=200,pod=b} 90.000000");
    assert_eq!(show(r#"irate(requests{code="503"}[10s])"#, 5_000), "{code=503,pod=a} 5.000000");
    assert_eq!(show(r#"rate(requests{code="503"}[500ms])"#, 5_000), "", "one sample has no rate");
    assert_eq!(show(r#"rate(requests{code="503"}[2000ms])"#, 5_000), "{code=503,pod=a} 5.000000");
}

#[test]
fn aggregations_group() {
    assert_eq!(show("sum(requests)", 5_000), "{} 110.000000");
    assert_eq!(show("max(requests) by (code)", 5_000), "{code=200} 60.000000\n{code=503} 10.000000");
    assert_eq!(show("count without (code) (requests)", 5_000), "{pod=a} 2.000000\n{pod=b} 1.000000");
    assert_eq!(show("avg(requests)", 5_000), "{} 36.666667");
    assert_eq!(show("min(requests)", 5_000), "{} 10.000000");
    assert_eq!(show(r#"sum(requests{code="none"})"#, 5_000), "", "nothing, not zero");
}

#[test]
fn quantiles_interpolate_within_a_bucket() {
    // Of 20 a second, 10 are below 10 and 18 below 100: rank 15 lies 5/8 into the second bucket.
    assert_eq!(show("histogram_quantile(0.75, rate(le_bucket[3s]))", 4_500), "{} 66.250000");
    assert_eq!(show("histogram_quantile(0.25, sum(rate(le_bucket[3s])) by (le))", 4_500), "{} 5.000000");
    assert_eq!(show("histogram_quantile(0.99, sum(rate(le_bucket[3s])) by (le))", 4_500), "{} 100.000000");
    assert_eq!(show("histogram_quantile(2, le_bucket)", 5_000), "{} inf");
    assert_eq!(show("histogram_quantile(0.5, le_bucket)", 1_000), "{} NaN", "no observation");
}

#[test]
fn operators_match_one_to_one() {
    assert_eq!(show("2 + 3 * 2 ^ 2 - 7 % 4", 0), "11.000000");
    assert_eq!(show("1 > bool 2", 0), "0.000000");
    assert_eq!(
        show("requests > 30", 5_000),
        "{__name__=requests,code=200,pod=a} 40.000000\n{__name__=requests,code=200,pod=b} 60.000000"
    );
    assert_eq!(show("sum(requests) by (code) > bool 50", 5_000), "{code=200} 1.000000\n{code=503} 0.000000");
    assert_eq!(show(r#"requests{pod="b"} / ignoring(pod) limit"#, 5_000), "{code=200} 60.000000");
    assert_eq!(show(r#"requests{pod="b"} * on(code) limit"#, 5_000), "{code=200} 60.000000");
    assert_eq!(show("-limit", 5_000), "{code=200} -1.000000");
    assert_eq!(show("sum(requests) / sum(absent_series)", 5_000), "", "no match, no result");
    assert!(show("requests / on(code) limit", 5_000).contains("many-to-one matching must be explicit"));
}

#[test]
fn flaggers_success_rate() {
    let query = r#"sum(rate(requests{pod="a",code!~"5.*"}[3s])) / sum(rate(requests{pod="a"}[3s])) * 100"#;
    assert_eq!(show(query, 5_000), "{} 80.000000");
    // No traffic in the window is NaN, as in Prometheus: 0 / 0.
    assert_eq!(show("sum(rate(limit[3s])) / sum(rate(limit[3s]))", 5_000), "{} NaN");
}

#[test]
fn what_is_not_evaluated_is_named() {
    for (query, construct) in [
        ("topk(1, requests)", "topk"),
        ("avg_over_time(requests[5s])", "avg_over_time()"),
        ("requests * on(code) group_left limit", "group_left"),
        ("rate(requests[5s:1s])", "subqueries"),
        ("limit @ 3", "the @ modifier"),
        ("sum(", "query"),
    ] {
        let error = evaluate(&requests(), query, 5_000).unwrap_err();
        assert!(matches!(&error, QueryError::BadData(message) if message.contains(construct)), "{query}: {error}");
    }
}

#[test]
fn set_operators_match_by_labels_without_the_name() {
    assert_eq!(show(r#"sum(requests{code="404"}) or vector(0)"#, 5_000), "{} 0.000000");
    assert_eq!(show(r#"sum(requests{code="503"}) or vector(0)"#, 5_000), "{} 10.000000");
    let both = r#"requests{pod="a"} or requests{code="503"}"#;
    assert_eq!(show(both, 5_000).lines().count(), 2);
    assert_eq!(show(r#"requests and on(code) limit"#, 5_000).lines().count(), 2);
    assert_eq!(show(r#"requests unless on(code) limit"#, 5_000), "{__name__=requests,code=503,pod=a} 10.000000");
    assert!(show("1 or vector(0)", 5_000).starts_with("error: "));
}
