//! From replies to HTTP responses.

use std::convert::Infallible;

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde_json::Value;

use super::super::Body;
use super::super::call::{Call, Reply};
use super::super::represent::{Representation, represent_one};
use super::super::request::Form;
use super::super::status::ApiError;
use super::super::watch::stream_of;

/// A response to a finished call.
pub(super) fn reply(call: &Call, reply: Reply) -> Response<Body> {
    match reply {
        Reply::Document(code, value) => document(code, &value, call.form, &call.warnings),
        Reply::Object(code, object) => {
            let representation = Representation::new(call.form, &call.options);
            let shown = represent_one(&call.resource, &object, representation);
            document(code, &shown, call.form, &call.warnings)
        }
        Reply::Watch(spec, start) => {
            let frames = stream_of(*spec, &start).map(|line| Ok::<_, Infallible>(Frame::data(line)));
            let body = StreamBody::new(frames).boxed_unsync();
            build(StatusCode::OK, "application/json", body, &call.warnings)
        }
    }
}

/// A document.
pub(super) fn document(code: StatusCode, value: &Value, form: Form, warnings: &[String]) -> Response<Body> {
    let (kind, text) = match form {
        Form::Yaml => match serde_yaml::to_string(value) {
            Ok(text) => ("application/yaml", text),
            Err(_error) => ("application/json", value.to_string()),
        },
        Form::Json | Form::Table | Form::Metadata => ("application/json", value.to_string()),
    };
    build(code, kind, Full::new(Bytes::from(text)).boxed_unsync(), warnings)
}

/// A Status, or plain text where a real API server has none.
pub(super) fn error(error: &ApiError, warnings: &[String]) -> Response<Body> {
    if let Some(text) = error.plain_text() {
        let body = Full::new(Bytes::copy_from_slice(text.as_bytes())).boxed_unsync();
        return build(error.code, "text/plain; charset=utf-8", body, warnings);
    }
    document(error.code, &error.body(), Form::Json, warnings)
}

/// A protobuf message with all fields absent.
pub(super) fn empty_protobuf() -> Response<Body> {
    build(StatusCode::OK, "application/octet-stream", Full::new(Bytes::new()).boxed_unsync(), &[])
}

/// Plain text.
pub(super) fn text(text: &'static str) -> Response<Body> {
    build(StatusCode::OK, "text/plain; charset=utf-8", Full::new(Bytes::from(text)).boxed_unsync(), &[])
}

fn build(code: StatusCode, kind: &'static str, body: Body, warnings: &[String]) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        // A text that no header can carry is not worth failing the request for.
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}
