//! The regular expressions that members subscribe by, and the topics whose names match.
//!
//! Expressions are matched after a heartbeat has been answered, and again at most every ten seconds, as Apache Kafka does
//! it: so a member learns of new topics late. It refuses to know who subscribes by which.

use super::super::Refusal;
use crate::core::topics::Topics;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::wire::Str;
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The least time from one match against all topics to the next.
const REFRESH_INTERVAL: Duration = Duration::from_secs(10);

/// See the head of the module.
#[derive(Debug, Default)]
pub(crate) struct Patterns {
    matched: BTreeMap<Str, BTreeSet<Str>>,
    /// When, and after how many changes of topics, it was looked last.
    refreshed: Option<(Instant, u64)>,
}

impl Patterns {
    /// Whether it is known which topics match.
    pub(crate) fn has(&self, pattern: &str) -> bool {
        self.matched.contains_key(pattern)
    }

    /// The topics that matched when it was last looked.
    pub(crate) fn topics(&self, pattern: &str) -> impl Iterator<Item = &Str> {
        self.matched.get(pattern).into_iter().flatten()
    }

    /// Whether it is time to match these again, because there are new ones or topics came or went.
    pub(crate) fn want_refresh(&self, patterns: &BTreeSet<Str>, topics: &Topics, now: Instant) -> bool {
        let Some((at, changes)) = self.refreshed else { return !patterns.is_empty() };
        let has_news = || changes != topics.changes() || patterns.iter().any(|pattern| !self.has(pattern));
        now >= at + REFRESH_INTERVAL && !patterns.is_empty() && has_news()
    }

    /// Matches these patterns and forgets all others. True when one of them matches other topics than before.
    pub(crate) fn refresh(&mut self, patterns: &BTreeSet<Str>, topics: &Topics, now: Instant) -> bool {
        let before = std::mem::replace(&mut self.matched, matches(patterns, topics));
        self.refreshed = Some((now, topics.changes()));
        let none = BTreeSet::new();
        self.matched.iter().any(|(pattern, topics)| before.get(pattern).unwrap_or(&none) != topics)
    }
}

/// Refuses what is no regular expression.
pub(crate) fn check_pattern(pattern: &str) -> Result<(), Refusal> {
    whole(pattern).map(drop).map_err(|error| {
        let reason = error.to_string();
        // The library draws where the error is; its last line says what it is.
        let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
        let message =
            format!("SubscribedTopicRegex `{pattern}` is not a valid regular expression: {reason}.");
        Refusal { code: ErrorCode::INVALID_REGULAR_EXPRESSION, message }
    })
}

fn matches(patterns: &BTreeSet<Str>, topics: &Topics) -> BTreeMap<Str, BTreeSet<Str>> {
    let matching = |pattern: &Str| {
        let regex = whole(pattern).ok();
        let names = topics.iter().map(|topic| &topic.name);
        names.filter(|name| regex.as_ref().is_some_and(|it| it.is_match(name))).cloned().collect()
    };
    patterns.iter().map(|pattern| (pattern.clone(), matching(pattern))).collect()
}

/// An expression that matches whole names only.
fn whole(pattern: &str) -> Result<Regex, regex::Error> {
    Regex::new(pattern)?;
    Regex::new(&format!("^(?:{pattern})$"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_matches_whole_names() {
        let matches = |pattern: &str, name| whole(pattern).is_ok_and(|regex| regex.is_match(name));
        assert!(matches("a|b.*", "b1") && matches("a|b.*", "a"));
        assert!(!matches("a|b.*", "a1") && !matches("a", "ba"));
    }

    #[test]
    fn what_is_no_expression_is_refused_with_the_reason() {
        let refused = check_pattern("(a").expect_err("it has no end");
        assert_eq!(refused.code, ErrorCode::INVALID_REGULAR_EXPRESSION);
        assert!(
            refused.message.contains("`(a`") && refused.message.contains("unclosed"),
            "{}",
            refused.message
        );
        // Two halves that only together would be an expression.
        assert!(check_pattern("a)|(b").is_err());
    }
}
