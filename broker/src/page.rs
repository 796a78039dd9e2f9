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

const REPLICATION: &str = "
## Replication

Each partition has a log on each of its replicas' nodes. All nodes are one process, so what logs have in common is kept once: a
replica costs no copy. Followers fetch from their leader; a follower has what was written in the same step, unless
`Broker::slow_replicas` or `Broker::hold_replicas` delays it, or `Broker::separate`, `Broker::isolate` or `Broker::pause_node` cuts
it off.

Honoured: replicas in sync by `replica.lag.time.max.ms`; the high watermark, which consumers do not see beyond and which stands
still with fewer than `min.insync.replicas` (KIP-966); acks=all, which waits for the replicas in sync; clean elections and unclean
ones (`unclean.leader.election.enable`); logs that are cut when their replica follows another leader (KIP-101); leader epochs of
requests (KIP-320); preferred leaders and unclean elections by ElectLeaders; reassignment, with what comes and goes; followers that
show consumers what they have (KIP-392); a coordinator that moves with its partition, and after an unclean election knows
what is left of its log. `Broker::partition` and `Broker::diverged_log` show all that.

Otherwise than in Kafka:

- The controller is a role of the first node that reaches most others. It knows at once of a process that ended, and fences a node
  that it does not reach after `broker.session.timeout.ms`. A node that is fenced knows that too: it takes no writes in an old epoch.
- Leaders do not go back to the preferred replica by themselves (`auto.leader.rebalance.enable`).
- What coordinators and transactions write for themselves reaches slow replicas at once. Where one in sync cannot be reached, they
  refuse at once what Kafka would let wait (COORDINATOR_NOT_AVAILABLE), until it is out of sync.
- Followers do not fetch over sockets: no request of theirs is served, and faults on Fetch do not hit them.
- With `--data`, the nodes share one directory, which holds the logs of leaders. They die together, and every replica starts with what
  is there; what a replica had beyond its leader is not kept.
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
    page.push_str(REPLICATION);
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
