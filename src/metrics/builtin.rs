//! Flagger's built-in checks, with its query texts, so that today's dashboards show the same numbers.

/// The built-in checks of one router.
#[derive(Debug, PartialEq, Eq)]
pub struct BuiltIn {
    /// Percent of requests not answered 5xx by the canary.
    pub success_rate: &'static str,
    /// 99th percentile of the canary's request durations in milliseconds.
    pub duration: &'static str,
    /// Requests that the canary has answered; `None` where nobody counts them.
    pub requests: Option<&'static str>,
}

/// Of what Istio's proxies count.
pub const ISTIO: BuiltIn =
    BuiltIn { success_rate: REQUEST_SUCCESS_RATE, duration: REQUEST_DURATION, requests: Some(REQUESTS) };

/// Where all are answered 5xx there is no series for any other answer:
/// Flagger's own text is empty then, although nothing could be worse.
const REQUEST_SUCCESS_RATE: &str = r#"(
  sum(
    rate(
      istio_requests_total{
        reporter="destination",
        destination_workload_namespace="{{ namespace }}",
        destination_workload=~"{{ target }}",
        response_code!~"5.*"
      }[{{ interval }}]
    )
  )
  or
  vector(0)
)
/
sum(
  rate(
    istio_requests_total{
      reporter="destination",
      destination_workload_namespace="{{ namespace }}",
      destination_workload=~"{{ target }}"
    }[{{ interval }}]
  )
)
* 100"#;

const REQUEST_DURATION: &str = r#"histogram_quantile(
  0.99,
  sum(
    rate(
      istio_request_duration_milliseconds_bucket{
        reporter="destination",
        destination_workload_namespace="{{ namespace }}",
        destination_workload=~"{{ target }}"
      }[{{ interval }}]
    )
  ) by (le)
)"#;

/// Requests that the canary has answered, by the mesh's own counters.
const REQUESTS: &str = r#"sum(
  increase(
    istio_requests_total{
      reporter="destination",
      destination_workload_namespace="{{ namespace }}",
      destination_workload=~"{{ target }}"
    }[{{ interval }}]
  )
)"#;
