//! Changes to the cluster, decided here and carried out elsewhere.

use crate::model::{Digest, Revision, Routing};

/// One idempotent change. Carrying it out twice, or late, does no harm: each names what it expects.
///
/// The executor refuses (a conflict, then step again) when what it finds is not what the action expects.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Create `<target>-primary` from the target, with the target's live replica count, if it does not exist.
    CreatePrimary {
        /// The target's digest that is copied.
        expect: Digest,
    },
    /// Create or update the primary's autoscaler from the Canary's `autoscalerRef`.
    EnsurePrimaryAutoscaler,
    /// Create or update `<service>`, `<service>-primary`, `<service>-canary`. The apex selects primary pods from here on.
    EnsureServices,
    /// Make the route show this: its objects are created or updated where they are not as the Canary wants them, else
    /// only what the routing says changes.
    Route(Routing),
    /// Scale the target: to 0, or from 0 to what its autoscaler or primary has.
    ScaleTarget {
        /// `true`: scale up to the autoscaler's minimum or primary's count; `false`: to 0.
        up: bool,
    },
    /// Scale primary to what Git says.
    ScalePrimary {
        /// Replicas, at least 1.
        replicas: i32,
    },
    /// Keep the primary's promoted template in the cluster, to be put back if promotion fails. Always precedes
    /// [`Action::CopyToPrimary`] (or [`Action::SwitchStable`]) in the same list: if it fails, that is not tried.
    StoreLastGood {
        /// The promoted digest. When primary already carries another one, the copy has happened and what is stored
        /// stays as it is.
        expect: Digest,
    },
    /// Copy the target's pod template to primary.
    CopyToPrimary {
        /// The analysed digest; anything else on the target is refused.
        expect: Revision,
    },
    /// Put the stored template back on primary.
    RestorePrimary {
        /// The digest of the stored template: what primary carries afterwards.
        expect: Digest,
    },
    /// Make the canary's ReplicaSet stable ([`super::Promotion::SwitchStable`]).
    SwitchStable {
        /// The analysed digest.
        expect: Revision,
    },
}
