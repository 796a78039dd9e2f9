//! The examples as their readers run them: as programs, judged by what they print and by their exit codes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs an example, which `cargo test` has built beside this test.
fn run(name: &str, arguments: &[&str]) -> Output {
    let test = std::env::current_exe().expect("a test has a path");
    let folder = test.parent().and_then(Path::parent).expect("tests are in target/<profile>/deps");
    let program = folder.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    Command::new(&program).args(arguments).output().unwrap_or_else(|error| {
        panic!(
            "{}: {error}; `cargo test --package ottla-examples` builds the examples too",
            program.display()
        )
    })
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

#[track_caller]
fn check(output: &Output, code: i32, said: &[&str]) {
    let all = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{all}");
    for part in said {
        assert!(all.contains(part), "'{part}' is missing in:\n{all}");
    }
}

/// A file for one test, gone with the value.
struct Input(PathBuf);

impl Input {
    fn new(name: &str, content: &[u8]) -> Input {
        let path = std::env::temp_dir().join(format!("ottla-{}-{name}.csv", std::process::id()));
        std::fs::write(&path, content).expect("there is room for a small file");
        Input(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a temporary folder with a readable name")
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        // What is left in a temporary folder does no harm.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn the_quickstart_counts_a_week_of_earthquakes_exactly() {
    let output = run("quickstart", &[]);
    check(&output, 0, &["produced 1,707, consumed 1,707, committed 1,707: all of them"]);
    let table: Vec<String> = text(&output.stdout)
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some(format!("{} {}", words.next().filter(|word| word.len() == 2)?, words.next()?))
        })
        .collect();
    let expected = "ci 386, nc 370, ak 297, nn 260, us 168, pr 62, uw 51, hv 46, uu 33, mb 28, nm 5, se 1";
    assert_eq!(table.join(", "), expected);
}

#[test]
fn the_quickstart_does_so_with_every_compression_and_acknowledgement() {
    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let output = run("quickstart", &["--compression", compression, "--times", "3", "--partitions", "1"]);
        check(&output, 0, &["produced 5,121, consumed 5,121, committed 5,121: all of them"]);
    }
    for acks in ["all", "1", "0"] {
        check(&run("quickstart", &["--acks", acks]), 0, &["committed 1,707: all of them"]);
    }
}

const HEADER: &str = "time_ms,id,network,magnitude,magnitude_type,depth_km,longitude,latitude,significance,felt,\
                      tsunami,status,place\n";

#[test]
fn rows_that_cannot_be_read_are_told_by_line_and_the_rest_goes_on() {
    let good = "1517363399650,uw1,uw,0.31,ml,3.28,-122.197,46.2035,1,,0,reviewed,\"37km NNE of Amboy, Washington\"\n";
    let sparse = "1517363399651,ci1,ci,,,,,,,,,,\n";
    let no_time = "yesterday,uw2,uw,0.31,ml,3.28,-122.197,46.2035,1,,0,reviewed,Amboy\n";
    let short = "1517363399652,uw3\n";
    let rows = [HEADER, good, no_time, sparse, short, good].concat();
    let mut content = rows.into_bytes();
    content.extend_from_slice(b"1517363399653,uw4,uw,1,ml,,,,,,,reviewed,Am\xff\xfeboy\n");
    let input = Input::new("rows", &content);
    let output = run("quickstart", &["--input", input.path()]);
    check(&output, 3, &["produced 3, consumed 3, committed 3: all of them", "line: 3", "line: 5", "line 7"]);
    let left_out = text(&output.stderr).lines().filter(|line| line.starts_with("left out: ")).count();
    assert_eq!(left_out, 3);
}

#[test]
fn an_input_that_is_not_there_is_named() {
    check(&run("quickstart", &["--input", "/nowhere/at all.csv"]), 1, &["/nowhere/at all.csv"]);
}

#[test]
fn options_that_are_not_known_or_cannot_be_read_are_refused() {
    check(&run("quickstart", &["--broker", "localhost:9092"]), 2, &["there is no option --broker"]);
    check(&run("quickstart", &["--times", "0"]), 2, &["--times 0"]);
    check(&run("quickstart", &["--acks", "2"]), 2, &["--acks 2: it is one of all, 1, 0"]);
    check(&run("quickstart", &["--compression", "lz5"]), 2, &["none, gzip, snappy, lz4 and zstd"]);
    check(&run("quickstart", &["--partitions", "0"]), 1, &["INVALID_PARTITIONS"]);
    check(&run("quickstart", &["--help"]), 0, &["--brokers", "--input", "--times", "Exit code"]);
    check(&run("consume", &["--times", "1"]), 2, &["there is no option --times"]);
}

#[test]
fn each_goal_is_explained_as_a_table() {
    let rows = |name: &str, arguments: &[&str]| {
        let output = run(name, arguments);
        check(&output, 0, &["enable.idempotence", "trade"]);
        let words = |line: &str| line.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
        text(&output.stdout).lines().map(words).collect::<Vec<_>>()
    };
    for (goal, expected) in [
        (
            "throughput",
            &["batch.size 131072 goal", "compression.type lz4 goal", "fetch.min.bytes 100000 goal"][..],
        ),
        ("latency", &["linger.ms 0 goal", "compression.type none goal", "fetch.min.bytes 1 goal"]),
        ("durability", &["acks all goal", "isolation.level read_committed goal", "min.insync.replicas 2"]),
        ("availability", &["session.timeout.ms 10000 goal", "heartbeat.interval.ms 3000 goal"]),
    ] {
        let rows = rows("explain", &["--goal", goal]);
        expected
            .iter()
            .for_each(|row| assert!(rows.iter().any(|r| r == row), "{goal}: no {row} in {rows:#?}"));
    }
    let against = run("explain", &["--goal", "latency", "--linger", "100"]);
    check(&against, 0, &["warning: linger.ms: it works against the goal latency"]);
    check(
        &run("explain", &["--goal", "speed"]),
        1,
        &["one of throughput, latency, durability, availability"],
    );
}

#[test]
fn every_example_is_a_page_and_is_listed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed = std::fs::read_to_string(folder.join("README.md")).expect("README.md is there");
    let files = std::fs::read_dir(folder.join("examples")).expect("the examples are there");
    let mut count = 0;
    for file in files.map(|file| file.expect("a readable folder").path()) {
        let name = file.file_stem().and_then(|name| name.to_str()).expect("a readable name").to_owned();
        let lines = std::fs::read_to_string(&file).expect("a text").lines().count();
        let limit = if name == "quickstart" { 150 } else { 79 };
        assert!(lines <= limit, "{name} has {lines} lines, and {limit} make a page");
        assert!(
            listed.contains(&format!("--example {name}`")) || listed.contains(&format!("--example {name} ")),
            "{name}"
        );
        count += 1;
    }
    assert!(count > 15, "{count} examples: the walk is broken");
}

#[test]
fn every_example_runs() {
    let said = [
        ("produce", "100000 records were written"),
        ("consume", "1000 committed"),
        ("batches", "stored 400 records, superseded: []"),
        ("seek_and_pause", "partition 0 begins again at 0"),
        (
            "commit_policies",
            "each record: one comes again: it died with record 45 in hand, whoever comes next begins with 45",
        ),
        ("rebalance_hooks", "100 records were counted, each once"),
        ("offset_store", "the sum of 1 to 100 is 5050, each counted once"),
        ("manual_assignment", "the sum of 1 to 100 is 5050, each counted once"),
        ("partitions", "2000 committed"),
        ("watch", "after: Health { live: true, ready: true, reason: None }"),
        ("partitioner", "express/4 went to partition 0"),
        ("admin", "as expected: "),
        ("properties", "unknown key linger.sm; did you mean linger.ms?"),
        ("secure", "sasl.mechanism = OAUTHBEARER"),
        ("connector", "written to partition 0 through the proxy"),
        ("fire_and_forget", "all of 100000 clicks are accounted for"),
        ("keyed", "Dov: ordered, paid, shipped, delivered, forgotten, in one partition: true"),
        ("partitioners", "Java, franz-go, kafka-python         3 1 4 5 3"),
        ("back_pressure", "try_enqueue says: buffer.memory is full (true)"),
        ("codecs", "zstd"),
        ("acks", "None: "),
        ("retries", "5000 records are in the log, each once and in order: true"),
        ("transactional", "2 debits and 2 credits are seen"),
        ("pipeline", "1000 orders, 1000 invoices, 1000 of them distinct"),
        ("alert", "600 payments, 0 with a card to be seen"),
        ("interceptor", "1000 written, 1 not\n1000 records bear the header"),
    ];
    for (name, line) in said {
        check(&run(name, &[]), 0, &[line]);
    }
}
