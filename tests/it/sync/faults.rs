//! An API server that answers some requests otherwise: what a role does not grant, what etcd does not take, what hangs.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use http::{Request, Response};
use kube::client::Body;
use serin::sandbox::apiserver::ApiServer;
use tower::Service;

/// An answer of the server's, or one instead of it.
type Answered = Response<axum::body::Body>;

/// What is answered instead.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// A Status with this code, reason and message.
    Status(u16, &'static str, &'static str),
    /// Nothing, ever.
    Silence,
}

/// Requests with this method (all without one) whose path and query contain these words.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) method: Option<&'static str>,
    pub(super) words: &'static [&'static str],
    pub(super) answer: Answer,
}

impl Fault {
    fn meets(&self, request: &Request<Body>) -> bool {
        let uri = request.uri().to_string();
        self.method.is_none_or(|method| request.method() == method) && self.words.iter().all(|it| uri.contains(it))
    }

    fn response(&self) -> Option<Answered> {
        let (code, body) = match &self.answer {
            Answer::Silence => return None,
            Answer::Status(code, reason, message) => {
                let status = serde_json::json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code,
                    "reason": reason, "message": message});
                (*code, status.to_string())
            }
        };
        let response = Response::builder().status(code).header("content-type", "application/json");
        Some(response.body(axum::body::Body::from(body)).unwrap())
    }
}

/// The faults of a server; they come and go while it runs.
#[derive(Debug, Clone, Default)]
pub(super) struct Faults(Arc<Mutex<Vec<Fault>>>);

impl Faults {
    pub(super) fn set(&self, faults: Vec<Fault>) {
        *self.0.lock().unwrap() = faults;
    }

    /// A client of the server through these faults.
    pub(super) fn client(&self, server: &ApiServer) -> kube::Client {
        kube::Client::new(Faulty { server: server.clone(), faults: self.clone() }, "default")
    }
}

#[derive(Clone)]
struct Faulty {
    server: ApiServer,
    faults: Faults,
}

impl Service<Request<Body>> for Faulty {
    type Response = Answered;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let fault = self.faults.0.lock().unwrap().iter().find(|fault| fault.meets(&request)).cloned();
        match fault.map(|fault| fault.response()) {
            Some(Some(response)) => Box::pin(async { Ok(response) }),
            Some(None) => Box::pin(std::future::pending()),
            None => {
                let answer = self.server.call(request);
                Box::pin(async { Ok(answer.await?.map(axum::body::Body::new)) })
            }
        }
    }
}
