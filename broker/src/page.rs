//! The page of what the broker honours, docs/broker.md, made from the tables and compared with them.

use crate::api::SERVED;
use crate::core::settings::{BrokerKey, Honoured, TOPIC_KEYS};
use std::fmt::Write;

const WRITE: &str = "OTTLA_WRITE_DOCS";
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/broker.md");

const HEAD: &str = "\
# What the bundled broker honours

Made by `OTTLA_WRITE_DOCS=1 cargo test -p ottla-broker --lib page` from the tables of `broker/src`, and compared with them by the
same test. What each API honours and ignores is said at the head of its file in `broker/src/api`.

Settings have Kafka's names, from `--set`, `--config FILE` or `Builder::setting`. Those *without effect* are accepted because
configurations name them; every other name is refused, with the nearest that exists. Settings that are *dynamic* can change while
the broker runs (IncrementalAlterConfigs), those of topics always. All nodes share one configuration. A dash: nothing is set.

";

fn word(honoured: Honoured) -> &'static str {
    match honoured {
        Honoured::Yes => "honoured",
        Honoured::WithoutEffect => "without effect",
    }
}

fn page() -> String {
    let mut page = HEAD.to_string();
    page.push_str("## APIs\n\n| API | versions |\n|---|---|\n");
    for (key, min, max) in SERVED {
        let _ = writeln!(page, "| {key} | {min} to {max} |");
    }
    page.push_str("\n## Settings of the broker\n\n| setting | default | | |\n|---|---|---|---|\n");
    let mut keys: Vec<BrokerKey> = BrokerKey::all().collect();
    keys.sort_by_key(|key| key.name);
    for key in keys {
        let default = key.default.as_deref().unwrap_or("-");
        let dynamic = if key.dynamic { "dynamic" } else { "" };
        let _ = writeln!(page, "| `{}` | {default} | {} | {dynamic} |", key.name, word(key.honoured));
    }
    page.push_str("\n## Settings of topics\n\n| setting | default | falls back to | |\n|---|---|---|---|\n");
    for key in TOPIC_KEYS {
        let names: Vec<String> = key.fallbacks.iter().map(|(name, _)| format!("`{name}`")).collect();
        let (names, word) = (names.join(", "), word(key.honoured));
        let _ = writeln!(page, "| `{}` | {} | {names} | {word} |", key.name, key.default);
    }
    page
}

#[test]
fn the_page_says_what_the_tables_say() {
    let page = page();
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(PAGE, &page).unwrap();
    }
    let there = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(there == page, "docs/broker.md is not what the tables say: run with {WRITE}=1");
}
