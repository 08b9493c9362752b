//! Paths in a repository: names joined by `/`, from its root, which is the empty path.

/// A name in a folder.
pub fn within(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// The folder that a file or folder is in.
pub fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Whether a path is in a folder or below it. No folder but the root is below itself.
pub fn is_below(path: &str, folder: &str) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether a folder is below none of `all`, itself apart.
pub fn is_outermost<'a>(folder: &str, mut all: impl Iterator<Item = &'a str>) -> bool {
    !all.any(|other| other != folder && is_below(folder, other))
}

/// Where what is written in `folder` leads, from the repository's root; `None` if it leads out of it.
pub fn resolved(folder: &str, to: &str) -> Option<String> {
    if to.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in to.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_leads_somewhere_in_the_repository_or_nowhere() {
        for (folder, to, expected) in [
            ("deploy", "../shared", Some("shared")),
            ("", "./deploy//prod/", Some("deploy/prod")),
            ("a", "..", Some("")),
            ("", "../../etc", None),
            ("", "/etc", None),
        ] {
            assert_eq!(resolved(folder, to).as_deref(), expected, "{folder}: {to}");
        }
    }

    #[test]
    fn folders_hold_what_is_below_them() {
        assert_eq!((within("", "a.yaml"), within("b", "a.yaml")), ("a.yaml".to_owned(), "b/a.yaml".to_owned()));
        assert_eq!(["a.yaml", "b/a.yaml", "b/c/a.yaml"].map(folder_of), ["", "b", "b/c"]);
        assert!(is_below("a/b", "a") && is_below("a/b/c", "a") && is_below("a", ""));
        assert!(!is_below("ab/c", "a") && !is_below("a", "a"));
        let all = ["a", "a/b", "ab"];
        assert_eq!(all.map(|folder| is_outermost(folder, all.into_iter())), [true, false, true]);
    }
}
