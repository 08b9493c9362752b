//! What has been said already: the same trouble is met at every try, and is news once.

/// Remembers the last words about one thing.
#[derive(Debug, Default)]
pub struct Said(Option<String>);

impl Said {
    /// Whether these words are not what was said last; from now on they are.
    pub fn is_news(&mut self, words: &str) -> bool {
        let news = self.0.as_deref() != Some(words);
        if news {
            self.0 = Some(words.to_owned());
        }
        news
    }

    /// It is over: the same words are news again. Whether anything had been said.
    pub fn forget(&mut self) -> bool {
        self.0.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_news_until_they_are_said_and_again_when_it_forget() {
        let mut said = Said::default();
        assert!(!said.forget());
        assert_eq!(["a", "a", "b", "a"].map(|words| said.is_news(words)), [true, false, true, true]);
        assert!(said.forget());
        assert!(said.is_news("a"));
    }
}
