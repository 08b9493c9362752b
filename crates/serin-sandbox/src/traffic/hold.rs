//! A mesh that learns nothing for a while: what tests need to show what a switch without waiting would do.

use tokio::sync::watch;

use super::routes::Kind;

/// What the mesh can be kept from learning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Gateways and routes.
    Routes,
    /// Which pods are behind a Service.
    Endpoints,
}

impl Part {
    /// The part that a kind belongs to; Services themselves cannot be held.
    pub(super) fn of(kind: Kind) -> Option<Self> {
        match kind {
            Kind::VirtualService | Kind::Gateway | Kind::HttpRoute | Kind::Listeners => Some(Self::Routes),
            Kind::EndpointSlice => Some(Self::Endpoints),
            Kind::Service => None,
        }
    }
}

/// How many hold each part.
#[derive(Debug, Clone, Default)]
pub(super) struct Holds {
    routes: watch::Sender<usize>,
    endpoints: watch::Sender<usize>,
}

impl Holds {
    fn of(&self, part: Part) -> &watch::Sender<usize> {
        match part {
            Part::Routes => &self.routes,
            Part::Endpoints => &self.endpoints,
        }
    }

    pub(super) fn watch(&self, part: Option<Part>) -> Option<watch::Receiver<usize>> {
        part.map(|part| self.of(part).subscribe())
    }

    pub(super) fn hold(&self, part: Part) -> Hold {
        let holds = self.of(part).clone();
        holds.send_modify(|holds| *holds += 1);
        Hold { holds }
    }
}

/// Keeps the mesh from taking up any change that is made from now on, until it is dropped.
#[derive(Debug)]
#[must_use = "dropped, it holds nothing"]
pub struct Hold {
    holds: watch::Sender<usize>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.holds.send_modify(|holds| *holds -= 1);
    }
}
