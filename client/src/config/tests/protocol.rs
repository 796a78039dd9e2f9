//! Which settings go with which protocol of a group.

use super::*;

/// Rules 8 and 9.
#[test]
fn each_group_protocol_refuses_what_only_the_other_has() {
    for (key, value) in [
        ("partition.assignment.strategy", "range"),
        ("session.timeout.ms", "9000"),
        ("heartbeat.interval.ms", "1000"),
    ] {
        let protocol = |protocol| [("group.id", "g"), ("group.protocol", protocol), (key, value)];
        check_refused(&protocol("consumer"), &[&format!("group.protocol and {key}: only classic groups")]);
        check_accepted(&protocol("classic"));
        check_accepted(&protocol("auto"));
    }
    let assignor = ("group.remote.assignor", "uniform");
    check_refused(&[assignor], &["group.protocol and group.remote.assignor: classic groups"]);
    check_accepted(&[assignor, ("group.protocol", "consumer")]);
    check_accepted(&[assignor, ("group.protocol", "AUTO")]);
    check_refused(
        &[assignor, ("group.protocol", "auto"), ("session.timeout.ms", "9000")],
        &["group.protocol and group.remote.assignor"],
    );
}

#[test]
fn auto_becomes_classic_where_only_classic_groups_have_what_was_set() {
    let client = crate::Client::builder().bootstrap("a:1").build().expect("valid");
    let check = |builder: ConsumerBuilder, expected: GroupProtocol, warnings: usize| {
        let mut config = builder.config;
        let found = config.check(&client.config).expect("valid");
        assert_eq!((config.group_protocol, found.len()), (expected, warnings), "{found:?}");
    };
    let group = || client.consumer().group("g").subscribe(["t"]);
    check(group(), GroupProtocol::Auto, 0);
    check(group().group_protocol(GroupProtocol::Consumer), GroupProtocol::Consumer, 0);
    check(group().session_timeout(Duration::from_secs(9)), GroupProtocol::Classic, 1);
    check(group().assignors([Assignor::Range]), GroupProtocol::Classic, 1);
}
