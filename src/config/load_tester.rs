//! The section `loadTester`: how load testers know the daemon.

use super::forge::secret;
use super::reader::{Errors, Fields};
use super::settings::Here;
use crate::http::{Address, OriginToken};

/// Reads the token and whom it is for.
pub(super) fn read(fields: &mut Fields, here: Here, errors: &mut Errors<'_>) -> Option<OriginToken> {
    let (is_there, written) = (fields.has("loadTester"), fields.place_of(&["loadTester"]));
    let mut section = fields.section("loadTester", errors);
    let origins_at = section.place_of(&["urls"]);
    let urls = section.texts("urls", errors).unwrap_or_default();
    let (token_at, source) = secret(&mut section, "loadTester", ("tokenFile", "tokenEnv"), here, errors);
    section.finish(errors);
    if !is_there {
        return None;
    }
    let mut origins = Vec::new();
    for url in &urls {
        match Address::parse(url) {
            Ok(origin) => origins.push(origin),
            Err(error) => errors.add(origins_at, &format!("`loadTester.urls`: {url:?}: {error}")),
        }
    }
    if urls.is_empty() {
        errors.add(
            written,
            "`loadTester.urls` is missing: the load testers that get the token, as in Canaries' webhooks",
        );
    }
    if token_at.is_none() {
        errors.add(written, "`loadTester.tokenFile` is missing: the token that load testers were started with");
    }
    Some(OriginToken::new(origins, source?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{RunArgs, Settings};

    fn read(text: &str) -> Result<Settings, String> {
        let text = format!("git: {{url: /srv/x.git}}\n{text}\ncluster: {{name: prod}}\n");
        Settings::from_text("serin.yaml", &text, &RunArgs::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_token_is_for_the_urls_that_are_named() {
        let settings = read("loadTester: {urls: [\"http://tester.test/\"], tokenFile: /t}").unwrap();
        let tester = Address::parse("http://tester.test").unwrap();
        let token = settings.load_tester.unwrap().for_call(tester.url()).unwrap_err();
        assert!(token.starts_with("/t cannot be read"), "{token}");
        assert_eq!(read("").unwrap().load_tester, None);
    }

    #[test]
    fn what_is_missing_is_told_with_its_line() {
        for (text, said) in [
            ("loadTester: {urls: [\"http://t\"]}", "`loadTester.tokenFile` is missing"),
            ("loadTester: {tokenFile: /t}", "`loadTester.urls` is missing"),
            ("loadTester: {urls: [tester.test], tokenFile: /t}", "\"tester.test\": the address is not an http"),
            ("loadTester: {urls: [\"http://t\"], tokenfile: /t}", "did you mean `tokenFile`?"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(said) && error.contains("serin.yaml:2:"), "{error}");
        }
    }
}
