//! A token that goes to the origins it was given for and to no other.

use reqwest::Url;

use super::address::Address;
use super::secret::{Secret, SecretSource};

/// What is sent as `Authorization: Bearer …` with every call to some origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginToken {
    origins: Vec<Address>,
    source: SecretSource,
}

impl OriginToken {
    /// The token in `source` for the scheme, host and port of each of `origins`; their paths do not count.
    pub fn new(origins: Vec<Address>, source: SecretSource) -> Self {
        Self { origins, source }
    }

    /// The token as it is now, if `url` is of one of its origins.
    ///
    /// # Errors
    /// When it cannot be read; the words hold nothing of it.
    pub fn for_call(&self, url: &Url) -> Result<Option<Secret>, String> {
        match self.origins.iter().any(|origin| origin.url().origin() == url.origin()) {
            true => self.source.read().map(Some),
            false => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_other_origin_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "PLANTED\n").unwrap();
        let origins = ["http://tester.test", "https://tester.prod:8443/some/path"];
        let origins = origins.iter().map(|origin| Address::parse(origin).unwrap()).collect();
        let token = OriginToken::new(origins, SecretSource::File(path.clone()));
        let sent = |url: &str| token.for_call(&Url::parse(url).unwrap());
        for url in ["http://tester.test/", "http://tester.test:80/gate/check?x", "https://tester.prod:8443"] {
            assert_eq!(sent(url).unwrap().unwrap().expose(), "PLANTED", "{url}");
        }
        let others = [
            "https://tester.test/",
            "http://tester.test:8080/",
            "http://tester.test.evil/",
            "http://tester.test@evil/",
            "http://tester/",
            "https://tester.prod/",
        ];
        for url in others {
            assert_eq!(sent(url), Ok(None), "{url}");
        }
        std::fs::remove_file(&path).unwrap();
        let error = sent("http://tester.test/").unwrap_err();
        assert!(error.contains("cannot be read"), "{error}");
        assert!(!format!("{token:?}").contains("PLANTED"));
    }
}
