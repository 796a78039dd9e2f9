//! "Did you mean": the known name that looks most like a misspelt one. It knows nothing of settings. Invariant: a name
//! that resembles nothing gets no suggestion, for a wrong one costs more time than none.

/// The name of `known` that is nearest to `wanted`, if it is near enough to be a slip of the pen.
pub(super) fn nearest_key(wanted: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let tolerated = 1 + wanted.chars().count() / 5;
    let (distance, name) = closest(wanted, known)?;
    (distance <= tolerated).then_some(name)
}

/// The value of `known` that is nearest to `wanted`: of a handful of values one is always worth naming, unless nothing
/// is alike.
pub(super) fn nearest_value(wanted: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let (distance, name) = closest(wanted, known)?;
    (distance < wanted.chars().count().max(name.chars().count()).div_ceil(2)).then_some(name)
}

/// Words in another order count as near too: people write `auto.commit.enable` for `enable.auto.commit`.
fn closest(wanted: &str, known: impl Iterator<Item = &'static str>) -> Option<(usize, &'static str)> {
    let written = wanted.to_lowercase();
    let shuffled = in_order(&written);
    known
        .map(|name| {
            let lower = name.to_lowercase();
            let plain = distance(&written, &lower);
            (plain.min(distance(&shuffled, &in_order(&lower))), plain, name)
        })
        .min_by_key(|(best, plain, _)| (*best, *plain))
        .map(|(best, _, name)| (best, name))
}

fn in_order(name: &str) -> String {
    let mut words: Vec<&str> = name.split(['.', '_', '-']).collect();
    words.sort_unstable();
    words.join(".")
}

/// Edits from one text to the other, where two neighbours that changed places are one edit (the restricted
/// Damerau-Levenshtein distance). Three rows of the table are enough for that.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut before = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_insertions_deletions_replacements_and_swaps() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("acks", "acks", 0),
            ("ack", "acks", 1),
            ("akcs", "acks", 1),
            ("abc", "axd", 2),
        ] {
            assert_eq!(distance(a, b), expected, "{a} to {b}");
            assert_eq!(distance(b, a), expected, "{b} to {a}");
        }
    }

    #[test]
    fn words_in_another_order_are_near() {
        let known = ["auto.commit.interval.ms", "enable.auto.commit"];
        assert_eq!(nearest_key("auto.commit.enable", known.into_iter()), Some("enable.auto.commit"));
    }

    #[test]
    fn a_name_that_resembles_nothing_gets_no_suggestion() {
        assert_eq!(nearest_key("colour", ["acks", "linger.ms"].into_iter()), None);
        assert_eq!(nearest_value("brotli", ["gzip", "zstd"].into_iter()), None);
        assert_eq!(nearest_key("", ["acks"].into_iter()), None);
    }
}
