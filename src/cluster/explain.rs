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
            Some(status) => (status.message.clone(), true),
            None => (error.to_string(), false),
        };
        // Some libraries put the whole structure of their source into their own text.
        if last
            && let Some(outer) = parts.last_mut()
            && let Some(own) = outer.strip_suffix(&error.to_string())
        {
            *outer = own.trim_end_matches([':', ' ']).to_owned();
        }
        // Some libraries repeat their source in their own text.
        if parts.last().is_none_or(|outer| !outer.ends_with(&text)) {
            parts.push(text);
        }
        next = if last { None } else { error.source() };
    }
    parts.join(": ")
}

/// What the API server answered, if `error` is that. A boxed source is the box to `downcast_ref`, not what is in it, and a
/// transparent one is the wrapper.
pub(super) fn api_status<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a kube::core::Status> {
    if let Some(write) = error.downcast_ref::<WriteError>() {
        return write.status();
    }
    let boxed = error.downcast_ref::<Box<kube::Error>>().map(AsRef::as_ref);
    match error.downcast_ref::<kube::Error>().or(boxed)? {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
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
    }

    #[test]
    fn an_outer_text_that_repeats_the_structure_is_cut() {
        let status = Status::failure("not here", "NotFound").with_code(404);
        let error = kube::runtime::watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status)));
        assert_eq!(explain(&error), "failed to perform initial object list: not here");
    }
}
