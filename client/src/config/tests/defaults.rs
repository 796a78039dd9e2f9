//! `docs/defaults.md` says of each setting what the code does: it is made of the tables that the code is made of.

use std::fmt::Write as _;

use super::super::explain::Settings;
use super::*;

/// Set it to write the page instead of comparing it.
const WRITE: &str = "OTTLA_WRITE_DOCS";
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/defaults.md");

const HEAD: &str = "\
# Settings and their defaults

Made by `OTTLA_WRITE_DOCS=1 cargo test -p ottla --lib defaults` from the tables of `client/src/config`, and compared with them
by the same test. `Client::explain()` prints the same lines for a client, with what is in force there and who said so.

A client that is built by calls starts from the column *Ottla*. One that is made by `from_properties` starts from the column
*Java 4.4*, because a file that leaves a key out means Java's default. Times are milliseconds and sizes are bytes. A name
without dots is a method of a builder: Kafka has no such setting. A dash: nothing is set.

";

fn row(page: &mut String, cells: [&str; 4]) {
    let cells = cells.map(|cell| if cell.is_empty() { "-".to_owned() } else { cell.replace('|', "\\|") });
    let _ = writeln!(page, "| `{}` | {} | {} | {} |", cells[0], cells[1], cells[2], cells[3]);
}

fn table<C: Settings>(page: &mut String, of: &C) {
    let _ = writeln!(page, "## The {}\n\n| setting | Java 4.4 | Ottla | trade |\n|---|---|---|---|", C::OF);
    for line in C::LINES {
        let java = KEYS.iter().find(|key| key.name == line.key).map_or("", |key| key.default);
        row(page, [line.key, java, &(line.show)(of), line.trade]);
    }
    page.push('\n');
}

fn lines<C: Settings>() -> impl Iterator<Item = &'static str> {
    C::LINES.iter().map(|line| line.key)
}

/// Every name of the table of properties that has no line above.
fn other_names(page: &mut String) {
    let told: Vec<_> =
        lines::<ClientConfig>().chain(lines::<ProducerConfig>()).chain(lines::<ConsumerConfig>()).collect();
    page.push_str("## Other names of properties\n\n| property | Java 4.4 | here |\n|---|---|---|\n");
    for key in KEYS.iter().filter(|key| !told.contains(&key.name)) {
        let (java, here) = (
            Some(key.default).filter(|java| !java.is_empty()).unwrap_or("-"),
            match &key.rule {
                Rule::Set(_) => "a part of a setting above".to_owned(),
                Rule::Alias(of) => format!("librdkafka's name of `{of}`"),
                Rule::Kibibytes(of) => format!("librdkafka's name of `{of}`, in KiB"),
                Rule::Only("", why) => format!("only unset: {why}"),
                Rule::Only(value, why) => format!("only `{value}`: {why}"),
            },
        );
        let _ = writeln!(page, "| `{}` | {java} | {here} |", key.name);
    }
}

#[test]
fn the_page_of_defaults_says_what_the_code_does() {
    let mut page = HEAD.to_owned();
    table(&mut page, &ClientConfig::default());
    table(&mut page, &ProducerConfig::default());
    table(&mut page, &ConsumerConfig::default());
    other_names(&mut page);
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(PAGE, &page).expect("the page can be written");
    }
    let there = std::fs::read_to_string(PAGE).unwrap_or_default();
    let differs = there.lines().zip(page.lines()).find(|(there, made)| there != made);
    assert!(there == page, "docs/defaults.md is out of date (set {WRITE}=1 to write it): {differs:?}");
}
