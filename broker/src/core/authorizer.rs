//! Who may do what: the rules of access (KIP-11, KIP-290), judged as Kafka's StandardAuthorizer does.
//!
//! It owns the rules. It refuses to know requests: an API asks of a resource and an operation. Invariant: a rule that
//! denies wins over all that allow, and without an authorizer everything is free.

use super::settings::AccessSettings;
use ottla_protocol::wire::Str;
use std::collections::BTreeSet;

/// The name of the only resource of its kind.
pub(crate) const CLUSTER_NAME: &str = "kafka-cluster";
/// Any name, in a rule that is literal.
const ANYTHING: &str = "*";
const EVERYBODY: &str = "User:*";

/// A kind of resource, by Kafka's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Topic = 2,
    Group = 3,
    Cluster = 4,
    TransactionalId = 5,
    DelegationToken = 6,
    User = 7,
}

impl Kind {
    pub(crate) fn of_wire(number: i8) -> Option<Self> {
        let all = [Self::Topic, Self::Group, Self::Cluster, Self::TransactionalId, Self::DelegationToken];
        all.into_iter().chain([Self::User]).find(|kind| kind.wire() == number)
    }

    pub(crate) fn wire(self) -> i8 {
        self as i8
    }
}

/// What somebody does, by Kafka's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    All = 2,
    Read = 3,
    Write = 4,
    Create = 5,
    Delete = 6,
    Alter = 7,
    Describe = 8,
    ClusterAction = 9,
    DescribeConfigs = 10,
    AlterConfigs = 11,
    IdempotentWrite = 12,
    CreateTokens = 13,
    DescribeTokens = 14,
    TwoPhaseCommit = 15,
}

impl Operation {
    const EACH: [Self; 14] = [
        Self::All,
        Self::Read,
        Self::Write,
        Self::Create,
        Self::Delete,
        Self::Alter,
        Self::Describe,
        Self::ClusterAction,
        Self::DescribeConfigs,
        Self::AlterConfigs,
        Self::IdempotentWrite,
        Self::CreateTokens,
        Self::DescribeTokens,
        Self::TwoPhaseCommit,
    ];

    pub(crate) fn of_wire(number: i8) -> Option<Self> {
        Self::EACH.into_iter().find(|operation| operation.wire() == number)
    }

    pub(crate) fn wire(self) -> i8 {
        self as i8
    }

    /// Whoever may do this may do that as well.
    fn implies(self, other: Self) -> bool {
        match other {
            Self::Describe => matches!(self, Self::Read | Self::Write | Self::Delete | Self::Alter),
            Self::DescribeConfigs => self == Self::AlterConfigs,
            _ => false,
        }
    }
}

/// A rule: who, from where, may or may not do what with which resources.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rule {
    pub(crate) kind: Kind,
    pub(crate) name: Str,
    /// Whether the name is only a beginning.
    pub(crate) prefixed: bool,
    /// `User:alice`, or `User:*`.
    pub(crate) principal: Str,
    pub(crate) host: Str,
    pub(crate) operation: Operation,
    pub(crate) allows: bool,
}

impl Rule {
    fn is_about(&self, kind: Kind, name: &str) -> bool {
        self.kind == kind
            && match self.prefixed {
                true => name.starts_with(&*self.name),
                false => *self.name == *name || *self.name == *ANYTHING,
            }
    }

    fn is_for(&self, who: Who<'_>) -> bool {
        (*self.principal == *EVERYBODY || *self.principal == *who.principal)
            && (*self.host == *ANYTHING || *self.host == *who.host)
    }

    fn covers(&self, operation: Operation) -> bool {
        self.operation == Operation::All
            || self.operation == operation
            || (self.allows && self.operation.implies(operation))
    }
}

/// Somebody, and where he is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Who<'a> {
    pub(crate) principal: &'a str,
    pub(crate) host: &'a str,
}

/// See the head of the file.
#[derive(Debug, Default)]
pub(crate) struct Authorizer {
    rules: BTreeSet<Rule>,
    settings: AccessSettings,
}

impl Authorizer {
    pub(crate) fn new(settings: AccessSettings) -> Self {
        Self { rules: BTreeSet::new(), settings }
    }

    /// Whether anybody is asked.
    pub(crate) fn is_on(&self) -> bool {
        self.settings.authorizer
    }

    pub(crate) fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    pub(crate) fn insert(&mut self, rule: Rule) {
        self.rules.insert(rule);
    }

    pub(crate) fn remove(&mut self, rule: &Rule) {
        self.rules.remove(rule);
    }

    fn is_free(&self, who: Who<'_>) -> bool {
        !self.settings.authorizer || self.settings.super_users.iter().any(|user| **user == *who.principal)
    }

    pub(crate) fn allows(&self, who: Who<'_>, kind: Kind, name: &str, operation: Operation) -> bool {
        if self.is_free(who) {
            return true;
        }
        let mut about = self.rules.iter().filter(|rule| rule.is_about(kind, name)).peekable();
        if about.peek().is_none() {
            return self.settings.free_without_rules;
        }
        let mut allowed = false;
        for rule in about.filter(|rule| rule.is_for(who) && rule.covers(operation)) {
            if !rule.allows {
                return false;
            }
            allowed = true;
        }
        allowed
    }

    /// Whether there can be any resource of this kind with which he may do this.
    pub(crate) fn allows_any(&self, who: Who<'_>, kind: Kind, operation: Operation) -> bool {
        if self.is_free(who) {
            return true;
        }
        let matching = |allows: bool| {
            let of = move |rule: &&Rule| rule.kind == kind && rule.allows == allows;
            self.rules.iter().filter(of).filter(|rule| rule.is_for(who) && rule.covers(operation))
        };
        let denied = |rule: &Rule| {
            matching(false).any(|deny| match (deny.prefixed, rule.prefixed) {
                (true, _) => rule.name.starts_with(&*deny.name),
                (false, false) => deny.name == rule.name || *deny.name == *ANYTHING,
                (false, true) => *deny.name == *ANYTHING,
            })
        };
        let denied_all = || matching(false).any(|deny| !deny.prefixed && *deny.name == *ANYTHING);
        matching(true).any(|rule| !denied(rule)) || (self.settings.free_without_rules && !denied_all())
    }

    /// What somebody may do with a resource, as bits by Kafka's numbers, among those that it knows.
    pub(crate) fn operations(&self, who: Who<'_>, kind: Kind, name: &str, known: i32) -> i32 {
        if self.is_free(who) {
            return known;
        }
        let may = |it: &Operation| known & 1 << it.wire() != 0 && self.allows(who, kind, name, *it);
        Operation::EACH.into_iter().filter(may).fold(0, |bits, it| bits | 1 << it.wire())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Who<'static> = Who { principal: "User:alice", host: "10.0.0.1" };
    const BOB: Who<'static> = Who { principal: "User:bob", host: "10.0.0.2" };

    fn authorizer(rules: &[&str]) -> Authorizer {
        let settings = AccessSettings {
            authorizer: true,
            super_users: vec![Str::from("User:root")],
            ..AccessSettings::default()
        };
        let mut authorizer = Authorizer::new(settings);
        for text in rules {
            let [verdict, principal, host, operation, name] = text.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{text}")
            };
            let operation = Operation::EACH.into_iter().find(|it| format!("{it:?}") == operation).unwrap();
            let (name, prefixed) = name.strip_suffix('~').map_or((name, false), |name| (name, true));
            authorizer.insert(Rule {
                kind: Kind::Topic,
                name: Str::from(name),
                prefixed,
                principal: Str::from(principal),
                host: Str::from(host),
                operation,
                allows: verdict == "allow",
            });
        }
        authorizer
    }

    fn check(rules: &[&str], who: Who<'_>, operation: Operation, name: &str, expected: bool) {
        let allowed = authorizer(rules).allows(who, Kind::Topic, name, operation);
        assert_eq!(allowed, expected, "{rules:?} {who:?} {operation:?} {name}");
    }

    #[test]
    fn rules_are_judged_as_the_standard_authorizer_does() {
        use Operation::{AlterConfigs, Delete, Describe, DescribeConfigs, Read, Write};
        let read = "allow User:alice * Read orders";
        check(&[], ALICE, Read, "orders", false);
        check(&[read], ALICE, Read, "orders", true);
        check(&[read], ALICE, Describe, "orders", true);
        check(&[read], ALICE, Write, "orders", false);
        check(&[read], ALICE, Read, "orders2", false);
        check(&[read], BOB, Read, "orders", false);
        check(&["allow User:* 10.0.0.1 All *"], ALICE, Delete, "x", true);
        check(&["allow User:* 10.0.0.1 All *"], BOB, Delete, "x", false);
        check(&["allow User:alice * Write ord~"], ALICE, Write, "orders", true);
        check(&["allow User:alice * Write ord~"], ALICE, Write, "or", false);
        check(&["allow User:alice * AlterConfigs t"], ALICE, DescribeConfigs, "t", true);
        check(&["allow User:alice * DescribeConfigs t"], ALICE, AlterConfigs, "t", false);
        // Whoever must not read may still be shown what there is.
        check(
            &["deny User:alice * Read orders", "allow User:alice * All *"],
            ALICE,
            Describe,
            "orders",
            true,
        );
        check(&["deny User:alice * Read orders", "allow User:alice * All *"], ALICE, Read, "orders", false);
        check(&["deny User:* * All ord~", "allow User:alice * Read orders"], ALICE, Read, "orders", false);
        check(&[], Who { principal: "User:root", host: "x" }, Delete, "orders", true);
    }

    #[test]
    fn what_nobody_has_a_rule_for_is_free_where_it_is_said_so() {
        let mut open = authorizer(&["allow User:alice * Read orders"]);
        open.settings.free_without_rules = true;
        assert!(open.allows(BOB, Kind::Topic, "other", Operation::Write));
        assert!(!open.allows(BOB, Kind::Topic, "orders", Operation::Write));
    }

    #[test]
    fn any_resource_is_one_that_no_rule_takes_back() {
        let check = |rules: &[&str], expected: bool| {
            let any = authorizer(rules).allows_any(ALICE, Kind::Topic, Operation::Write);
            assert_eq!(any, expected, "{rules:?}");
        };
        check(&[], false);
        check(&["allow User:alice * Write a~"], true);
        check(&["allow User:alice * Write ab~", "deny User:alice * Write a~"], false);
        check(&["allow User:alice * Write ab", "deny User:alice * Write ab"], false);
        check(&["allow User:alice * Write ab", "deny User:* * All *"], false);
        check(&["allow User:alice * Write ab~", "deny User:* * All abc"], true);
    }

    #[test]
    fn operations_are_bits() {
        let rules = authorizer(&["allow User:alice * Read orders"]);
        let all = 1 << 3 | 1 << 4 | 1 << 8;
        assert_eq!(rules.operations(ALICE, Kind::Topic, "orders", all), 1 << 3 | 1 << 8);
        assert_eq!(rules.operations(BOB, Kind::Topic, "orders", all), 0);
        assert_eq!(Authorizer::default().operations(BOB, Kind::Topic, "orders", all), all);
    }
}
