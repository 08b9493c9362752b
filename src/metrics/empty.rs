//! Why a PromQL query selects nothing: which of its selectors, and which of that one's conditions, no series meets.
//!
//! Asked only where an answer was empty, by a few more queries. It is an explanation and decides nothing.

use std::time::Duration;

use futures::future::BoxFuture;

/// Selectors that are looked at; a ratio has two.
const SELECTORS_MAX: usize = 4;
/// Further queries for one empty answer.
const QUESTIONS_MAX: usize = 12;
/// Longest wait for all of them.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// A selector as it stands in a query: `name{a="b",c=~"d"}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selector {
    name: String,
    conditions: Vec<String>,
}

impl Selector {
    fn with(&self, conditions: impl Iterator<Item = String>) -> String {
        format!("{}{{{}}}", self.name, conditions.collect::<Vec<_>>().join(","))
    }

    fn whole(&self) -> String {
        self.with(self.conditions.iter().cloned())
    }

    fn without(&self, left_out: usize) -> String {
        let others = self.conditions.iter().enumerate().filter(|(index, _)| *index != left_out);
        self.with(others.map(|(_, condition)| condition.clone()))
    }

    /// What is left when nothing but the name is asked for.
    fn bare(&self) -> Option<String> {
        (!self.name.is_empty()).then(|| self.name.clone())
    }
}

/// The selectors of a query, each once.
pub(super) fn selectors(query: &str) -> Vec<Selector> {
    let mut found: Vec<Selector> = Vec::new();
    let mut rest = query;
    while let Some((before, inner, after)) = braces(rest) {
        let is_name = |it: char| it.is_ascii_alphanumeric() || matches!(it, '_' | ':');
        let name = before.trim_end().rsplit(|it| !is_name(it)).next().unwrap_or_default().to_owned();
        let selector = Selector { name, conditions: parts(inner) };
        if !found.contains(&selector) && found.len() < SELECTORS_MAX {
            found.push(selector);
        }
        rest = after;
    }
    found
}

/// The first pair of braces outside of quotes: what is before, within and after.
fn braces(text: &str) -> Option<(&str, &str, &str)> {
    let open = outside(text, |it| it == '{')?;
    let (before, rest) = (text.get(..open)?, text.get(open + 1..)?);
    let close = outside(rest, |it| it == '}')?;
    Some((before, rest.get(..close)?, rest.get(close + 1..)?))
}

/// The conditions of a selector.
fn parts(inner: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut rest = inner;
    loop {
        let end = outside(rest, |it| it == ',');
        let part = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default().trim();
        if !part.is_empty() {
            parts.push(part.to_owned());
        }
        match end.and_then(|end| rest.get(end + 1..)) {
            Some(after) => rest = after,
            None => return parts,
        }
    }
}

/// Where the first such character stands outside of quotes.
fn outside(text: &str, is: impl Fn(char) -> bool) -> Option<usize> {
    let mut quote: Option<(char, bool)> = None;
    for (index, it) in text.char_indices() {
        quote = match quote {
            None if is(it) => return Some(index),
            None if matches!(it, '"' | '\'' | '`') => Some((it, false)),
            None => None,
            Some((kind, true)) => Some((kind, false)),
            Some((kind, false)) if it == '\\' && kind != '`' => Some((kind, true)),
            Some((kind, false)) if it == kind => None,
            same @ Some(_) => same,
        };
    }
    None
}

/// Whether a query has any answer; `None` if nobody says.
pub(super) type AreThere<'a> = dyn Fn(String) -> BoxFuture<'a, Option<bool>> + Send + Sync + 'a;

/// Asks whether there are series, so many times.
struct Asking<'a, 'b> {
    left: usize,
    are_there: &'a AreThere<'b>,
}

impl Asking<'_, '_> {
    async fn has(&mut self, selector: &str) -> Option<bool> {
        self.left = self.left.checked_sub(1)?;
        (self.are_there)(format!("count({selector})")).await
    }
}

/// Finds out why, by asking whether there are series at all.
pub(super) async fn why(query: &str, are_there: &AreThere<'_>) -> Option<String> {
    let mut asking = Asking { left: QUESTIONS_MAX, are_there };
    for selector in selectors(query) {
        if asking.has(&selector.whole()).await? {
            continue;
        }
        if let Some(bare) = selector.bare()
            && !asking.has(&bare).await?
        {
            return Some(format!("there is no metric {bare} now"));
        }
        for (index, condition) in selector.conditions.iter().enumerate() {
            if asking.has(&selector.without(index)).await? {
                return Some(blamed(&selector, condition));
            }
        }
        return Some(format!("no series meets all of {}", selector.whole()));
    }
    None
}

fn blamed(selector: &Selector, condition: &str) -> String {
    let of = if selector.name.is_empty() { String::new() } else { format!(" of {}", selector.name) };
    let anchored = match condition.contains("=~") {
        true => ": a regular expression has to match the whole value, from its beginning to its end",
        false => "",
    };
    format!("no series{of} has {condition}, and without that there are some{anchored}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: &str = "sum(irate(istio_requests_total{\n  reporter=\"source\",\n  \
                        destination_service=~\"canary.demo.svc.cluster.local\",\n  response_code!~\"5.*\"}[40s])\n)\n/\n\
                        sum(irate(istio_requests_total{\n  reporter=\"source\",\n  \
                        destination_service=~\"canary.demo.svc.cluster.local\"}[40s]))";

    async fn told(query: &str, there: impl Fn(&str) -> bool + Send + Sync) -> Option<String> {
        why(query, &|asked: String| -> BoxFuture<'_, Option<bool>> {
            Box::pin(std::future::ready(Some(there(&asked))))
        })
        .await
    }

    #[tokio::test]
    async fn the_seeds_regular_expression_is_named() {
        let said = told(SEED, |asked| !asked.contains("destination_service")).await;
        let expected = "no series of istio_requests_total has destination_service=~\"canary.demo.svc.cluster.local\", and without that \
                        there are some: a regular expression has to match the whole value, from its beginning to its end";
        assert_eq!(said.as_deref(), Some(expected));
    }

    #[tokio::test]
    async fn what_else_may_be_the_cause() {
        assert_eq!(told("rate(missing{a=\"b\"}[1m])", |_| false).await.unwrap(), "there is no metric missing now");
        let both = "up{a=\"1\",b=\"2\"}";
        let said = told(both, |asked| asked == "count(up)").await;
        assert_eq!(said.as_deref(), Some("no series meets all of up{a=\"1\",b=\"2\"}"));
        assert_eq!(told(both, |_| true).await, None, "there are series: nobody asked for them lately");
        assert_eq!(told("vector(1)", |_| false).await, None);
        assert_eq!(why(both, &|_| Box::pin(std::future::ready(None))).await, None);
    }

    #[test]
    fn selectors_are_found_whatever_stands_in_quotes() {
        let found = selectors("a{x=\"},{\",y='\\'}'} / b:c { z=`\\` } + {__name__=\"d\"} - a{x=\"},{\",y='\\'}'}");
        let texts: Vec<String> = found.iter().map(Selector::whole).collect();
        assert_eq!(texts, ["a{x=\"},{\",y='\\'}'}", "b:c{z=`\\`}", "{__name__=\"d\"}"]);
        assert_eq!(selectors("up{"), []);
    }
}
