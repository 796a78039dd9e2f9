//! Rules of access: described, created, deleted (KIP-11, KIP-290).
//!
//! It owns the rule and the filter as users see them. It refuses to judge by them: that is the broker's. Any broker is
//! asked; one that has no authorizer answers `SECURITY_DISABLED`.

use ottla_protocol::messages::{
    AclCreation, CreateAclsRequest, DeleteAclsFilter, DeleteAclsMatchingAcl, DeleteAclsRequest,
    DescribeAclsRequest, DescribeAclsResource,
};
use ottla_protocol::wire::Str;

use super::attempts::Pending;
use super::{Admin, Results, checked};
use crate::error::Error;

macro_rules! numbers {
    ($(#[$about:meta])* $name:ident { $( $(#[$doc:meta])* $variant:ident = $number:literal, )+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $name { $( $(#[$doc])* $variant, )+ }

        impl $name {
            fn wire(self) -> i8 {
                match self { $( Self::$variant => $number, )+ }
            }

            /// A newer broker may have more of them.
            fn of_wire(number: i8) -> Option<Self> {
                match number { $( $number => Some(Self::$variant), )+ _ => None }
            }
        }
    };
}

numbers! {
    /// What a rule of access is about.
    AclResource {
        /// A topic.
        Topic = 2,
        /// A group of consumers.
        Group = 3,
        /// The cluster; its name is `kafka-cluster`.
        Cluster = 4,
        /// A transactional id.
        TransactionalId = 5,
        /// A delegation token, by its id.
        DelegationToken = 6,
        /// A user, whose tokens others may make (KIP-373).
        User = 7,
    }
}

numbers! {
    /// What a rule of access lets somebody do, or not.
    AclOperation {
        /// Whatever there is.
        All = 2,
        /// Read; implies `Describe`.
        Read = 3,
        /// Write; implies `Describe`.
        Write = 4,
        /// Create.
        Create = 5,
        /// Delete; implies `Describe`.
        Delete = 6,
        /// Alter; implies `Describe`.
        Alter = 7,
        /// Know of it.
        Describe = 8,
        /// What brokers do among themselves.
        ClusterAction = 9,
        /// See how it is configured.
        DescribeConfigs = 10,
        /// Change how it is configured; implies `DescribeConfigs`.
        AlterConfigs = 11,
        /// Write with an idempotent producer; writing to any topic implies it.
        IdempotentWrite = 12,
        /// Make delegation tokens for a user (KIP-373).
        CreateTokens = 13,
        /// See the delegation tokens of a user (KIP-373).
        DescribeTokens = 14,
        /// Have transactions of two phases (KIP-939).
        TwoPhaseCommit = 15,
    }
}

numbers! {
    /// How the name of a rule is compared with that of a resource (KIP-290).
    AclPattern {
        /// The name is that of the resource, or `*` for all.
        Literal = 3,
        /// The resource's name begins with it.
        Prefixed = 4,
    }
}

numbers! {
    /// Whether a rule lets somebody do something, or keeps him from it. What is denied is denied, whatever else is allowed.
    AclPermission {
        /// It must not be done.
        Deny = 2,
        /// It may be done.
        Allow = 3,
    }
}

/// A rule of access: who may, or may not, do what from where with which resources (Java: `AclBinding`).
///
/// ```
/// use ottla::{Acl, AclOperation, AclResource};
///
/// let read = Acl::allow("User:alice", AclOperation::Read, AclResource::Topic, "orders");
/// let never = Acl::deny("User:*", AclOperation::Delete, AclResource::Topic, "audit-").prefixed();
/// assert_eq!(read.host, "*");
/// assert_ne!(read.pattern, never.pattern);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Acl {
    /// What kind of resource it is about.
    pub resource: AclResource,
    /// The resource's name, a beginning of it, or `*`.
    pub name: String,
    /// How the name is compared.
    pub pattern: AclPattern,
    /// Who: `User:alice`, or `User:*` for everybody.
    pub principal: String,
    /// From where: an IP address, or `*`.
    pub host: String,
    /// What he does.
    pub operation: AclOperation,
    /// Whether he may.
    pub permission: AclPermission,
}

impl Acl {
    /// A rule that lets somebody do something with the resource of this name, from anywhere.
    pub fn allow(
        principal: impl Into<String>,
        operation: AclOperation,
        resource: AclResource,
        name: impl Into<String>,
    ) -> Self {
        Self {
            resource,
            name: name.into(),
            pattern: AclPattern::Literal,
            principal: principal.into(),
            host: "*".into(),
            operation,
            permission: AclPermission::Allow,
        }
    }

    /// A rule that keeps somebody from doing something with the resource of this name, from anywhere.
    pub fn deny(
        principal: impl Into<String>,
        operation: AclOperation,
        resource: AclResource,
        name: impl Into<String>,
    ) -> Self {
        Self { permission: AclPermission::Deny, ..Self::allow(principal, operation, resource, name) }
    }

    /// The same for every resource whose name begins so (KIP-290).
    #[must_use]
    pub fn prefixed(self) -> Self {
        Self { pattern: AclPattern::Prefixed, ..self }
    }

    /// The same from this address only.
    #[must_use]
    pub fn from_host(self, host: impl Into<String>) -> Self {
        Self { host: host.into(), ..self }
    }

    /// `None` for what is newer than we are.
    fn of_wire(
        (resource, name, pattern): (i8, &Str, i8),
        (principal, host): (&Str, &Str),
        (operation, permission): (i8, i8),
    ) -> Option<Self> {
        Some(Self {
            resource: AclResource::of_wire(resource)?,
            name: name.to_string(),
            pattern: AclPattern::of_wire(pattern)?,
            principal: principal.to_string(),
            host: host.to_string(),
            operation: AclOperation::of_wire(operation)?,
            permission: AclPermission::of_wire(permission)?,
        })
    }

    fn creation(&self) -> AclCreation {
        AclCreation {
            resource_type: self.resource.wire(),
            resource_name: Str::from(&*self.name),
            resource_pattern_type: self.pattern.wire(),
            principal: Str::from(&*self.principal),
            host: Str::from(&*self.host),
            operation: self.operation.wire(),
            permission_type: self.permission.wire(),
        }
    }
}

/// Which rules are meant: those that have everything that is set here (Java: `AclBindingFilter`). The default means all.
///
/// ```
/// use ottla::{AclFilter, AclResource};
///
/// let of_alice = AclFilter { principal: Some("User:alice".into()), ..AclFilter::default() };
/// let that_decide = AclFilter::matching(AclResource::Topic, "orders");
/// assert_ne!(of_alice, that_decide);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AclFilter {
    /// The kind of resource.
    pub resource: Option<AclResource>,
    /// The name as the rule has it, or with `matches` that of a resource.
    pub name: Option<String>,
    /// How the rule compares names.
    pub pattern: Option<AclPattern>,
    /// Whether rules are meant that decide over the resource called `name`, whatever they call it; `pattern` does not count then.
    pub matches: bool,
    /// Who, as the rule has it.
    pub principal: Option<String>,
    /// From where, as the rule has it.
    pub host: Option<String>,
    /// What is done, as the rule has it.
    pub operation: Option<AclOperation>,
    /// Whether it may be done.
    pub permission: Option<AclPermission>,
}

impl AclFilter {
    /// The rules that decide over this resource: by its name, by a beginning of it, and by `*`.
    pub fn matching(resource: AclResource, name: impl Into<String>) -> Self {
        Self { resource: Some(resource), name: Some(name.into()), matches: true, ..Self::default() }
    }

    fn wire(&self) -> DeleteAclsFilter {
        const ANY: i8 = 1;
        const MATCH: i8 = 2;
        let text = |text: &Option<String>| text.as_deref().map(Str::from);
        DeleteAclsFilter {
            resource_type_filter: self.resource.map_or(ANY, AclResource::wire),
            resource_name_filter: text(&self.name),
            pattern_type_filter: match self.pattern {
                _ if self.matches => MATCH,
                pattern => pattern.map_or(ANY, AclPattern::wire),
            },
            principal_filter: text(&self.principal),
            host_filter: text(&self.host),
            operation: self.operation.map_or(ANY, AclOperation::wire),
            permission_type: self.permission.map_or(ANY, AclPermission::wire),
        }
    }
}

impl Admin {
    /// Asks for the rules of access that a filter means, in order. Rules with what this client does not know yet are left out.
    ///
    /// # Errors
    /// [`ErrorKind::Authorization`](crate::ErrorKind::Authorization) without `Describe` on the cluster; [`Error::code`] says `SECURITY_DISABLED` where there is
    /// no authorizer; else that of the last attempt. Cancelling does no harm.
    ///
    /// ```no_run
    /// # async fn run(admin: ottla::Admin) -> Result<(), ottla::Error> {
    /// for acl in admin.describe_acls(&ottla::AclFilter::default()).await? {
    ///     println!("{acl:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn describe_acls(&self, filter: &AclFilter) -> Result<Vec<Acl>, Error> {
        let filter = filter.wire();
        let request = DescribeAclsRequest {
            resource_type_filter: filter.resource_type_filter,
            resource_name_filter: filter.resource_name_filter,
            pattern_type_filter: filter.pattern_type_filter,
            principal_filter: filter.principal_filter,
            host_filter: filter.host_filter,
            operation: filter.operation,
            permission_type: filter.permission_type,
        };
        let mut attempts = self.attempts();
        loop {
            let answer = self.nodes.ask_any(&request, attempts.deadline).await;
            let described = answer.and_then(|answer| {
                checked(answer.error_code, answer.error_message.as_ref(), "rules of access")?;
                Ok(answer.resources)
            });
            match described {
                Ok(resources) => {
                    let mut acls: Vec<Acl> = resources.iter().flat_map(described_acls).collect();
                    acls.sort();
                    return Ok(acls);
                }
                Err(cause) => attempts.pause(cause).await?,
            }
        }
    }

    /// Creates rules of access. One that is there already stays, without an error.
    ///
    /// # Errors
    /// For each rule its own: [`ErrorKind::Authorization`](crate::ErrorKind::Authorization) without `Alter` on the cluster; [`Error::code`] says
    /// `SECURITY_DISABLED` where there is no authorizer. Cancelling may leave some of it done; doing it again does no harm.
    ///
    /// ```no_run
    /// # async fn run(admin: ottla::Admin) -> Result<(), ottla::Error> {
    /// use ottla::{Acl, AclOperation, AclResource};
    ///
    /// let rule = Acl::allow("User:alice", AclOperation::Read, AclResource::Topic, "orders");
    /// admin.create_acls([rule]).await.all()?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn create_acls(&self, acls: impl IntoIterator<Item = Acl>) -> Results<Acl, ()> {
        let mut attempts = self.attempts();
        let mut pending = Pending::new(acls);
        while pending.again(&mut attempts).await {
            let open = pending.open();
            let request = CreateAclsRequest { creations: open.iter().map(Acl::creation).collect() };
            match self.nodes.ask_any(&request, attempts.deadline).await {
                Ok(answer) => {
                    for (acl, created) in open.iter().zip(&answer.results) {
                        let subject =
                            format_args!("rule for {} on {:?} {}", acl.principal, acl.resource, acl.name);
                        let result = checked(created.error_code, created.error_message.as_ref(), subject);
                        pending.answer(acl, result);
                    }
                }
                Err(cause) => pending.fail(&cause),
            }
        }
        pending.into_results()
    }

    /// Deletes the rules of access that filters mean. The result of each filter is what was deleted by it.
    ///
    /// # Errors
    /// For each filter its own: [`ErrorKind::Authorization`](crate::ErrorKind::Authorization) without `Alter` on the cluster; [`Error::code`] says
    /// `SECURITY_DISABLED` where there is no authorizer. Cancelling may leave some of it done, and an attempt without an answer may
    /// have deleted rules that the next one does not find any more.
    ///
    /// ```no_run
    /// # async fn run(admin: ottla::Admin) -> Result<(), ottla::Error> {
    /// use ottla::AclFilter;
    ///
    /// let of_alice = AclFilter { principal: Some("User:alice".into()), ..AclFilter::default() };
    /// let gone = admin.delete_acls([of_alice.clone()]).await.take(&of_alice)?;
    /// println!("{} rules are gone", gone.len());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn delete_acls(
        &self,
        filters: impl IntoIterator<Item = AclFilter>,
    ) -> Results<AclFilter, Vec<Acl>> {
        let mut attempts = self.attempts();
        let mut pending = Pending::new(filters);
        while pending.again(&mut attempts).await {
            let open = pending.open();
            let request = DeleteAclsRequest { filters: open.iter().map(AclFilter::wire).collect() };
            match self.nodes.ask_any(&request, attempts.deadline).await {
                Ok(answer) => {
                    for (filter, deleted) in open.iter().zip(&answer.filter_results) {
                        let whole =
                            checked(deleted.error_code, deleted.error_message.as_ref(), "rules of access");
                        let result = whole.and_then(|()| deleted_acls(&deleted.matching_acls));
                        pending.answer(filter, result);
                    }
                }
                Err(cause) => pending.fail(&cause),
            }
        }
        pending.into_results()
    }
}

fn described_acls(found: &DescribeAclsResource) -> impl Iterator<Item = Acl> {
    found.acls.iter().filter_map(|acl| {
        let resource = (found.resource_type, &found.resource_name, found.pattern_type);
        Acl::of_wire(resource, (&acl.principal, &acl.host), (acl.operation, acl.permission_type))
    })
}

/// What is gone, or why one of them is not.
fn deleted_acls(matching: &[DeleteAclsMatchingAcl]) -> Result<Vec<Acl>, Error> {
    let mut acls = Vec::new();
    for it in matching {
        let subject = format_args!("rule for {} on {}", it.principal, it.resource_name);
        checked(it.error_code, it.error_message.as_ref(), subject)?;
        let resource = (it.resource_type, &it.resource_name, it.pattern_type);
        acls.extend(Acl::of_wire(resource, (&it.principal, &it.host), (it.operation, it.permission_type)));
    }
    acls.sort();
    Ok(acls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_a_rule_reads_back() {
        for number in i8::MIN..=i8::MAX {
            assert!(AclResource::of_wire(number).is_none_or(|it| it.wire() == number));
            assert!(AclOperation::of_wire(number).is_none_or(|it| it.wire() == number));
        }
        let rule = Acl::deny("User:bob", AclOperation::Write, AclResource::Group, "g")
            .prefixed()
            .from_host("10.0.0.1");
        let wire = rule.creation();
        let resource = (wire.resource_type, &wire.resource_name, wire.resource_pattern_type);
        let back =
            Acl::of_wire(resource, (&wire.principal, &wire.host), (wire.operation, wire.permission_type));
        assert_eq!(back, Some(rule));
    }
}
