//! Access rules. Kinds of resources, patterns, operations and permissions are numbers, as on the wire.

use crate::error_code::ErrorCode;
use crate::table::message;
use crate::wire::Str;

message! {
    /// Asks for access rules by a filter. Prefixes: KIP-290.
    DescribeAclsRequest: key 29, versions 1..=3, flexible 2, answer DescribeAclsResponse {
        resource_type_filter: i8,
        resource_name_filter: Option<Str> = Some(Str::default()),
        pattern_type_filter:  i8          = 3,
        principal_filter:     Option<Str> = Some(Str::default()),
        host_filter:          Option<Str> = Some(Str::default()),
        operation:            i8,
        permission_type:      i8,
    }

    /// The rules.
    DescribeAclsResponse {
        throttle_time_ms: i32,
        error_code:       ErrorCode,
        error_message:    Option<Str>               = Some(Str::default()),
        resources:        Vec<DescribeAclsResource>,
    }

    /// A resource and the rules for it.
    DescribeAclsResource {
        resource_type: i8,
        resource_name: Str,
        pattern_type:  i8                  = 3,
        acls:          Vec<AclDescription>,
    }

    /// A rule.
    AclDescription {
        principal:       Str,
        host:            Str,
        operation:       i8,
        permission_type: i8,
    }

    /// Creates access rules.
    CreateAclsRequest: key 30, versions 1..=3, flexible 2, answer CreateAclsResponse {
        creations: Vec<AclCreation>,
    }

    /// A rule to create.
    AclCreation {
        resource_type:         i8,
        resource_name:         Str,
        resource_pattern_type: i8  = 3,
        principal:             Str,
        host:                  Str,
        operation:             i8,
        permission_type:       i8,
    }

    /// The outcome for each rule.
    CreateAclsResponse {
        throttle_time_ms: i32,
        results:          Vec<AclCreationResult>,
    }

    /// The outcome for one rule.
    AclCreationResult {
        error_code:    ErrorCode,
        error_message: Option<Str> = Some(Str::default()),
    }

    /// Deletes access rules by filters.
    DeleteAclsRequest: key 31, versions 1..=3, flexible 2, answer DeleteAclsResponse {
        filters: Vec<DeleteAclsFilter>,
    }

    /// Matches the rules to delete.
    DeleteAclsFilter {
        resource_type_filter: i8,
        resource_name_filter: Option<Str> = Some(Str::default()),
        pattern_type_filter:  i8          = 3,
        principal_filter:     Option<Str> = Some(Str::default()),
        host_filter:          Option<Str> = Some(Str::default()),
        operation:            i8,
        permission_type:      i8,
    }

    /// The rules that were deleted.
    DeleteAclsResponse {
        throttle_time_ms: i32,
        filter_results:   Vec<DeleteAclsFilterResult>,
    }

    /// The outcome for one filter.
    DeleteAclsFilterResult {
        error_code:    ErrorCode,
        error_message: Option<Str>                = Some(Str::default()),
        matching_acls: Vec<DeleteAclsMatchingAcl>,
    }

    /// A rule that matched, and whether it was deleted.
    DeleteAclsMatchingAcl {
        error_code:      ErrorCode,
        error_message:   Option<Str> = Some(Str::default()),
        resource_type:   i8,
        resource_name:   Str,
        pattern_type:    i8          = 3,
        principal:       Str,
        host:            Str,
        operation:       i8,
        permission_type: i8,
    }
}
