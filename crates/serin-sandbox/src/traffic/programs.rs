//! What runs in a pod, by its image.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::Router;
use tokio_util::sync::CancellationToken;

/// What a program in a pod may know of its surroundings.
#[derive(Debug, Clone)]
pub struct PodContext {
    /// The forward proxy of the pod's namespace, which resolves its Services.
    pub proxy: String,
    /// Divides the durations of load tests.
    pub speed: NonZeroU32,
    /// Cancelled when the pod stops.
    pub stop: CancellationToken,
}

type Start = Arc<dyn Fn(PodContext) -> Router + Send + Sync>;

/// Programs that pods run in-process instead of podinfo, each for the images whose name holds a word.
#[derive(Clone, Default)]
pub struct Programs(Vec<(String, Start)>);

impl Programs {
    /// Adds a program for the images whose last path segment contains `word`; the first that matches runs.
    #[must_use]
    pub fn with(
        mut self,
        word: impl Into<String>,
        start: impl Fn(PodContext) -> Router + Send + Sync + 'static,
    ) -> Self {
        self.0.push((word.into(), Arc::new(start)));
        self
    }

    /// Starts the program of an image; none when it is an ordinary pod.
    pub(super) fn start(&self, image: &str, context: PodContext) -> Option<Router> {
        let name = image.rsplit('/').next().unwrap_or(image);
        self.0.iter().find(|(word, _)| name.contains(word.as_str())).map(|(_, start)| start(context))
    }
}

impl fmt::Debug for Programs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.0.iter().map(|(word, _)| word)).finish()
    }
}
