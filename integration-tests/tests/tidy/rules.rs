//! The rules of the house that a compiler does not know. Each complaint says what to do instead.

use crate::source::Source;

/// The most lines of code a file may have, tests not counted.
const FILE_LINES: usize = 600;
/// The most lines a file may have, comments and all; tests not counted.
const FILE_LINES_IN_ALL: usize = 699;
/// The most lines of code a function may have.
const FUNCTION_LINES: usize = 70;

/// Names that say nothing of what is in the file.
const EMPTY_NAMES: &[&str] =
    &["util", "utils", "common", "helper", "helpers", "manager", "misc", "type", "types"];

/// What a floor must not know.
struct Floor {
    /// Files whose path starts so.
    below: &'static str,
    /// But not these.
    except: &'static [&'static str],
    tokens: &'static [&'static str],
    instead: &'static str,
}

/// Tokens of clocks, sockets, tasks, locks and maps of random order.
const IMPURE: &[&str] = &[
    "tokio",
    "parking_lot",
    "Instant::now",
    "SystemTime",
    "std::net",
    "TcpStream",
    "std::thread",
    "std::fs",
    "std::env",
    "HashMap",
    "HashSet",
    "RandomState",
    "Mutex",
    "RwLock",
    "Condvar",
    "mpsc",
    "oneshot",
    ".await",
];

/// Facts that others change behind a machine's back.
const ATOMICS: &[&str] = &["AtomicBool", "AtomicI32", "AtomicI64", "AtomicU32", "AtomicU64", "AtomicUsize"];

const FLOORS: &[Floor] = &[
    Floor {
        below: "protocol/src/",
        except: &[],
        tokens: IMPURE,
        instead: "the wire format takes bytes and gives values: let the caller bring time, randomness and I/O",
    },
    Floor {
        below: "protocol/src/",
        except: &[],
        tokens: &["ottla", "ottla_partitioners", "ottla_broker", "ottla_serde", "kafka_protocol"],
        instead: "protocol stands on the ground: move what it needs down into it",
    },
    Floor {
        below: "partitioners/src/",
        except: &[],
        tokens: IMPURE,
        instead: "a partitioner is a function: take what it needs as an argument",
    },
    Floor {
        below: "partitioners/src/",
        except: &[],
        tokens: &["ottla", "ottla_protocol", "ottla_broker", "ottla_serde", "bytes::"],
        instead: "partitioners stand on the ground: take plain slices and numbers",
    },
    Floor {
        below: "client/src/core/",
        except: &[],
        tokens: IMPURE,
        instead: "a machine is told what happened and asked what to do: take `now` as an argument, leave the rest to the driver",
    },
    Floor {
        below: "client/src/core/",
        except: &[],
        tokens: &[
            "crate::driver",
            "crate::producer",
            "crate::consumer",
            "crate::admin",
            "crate::client",
            "crate::world",
        ],
        instead: "a machine never knows what is above it: return what they need",
    },
    Floor {
        below: "broker/src/core/",
        except: &[],
        tokens: IMPURE,
        instead: "a machine is told what happened and asked what to do: take `now` as an argument, leave the rest to the server",
    },
    Floor {
        below: "broker/src/api/",
        except: &[],
        tokens: IMPURE,
        instead: "requests are handled by the machine of the cluster: take `now` as an argument, leave the rest to the server",
    },
    Floor {
        below: "client/src/core/",
        // What is read and written for each record lives in an atomic of its own, and nowhere else.
        except: &["client/src/core/consumer.rs", "client/src/core/held.rs", "client/src/core/positions.rs"],
        tokens: ATOMICS,
        instead: "each fact has one owner: make it a field of the machine",
    },
    Floor {
        below: "broker/src/core/",
        except: &[],
        tokens: ATOMICS,
        instead: "each fact has one owner: make it a field of the machine",
    },
    Floor {
        below: "client/src/driver/",
        except: &["client/src/driver/handshake.rs", "client/src/driver/login.rs"],
        tokens: &["ottla_protocol::messages", "messages::"],
        instead: "a driver never looks inside a message: hand it to the machine",
    },
    Floor {
        below: "client/src/",
        except: &["client/src/driver/", "client/src/connect.rs"],
        tokens: &["TcpStream", "tokio::net", "std::net"],
        instead: "sockets belong to the driver: go through the `Connector`",
    },
    Floor {
        below: "client/src/",
        except: &[],
        tokens: &["ottla_broker", "ottla_serde"],
        instead: "client and broker share the protocol and nothing else",
    },
    Floor {
        below: "broker/src/",
        except: &[],
        tokens: &["ottla", "ottla_partitioners", "ottla_serde"],
        instead: "client and broker share the protocol and nothing else, or both could be wrong together",
    },
    Floor {
        below: "serde-formats/src/",
        except: &[],
        tokens: &["ottla_protocol", "ottla_partitioners", "ottla_broker"],
        instead: "a format knows the two traits of the client and no more",
    },
    Floor {
        below: "serde-formats/src/",
        except: &["serde-formats/src/registry/", "serde-formats/src/fake/"],
        tokens: &["tokio", "reqwest"],
        instead: "a format never waits: answer with FormatError::later, and let the registry do the asking",
    },
    Floor {
        below: "client/src/",
        except: &["client/src/world.rs"],
        tokens: ORDER_AT_RISK,
        instead: "the simulator must decide the order of everything: start tasks by `World::spawn`, use ordered maps, and notify by hand",
    },
    Floor {
        below: "broker/src/",
        except: &["broker/src/world.rs", "broker/src/main.rs"],
        tokens: ORDER_AT_RISK,
        instead: "the simulator must decide the order of everything: start tasks by the world's `spawn`, use ordered maps",
    },
];

/// What takes the order of things out of the simulator's hands.
const ORDER_AT_RISK: &[&str] = &[
    "spawn_blocking",
    "sync::watch",
    "thread::spawn",
    "thread::sleep",
    "tokio::spawn",
    "task::spawn",
    "HashMap",
    "HashSet",
    "FuturesUnordered",
];

/// Files that must deny the lints of clippy.toml in their first lines.
pub(crate) const PURE_ROOTS: &[&str] = &[
    "protocol/src/lib.rs",
    "partitioners/src/lib.rs",
    "client/src/core/mod.rs",
    "broker/src/core/mod.rs",
    "broker/src/api/mod.rs",
];

/// Everything that is wrong with a Rust file. Of test code only some rules hold.
pub(crate) fn complaints(path: &str, text: &str, is_test: bool) -> Vec<String> {
    let source = Source::new(path, text);
    let mut all = Vec::new();
    if !is_test {
        lengths(&source, text, &mut all);
        floors(&source, &mut all);
        races(&source, &mut all);
    }
    names(&source, &mut all);
    holes(&source, &mut all);
    heads(&source, text, &mut all);
    all
}

fn lengths(source: &Source, text: &str, all: &mut Vec<String>) {
    let path = &source.path;
    let in_all = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default().lines().count();
    if source.length() > FILE_LINES {
        let length = source.length();
        all.push(format!("{path}: {length} lines of code where {FILE_LINES} are the limit: find the noun that hides in it, and give that a file"));
    } else if in_all > FILE_LINES_IN_ALL {
        all.push(format!("{path}: {in_all} lines where {FILE_LINES_IN_ALL} are the limit: say less, or give a noun of it a file"));
    }
    for function in source.functions() {
        if function.length > FUNCTION_LINES {
            let (name, line, length) = (function.name, function.line, function.length);
            all.push(format!("{path}:{line}: {name} has {length} lines of code where {FUNCTION_LINES} are the limit: keep the branches here, push the loops down"));
        }
    }
}

fn names(source: &Source, all: &mut Vec<String>) {
    let path = &source.path;
    let stems = path.split('/').map(|part| part.trim_end_matches(".rs"));
    for stem in stems.filter(|stem| EMPTY_NAMES.contains(stem)) {
        all.push(format!("{path}: '{stem}' says nothing: name the file after the noun that it owns"));
    }
}

fn holes(source: &Source, all: &mut Vec<String>) {
    let path = &source.path;
    for token in ["todo!", "unimplemented!", "dbg!", "#[ignore"] {
        for line in source.lines_with(token) {
            all.push(format!("{path}:{line}: {token} is a hole: finish it, or leave it out"));
        }
    }
    for word in ["FIXME", "TODO", "XXX", "HACK"] {
        for line in source.comment_lines_with(word) {
            all.push(format!("{path}:{line}: {word} in a comment: do it, or say why it is right as it is"));
        }
    }
}

fn floors(source: &Source, all: &mut Vec<String>) {
    let path = source.path.as_str();
    let concerns = |floor: &&Floor| {
        path.starts_with(floor.below) && !floor.except.iter().any(|except| path.starts_with(except))
    };
    for floor in FLOORS.iter().filter(concerns) {
        for token in floor.tokens {
            for line in source.lines_with(token) {
                all.push(format!("{path}:{line}: {token} below {}: {}", floor.below, floor.instead));
            }
        }
    }
}

/// `select!` polls its branches in random order unless it is told not to.
fn races(source: &Source, all: &mut Vec<String>) {
    let path = &source.path;
    if !(path.starts_with("client/src/") || path.starts_with("broker/src/")) {
        return;
    }
    for (at, _) in source.code.match_indices("select!") {
        let body = source.code[at + "select!".len()..].trim_start_matches([' ', '{', '\n']);
        if !body.starts_with("biased") {
            let line = 1 + source.code[..at].matches('\n').count();
            all.push(format!("{path}:{line}: a select! without `biased;` polls in random order: the simulator must decide it"));
        }
    }
}

fn heads(source: &Source, text: &str, all: &mut Vec<String>) {
    let path = source.path.as_str();
    let head: Vec<&str> = text.lines().take_while(|line| line.starts_with("//!")).collect();
    if head.is_empty() {
        all.push(format!("{path}: no head comment: say in two to ten lines of //! what it owns, what it refuses to know, and one invariant"));
    }
    if PURE_ROOTS.contains(&path)
        && !text.contains("deny(clippy::disallowed_methods, clippy::disallowed_types)")
    {
        all.push(format!("{path}: does not hold its floor: add #![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]"));
    }
    if path.starts_with("broker/src/api/")
        && !path.ends_with("/mod.rs")
        && !head.join(" ").contains("ersions")
    {
        all.push(format!("{path}: the head comment lacks 'Versions': say which are served, what of a request is honoured and what is ignored"));
    }
}
