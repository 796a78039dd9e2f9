//! The bundled broker on a directory, killed twenty times under load: what it acknowledged is there once and in order.

use std::process::Command;

fn check(endured: &[&str]) {
    let status = Command::new(env!("CARGO_BIN_EXE_on-disk"))
        .args(["--kills", "10", "--every", "400", "--", env!("CARGO_BIN_EXE_endure")])
        .args(endured)
        .args(["--brokers", "{brokers}"])
        .status();
    assert!(status.expect("the program was built beside the test").success(), "{endured:?}");
}

#[test]
fn what_was_acknowledged_survives_kills_once_and_in_order() {
    check(&["produce", "--records", "60000", "--rate", "8000", "--partitions", "4"]);
}

#[test]
fn a_pipeline_stays_exactly_once_while_its_broker_is_killed() {
    check(&["pipeline", "--records", "30000", "--partitions", "3", "--kills", "3"]);
}
