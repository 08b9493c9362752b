//! Flagger's built-in checks, with its query texts, so that today's dashboards show the same numbers.

use crate::analysis::compare::Counted;

/// The built-in checks of one router.
#[derive(Debug, PartialEq, Eq)]
pub struct BuiltIn {
    /// Percent of requests not answered 5xx by the canary.
    pub success_rate: &'static str,
    /// 99th percentile of the canary's request durations in milliseconds.
    pub duration: &'static str,
    /// Requests that the canary has answered; `None` where nobody counts them.
    pub requests: Option<&'static str>,
    /// The counters of both sides; `None` where they cannot be told apart.
    pub counters: Option<Counters>,
}

/// Raw counters of both sides, for the comparison: never a rate, never an increase.
#[derive(Debug, PartialEq, Eq)]
pub struct Counters {
    /// Requests to either side, with a range.
    pub both: &'static str,
    /// The label that tells the sides apart.
    pub side: &'static str,
    /// Who counts: both sides at once, or each pod for itself.
    pub counted: Counted,
    /// Requests to primary by its pods, up to now.
    pub primary: &'static str,
    /// Those that failed.
    pub primary_failed: &'static str,
    /// The label that names primary's pods in these.
    pub pod: &'static str,
}

/// Of what Istio's proxies count.
pub const ISTIO: BuiltIn = BuiltIn {
    success_rate: REQUEST_SUCCESS_RATE,
    duration: REQUEST_DURATION,
    requests: Some(REQUESTS),
    counters: Some(Counters {
        both: BOTH,
        side: "destination_service_name",
        counted: Counted::ByRouter,
        primary: PRIMARY,
        primary_failed: PRIMARY_FAILED,
        pod: "pod",
    }),
};

/// Of what applications count themselves, as Flagger asks for providers without metrics of their own. The name of a pod is the
/// target's and two parts more; primary's has a third one, and is not taken for it.
pub const HTTP: BuiltIn = BuiltIn {
    success_rate: HTTP_SUCCESS_RATE,
    duration: HTTP_DURATION,
    requests: Some(HTTP_REQUESTS),
    counters: Some(Counters {
        both: HTTP_BOTH,
        side: "kubernetes_pod_name",
        counted: Counted::ByPods,
        primary: HTTP_PRIMARY,
        primary_failed: HTTP_PRIMARY_FAILED,
        pod: "kubernetes_pod_name",
    }),
};

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

/// Whoever routes sees both sides, what reached no pod, and what came back after its own retries.
const BOTH: &str = r#"istio_requests_total{
  reporter=~"source|waypoint",
  destination_service_namespace="{{ namespace }}",
  destination_service_name=~"{{ service }}-primary|{{ service }}-canary"
}[{{ interval }}]"#;

const PRIMARY: &str = r#"sum by (pod) (
  istio_requests_total{
    reporter="destination",
    destination_workload_namespace="{{ namespace }}",
    destination_workload="{{ target }}-primary"
  }
)"#;

const PRIMARY_FAILED: &str = r#"sum by (pod) (
  istio_requests_total{
    reporter="destination",
    destination_workload_namespace="{{ namespace }}",
    destination_workload="{{ target }}-primary",
    response_code=~"5.*|0"
  }
)"#;

const HTTP_BOTH: &str = r#"http_request_duration_seconds_count{
  kubernetes_namespace="{{ namespace }}",
  kubernetes_pod_name=~"{{ target }}(-primary)?-[0-9a-zA-Z]+-[0-9a-zA-Z]+"
}[{{ interval }}]"#;

const HTTP_PRIMARY: &str = r#"sum by (kubernetes_pod_name) (
  http_request_duration_seconds_count{
    kubernetes_namespace="{{ namespace }}",
    kubernetes_pod_name=~"{{ target }}-primary-[0-9a-zA-Z]+-[0-9a-zA-Z]+"
  }
)"#;

const HTTP_PRIMARY_FAILED: &str = r#"sum by (kubernetes_pod_name) (
  http_request_duration_seconds_count{
    kubernetes_namespace="{{ namespace }}",
    kubernetes_pod_name=~"{{ target }}-primary-[0-9a-zA-Z]+-[0-9a-zA-Z]+",
    status=~"5.*"
  }
)"#;

const HTTP_SUCCESS_RATE: &str = r#"(
  sum(
    rate(
      http_request_duration_seconds_count{
        kubernetes_namespace="{{ namespace }}",
        kubernetes_pod_name=~"{{ target }}-[0-9a-zA-Z]+(-[0-9a-zA-Z]+)",
        status!~"5.*"
      }[{{ interval }}]
    )
  )
  or
  vector(0)
)
/
sum(
  rate(
    http_request_duration_seconds_count{
      kubernetes_namespace="{{ namespace }}",
      kubernetes_pod_name=~"{{ target }}-[0-9a-zA-Z]+(-[0-9a-zA-Z]+)"
    }[{{ interval }}]
  )
)
* 100"#;

/// In milliseconds, as all durations.
const HTTP_DURATION: &str = r#"histogram_quantile(
  0.99,
  sum(
    rate(
      http_request_duration_seconds_bucket{
        kubernetes_namespace="{{ namespace }}",
        kubernetes_pod_name=~"{{ target }}-[0-9a-zA-Z]+(-[0-9a-zA-Z]+)"
      }[{{ interval }}]
    )
  ) by (le)
)
* 1000"#;

const HTTP_REQUESTS: &str = r#"sum(
  increase(
    http_request_duration_seconds_count{
      kubernetes_namespace="{{ namespace }}",
      kubernetes_pod_name=~"{{ target }}-[0-9a-zA-Z]+(-[0-9a-zA-Z]+)"
    }[{{ interval }}]
  )
)"#;
