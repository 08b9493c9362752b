//! CRD types (`flagger.app/v1beta1`): Canary, MetricTemplate, AlertProvider, and the words in which rooms meet on objects.

pub mod annotations;
