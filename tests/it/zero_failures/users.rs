//! Users, and what became of their requests.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use super::manifests::{CANARY_COOKIE, INSIDER};

/// Most answers that are remembered in words.
const WORDS_MAX: usize = 20;

/// Answers of the application to its users are its own affair; everything else that is not 200 is the release's.
#[derive(Debug, Default)]
pub(super) struct Users {
    pub(super) asked: AtomicU64,
    pub(super) refused: Mutex<Vec<String>>,
    /// How often each version answered.
    versions: Mutex<BTreeMap<String, u64>>,
    /// The version that answers whoever brings the canary's cookie.
    pub(super) pinned: Mutex<Option<String>>,
}

/// One of them.
#[derive(Debug, Clone)]
pub(super) struct User {
    pub(super) client: reqwest::Client,
    pub(super) url: String,
    /// Whether A/B testing means it.
    pub(super) insider: bool,
    /// Whether each request is somebody's first. Of a few users who stay, all may be pinned to primary by chance, and then
    /// nobody meets the canary.
    pub(super) newcomer: bool,
    /// Cookies as a browser keeps them.
    pub(super) cookies: BTreeMap<String, String>,
}

impl User {
    pub(super) fn new(proxy: Option<&str>, url: String) -> Self {
        Self { client: client(proxy), url, insider: false, newcomer: false, cookies: BTreeMap::new() }
    }

    fn keep(&mut self, set_cookie: &str) {
        let mut parts = set_cookie.split("; ");
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { return };
        if parts.any(|attribute| attribute.starts_with("Max-Age=-")) {
            self.cookies.remove(name);
        } else {
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
    }

    /// Status and text of the answer.
    async fn ask(&mut self) -> Result<(u16, String), reqwest::Error> {
        let mut request = self.client.get(&self.url);
        if self.insider {
            request = request.header(INSIDER.0, INSIDER.1);
        }
        if !self.cookies.is_empty() {
            let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header("Cookie", pairs.join("; "));
        }
        let response = request.send().await?;
        let set: Vec<String> = response
            .headers()
            .get_all("set-cookie")
            .iter()
            .filter_map(|cookie| cookie.to_str().ok().map(str::to_owned))
            .collect();
        for cookie in &set {
            self.keep(cookie);
        }
        Ok((response.status().as_u16(), response.text().await?))
    }
}

impl Users {
    pub(super) async fn ask(&self, user: &mut User) {
        if user.newcomer {
            user.cookies.clear();
        }
        let brings_cookie = user.cookies.contains_key(CANARY_COOKIE);
        let said = match user.ask().await {
            Ok((200, text)) => self.note(brings_cookie, &text),
            Ok((_, text)) if text.contains("simulated error") => None,
            Ok((status, text)) => Some(format!("{status}: {}", text.trim())),
            Err(error) => Some(error.to_string()),
        };
        self.asked.fetch_add(1, Ordering::Relaxed);
        if let Some(said) = said {
            let mut refused = self.refused.lock().unwrap();
            if refused.len() < WORDS_MAX {
                refused.push(format!("{}: {said}", user.url));
            }
        }
    }

    /// Notes which version answered; what is wrong with that.
    fn note(&self, brings_cookie: bool, text: &str) -> Option<String> {
        let answer: Value = serde_json::from_str(text).ok()?;
        let version = answer["version"].as_str()?.to_owned();
        let pinned = self.pinned.lock().unwrap().clone().filter(|pinned| brings_cookie && *pinned != version);
        *self.versions.lock().unwrap().entry(version.clone()).or_default() += 1;
        pinned.map(|pinned| format!("a user of {pinned} was answered by {version}"))
    }

    pub(super) fn answered_by(&self, version: &str) -> u64 {
        self.versions.lock().unwrap().get(version).copied().unwrap_or(0)
    }
}

fn client(proxy: Option<&str>) -> reqwest::Client {
    let builder = reqwest::Client::builder().no_proxy();
    let builder = match proxy {
        Some(proxy) => builder.proxy(reqwest::Proxy::http(proxy).unwrap()),
        None => builder,
    };
    builder.build().unwrap()
}
