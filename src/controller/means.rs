//! What a loop works with, whatever the kind that it looks at.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::cluster::{Clock, Cluster, Writer};

use super::caches::{Caches, Kinds};
use super::expectations::Expectations;
use super::hands::Hands;
use super::settings::ControllerSettings;
use super::wakeups::Wakeups;

/// The same for both loops, but for the wake-ups: each has its own. Cheap to clone.
#[derive(Clone)]
pub(super) struct Means {
    pub(super) cluster: Cluster,
    pub(super) writer: Writer,
    pub(super) kinds: Kinds,
    pub(super) caches: Arc<Caches>,
    pub(super) settings: ControllerSettings,
    pub(super) wakeups: Arc<Wakeups>,
    pub(super) clock: Clock,
}

impl Means {
    /// Writes in a namespace, remembered in `expectations`.
    pub(super) fn hands<'a>(&'a self, namespace: &'a str, expectations: &'a mut Expectations) -> Hands<'a> {
        let Self { cluster, writer, kinds, caches, .. } = self;
        Hands { cluster, writer, kinds, routes: &caches.routes, namespace, expectations }
    }

    /// How long it is until then.
    pub(super) fn until(&self, time: Timestamp) -> Duration {
        Duration::try_from(time.duration_since(self.clock.now())).unwrap_or(Duration::ZERO)
    }
}
