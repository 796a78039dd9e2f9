//! Style as a test: what the rules of the house say that neither the compiler nor clippy checks.
//!
//! `rules` has the rules for Rust files, `source` reads them, `faults` knows which tests show what. Here are the walk through the repository, the rules about
//! more than one file, and a planted offence for each rule, so that none of them can go blind.

mod faults;
mod rules;
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use source::Source;

const FOLDERS: &[&str] = &[
    "protocol",
    "partitioners",
    "client",
    "serde-formats",
    "broker",
    "examples",
    "integration-tests",
    "bench",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies in the repository").to_owned()
}

/// Path below the repository and text of every file with this ending, build output left out.
fn files(ending: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
        for path in entries.map(|entry| entry.path()) {
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            if path.is_dir() && !path.ends_with("target") && !hidden {
                walk(&path, found);
            } else if path.is_file() {
                found.push(path);
            }
        }
    }
    let root = root();
    let mut found: Vec<PathBuf> = fs::read_dir(&root)
        .expect("the repository can be read")
        .filter_map(|entry| entry.ok().map(|entry| entry.path()).filter(|path| path.is_file()))
        .collect();
    FOLDERS.iter().for_each(|folder| walk(&root.join(folder), &mut found));
    found.sort();
    let relative =
        |path: &PathBuf| path.strip_prefix(&root).ok().map(|path| path.to_string_lossy().replace('\\', "/"));
    let named = found.iter().filter(|path| path.to_string_lossy().ends_with(ending));
    named.filter_map(|path| Some((relative(path)?, fs::read_to_string(path).ok()?))).collect()
}

fn report(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

/// Asserts that a file of this path and text earns one complaint, with `expected` in it.
#[track_caller]
fn check_caught(path: &str, text: &str, expected: &str) {
    let complaints = rules::complaints(path, &format!("//! Head.\n{text}"), false);
    assert_eq!(complaints.len(), 1, "{complaints:#?}");
    assert!(complaints[0].contains(expected), "{}", complaints[0]);
}

#[test]
fn every_rust_file_keeps_the_rules() {
    let files = files(".rs");
    assert!(files.len() > 50, "only {} files were found: the walk is broken", files.len());
    let tests = test_modules(&files);
    let is_test =
        |path: &str| path.contains("/tests/") || tests.iter().any(|module| path.starts_with(module));
    report(files.iter().flat_map(|(path, text)| rules::complaints(path, text, is_test(path))).collect());
}

#[test]
#[expect(clippy::print_stdout, reason = "what is shown by what is worth reading")]
fn every_fault_is_shown_by_a_test() {
    let files = files(".rs");
    let tests = test_modules(&files);
    let is_test =
        |path: &str| path.contains("/tests/") || tests.iter().any(|module| path.starts_with(module));
    let document = fs::read_to_string(root().join("docs/faults.md")).expect("docs/faults.md is there");
    let document = faults::Document::read(&document);
    assert!(
        document.promised.len() > 190,
        "only {} ids were found: the reader is broken",
        document.promised.len()
    );
    let shown = faults::shown(&files, is_test);
    for (id, tests) in &shown {
        println!("{id}: {}", tests.join(", "));
    }
    println!("{} ids, of which {} are shown by no test yet", document.promised.len(), document.open.len());
    report(document.complaints(&shown));
}

/// The files and folders of modules that are declared for tests alone, without their endings.
fn test_modules(files: &[(String, String)]) -> Vec<String> {
    let declared = |(path, text): &(String, String)| -> Vec<String> {
        let folder = path.trim_end_matches("mod.rs").trim_end_matches("lib.rs").replace(".rs", "/");
        let after_marks = text.split("#[cfg(test)]\n").skip(1);
        let modules = after_marks
            .filter_map(|rest| rest.strip_prefix("pub(crate) ").unwrap_or(rest).strip_prefix("mod "));
        let names = modules.filter_map(|rest| rest.split_once(';')).map(|(name, _)| name);
        names
            .filter(|name| !name.contains(char::is_whitespace))
            .map(|name| format!("{folder}{name}"))
            .collect()
    };
    files.iter().flat_map(declared).collect()
}

#[test]
fn every_root_of_a_pure_floor_exists() {
    let missing = rules::PURE_ROOTS.iter().filter(|path| !root().join(path).is_file());
    report(missing.map(|path| format!("{path} is gone: tell tidy where the floor's root is now")).collect());
}

/// Settings that the checks turn into others, which are read instead.
const SETTLED: &[(&str, &str)] = &[
    ("servers", "bootstrap"),
    ("compression", "codec"),
    ("compression_level", "codec"),
    ("idempotence_named", "idempotence"),
    ("delivery_timeout_named", "delivery_timeout"),
    ("transaction_timeout_named", "two_phase_commit"),
    ("when_named", "when"),
    ("goal", "what it sets"),
    ("given", "where explain says that values came from"),
];

#[test]
fn every_setting_is_read_outside_of_the_configuration() {
    let (config, rest): (Vec<_>, Vec<_>) = files(".rs")
        .into_iter()
        .filter(|(path, _)| path.starts_with("client/src/"))
        .partition(|(path, _)| path.starts_with("client/src/config"));
    let rest: Vec<Source> = rest.iter().map(|(path, text)| Source::new(path, text)).collect();
    let settings: Vec<String> =
        config.iter().flat_map(|(path, text)| settings(&Source::new(path, text))).collect();
    assert!(settings.len() > 40, "only {} settings were found: the reader is broken", settings.len());
    let idle = |name: &&String| {
        let settled = SETTLED.iter().any(|(from, _)| from == name);
        !settled && rest.iter().all(|source| source.lines_with(&format!(".{name}")).is_empty())
    };
    let complaint =
        |name| format!("the setting {name} has no effect: honour it, or refuse its key as not supported yet");
    report(settings.iter().filter(idle).map(complaint).collect());
}

/// The fields within `settings! { .. }`: lines of the form `name: Type = default;`.
fn settings(source: &Source) -> Vec<String> {
    let Some((_, inside)) = source.code.split_once("\nsettings! {") else { return Vec::new() };
    let inside = inside.split_once("\n}").map_or(inside, |(inside, _)| inside);
    let lines = inside.lines().map(str::trim).filter(|line| line.ends_with(';') && line.contains('='));
    lines.filter_map(|line| line.split_once(':')).map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn every_dependency_has_its_reason() {
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there");
    let reasons: Vec<&str> = architecture
        .lines()
        .filter_map(|line| line.strip_prefix("| "))
        .flat_map(|line| line.split(" | ").next().unwrap_or_default().split([',', ' ', '(', ')']))
        .collect();
    let mut complaints = Vec::new();
    for (path, text) in files("Cargo.toml").iter().filter(|(path, _)| !path.starts_with("bench/")) {
        for name in dependencies(text).filter(|name| !name.starts_with("ottla") && !reasons.contains(name)) {
            complaints.push(format!(
                "{path}: {name} has no line in ARCHITECTURE.md: say there what we would write without it"
            ));
        }
    }
    report(complaints);
}

/// The names in the dependency sections of a manifest.
fn dependencies(manifest: &str) -> impl Iterator<Item = &str> {
    let sections = manifest
        .split("\n[")
        .filter(|section| section.split(']').next().is_some_and(|name| name.ends_with("dependencies")));
    let lines = sections.flat_map(|section| section.lines().skip(1)).filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split(['.', '=', ' ']).next()).filter(|name| !name.is_empty())
}

#[test]
fn a_dependency_is_found_in_every_kind_of_section() {
    let manifest = "[package]\nname = \"a\"\n\n[dependencies]\n# why\nb.workspace = true\nc = \"1\"\n\n[dev-dependencies]\nd = { path = \"d\" }\n[lints]\ne = 1\n";
    assert_eq!(dependencies(manifest).collect::<Vec<_>>(), ["b", "c", "d"]);
}

/// The versions that have the fixes of published advisories.
const FIXED: &[(&str, [u64; 3])] = &[
    ("bytes", [1, 11, 1]),
    ("lz4_flex", [0, 11, 6]),
    ("rustls", [0, 23, 46]),
    ("ruzstd", [0, 9, 1]),
    ("tokio", [1, 54, 1]),
    ("zstd", [0, 14, 3]),
];

/// A manifest asks for them itself, so that whoever builds without our lock file has them too.
#[test]
fn sec4_manifests_ask_for_crates_above_their_advisories() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml is there");
    for (name, fixed) in FIXED {
        let line = manifest.lines().find(|line| line.starts_with(&format!("{name} = ")));
        let line = line.unwrap_or_else(|| panic!("the workspace does not name {name}"));
        let version = line.split('"').nth(1).expect("a version");
        let mut asked = version.split('.').map(|part| part.parse::<u64>().expect("a number"));
        let asked = [(); 3].map(|()| asked.next().unwrap_or(0));
        assert!(asked >= *fixed, "{line}: {fixed:?} has the fix of an advisory");
    }
}

#[test]
fn sec17_nothing_runs_while_our_crates_are_built() {
    let scripts = files("build.rs").into_iter().map(|(path, _)| path).collect::<Vec<_>>();
    assert_eq!(scripts, Vec::<String>::new(), "a build script runs on our users' machines");
    let deny = fs::read_to_string(root().join("deny.toml")).expect("deny.toml is there");
    for source in ["unknown-registry = \"deny\"", "unknown-git = \"deny\""] {
        assert!(deny.contains(source), "deny.toml lacks {source}");
    }
}

#[test]
fn sec19_reports_have_an_address_and_a_time() {
    let text = fs::read_to_string(root().join("SECURITY.md")).expect("SECURITY.md is there");
    for promise in ["within a week", "What is trusted", "Only the latest release gets fixes"] {
        assert!(
            text.split_whitespace().collect::<Vec<_>>().join(" ").contains(promise),
            "SECURITY.md lacks: {promise}"
        );
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut complaints = Vec::new();
    for (path, text) in files(".md") {
        let folder = root().join(&path).parent().expect("a file has a folder").to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#', ' ']).next()) {
            if !target.is_empty() && !target.contains("://") && !folder.join(target).exists() {
                complaints
                    .push(format!("{path}: the link to {target} leads nowhere: mend it, or take it out"));
            }
        }
    }
    report(complaints);
}

#[test]
fn a_file_of_700_lines_is_caught() {
    check_caught(
        "client/src/record.rs",
        &"const A: u8 = 0;\n".repeat(700),
        "700 lines of code where 600 are the limit",
    );
    check_caught("client/src/record.rs", &"// A comment.\n".repeat(700), "701 lines where 699 are the limit");
}

#[test]
fn a_function_of_71_lines_is_caught() {
    let text = format!("fn long() {{\n{}}}\n", "    a();\n".repeat(69));
    check_caught("client/src/record.rs", &text, "client/src/record.rs:2: long has 71 lines");
}

#[test]
fn a_clock_in_a_machine_is_caught() {
    let text = "fn due() -> Instant {\n    Instant::now()\n}\n";
    check_caught(
        "client/src/core/fetch.rs",
        text,
        "client/src/core/fetch.rs:3: Instant::now below client/src/core/",
    );
    check_caught("broker/src/core/log.rs", text, "Instant::now below broker/src/core/");
    check_caught("protocol/src/wire.rs", text, "Instant::now below protocol/src/");
}

#[test]
fn a_step_over_a_floor_is_caught() {
    check_caught("partitioners/src/sticky.rs", "use bytes::Bytes;\n", "bytes:: below partitioners/src/");
    check_caught(
        "client/src/core/fetch.rs",
        "use crate::driver::Door;\n",
        "crate::driver below client/src/core/",
    );
    check_caught(
        "client/src/driver/link.rs",
        "use ottla_protocol::messages;\n",
        "ottla_protocol::messages below",
    );
    check_caught("client/src/consumer/mod.rs", "use tokio::net;\n", "tokio::net below client/src/");
    check_caught("broker/src/server.rs", "use ottla::Client;\n", "ottla below broker/src/");
    check_caught(
        "serde-formats/src/json.rs",
        "use ottla_protocol::wire;\n",
        "ottla_protocol below serde-formats/src/",
    );
}

#[test]
fn a_task_that_the_simulator_does_not_know_is_caught() {
    check_caught(
        "client/src/driver/link.rs",
        "fn a() { tokio::spawn(b()); }\n",
        "tokio::spawn below client/src/",
    );
    check_caught(
        "client/src/driver/link.rs",
        "use std::collections::HashMap;\n",
        "HashMap below client/src/",
    );
    check_caught("broker/src/server.rs", "fn a() { tokio::select! { b => c } }\n", "without `biased;`");
}

#[test]
fn holes_are_caught() {
    check_caught("client/src/record.rs", "fn a() { todo!() }\n", "todo! is a hole");
    check_caught("client/src/record.rs", "// FIXME later\n", "FIXME in a comment");
    check_caught("client/tests/a.rs", "#[ignore = \"slow\"]\nfn a() {}\n", "#[ignore is a hole");
}

#[test]
fn names_and_heads_that_say_nothing_are_caught() {
    check_caught("client/src/utils.rs", "", "'utils' says nothing");
    check_caught("client/src/common/record.rs", "", "'common' says nothing");
    assert!(rules::complaints("client/src/record.rs", "struct A;\n", false)[0].contains("no head comment"));
    check_caught("protocol/src/lib.rs", "", "does not hold its floor");
    check_caught("broker/src/api/fetch.rs", "", "lacks 'Versions'");
}

#[test]
fn a_file_that_keeps_the_rules_earns_no_complaint() {
    let text = "//! Head.\n\nuse std::time::Instant;\n\nfn later(now: Instant) -> Instant {\n    now\n}\n";
    assert_eq!(rules::complaints("client/src/core/fetch.rs", text, false), Vec::<String>::new());
}
