//! Documents become the set of wanted objects: identity, role in a release, and what is wrong with them. PURE.

mod documents;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use super::convert;
use super::order::Stage;
use super::references;
use super::rollouts::{self, Led};
use super::source::{Document, Unusable};
use crate::api::{self, strict};
use crate::manifest::{ConfigName, Pinned};
use crate::model::{Digest, NamespacedName, ObjectRef};

pub(super) use documents::{documents, gvk, kinds, kinds_to_come};

/// Where objects go that name no namespace.
pub(super) const DEFAULT_NAMESPACE: &str = "default";
/// Group, version and kind.
pub(super) type Gvk = (String, String, String);

/// Whether objects of a kind live in namespaces, for every kind that is known to be served.
pub(super) type Scopes = HashMap<Gvk, Result<bool, String>>;

/// A Canary, in Git or in the cluster, and what it releases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) canary: NamespacedName,
    pub(super) target: String,
    pub(super) service: String,
    /// Whether it has a primary that serves.
    pub(super) serves: bool,
    /// Why it cannot be used, if it cannot; its target and configs are held then.
    pub(super) invalid: Option<String>,
}

/// What an object is in a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    /// Nothing.
    Plain,
    /// The workload that a Canary releases.
    Target { canary: NamespacedName, digest: Digest, configs: Box<TargetConfigs> },
    /// A config that only takes effect with a release of the targets that read it.
    TargetConfig { readers: Vec<Reader> },
    /// An immutable copy of a config, which a target reads.
    ConfigCopy,
    /// The service in front of both sides.
    Apex,
    /// A Rollout, or what shifts its traffic.
    Led(Led),
}

/// What a target's configs make of its template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TargetConfigs {
    /// The template that reads copies of them, if Git has any.
    pub(super) pinned: Option<Pinned>,
    /// Their content as Git has it.
    pub(super) wanted: Vec<Value>,
    /// What it reads and Git may have where nobody can read it.
    pub(super) unsure: BTreeSet<ConfigName>,
}

/// A target that reads a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reader {
    pub(super) canary: NamespacedName,
    pub(super) target: String,
    /// The revision that reads a copy of it.
    pub(super) pinned: Option<Digest>,
}

impl Role {
    /// Part of an object's digest: an object that becomes a target is applied differently although Git's text is the same.
    fn tag(&self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Target { .. } => "target",
            Self::TargetConfig { .. } => "config",
            Self::ConfigCopy => "copy",
            Self::Apex => "apex",
            Self::Led(_) => "led",
        }
    }
}

/// A wanted object.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Desired {
    pub(super) id: ObjectRef,
    pub(super) version: String,
    pub(super) body: Value,
    /// Digest of `body` and role; equal to the inventory's means nothing to do.
    pub(super) digest: Digest,
    /// `file:line`.
    pub(super) origin: String,
    pub(super) role: Role,
    pub(super) warnings: Vec<String>,
}

impl Desired {
    /// The version to ask discovery for.
    pub(super) fn gvk(&self) -> Gvk {
        (self.id.group.clone(), self.version.clone(), self.id.kind.clone())
    }
}

/// Something wrong with a document; the object is not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// The object, if it is known.
    pub(super) id: Option<ObjectRef>,
    /// Where and what.
    pub(super) message: String,
}

/// Everything Git wants.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct DesiredSet {
    pub(super) objects: Vec<Desired>,
    pub(super) problems: Vec<Problem>,
    /// Objects that Git names although they are not written now; prune keeps them.
    pub(super) named: BTreeSet<ObjectRef>,
    /// Canaries that the release engine does not carry out: applied although their targets are held.
    pub(super) refused: BTreeSet<ObjectRef>,
    /// Whether every document's object is known, so that what is absent is truly absent.
    pub(super) complete: bool,
}

/// The wanted set. `live` are the cluster's Canaries: one that is not in Git still owns its target.
pub(super) fn collect(
    documents: Vec<(Document, Vec<String>)>,
    scopes: &Scopes,
    live: &[Link],
    only_namespace: Option<&str>,
) -> DesiredSet {
    let mut set = DesiredSet { complete: true, ..DesiredSet::default() };
    let mut seen: BTreeMap<ObjectRef, String> = BTreeMap::new();
    let mut objects = Vec::new();
    let mut unserved = Vec::new();
    for (document, warnings) in documents {
        let origin = format!("{}:{}", document.file, document.line);
        match identify(&document.object, scopes) {
            Err((id, message)) => {
                unserved.extend(id.as_ref().and_then(|id| unserved_link(id, &document.object)));
                // Without an identity nobody knows what is absent.
                set.complete &= id.is_some();
                set.named.extend(id.iter().flat_map(all_readings));
                set.problems.push(Problem { id, message: format!("{origin}: {message}") });
            }
            Ok((id, version)) => {
                if let Some(first) = seen.insert(id.clone(), origin.clone()) {
                    let again = desired(document, id.clone(), version, origin.clone(), warnings);
                    match objects.iter_mut().find(|object: &&mut Desired| object.id == id) {
                        // Many files begin with the Namespace that they share.
                        Some(known) if known.body == again.body => {
                            known.warnings.push(format!("it is also in {origin}, with the same content"));
                        }
                        Some(_) | None => {
                            let message = format!("{origin}: {id} is also in {first}; keep one of them");
                            set.problems.push(Problem { id: Some(id.clone()), message });
                            objects.retain(|object| object.id != id);
                        }
                    }
                    continue;
                }
                set.named.insert(id.clone());
                if only_namespace.is_some_and(|only| id.namespace.as_deref() != Some(only)) {
                    let message = format!("{origin}: {id} is outside the namespace this daemon is limited to");
                    set.problems.push(Problem { id: Some(id), message });
                    continue;
                }
                objects.push(desired(document, id, version, origin, warnings));
            }
        }
    }
    let mut links = links(&objects, live, &mut set.problems);
    let is_new = |link: &Link| links.iter().all(|known| known.canary != link.canary);
    unserved.retain(is_new);
    links.extend(unserved);
    set.objects = assign_roles(objects, &links, &mut set.problems);
    rollouts::assign(&mut set.objects);
    set.objects.sort_by(|a, b| (Stage::of(&a.id), &a.id).cmp(&(Stage::of(&b.id), &b.id)));
    set
}

/// Takes in what Git names and nobody can write as it is: it stays as it is in the cluster.
pub(super) fn hold_unusable(set: &mut DesiredSet, unusable: &[Unusable]) {
    for Unusable { id, message } in unusable {
        let id = placed(id.clone());
        set.named.extend(all_readings(&id));
        set.problems.push(Problem { message: message.clone(), id: Some(id) });
    }
}

/// Where an object is that names no namespace, as far as can be told without asking for its kind.
fn placed(id: ObjectRef) -> ObjectRef {
    const EVERYWHERE: [&str; 5] =
        ["Namespace", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "PersistentVolume"];
    let namespaced = !EVERYWHERE.contains(&id.kind.as_str());
    let namespace = id.namespace.filter(|_| namespaced);
    ObjectRef { namespace: namespace.or_else(|| namespaced.then(|| DEFAULT_NAMESPACE.to_owned())), ..id }
}

fn desired(document: Document, id: ObjectRef, version: String, origin: String, warnings: Vec<String>) -> Desired {
    let Document { file: _, line: _, mut object, template } = document;
    if let Some(metadata) = object["metadata"].as_object_mut() {
        match &id.namespace {
            Some(namespace) => metadata.insert("namespace".to_owned(), Value::String(namespace.clone())),
            None => metadata.remove("namespace"),
        };
    }
    // A target until the Canaries are known; `assign_roles` decides.
    let role = match template {
        Some(digest) => Role::Target { canary: NamespacedName::new("", ""), digest, configs: Box::default() },
        None => Role::Plain,
    };
    let digest = Digest::of_canonical(&[]);
    Desired { id, version, body: object, digest, origin, role, warnings }
}

/// The object's identity and version, or its identity as far as it is known and what is wrong.
fn identify(object: &Value, scopes: &Scopes) -> Result<(ObjectRef, String), (Option<ObjectRef>, String)> {
    let Some((group, version, kind)) = gvk(object) else {
        return Err((None, "the document has no apiVersion or kind".to_owned()));
    };
    let metadata = &object["metadata"];
    let Some(name) = metadata["name"].as_str().filter(|name| !name.is_empty()) else {
        return Err((None, format!("the {kind} has no metadata.name")));
    };
    let namespace = metadata["namespace"].as_str().filter(|namespace| !namespace.is_empty());
    let id = |namespace: Option<&str>| ObjectRef {
        group: group.clone(),
        kind: kind.clone(),
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
    };
    match scopes.get(&(group.clone(), version.clone(), kind.clone())) {
        Some(Ok(true)) => Ok((id(Some(namespace.unwrap_or(DEFAULT_NAMESPACE))), version)),
        Some(Ok(false)) => Ok((id(None), version)),
        Some(Err(message)) => {
            let message = convert::not_served(object).unwrap_or_else(|| message.clone());
            Err((Some(id(namespace)), format!("{}: {message}", id(namespace))))
        }
        None => Err((Some(id(namespace)), format!("{} has not been looked up", id(namespace)))),
    }
}

/// What an object may be whose kind is not served, so that nobody knows whether it has a namespace: an apiVersion with a
/// typing error must not make the object look gone from Git.
fn all_readings(id: &ObjectRef) -> [ObjectRef; 3] {
    let placed = |namespace: Option<&str>| ObjectRef { namespace: namespace.map(str::to_owned), ..id.clone() };
    [id.clone(), placed(None), placed(Some(DEFAULT_NAMESPACE))]
}

/// What a Canary in Git is about.
pub(super) fn link(object: &Desired) -> Link {
    let spec = &object.body["spec"];
    let target = spec["targetRef"]["name"].as_str().unwrap_or_default().to_owned();
    let canary = NamespacedName::new(object.id.namespace.clone().unwrap_or_default(), object.id.name.clone());
    let service = spec["service"]["name"].as_str().map_or_else(|| target.clone(), str::to_owned);
    Link { canary, target, service, serves: false, invalid: None }
}

/// All Canaries, Git's first: it is what the cluster's will become.
fn links(objects: &[Desired], live: &[Link], problems: &mut Vec<Problem>) -> Vec<Link> {
    let mut links: Vec<Link> = Vec::new();
    for object in objects.iter().filter(|object| Stage::of(&object.id) == Stage::Canaries) {
        let wrong: Vec<String> = strict::check(&object.body)
            .iter()
            .filter(|problem| !problem.is_unknown_field())
            .map(strict::Problem::to_string)
            .collect();
        let Link { canary, target, .. } = link(object);
        let mut invalid = (!wrong.is_empty()).then(|| wrong.join("; "));
        if let Some(other) =
            links.iter().find(|link| link.canary.namespace == canary.namespace && link.target == target)
        {
            invalid.get_or_insert(format!("its target {target} is already released by {}", other.canary));
        }
        if let Some(message) = &invalid {
            problems.push(Problem {
                id: Some(object.id.clone()),
                message: format!("{}: {}: {message}", object.origin, object.id),
            });
        }
        links.push(Link { canary, invalid, ..link(object) });
    }
    let known: BTreeSet<NamespacedName> = links.iter().map(|link| link.canary.clone()).collect();
    links.extend(live.iter().filter(|link| !known.contains(&link.canary)).cloned());
    links
}

/// What a Canary releases whose kind is not served (yet): without its Canary the target must not be written.
fn unserved_link(id: &ObjectRef, object: &Value) -> Option<Link> {
    if Stage::of(id) != Stage::Canaries {
        return None;
    }
    let spec = &object["spec"];
    let target = spec["targetRef"]["name"].as_str()?.to_owned();
    let namespace = id.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let service = spec["service"]["name"].as_str().map_or_else(|| target.clone(), str::to_owned);
    let invalid = Some("its kind is not served".to_owned());
    let canary = NamespacedName::new(namespace, id.name.clone());
    Some(Link { canary, target, service, serves: false, invalid })
}

/// Gives every object its role and holds what belongs to an invalid Canary.
fn assign_roles(objects: Vec<Desired>, links: &[Link], problems: &mut Vec<Problem>) -> Vec<Desired> {
    let configs = configs_of_targets(&objects, links);
    let mut kept = Vec::new();
    for mut object in objects {
        let (role, link) = role_of(&object, links, &configs);
        object.digest = Digest::of_canonical(format!("{}\n{}", role.tag(), object.body).as_bytes());
        object.role = role;
        leave_out_unknown_fields(&mut object);
        if let Some(canary) = canary_of_route(&object.id, links) {
            let message = format!(
                "{}: {} leads to the service of Canary {canary}, which generates its route itself; remove it from Git",
                object.origin, object.id
            );
            problems.push(Problem { id: Some(object.id), message });
            continue;
        }
        match link.and_then(|link| link.invalid.as_ref().map(|_| &link.canary)) {
            // The Canary itself already has its problem.
            Some(canary) if Stage::of(&object.id) == Stage::Canaries => {
                tracing::debug!(canary = %canary, "invalid Canary is not applied");
            }
            Some(canary) => {
                problems.push(Problem { message: held_message(&object, &canary_ref(canary)), id: Some(object.id) })
            }
            None => kept.push(object),
        }
    }
    kept
}

/// Why an object is not written.
pub(super) fn held_message(object: &Desired, canary: &ObjectRef) -> String {
    format!("{}: {} is held until {canary} is valid", object.origin, object.id)
}

fn canary_ref(canary: &NamespacedName) -> ObjectRef {
    let NamespacedName { namespace, name } = canary.clone();
    ObjectRef { group: api::GROUP.to_owned(), kind: "Canary".to_owned(), namespace: Some(namespace), name }
}

fn role_of<'a>(
    object: &Desired,
    links: &'a [Link],
    configs: &BTreeMap<ObjectRef, Vec<Reader>>,
) -> (Role, Option<&'a Link>) {
    let namespace = object.id.namespace.clone().unwrap_or_default();
    let here = |link: &&Link| link.canary.namespace == namespace;
    match (object.id.group.as_str(), object.id.kind.as_str(), &object.role) {
        (api::GROUP, "Canary", _) => {
            (Role::Plain, links.iter().filter(here).find(|link| link.canary.name == object.id.name))
        }
        ("apps", "Deployment", Role::Target { digest, .. }) => {
            match links.iter().filter(here).find(|link| link.target == object.id.name) {
                Some(link) => {
                    let (canary, digest) = (link.canary.clone(), digest.clone());
                    (Role::Target { canary, digest, configs: Box::default() }, Some(link))
                }
                None => (Role::Plain, None),
            }
        }
        ("", "Service", _) if links.iter().filter(here).any(|link| link.service == object.id.name) => {
            (Role::Apex, None)
        }
        ("", "ConfigMap" | "Secret", _) => match configs.get(&object.id) {
            Some(readers) => {
                let invalid =
                    |link: &&Link| link.invalid.is_some() && readers.iter().any(|it| it.canary == link.canary);
                (Role::TargetConfig { readers: readers.clone() }, links.iter().find(invalid))
            }
            None => (Role::Plain, None),
        },
        _ => (Role::Plain, None),
    }
}

/// The Canary whose generated route this one would fight with.
fn canary_of_route<'a>(id: &ObjectRef, links: &'a [Link]) -> Option<&'a NamespacedName> {
    let is_route = matches!(
        (id.group.as_str(), id.kind.as_str()),
        ("networking.istio.io", "VirtualService") | ("gateway.networking.k8s.io", "HTTPRoute")
    );
    let owner = links
        .iter()
        .find(|link| id.namespace.as_ref() == Some(&link.canary.namespace) && id.name == link.service)?;
    is_route.then_some(&owner.canary)
}

fn leave_out_unknown_fields(object: &mut Desired) {
    let unknown = strict::check(&object.body).into_iter().filter(strict::Problem::is_unknown_field);
    object.warnings.extend(unknown.map(|problem| format!("{problem} is ignored")));
    strict::drop_unknown(&mut object.body);
}

/// The ConfigMaps and Secrets that targets read, and who they are.
fn configs_of_targets(objects: &[Desired], links: &[Link]) -> BTreeMap<ObjectRef, Vec<Reader>> {
    let mut configs: BTreeMap<ObjectRef, Vec<Reader>> = BTreeMap::new();
    for link in links {
        let namespace = &link.canary.namespace;
        let target = objects.iter().find(|object| {
            object.id.kind == "Deployment"
                && object.id.namespace.as_deref() == Some(namespace.as_str())
                && object.id.name == link.target
        });
        let read = target.map(|target| references::of_template(&target.body["spec"]["template"], namespace));
        for config in read.into_iter().flatten().filter(|id| matches!(id.kind.as_str(), "ConfigMap" | "Secret")) {
            let (canary, target) = (link.canary.clone(), link.target.clone());
            configs.entry(config).or_default().push(Reader { canary, target, pinned: None });
        }
    }
    configs
}

#[cfg(test)]
mod tests;
