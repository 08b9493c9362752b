//! Changes to the cluster, decided here and carried out elsewhere.

use crate::model::{Digest, Revision, Routing};

use super::observed::Side;

/// One idempotent change. Carrying it out twice, or late, does no harm: each names what it expects.
///
/// The executor refuses (a conflict, then step again) when what it finds is not what the action expects.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Create `<target>-primary` from the target, if it does not exist.
    CreatePrimary {
        /// The target's digest that is copied.
        expect: Digest,
        /// How many.
        replicas: i32,
    },
    /// Create or update the primary's autoscaler from the Canary's `autoscalerRef`.
    EnsurePrimaryAutoscaler {
        /// Its minimum is at least this, if its maximum allows.
        floor: i32,
    },
    /// Give the target's own autoscaler this minimum.
    HoldTarget {
        /// `spec.minReplicas`.
        minimum: i32,
    },
    /// Create or update `<service>`, `<service>-primary`, `<service>-canary`.
    EnsureServices {
        /// Where the service in front of both sides leads from here on, unless that is what shifts traffic.
        apex: Side,
    },
    /// Make the route show this: its objects are created or updated where they are not as the Canary wants them, else
    /// only what the routing says changes.
    Route(Routing),
    /// Scale one of the sides.
    Scale {
        /// Which.
        side: Side,
        /// To how many.
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
    /// Give the target, on which nobody is, the promoted template back.
    ReturnTemplate {
        /// The promoted revision.
        expect: Revision,
    },
    /// Let `<service>-canary` lead to the target's pods.
    ReachTarget,
    /// Let the service in front of both sides lead to the target's pods.
    LeadBack,
    /// Leave service and route to the target, so that they stay when the Canary goes.
    Leave,
    /// Drop the finalizer: the Canary goes, and what it generated with it.
    LetGo,
    /// Delete the primary of a former target.
    DropFormer {
        /// Its name.
        workload: String,
    },
    /// Make the canary's ReplicaSet stable ([`super::Promotion::SwitchStable`]).
    SwitchStable {
        /// The analysed digest.
        expect: Revision,
    },
}
