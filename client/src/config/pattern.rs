//! Topics by a regular expression.
//!
//! It owns what a match is: the whole name, as Kafka's brokers see it. It refuses to know which topics there are.

use std::fmt;

use ottla_protocol::wire::Str;
use regex::Regex;

/// A regular expression for names of topics, in RE2's syntax.
#[derive(Clone)]
pub(crate) struct TopicPattern {
    text: Str,
    /// Or what is wrong with it.
    regex: Result<Regex, String>,
}

impl TopicPattern {
    pub(crate) fn new(text: &str) -> Self {
        // By itself first, or a stray parenthesis could end the group around it.
        let regex = Regex::new(text).and_then(|_| Regex::new(&format!(r"\A(?:{text})\z")));
        Self { text: Str::from(text), regex: regex.map_err(|error| error.to_string()) }
    }

    pub(crate) fn text(&self) -> &Str {
        &self.text
    }

    /// What is wrong with it.
    pub(super) fn problem(&self) -> Option<&str> {
        let empty = if self.text.is_empty() { Some("it is empty") } else { None };
        self.regex.as_ref().err().map(String::as_str).or(empty)
    }

    pub(crate) fn matches(&self, topic: &str) -> bool {
        self.regex.as_ref().is_ok_and(|regex| regex.is_match(topic))
    }
}

impl fmt::Debug for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.text)
    }
}

impl PartialEq for TopicPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for TopicPattern {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_name_has_to_match() {
        let matches = |pattern: &str, topic: &str| TopicPattern::new(pattern).matches(topic);
        assert!(
            matches("orders-.*", "orders-eu") && matches("a|orders", "orders") && matches("[a-z]+", "abc")
        );
        assert!(!matches("orders", "orders-eu") && !matches("orders-.*", "my-orders-eu"));
        assert!(!matches("a|b", "ab"), "the alternatives are one whole");
    }

    #[test]
    fn what_is_no_expression_is_named() {
        for wrong in ["orders-(", "a)(b", "*", "(?=ahead)", r"(a)\1", ""] {
            assert!(TopicPattern::new(wrong).problem().is_some(), "{wrong}");
        }
        assert_eq!(TopicPattern::new("orders-.*").problem(), None);
    }
}
