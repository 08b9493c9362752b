//! The primary/canary pair, its autoscalers and its stored last good template.
//!
//! Pure builders over raw JSON: pod templates are never typed, so no field of a newer Kubernetes is lost on the way from
//! target to primary. Who writes what they build is `controller::act`.

mod autoscaler;
mod last_good;
mod metadata;
mod primary;
mod risks;
mod selector;
mod view;

pub use autoscaler::{AutoscalerOverrides, AutoscalerView, primary_autoscaler};
pub use last_good::{LAST_GOOD_LABEL, last_good, last_good_name, stored_target_template, stored_template};
pub use metadata::{GENERATED_ANNOTATIONS, Owner, is_left_to, left_to};
pub use primary::{PrimaryPlan, copy_to_primary, new_primary, restore_primary};
pub use risks::{Own, Risk, may_be_risk, risks};
pub use selector::{Labels, SelectorError, Sides, mixed_up, pods_of};
pub use view::{DeploymentView, ViewError};
