//! The sections `forge` and `webhooks` of the settings.

use std::path::PathBuf;

use super::reader::{Errors, Fields, Place as Written};
use super::settings::Here;
use crate::forge::webhook::Secrets;
use crate::forge::{Access, ForgeSettings, Kind, Place};
use crate::http::SecretSource;

/// Reads the section; `None` if there is none, or it is wrong.
pub(super) fn read(
    fields: &mut Fields,
    remote: Option<&str>,
    git_token: Option<SecretSource>,
    here: Here,
    errors: &mut Errors<'_>,
) -> Option<ForgeSettings> {
    let (is_there, written) = (fields.has("forge"), fields.place_of(&["forge"]));
    let mut forge = fields.section("forge", errors);
    let kind = forge.parsed("type", errors, str::parse::<Kind>);
    let url = forge.text("url", errors).map(|(url, _)| url);
    let repository = forge.text("repository", errors).map(|(name, _)| name);
    let username = forge.text("username", errors).map(|(name, _)| name);
    let (token_at, token) = secret(&mut forge, "forge", ("tokenFile", "tokenEnv"), here, errors);
    let app = read_app(&mut forge, here, errors);
    let target_url = forge.parsed("targetUrl", errors, target_url);
    let ca = forge.text("caFile", errors).map(|(path, _)| PathBuf::from(path));
    if let Some(path) = &ca
        && here == Here::Needed
        && let Err(error) = std::fs::read(path)
    {
        errors.add(written, &format!("`forge.caFile`: {} cannot be read: {error}", path.display()));
    }
    forge.finish(errors);
    if !is_there {
        return None;
    }
    let place = match Place::of(kind, url.as_deref(), repository.as_deref(), remote.unwrap_or_default()) {
        Ok(place) => place,
        Err(error) => {
            errors.add(written, &error.to_string());
            return None;
        }
    };
    if let Some(app) = app {
        if place.kind != Kind::GitHub || token_at.is_some() || username.is_some() {
            errors
                .add(written, "`forge.app` is GitHub's, and takes the place of tokenFile, tokenEnv and username");
            return None;
        }
        return app.map(|access| ForgeSettings { place, access, ca_file: ca, target_url });
    }
    let token = token.or(git_token.filter(|_| url.is_none()));
    let Some(token) = token else {
        // What was named and is wrong has been told.
        if token_at.is_none() {
            errors.add(written, "`forge.tokenFile` is missing: a token that may write commit statuses");
        }
        return None;
    };
    let access = match username {
        Some(username) => Access::Basic { username, password: token },
        None => Access::Token(token),
    };
    Some(ForgeSettings { place, access, ca_file: ca, target_url })
}

/// A GitHub App; the inner `None` if it is wrong.
fn read_app(forge: &mut Fields, here: Here, errors: &mut Errors<'_>) -> Option<Option<Access>> {
    let (is_there, written) = (forge.has("app"), forge.place_of(&["app"]));
    let mut app = forge.section("app", errors);
    let id = app.text("id", errors).map(|(id, _)| id);
    let (key_at, key) = secret(&mut app, "forge.app", ("keyFile", "keyEnv"), here, errors);
    app.finish(errors);
    if !is_there {
        return None;
    }
    match (id, key) {
        (Some(id), Some(key)) => Some(Some(Access::App { id, key })),
        (id, _) => {
            if id.is_none() || key_at.is_none() {
                errors.add(written, "`forge.app` needs `id` and `keyFile`: the App's private key");
            }
            Some(None)
        }
    }
}

/// Reads what push webhooks prove themselves with.
pub(super) fn read_webhooks(fields: &mut Fields, here: Here, errors: &mut Errors<'_>) -> Option<SecretSource> {
    let (is_there, written) = (fields.has("webhooks"), fields.place_of(&["webhooks"]));
    let mut webhooks = fields.section("webhooks", errors);
    let (at, source) = secret(&mut webhooks, "webhooks", ("secretFile", "secretEnv"), here, errors);
    webhooks.finish(errors);
    if is_there && at.is_none() {
        errors.add(written, "`webhooks.secretFile` is missing: webhooks prove with it who sends them");
    }
    if let (Some(source), Here::Needed) = (&source, here)
        && let Err(reason) = Secrets::read(source)
    {
        errors.add(at.unwrap_or(written), &format!("`webhooks`: {reason}"));
        return None;
    }
    source
}

/// A secret by file or environment; where it was written, if it was.
pub(super) fn secret(
    section: &mut Fields,
    name: &str,
    (file, env): (&'static str, &'static str),
    here: Here,
    errors: &mut Errors<'_>,
) -> (Option<Written>, Option<SecretSource>) {
    let by_file = section.text(file, errors).map(|(path, at)| (SecretSource::File(path.into()), at));
    let by_env = section.text(env, errors).map(|(name, at)| (SecretSource::Env(name), at));
    let (source, at) = match (by_file, by_env) {
        (Some(_), Some((_, at))) => {
            errors.add(at, &format!("`{name}.{file}` and `{name}.{env}`: name one of them"));
            return (Some(at), None);
        }
        (Some(found), None) | (None, Some(found)) => found,
        (None, None) => return (None, None),
    };
    if here == Here::Needed
        && let Err(reason) = source.read()
    {
        errors.add(at, &format!("`{name}`: {reason}"));
        return (Some(at), None);
    }
    (Some(at), Some(source))
}

fn target_url(text: &str) -> Result<String, &'static str> {
    crate::http::Address::parse(text).map(|_| text.to_owned()).map_err(|_| "it is no https:// URL")
}

#[cfg(test)]
mod tests {
    use super::super::args::RunArgs;
    use super::super::settings::Settings;
    use super::*;

    fn read(text: &str, here: Here) -> Result<Settings, String> {
        let text = format!("cluster: {{name: prod}}\n{text}\n");
        let make = if here == Here::Needed { Settings::for_here } else { Settings::from_text };
        make("serin.yaml", &text, &RunArgs::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_known_host_needs_its_section_and_nothing_in_it() {
        let settings =
            read("git: {url: https://github.com/acme/shop.git, tokenFile: /t}\nforge: {}", Here::Elsewhere);
        let forge = settings.unwrap().forge.unwrap();
        assert_eq!((forge.place.kind, forge.place.repository.join("/")), (Kind::GitHub, "acme/shop".into()));
        assert_eq!(forge.access, Access::Token(SecretSource::File("/t".into())));
        let settings = read("git: {url: https://github.com/acme/shop.git}", Here::Elsewhere);
        assert_eq!(settings.unwrap().forge, None, "nobody asked for it");
    }

    #[test]
    fn everything_can_be_named_and_nothing_else_is_taken() {
        let settings = read(
            "git: {url: /srv/shop.git}\nforge:\n  type: forgejo\n  url: https://git.example.com\n  repository: a/b\n  \
             tokenEnv: TOKEN\n  targetUrl: https://serin.example.com/\n  caFile: /ca.pem",
            Here::Elsewhere,
        );
        let forge = settings.unwrap().forge.unwrap();
        assert_eq!(forge.access, Access::Token(SecretSource::Env("TOKEN".into())));
        assert_eq!(forge.target_url.as_deref(), Some("https://serin.example.com/"));
        let error = read("git: {url: /a}\nforge: {typ: gitea}\nwebhooks: {secretfile: /x}", Here::Elsewhere);
        let error = error.unwrap_err();
        assert!(error.contains("unknown field `forge.typ`, did you mean `type`?"), "{error}");
        assert!(error.contains("unknown field `webhooks.secretfile`, did you mean `secretFile`?"), "{error}");
    }

    #[test]
    fn what_is_missing_is_told_with_its_line() {
        for (text, said) in [
            ("git: {url: https://git.example.com/a/b}\nforge: {}", "git.example.com is not known by its name"),
            ("git: {url: /srv/x.git}\nforge: {type: gitea, tokenFile: /t}", "`forge.url` is missing"),
            ("git: {url: https://github.com/a/b}\nforge: {}", "`forge.tokenFile` is missing"),
            ("git: {url: https://github.com/a/b}\nforge: {tokenFile: /a, tokenEnv: B}", "name one of them"),
            ("git: {url: https://github.com/a/b}\nwebhooks: {}", "`webhooks.secretFile` is missing"),
            ("git: {url: https://github.com/a/b}\nforge: {app: {id: 12}}", "needs `id` and `keyFile`"),
            ("git: {url: https://gitlab.com/a/b}\nforge: {app: {id: 1, keyFile: /k}}", "is GitHub's"),
            // A token is for the host that it was given for.
            (
                "git: {url: https://github.com/a/b, tokenFile: /t}\nforge: {type: gitea, url: https://h}",
                "`forge.tokenFile` is missing",
            ),
        ] {
            let error = read(text, Here::Elsewhere).unwrap_err();
            assert!(error.contains(said) && error.contains("serin.yaml:3:"), "{error}");
        }
    }

    #[test]
    fn secrets_must_be_there_where_they_are_needed_and_are_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "PLANTED").unwrap();
        let file = path.display();
        let text = format!(
            "git: {{url: https://github.com/a/b}}\nforge: {{tokenFile: {file}x}}\nwebhooks: {{secretFile: {file}}}"
        );
        let error = read(&text, Here::Needed).unwrap_err();
        assert!(error.contains("No such file") && error.contains("fewer than 16 characters"), "{error}");
        assert!(!error.contains("PLANTED"), "{error}");
        assert!(read(&text, Here::Elsewhere).is_ok());
    }
}
