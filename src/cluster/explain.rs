//! Errors in words that people can use.

use std::error::Error;

use super::writer::WriteError;

/// An error with its causes, outermost first.
///
/// What the API server says is taken from its Status: kube's own text would add the whole structure behind it, and repeat
/// what its source says.
pub fn explain(error: &(dyn Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        let (text, last) = match api_status(error) {
            Some(status) => (words(status), true),
            None => (in_words(error), false),
        };
        // Some libraries put their source, or the whole structure behind it, into their own text.
        if let Some(outer) = parts.last_mut()
            && let Some(own) = outer.strip_suffix(&error.to_string())
        {
            *outer = own.trim_end_matches([':', ' ']).to_owned();
        }
        parts.retain(|part| !part.is_empty());
        // Some libraries repeat their source in their own text.
        if !text.is_empty() && parts.last().is_none_or(|outer| !outer.ends_with(&text)) {
            parts.push(text);
        }
        next = if last { None } else { error.source() };
    }
    parts.join(": ")
}

/// HTTP status of what is not there.
const NOT_FOUND: u16 = 404;

/// Whether the API server says that something is not there. Of a kind or group that it does not serve it says so in plain
/// text, from which kube makes a Status without the usual reason.
pub(super) fn is_not_found(status: &kube::core::Status) -> bool {
    status.is_not_found() || status.code == NOT_FOUND
}

fn words(status: &kube::core::Status) -> String {
    if is_not_found(status) && !status.is_not_found() {
        // As kubectl puts it; the plain text is only a web server's.
        return "the server could not find the requested resource".to_owned();
    }
    status.message.clone()
}

/// One error's own text, without what its libraries call their own layers; empty if it says nothing else.
fn in_words(error: &(dyn Error + 'static)) -> String {
    let text = error.to_string();
    match text.strip_prefix("ServiceError: ").unwrap_or(&text) {
        "client error (Connect)" => "failed to connect".to_owned(),
        "tcp connect error" => String::new(),
        own => own.to_owned(),
    }
}

/// What the API server answered, if `error` is that. A boxed source is the box to `downcast_ref`, not what is in it.
pub(super) fn api_status<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a kube::core::Status> {
    match kube_error(error)? {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
}

fn kube_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a kube::Error> {
    if let Some(WriteError::Api(error)) = error.downcast_ref() {
        // It speaks with the words of what it holds, and hides it behind its source.
        return Some(error);
    }
    let boxed = error.downcast_ref::<Box<kube::Error>>().map(AsRef::as_ref);
    error.downcast_ref::<kube::Error>().or(boxed)
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("failed to read the lease")]
    struct Outer(#[source] kube::Error);

    #[test]
    fn the_api_servers_own_words_are_enough() {
        let status = Status::failure("leases \"serin\" is forbidden", "Forbidden").with_code(403);
        let error = Outer(kube::Error::Api(Box::new(status)));
        assert_eq!(explain(&error), "failed to read the lease: leases \"serin\" is forbidden");
        let Outer(source) = error;
        let status = Status::failure("leases \"serin\" is forbidden", "Forbidden").with_code(403);
        let written = WriteError::from(kube::Error::Api(Box::new(status)));
        assert_eq!(explain(&written), "leases \"serin\" is forbidden");
        let boxed = crate::cluster::CallError::Api { what: "read the lease".to_owned(), source: Box::new(source) };
        assert_eq!(explain(&boxed), "failed to read the lease: leases \"serin\" is forbidden");
        let Some(status) = boxed.status().cloned() else { panic!("it is one") };
        let write = crate::cluster::WriteError::from(kube::Error::Api(Box::new(status)));
        assert_eq!(explain(&write), "leases \"serin\" is forbidden");
    }

    #[test]
    fn a_connection_that_fails_is_told_by_its_cause() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let words = "connection refused";
        let service = || kube::Error::Service(Box::new(std::io::Error::from(refused.kind())));
        assert_eq!(explain(&Outer(service())), format!("failed to read the lease: {words}"));
        assert_eq!(explain(&crate::cluster::WriteError::from(service())), words);
        let watch = kube::runtime::watcher::Error::InitialListFailed(service());
        assert_eq!(explain(&watch), format!("failed to perform initial object list: {words}"));
    }

    #[test]
    fn a_plain_404_is_a_missing_kind() {
        let status = Status::failure("404 page not found", "Failed to parse error data").with_code(404);
        assert!(is_not_found(&status));
        let error = Outer(kube::Error::Api(Box::new(status)));
        assert_eq!(explain(&error), "failed to read the lease: the server could not find the requested resource");
    }

    #[test]
    fn layers_of_libraries_are_not_named() {
        #[derive(Debug, thiserror::Error)]
        #[error("{0}")]
        struct Layer(&'static str, #[source] std::io::Error);
        let refused = std::io::Error::other("connection refused");
        let error = kube::Error::Service(Box::new(Layer("client error (Connect)", refused)));
        assert_eq!(explain(&Outer(error)), "failed to read the lease: failed to connect: connection refused");
    }

    #[test]
    fn an_outer_text_that_repeats_the_structure_is_cut() {
        let status = Status::failure("not here", "NotFound").with_code(404);
        let error = kube::runtime::watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status)));
        assert_eq!(explain(&error), "failed to perform initial object list: not here");
    }
}
