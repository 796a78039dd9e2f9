//! DescribeAcls, CreateAcls and DeleteAcls: the rules of access (KIP-11, KIP-290).
//!
//! Versions: all 1 to 3, whole, as Kafka judges them. Without `authorizer.class.name` there are no rules, and all three
//! are refused with SECURITY_DISABLED. Any node answers. Rules are kept in memory.

use super::{Caller, Refuse};
use crate::core::authorizer::{CLUSTER_NAME, Kind, Operation, Rule};
use crate::core::{Cluster, Now};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    AclCreation, AclCreationResult, AclDescription, CreateAclsRequest, CreateAclsResponse, DeleteAclsFilter,
    DeleteAclsFilterResult, DeleteAclsMatchingAcl, DeleteAclsRequest, DeleteAclsResponse,
    DescribeAclsRequest, DescribeAclsResource, DescribeAclsResponse,
};
use ottla_protocol::wire::Str;

// Of kinds, operations, patterns and permissions, in filters.
const ANY: i8 = 1;
/// Of patterns: whatever a resource of this name is subject to.
const MATCH: i8 = 2;
const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;
const DENY: i8 = 2;
const ALLOW: i8 = 3;

const NO_AUTHORIZER: &str = "No Authorizer is configured.";

impl Refuse for DescribeAclsRequest {
    type Response = DescribeAclsResponse;

    fn refuse(&self, error_code: ErrorCode) -> DescribeAclsResponse {
        let error_message = Some(Str::from_static(message(error_code)));
        DescribeAclsResponse { error_code, error_message, ..DescribeAclsResponse::default() }
    }
}

impl Refuse for CreateAclsRequest {
    type Response = CreateAclsResponse;

    fn refuse(&self, error_code: ErrorCode) -> CreateAclsResponse {
        let error_message = Some(Str::from_static(message(error_code)));
        let result = AclCreationResult { error_code, error_message };
        let results = self.creations.iter().map(|_| result.clone()).collect();
        CreateAclsResponse { results, ..CreateAclsResponse::default() }
    }
}

impl Refuse for DeleteAclsRequest {
    type Response = DeleteAclsResponse;

    fn refuse(&self, error_code: ErrorCode) -> DeleteAclsResponse {
        let filter_results = self.filters.iter().map(|_| not_deleted(error_code, message(error_code)));
        DeleteAclsResponse { filter_results: filter_results.collect(), ..DeleteAclsResponse::default() }
    }
}

fn message(code: ErrorCode) -> &'static str {
    if code == ErrorCode::SECURITY_DISABLED { NO_AUTHORIZER } else { code.message() }
}

fn not_deleted(error_code: ErrorCode, message: &str) -> DeleteAclsFilterResult {
    let error_message = Some(Str::from(message));
    DeleteAclsFilterResult { error_code, error_message, matching_acls: Vec::new() }
}

/// What rules are asked for.
struct Filter<'a> {
    kind: i8,
    name: Option<&'a str>,
    pattern: i8,
    principal: Option<&'a str>,
    host: Option<&'a str>,
    operation: i8,
    permission: i8,
}

impl Filter<'_> {
    /// Whether a filter can be understood; the version of it that a client speaks may be newer than the broker.
    fn is_known(&self) -> bool {
        (self.kind == ANY || Kind::of_wire(self.kind).is_some())
            && (ANY..=PREFIXED).contains(&self.pattern)
            && (self.operation == ANY || Operation::of_wire(self.operation).is_some())
            && (ANY..=ALLOW).contains(&self.permission)
    }

    fn matches(&self, rule: &Rule) -> bool {
        let is = |wanted: Option<&str>, text: &str| wanted.is_none_or(|wanted| wanted == text);
        let name = match (self.name, self.pattern) {
            (None, ANY | MATCH) => true,
            (wanted, ANY) => is(wanted, &rule.name),
            (Some(name), MATCH) if rule.prefixed => name.starts_with(&*rule.name),
            (Some(name), MATCH) => *rule.name == *name || &*rule.name == "*",
            (wanted, pattern) => pattern == pattern_of(rule) && is(wanted, &rule.name),
        };
        name && (self.kind == ANY || self.kind == rule.kind.wire())
            && is(self.principal, &rule.principal)
            && is(self.host, &rule.host)
            && (self.operation == ANY || self.operation == rule.operation.wire())
            && (self.permission == ANY || self.permission == permission_of(rule))
    }
}

fn pattern_of(rule: &Rule) -> i8 {
    if rule.prefixed { PREFIXED } else { LITERAL }
}

fn permission_of(rule: &Rule) -> i8 {
    if rule.allows { ALLOW } else { DENY }
}

impl Cluster {
    pub(crate) fn describe_acls(
        &mut self,
        _: Now,
        _: &Caller,
        request: DescribeAclsRequest,
    ) -> DescribeAclsResponse {
        if !self.access.is_on() {
            return request.refuse(ErrorCode::SECURITY_DISABLED);
        }
        let filter = Filter {
            kind: request.resource_type_filter,
            name: request.resource_name_filter.as_deref(),
            pattern: request.pattern_type_filter,
            principal: request.principal_filter.as_deref(),
            host: request.host_filter.as_deref(),
            operation: request.operation,
            permission: request.permission_type,
        };
        if !filter.is_known() {
            return request.refuse(ErrorCode::INVALID_REQUEST);
        }
        let mut resources: Vec<DescribeAclsResource> = Vec::new();
        for rule in self.access.rules().filter(|rule| filter.matches(rule)) {
            let (kind, pattern) = (rule.kind.wire(), pattern_of(rule));
            let acl = AclDescription {
                principal: rule.principal.clone(),
                host: rule.host.clone(),
                operation: rule.operation.wire(),
                permission_type: permission_of(rule),
            };
            let is_same = |it: &&mut DescribeAclsResource| {
                it.resource_type == kind && it.pattern_type == pattern && it.resource_name == rule.name
            };
            match resources.last_mut().filter(is_same) {
                Some(last) => last.acls.push(acl),
                None => resources.push(DescribeAclsResource {
                    resource_type: kind,
                    resource_name: rule.name.clone(),
                    pattern_type: pattern,
                    acls: vec![acl],
                }),
            }
        }
        DescribeAclsResponse { resources, error_message: None, ..DescribeAclsResponse::default() }
    }

    pub(crate) fn create_acls(
        &mut self,
        _: Now,
        _: &Caller,
        request: CreateAclsRequest,
    ) -> CreateAclsResponse {
        if !self.access.is_on() {
            return request.refuse(ErrorCode::SECURITY_DISABLED);
        }
        let create = |asked: &AclCreation| match rule(asked) {
            Ok(rule) => {
                self.access.insert(rule);
                AclCreationResult { error_code: ErrorCode::NONE, error_message: None }
            }
            Err(reason) => AclCreationResult {
                error_code: ErrorCode::INVALID_REQUEST,
                error_message: Some(Str::from(reason)),
            },
        };
        let results = request.creations.iter().map(create).collect();
        CreateAclsResponse { results, ..CreateAclsResponse::default() }
    }

    pub(crate) fn delete_acls(
        &mut self,
        _: Now,
        _: &Caller,
        request: DeleteAclsRequest,
    ) -> DeleteAclsResponse {
        if !self.access.is_on() {
            return request.refuse(ErrorCode::SECURITY_DISABLED);
        }
        let filter_results = request.filters.iter().map(|filter| self.delete_matching(filter)).collect();
        DeleteAclsResponse { filter_results, ..DeleteAclsResponse::default() }
    }

    fn delete_matching(&mut self, asked: &DeleteAclsFilter) -> DeleteAclsFilterResult {
        let filter = Filter {
            kind: asked.resource_type_filter,
            name: asked.resource_name_filter.as_deref(),
            pattern: asked.pattern_type_filter,
            principal: asked.principal_filter.as_deref(),
            host: asked.host_filter.as_deref(),
            operation: asked.operation,
            permission: asked.permission_type,
        };
        if !filter.is_known() {
            return not_deleted(ErrorCode::INVALID_REQUEST, "the filter has something unknown in it");
        }
        let matching: Vec<Rule> = self.access.rules().filter(|rule| filter.matches(rule)).cloned().collect();
        matching.iter().for_each(|rule| self.access.remove(rule));
        let deleted = |rule: Rule| DeleteAclsMatchingAcl {
            error_code: ErrorCode::NONE,
            error_message: None,
            resource_type: rule.kind.wire(),
            pattern_type: pattern_of(&rule),
            operation: rule.operation.wire(),
            permission_type: permission_of(&rule),
            resource_name: rule.name,
            principal: rule.principal,
            host: rule.host,
        };
        DeleteAclsFilterResult {
            error_code: ErrorCode::NONE,
            error_message: None,
            matching_acls: matching.into_iter().map(deleted).collect(),
        }
    }
}

/// The rule that is to be made, if there can be such a one. It holds on to no frame.
fn rule(asked: &AclCreation) -> Result<Rule, String> {
    let refuse = |what: &str| Err(format!("the rule has {what}"));
    let Some(kind) = Kind::of_wire(asked.resource_type) else { return refuse("no kind of resource") };
    let Some(operation) = Operation::of_wire(asked.operation) else { return refuse("no operation") };
    if !matches!(asked.resource_pattern_type, LITERAL | PREFIXED) {
        return refuse("a pattern that is neither literal nor a prefix");
    }
    if !matches!(asked.permission_type, DENY | ALLOW) {
        return refuse("a permission that neither allows nor denies");
    }
    if asked.resource_name.is_empty() {
        return refuse("no name of a resource");
    }
    if kind == Kind::Cluster && &*asked.resource_name != CLUSTER_NAME {
        return refuse("another name of the cluster than kafka-cluster");
    }
    if !asked.principal.contains(':') {
        return Err(
            "Could not parse principal from KafkaPrincipal: expected principalType:principalName".into()
        );
    }
    if asked.host.is_empty() {
        return refuse("no host");
    }
    Ok(Rule {
        kind,
        name: Str::from(&*asked.resource_name),
        prefixed: asked.resource_pattern_type == PREFIXED,
        principal: Str::from(&*asked.principal),
        host: Str::from(&*asked.host),
        operation,
        allows: asked.permission_type == ALLOW,
    })
}
