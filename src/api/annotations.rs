//! Annotation and label keys, the field manager and the finalizer: the words in which the rooms meet on objects.

/// Field manager of Git content (`sync`).
pub const MANAGER_SYNC: &str = "serin";
/// Field manager of what the release engine owns.
pub const MANAGER_ENGINE: &str = "serin-engine";
/// Field manager of what `report` says on Canaries. Without a manager the API server takes the program's
/// name, which is Git's.
pub const MANAGER_REPORT: &str = "serin-report";
/// Field manager of what people ask with the CLI.
pub const MANAGER_CLI: &str = "serin-cli";
/// On the target, by `sync`: `<digest>@<commit>` of the template it wrote.
pub const REVISION: &str = "serin.dev/revision";
/// On the target, by `sync`: `<digest>@<commit>` it holds back until the engine admits it.
pub const PENDING: &str = "serin.dev/pending";
/// On the target, by `sync`: revisions that a newer one replaced before the engine took them up, `<digest>@<commit>` each,
/// separated by blanks.
pub const REPLACED: &str = "serin.dev/replaced";
/// On the target, by `sync`, when the cluster knows nothing of it: `<digest>@<commit>` that the record in Git says was promoted
/// last. It is what is written first.
pub const RECORD_PROMOTED: &str = "serin.dev/record-promoted";
/// On the target, by `sync`, beside [`RECORD_PROMOTED`]: what the record says failed, `<release>=<digest>@<commit>` each,
/// separated by blanks.
pub const RECORD_FAILED: &str = "serin.dev/record-failed";
/// On the Canary, by the CLI: `<verb>/<release or digest>/<nonce>`.
pub const REQUEST: &str = "serin.dev/request";
/// On the Canary, by `report`: how far each projection is, `record=<release>,rollback=<release>` (`model::Projected`). What all
/// enabled ones have leaves the outbox.
pub const PROJECTED: &str = "serin.dev/projected";
/// On the Canary, by `report`: the newest release whose end the forge's statuses have taken up. Kept by a loop of its own, so it is
/// no part of [`PROJECTED`].
pub const PROJECTED_FORGE: &str = "serin.dev/projected-forge";
/// On the Canary, by `report`: how far chats were told, `<number of the release>.<started, waiting or ended>`.
pub const ALERTED: &str = "serin.dev/alerted";
/// On the Canary, by `report`: what became of the watched branch after a failed release, JSON (`model::RollbackNote`).
pub const ROLLBACK: &str = "serin.dev/rollback";
/// On the Canary, by `report`: why what happened is not in Git yet; absent when it is.
pub const UNRECORDED: &str = "serin.dev/unrecorded";
/// On the target, by `sync`: it was made from the record in Git, because the cluster knew nothing; which one, in words.
pub const REBUILT: &str = "serin.dev/rebuilt";
/// On a Deployment that Git dropped, by `sync`: the Canary that takes over the service that leads to its pods. It stays until
/// that Canary's primary serves.
pub const HEIR: &str = "serin.dev/heir";
/// On generated workloads: digest of the target template they were copied from.
pub const COPIED_FROM: &str = "serin.dev/copied-from";
/// On generated workloads: digest of the template that was written there. A live template with another one was changed by
/// somebody else.
pub const WRITTEN: &str = "serin.dev/template";
/// On any object in Git: `enabled` lets prune delete namespaces, CRDs and PVCs, `disabled` keeps anything.
pub const PRUNE: &str = "serin.dev/prune";
/// On the Source, by people and the CLI: commits whose removals may be carried out although they drop so much that it is taken
/// for a mistake, separated by blanks.
pub const ALLOW_PRUNE: &str = "serin.dev/allow-prune";
/// On the Source, by the CLI: look at the repository now; the value tells one request from another.
pub const SYNC: &str = "serin.dev/sync";
/// On every object that `sync` writes: the source that owns it, `<namespace>/<name>`. Only that one deletes it.
pub const SOURCE: &str = "serin.dev/source";
/// On the Canary, by `sync`: objects in Git that select the target's pods and will not select primary's, in words.
pub const RISKS: &str = "serin.dev/risks";
/// On a Canary, by report: what was seen of it in other environments.
pub const ENVIRONMENTS: &str = "serin.dev/environments";
/// On a Rollout, by the engine: its state, JSON. Argo Rollouts' definition has no place for it in the status.
pub const STATE: &str = "serin.dev/state";
/// Finalizer on every Canary.
pub const FINALIZER: &str = "serin.dev/finalizer";
/// Field manager of the annotations [`PENDING`] and [`REPLACED`]: a manager of its own, so that dropping the announcement never
/// touches the rest of what Git wrote.
pub const MANAGER_PENDING: &str = "serin-pending";
/// On the target, by `sync`: Git's `spec.replicas`, which is never applied; the engine sizes the primary by it.
pub const REPLICAS: &str = "serin.dev/replicas";
/// On generated Services and routes: which labels and annotations `spec.service` asked for, so that they go when it no longer
/// does.
pub const CUSTOM_METADATA: &str = "serin.dev/custom-metadata";
/// Finalizer that Flagger puts on Canaries with `revertOnDeletion`. Scripts wait for it, and one that Flagger left behind must
/// not keep a Canary for ever.
pub const FINALIZER_FLAGGER: &str = "finalizer.flagger.app";
/// On a Secret, by its owner: `true` lets metric providers get what is in it, wherever a MetricTemplate beside it says.
pub const SEND_TO_METRICS: &str = "serin.dev/send-to-metrics";
/// On a Secret, by its owner: `true` lets chats get what is in it, wherever an AlertProvider beside it says.
pub const SEND_TO_ALERTS: &str = "serin.dev/send-to-alerts";
/// On a MetricTemplate with credentials or an AlertProvider, by its owner: namespaces whose Canaries may use it, by commas; `*` is
/// all.
pub const LEND_TO: &str = "serin.dev/lend-to";
/// On any object in Git: `always` takes it over from whoever writes it, again and again.
pub const ADOPT: &str = "serin.dev/adopt";

/// Beginning of our own annotations.
const OURS: &str = "serin.dev/";
/// Those of them that people write, and those on what only the engine makes or Git has dropped: when such an object is Git's
/// alone, they go with what Git does not say.
const NOT_OF_ROOMS: [&str; 9] =
    [PRUNE, ADOPT, SEND_TO_METRICS, SEND_TO_ALERTS, LEND_TO, HEIR, COPIED_FROM, WRITTEN, CUSTOM_METADATA];

/// Whether a room says something to another one by this annotation, beside what Git says of the object.
pub fn is_of_rooms(annotation: &str) -> bool {
    annotation.starts_with(OURS) && !NOT_OF_ROOMS.contains(&annotation)
}
