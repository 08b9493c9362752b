//! Errors in words that people can use.

use std::error::Error;

/// An error with its causes, outermost first.
///
/// What the API server says is taken from its Status: kube's own text would add the whole structure behind it, and repeat
/// what its source says.
pub fn explain(error: &(dyn Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        let (text, last) = match error.downcast_ref::<kube::Error>() {
            Some(kube::Error::Api(status)) => (status.message.clone(), true),
            Some(_) | None => (error.to_string(), false),
        };
        // Some libraries repeat their source in their own text.
        if parts.last().is_none_or(|outer| !outer.ends_with(&text)) {
            parts.push(text);
        }
        next = if last { None } else { error.source() };
    }
    parts.join(": ")
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
    }
}
