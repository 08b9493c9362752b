//! Flagger's built-in checks for Istio, with its query texts, so that today's dashboards show the same numbers.

/// Percent of requests not answered 5xx by the canary.
pub const REQUEST_SUCCESS_RATE: &str = r#"sum(
  rate(
    istio_requests_total{
      reporter="destination",
      destination_workload_namespace="{{ namespace }}",
      destination_workload=~"{{ target }}",
      response_code!~"5.*"
    }[{{ interval }}]
  )
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

/// 99th percentile of the canary's request durations in milliseconds.
pub const REQUEST_DURATION: &str = r#"histogram_quantile(
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
