//! Answers: dispatch by route and verb.

mod authorize;
mod bootstrap;
mod create;
mod delete;
mod evict;
mod patch;
mod read;
mod respond;
mod review;
mod update;

use std::fmt::Display;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;

pub(super) use authorize::User;
pub(super) use bootstrap::create_initial_objects;

use super::call::{Call, Part, Reply};
use super::kinds::{Catalog, Resource, storage_name};
use super::request::{Form, Options, Route, Target, negotiate, route, user_agent, verb};
use super::requests::RequestKey;
use super::status::ApiError;
use super::{Body, Server, discovery, openapi};
use authorize::Wanted;

/// Largest request body, as in Kubernetes.
const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Subresources of pods that a kubelet would answer.
const KUBELET: &[&str] = &["attach", "ephemeralcontainers", "exec", "log", "portforward", "proxy", "resize"];

/// Answers one HTTP request.
pub(super) async fn answer<B>(server: &Arc<Server>, request: Request<B>) -> Response<Body>
where
    B: BodyExt<Data = Bytes> + Send + 'static,
    B::Error: Display,
{
    let (parts, body) = request.into_parts();
    let collected = Limited::new(body.map_err(|error| error.to_string()), BODY_BYTES_MAX).collect().await;
    let body = match collected {
        Ok(collected) => collected.to_bytes(),
        Err(error) => {
            let error = match error.downcast_ref::<http_body_util::LengthLimitError>() {
                Some(_) => ApiError::too_large(BODY_BYTES_MAX),
                None => ApiError::bad_request(format!("failed to read the body: {error}")),
            };
            return respond::error(&error, &[]);
        }
    };
    match route(parts.uri.path()) {
        Some(Route::Objects(target)) => answer_objects(server, &parts, target, body),
        other => answer_document(server, &parts, other),
    }
}

/// Everything that is no object: versions, discovery, OpenAPI.
fn answer_document(server: &Server, parts: &Parts, route: Option<Route>) -> Response<Body> {
    server.requests.record(RequestKey {
        verb: parts.method.as_str().to_lowercase(),
        resource: parts.uri.path().to_owned(),
        user_agent: user_agent(&parts.headers).to_owned(),
        is_watch: false,
    });
    if parts.method != Method::GET && parts.method != Method::HEAD {
        return respond::error(&ApiError::method_not_allowed(), &[]);
    }
    let catalog = server.catalog();
    let document = match route {
        Some(Route::Health) => return respond::text("ok"),
        Some(Route::OpenApiV2) if wants_protobuf(&parts.headers) => return respond::empty_protobuf(),
        Some(route) => document(&catalog, route),
        None => None,
    };
    match document {
        Some(document) => respond::document(StatusCode::OK, &document, Form::Json, &[]),
        None => respond::error(&ApiError::no_such_path(parts.uri.path()), &[]),
    }
}

fn wants_protobuf(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("protobuf"))
}

fn document(catalog: &Catalog, route: Route) -> Option<Value> {
    match route {
        Route::Version => Some(discovery::version()),
        Route::CoreVersions => Some(discovery::core_versions()),
        Route::Groups => Some(discovery::groups(catalog)),
        Route::Group(name) => discovery::group(catalog, &name),
        Route::Resources { group, version } => discovery::resources(catalog, &group, &version),
        Route::OpenApiV2 => Some(openapi::version_2()),
        Route::OpenApiIndex => Some(openapi::index(catalog)),
        Route::OpenApi { group, version } => openapi::document(catalog, &group, &version),
        // Both are answered elsewhere.
        Route::Health | Route::Objects(_) => None,
    }
}

fn answer_objects(server: &Arc<Server>, parts: &Parts, target: Target, body: Bytes) -> Response<Body> {
    record(server, parts, &target);
    let mut call = match read_call(server, parts, target, body) {
        Ok(call) => call,
        Err(error) => return respond::error(&error, &[]),
    };
    let decided = permit(&call, &parts.method).and_then(|()| dispatch(&mut call, &parts.method));
    match decided {
        Ok(reply) => respond::reply(&call, reply),
        Err(error) => respond::error(&error, &call.warnings),
    }
}

/// Whether whom the request is made for may do that.
fn permit(call: &Call, method: &Method) -> Result<(), ApiError> {
    let Some(user) = &call.user else { return Ok(()) };
    let Target { group, resource, subresource, namespace, name, .. } = &call.target;
    let resource = subresource.iter().fold(resource.clone(), |resource, sub| format!("{resource}/{sub}"));
    let wanted = Wanted {
        verb: verb(method, &call.target, call.options.watch).unwrap_or_default(),
        group,
        resource: &resource,
        namespace: namespace.as_deref().unwrap_or_default(),
        name: name.as_deref().unwrap_or_default(),
    };
    if user.may(&call.server, &call.resource, wanted) { Ok(()) } else { Err(authorize::forbidden(user, wanted)) }
}

fn record(server: &Server, parts: &Parts, target: &Target) {
    let watch = Options::read(parts).is_ok_and(|options| options.watch);
    let mut resource = storage_name(&target.group, &target.resource);
    if let Some(sub) = &target.subresource {
        resource = format!("{resource}/{sub}");
    }
    let verb = verb(&parts.method, target, watch).map_or_else(|| parts.method.to_string(), ToOwned::to_owned);
    let user_agent = user_agent(&parts.headers).to_owned();
    server.requests.record(RequestKey { verb, resource, user_agent, is_watch: watch });
}

fn read_call(server: &Arc<Server>, parts: &Parts, target: Target, body: Bytes) -> Result<Call, ApiError> {
    let catalog = server.catalog();
    let found = catalog.find(&target.group, &target.version, &target.resource);
    let path = parts.uri.path();
    let resource = Arc::clone(found.ok_or_else(|| ApiError::no_such_path(path))?);
    // A path with a namespace for a cluster-scoped resource (or a name without one) is served by nothing.
    if (target.namespace.is_some() && !resource.namespaced)
        || (target.namespace.is_none() && resource.namespaced && target.name.is_some())
    {
        return Err(ApiError::no_such_path(path));
    }
    let part = part_of(&resource, target.subresource.as_deref()).ok_or_else(|| ApiError::no_such_path(path))??;
    let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    Ok(Call {
        options: Options::read(parts)?,
        form: negotiate(&parts.headers)?,
        content_type: content_type.unwrap_or_default().to_owned(),
        user_agent: user_agent(&parts.headers).to_owned(),
        user: User::impersonated(&parts.headers),
        server: Arc::clone(server),
        resource,
        target,
        part,
        body,
        warnings: Vec::new(),
    })
}

/// `None`: there is no such part.
fn part_of(resource: &Resource, subresource: Option<&str>) -> Option<Result<Part, ApiError>> {
    match subresource {
        None => Some(Ok(Part::Main)),
        Some("status") if resource.has_status => Some(Ok(Part::Status)),
        Some("scale") if resource.scale.is_some() => Some(Ok(Part::Scale)),
        Some("finalize") if resource.storage == "namespaces" => Some(Ok(Part::Finalize)),
        Some("binding") if resource.storage == "pods" => Some(Ok(Part::Binding)),
        Some("eviction") if resource.storage == "pods" => Some(Ok(Part::Eviction)),
        Some(sub) if resource.storage == "pods" && KUBELET.contains(&sub) => {
            Some(Err(ApiError::not_implemented(&format!("the sandbox runs no containers, so pods have no {sub}"))))
        }
        Some(_) => None,
    }
}

fn dispatch(call: &mut Call, method: &Method) -> Result<Reply, ApiError> {
    if !call.resource.verbs().contains(&"get") {
        return match (method, call.part) {
            (&Method::POST, Part::Main) => review::answer(call),
            _ => Err(ApiError::method_not_allowed()),
        };
    }
    let named = call.target.name.is_some();
    match (method, call.part, named) {
        (&Method::GET, Part::Main, false) => read::list(call),
        (&Method::GET, Part::Main, true) if call.options.watch => read::watch_one(call),
        (&Method::GET, Part::Main | Part::Status, true) => read::get(call),
        (&Method::GET, Part::Scale, true) => update::get_scale(call),
        (&Method::POST, Part::Main, false) => create::create(call),
        (&Method::POST, Part::Binding, true) => create::bind(call),
        (&Method::POST, Part::Eviction, true) => evict::evict(call),
        (&Method::PUT, Part::Main | Part::Status | Part::Finalize, true) => update::replace_object(call),
        (&Method::PUT, Part::Scale, true) => update::replace_scale(call),
        (&Method::PATCH, Part::Main | Part::Status | Part::Scale, true) => patch::patch(call),
        (&Method::DELETE, Part::Main, true) => delete::delete(call),
        (&Method::DELETE, Part::Main, false) => delete::delete_collection(call),
        _ => Err(ApiError::method_not_allowed()),
    }
}
