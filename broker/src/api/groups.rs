//! DescribeGroups, ListGroups and DeleteGroups: groups from the outside.
//!
//! DescribeGroups versions 0 to 6, ListGroups 0 to 5 (filters by state and type), DeleteGroups 0 to 3: whole.
//! DescribeGroups knows classic groups only, as in Kafka. A node lists the groups that it coordinates.

use super::{Caller, Refuse};
use crate::core::authorizer::{Kind, Operation};
use crate::core::coordinator::Coordinated;
use crate::core::group::Membership;
use crate::core::group::classic::{Group, State};
use crate::core::{Cluster, Now};
use bytes::Bytes;
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DeletedGroup, DescribeGroupsRequest, DescribeGroupsResponse,
    DescribedGroup, DescribedGroupMember, ListGroupsRequest, ListGroupsResponse, ListedGroup,
};
use ottla_protocol::wire::Str;

/// Read, delete, describe, and describe and alter the configuration: bits by Kafka's numbers.
pub(crate) const GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

impl Refuse for DescribeGroupsRequest {
    type Response = DescribeGroupsResponse;

    fn refuse(&self, code: ErrorCode) -> DescribeGroupsResponse {
        let groups = self.groups.iter().map(|group| not_described(group, code));
        DescribeGroupsResponse { groups: groups.collect(), ..DescribeGroupsResponse::default() }
    }
}

fn not_described(group_id: &Str, error_code: ErrorCode) -> DescribedGroup {
    DescribedGroup { error_code, group_id: group_id.clone(), ..DescribedGroup::default() }
}

impl Refuse for ListGroupsRequest {
    type Response = ListGroupsResponse;

    fn refuse(&self, error_code: ErrorCode) -> ListGroupsResponse {
        ListGroupsResponse { error_code, ..ListGroupsResponse::default() }
    }
}

impl Refuse for DeleteGroupsRequest {
    type Response = DeleteGroupsResponse;

    fn refuse(&self, error_code: ErrorCode) -> DeleteGroupsResponse {
        let results = self.groups_names.iter().map(|group_id| DeletedGroup {
            group_id: group_id.clone(),
            error_code,
            error_message: None,
        });
        DeleteGroupsResponse { results: results.collect(), ..DeleteGroupsResponse::default() }
    }
}

impl Cluster {
    pub(crate) fn describe_groups(
        &mut self,
        _: Now,
        caller: &Caller,
        request: DescribeGroupsRequest,
    ) -> DescribeGroupsResponse {
        let describe = |group: &Str| {
            let allowed = self.access.on_group(Operation::Describe, caller, group);
            if let Err(code) = allowed.and_then(|()| self.check_group(caller, group)) {
                return not_described(group, code);
            }
            let mut described = match self.groups.get(group).map(|entry| &entry.membership) {
                Some(Membership::Classic(classic)) => described(group, classic),
                Some(Membership::Consumer(_)) => unknown_group(caller, group, "is not a classic group"),
                None => unknown_group(caller, group, "not found"),
            };
            if request.include_authorized_operations {
                described.authorized_operations =
                    self.access.operations(caller.into(), Kind::Group, group, GROUP_OPERATIONS);
            }
            described
        };
        let groups = request.groups.iter().map(describe).collect();
        DescribeGroupsResponse { groups, ..DescribeGroupsResponse::default() }
    }

    pub(crate) fn list_groups(
        &mut self,
        _: Now,
        caller: &Caller,
        request: ListGroupsRequest,
    ) -> ListGroupsResponse {
        let matches = |filter: &[Str], value: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
        };
        let all = self.access.on_cluster(Operation::Describe, caller).is_ok();
        let listed = self.groups.iter().filter(|(id, entry)| {
            (all || self.access.on_group(Operation::Describe, caller, id).is_ok())
                && self.check_coordinator(caller, Coordinated::Group(id)).is_ok()
                && matches(&request.states_filter, entry.membership.state())
                && matches(&request.types_filter, entry.membership.type_name())
        });
        let groups = listed.map(|(id, entry)| ListedGroup {
            group_id: id.clone(),
            protocol_type: entry.membership.protocol_type(),
            group_state: Str::from_static(entry.membership.state()),
            group_type: Str::from_static(entry.membership.type_name()),
        });
        ListGroupsResponse { groups: groups.collect(), ..ListGroupsResponse::default() }
    }

    pub(crate) fn delete_groups(
        &mut self,
        now: Now,
        caller: &Caller,
        request: DeleteGroupsRequest,
    ) -> DeleteGroupsResponse {
        let delete = |group_id: &Str| {
            let allowed = self.access.on_group(Operation::Delete, caller, group_id);
            let checked = allowed.and_then(|()| self.check_group(caller, group_id)).and_then(|()| match self
                .groups
                .get(group_id)
            {
                None => Err(ErrorCode::GROUP_ID_NOT_FOUND),
                Some(entry) if !entry.membership.is_empty() => Err(ErrorCode::NON_EMPTY_GROUP),
                Some(_) => Ok(()),
            });
            let stored = checked.and_then(|()| self.forget_offsets(now, group_id));
            if stored.is_ok() {
                self.groups.remove(group_id);
            }
            let error_code = stored.err().unwrap_or(ErrorCode::NONE);
            DeletedGroup { group_id: group_id.clone(), error_code, error_message: None }
        };
        let results = request.groups_names.iter().map(delete).collect();
        DeleteGroupsResponse { results, ..DeleteGroupsResponse::default() }
    }
}

impl Cluster {
    /// Takes back all that a group has committed.
    fn forget_offsets(&mut self, now: Now, group_id: &Str) -> Result<(), ErrorCode> {
        let entry = self.groups.get(group_id);
        let places: Vec<_> =
            entry.into_iter().flat_map(|entry| entry.offsets().map(|(place, _)| place.clone())).collect();
        self.store_offsets(now, group_id, None, places.iter().map(|place| (place, None)))
    }
}

/// Before version 6 a group that does not exist, or is of the other protocol, is described as dead.
fn unknown_group(caller: &Caller, group: &Str, reason: &str) -> DescribedGroup {
    let group_state = Str::from_static("Dead");
    if caller.version < 6 {
        return DescribedGroup { group_state, ..not_described(group, ErrorCode::NONE) };
    }
    let error_message = Some(Str::from(format!("Group {group} {reason}.")));
    DescribedGroup { group_state, error_message, ..not_described(group, ErrorCode::GROUP_ID_NOT_FOUND) }
}

fn described(group_id: &Str, group: &Group) -> DescribedGroup {
    // Until the assignment is known, neither it nor what it was made from is shown.
    let is_stable = group.state() == State::Stable;
    let protocol = group.protocol().filter(|_| is_stable).cloned().unwrap_or_default();
    let members = group.members().iter().map(|(member_id, member)| DescribedGroupMember {
        member_id: member_id.clone(),
        group_instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        member_metadata: if is_stable { member.metadata(&protocol) } else { Bytes::new() },
        member_assignment: if is_stable { member.assignment.clone() } else { Bytes::new() },
    });
    DescribedGroup {
        error_code: ErrorCode::NONE,
        group_id: group_id.clone(),
        group_state: Str::from_static(group.state().name()),
        protocol_type: group.protocol_type().cloned().unwrap_or_default(),
        protocol_data: protocol.clone(),
        members: members.collect(),
        ..DescribedGroup::default()
    }
}
