//! Every id of `docs/faults.md` is shown by a test, or the document says that it is not.
//!
//! It owns how a test cites an id: in its name (`fault_39_..`, `b7_..`) or in a comment or message of test code (`faults 39, 41`,
//! `71-86`, `B7`, `SEC1-SEC3`). It refuses to judge whether the test shows what it cites.

use std::collections::BTreeMap;

/// Where code proves something outside of modules for tests: scenarios, checkers, and machines that are run alone.
const PROVING: &[&str] = &["integration-tests/src/", "alone.rs", "/alone/"];

/// The ids of a document by the rows of its tables: those that must be shown, and those that it says are not.
pub(crate) struct Document {
    /// The id, and for a promise the ids that hold it.
    pub promised: BTreeMap<String, Vec<String>>,
    pub open: Vec<String>,
}

impl Document {
    pub(crate) fn read(text: &str) -> Document {
        let (body, open) = text.split_once("\n## Not shown").unwrap_or((text, ""));
        let mut promised = BTreeMap::new();
        for row in body.lines().filter_map(|line| line.strip_prefix("| ")) {
            let cells: Vec<&str> = row.trim_end_matches([' ', '|']).split(" | ").collect();
            let id = cells[0].trim();
            if is_id(id) {
                let held = if id.starts_with('P') { cited(cells.last().unwrap_or(&"")) } else { Vec::new() };
                promised.insert(id.to_owned(), held);
            }
        }
        let rows = open.lines().filter_map(|line| line.strip_prefix("| "));
        let ids = rows.filter_map(|row| row.split(" | ").next()).filter(|id| is_id(id));
        Document { promised, open: ids.map(str::to_owned).collect() }
    }

    /// What is wrong between the document and who cites what in tests.
    pub(crate) fn complaints(&self, shown: &BTreeMap<String, Vec<String>>) -> Vec<String> {
        let is_shown = |id: &String| shown.contains_key(id);
        let mut complaints = Vec::new();
        for (id, held) in &self.promised {
            // A promise that nobody can test has nothing that holds it.
            let promise = id.starts_with('P');
            let proven = if promise { held.iter().all(is_shown) } else { is_shown(id) };
            match (proven, self.open.contains(id)) {
                (false, false) => complaints.push(format!("{id} of docs/faults.md is shown by no test")),
                (true, true) => complaints.push(format!(
                    "docs/faults.md says that no test shows {id}: {shown:?}",
                    shown = shown.get(id)
                )),
                _ => {}
            }
        }
        let unknown = shown.iter().filter(|(id, _)| !self.promised.contains_key(*id));
        complaints.extend(unknown.map(|(id, tests)| format!("{id} is not in docs/faults.md: {}", tests[0])));
        complaints
    }
}

/// Who cites which id in the test code of these files: path and line.
pub(crate) fn shown(
    files: &[(String, String)],
    is_test: impl Fn(&str) -> bool,
) -> BTreeMap<String, Vec<String>> {
    let mut shown: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in files {
        if path == "integration-tests/tests/tidy/faults.rs" {
            continue;
        }
        let proves = is_test(path) || PROVING.iter().any(|part| path.contains(part));
        let mut testing = proves;
        for (number, line) in text.lines().enumerate() {
            testing |= line.trim_start().starts_with("#[cfg(test)]")
                || line.trim_start().starts_with("#[cfg(all(test");
            if testing {
                for id in cited(line) {
                    shown.entry(id).or_default().push(format!("{path}:{}", number + 1));
                }
            }
        }
    }
    shown
}

/// The kinds of ids besides the numbers of faults.
const KINDS: &[&str] = &["SEC", "P", "S", "C", "L", "D", "B", "F"];

fn kind_and_number(word: &str) -> Option<(&'static str, u32)> {
    let digits = word.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let kind = KINDS.iter().find(|kind| **kind == &word[..word.len() - digits.len()])?;
    Some((kind, digits.parse().ok()?))
}

fn is_id(word: &str) -> bool {
    word.parse::<u32>().is_ok() || kind_and_number(word).is_some()
}

/// The ids that a line names.
fn cited(line: &str) -> Vec<String> {
    let line = line.trim_start();
    // Of a name only the beginning is an id; there it is in small letters.
    let named = line.split_once("fn ").map(|(_, rest)| rest.split('(').next().unwrap_or_default());
    let mut ids = Vec::new();
    if let Some(name) = named {
        let spoken = name.replace('_', " ");
        ids.extend(of_faults(&spoken));
        let capital = spoken.split(' ').map(str::to_uppercase).map_while(|word| kind_and_number(&word));
        ids.extend(capital.map(|(kind, number)| format!("{kind}{number}")));
        return ids;
    }
    ids.extend(of_faults(line));
    let mut words = words(line).into_iter().peekable();
    while let Some(word) = words.next() {
        let Some((kind, first)) = kind_and_number(word) else { continue };
        let mut last = first;
        if words.next_if_eq(&"-").is_some()
            && let Some(end) =
                words.next_if(|end| end.parse::<u32>().is_ok() || kind_and_number(end).is_some())
        {
            last = end.trim_start_matches(kind).parse().unwrap_or(first);
        }
        ids.extend((first..=last).map(|number| format!("{kind}{number}")));
    }
    ids
}

/// The numbers behind the word fault.
fn of_faults(line: &str) -> Vec<String> {
    let mut ids = Vec::new();
    let words = words(line);
    let starts =
        words.iter().enumerate().filter(|(_, word)| ["fault", "faults", "Fault", "Faults"].contains(word));
    for (at, _) in starts {
        let mut last: Option<u32> = None;
        let mut ranged = false;
        for word in &words[at + 1..] {
            match word.parse::<u32>() {
                Ok(number) => {
                    let from = last.filter(|_| ranged).map_or(number, |last| last + 1);
                    ids.extend((from..=number).map(|number| number.to_string()));
                    (last, ranged) = (Some(number), false);
                }
                Err(_) if last.is_some() && *word == "-" => ranged = true,
                Err(_) if last.is_some() && [",", "and"].contains(word) => {}
                Err(_) => break,
            }
        }
    }
    ids
}

/// Words and signs, blanks left out.
fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let inside = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end =
            if inside(first) { rest.find(|c| !inside(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
        words.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_in_names_and_comments() {
        let ids = |line| cited(line).join(" ");
        assert_eq!(ids("/// Faults 39, 41 and 43: B7, and F12 (C4)."), "39 41 43 B7 F12 C4");
        assert_eq!(ids("    // faults 71-74, SEC1-SEC3, B1-B2"), "71 72 73 74 SEC1 SEC2 SEC3 B1 B2");
        assert_eq!(ids("async fn fault_97_a_call_of_3_parts() {"), "97");
        assert_eq!(ids("fn b7_the_list_is_sorted()"), "B7");
        assert_eq!(ids("fn sec8_numbers_of_f32()"), "SEC8");
        assert_eq!(ids("let f32 = 3.0; // a default of 5 faults"), "");
        assert_eq!(ids("fn default_39() {}"), "");
    }

    #[test]
    fn a_document_is_held_to_its_word() {
        let text = "| P1 | holds | S1-S2 |\n| S1 | a |\n| S2 | b |\n| 1 | c | d |\n## Promised\n\n## Not shown\n| S2 | why |\n";
        let document = Document::read(text);
        let test = |lines: &str| shown(&[("client/tests/a.rs".into(), lines.into())], |_| true);
        assert_eq!(
            document.complaints(&test("// S1, fault 1")),
            ["P1 of docs/faults.md is shown by no test"]
        );
        let all = document.complaints(&test("// S1, S2, faults 1"));
        assert!(all.len() == 1 && all[0].contains("no test shows S2"), "{all:?}");
        let unknown = document.complaints(&test("// S1, fault 7, fault 1"));
        assert!(
            unknown.iter().any(|complaint| complaint.contains("7 is not in docs/faults.md")),
            "{unknown:?}"
        );
    }

    #[test]
    fn only_test_code_shows_something() {
        let file = |text: &str| shown(&[("client/src/a.rs".into(), text.into())], |_| false);
        assert!(file("// fault 1\nfn a() {}\n").is_empty());
        assert_eq!(file("// fault 1\n#[cfg(test)]\nmod tests {\n    // fault 2\n}\n").len(), 1);
    }
}
