//! JoinGroup, SyncGroup, Heartbeat, LeaveGroup: the life of a member of a classic group.
//!
//! JoinGroup versions 0 to 9: whole (member ids first from 4, static members from 5); the reason is ignored. SyncGroup
//! 0 to 5, Heartbeat 0 to 4, LeaveGroup 0 to 5 (many members from 3): whole, but for the reason. Each is answered by the
//! group's coordinator only. The group itself is in [`crate::core::group::classic`]; members of this kind may also be in a
//! consumer group that is on its way from or to the classic protocol.

use super::{Caller, Refuse};
use crate::core::coordinator::Coordinated;
use crate::core::{Cluster, Handled, Now};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, LeftMember, SyncGroupRequest, SyncGroupResponse,
};
use std::time::Duration;

impl Refuse for JoinGroupRequest {
    type Response = JoinGroupResponse;

    fn refuse(&self, error_code: ErrorCode) -> JoinGroupResponse {
        JoinGroupResponse { error_code, member_id: self.member_id.clone(), ..JoinGroupResponse::default() }
    }
}

impl Refuse for SyncGroupRequest {
    type Response = SyncGroupResponse;

    fn refuse(&self, error_code: ErrorCode) -> SyncGroupResponse {
        SyncGroupResponse { error_code, ..SyncGroupResponse::default() }
    }
}

impl Refuse for HeartbeatRequest {
    type Response = HeartbeatResponse;

    fn refuse(&self, error_code: ErrorCode) -> HeartbeatResponse {
        HeartbeatResponse { error_code, ..HeartbeatResponse::default() }
    }
}

impl Refuse for LeaveGroupRequest {
    type Response = LeaveGroupResponse;

    fn refuse(&self, error_code: ErrorCode) -> LeaveGroupResponse {
        LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() }
    }
}

impl Cluster {
    pub(crate) fn join_group(&mut self, now: Now, caller: &Caller, request: JoinGroupRequest) -> Handled {
        if let Err(code) = self.check_group(caller, &request.group_id) {
            return request.refuse(code).into();
        }
        let session_timeout = u64::try_from(request.session_timeout_ms).map(Duration::from_millis);
        if !session_timeout.is_ok_and(|timeout| self.settings.group.session_timeout.contains(&timeout)) {
            return request.refuse(ErrorCode::INVALID_SESSION_TIMEOUT).into();
        }
        if self.groups.get(&request.group_id).is_none() && !request.member_id.is_empty() {
            return request.refuse(ErrorCode::UNKNOWN_MEMBER_ID).into();
        }
        let ticket = self.parking.issue();
        let (groups, mut fx) = self.groups(now);
        groups.get_or_create(&request.group_id).membership.join(&mut fx, ticket, &request, caller);
        self.answered_or_parked(ticket)
    }

    pub(crate) fn sync_group(&mut self, now: Now, caller: &Caller, request: SyncGroupRequest) -> Handled {
        if let Err(code) = self.check_group(caller, &request.group_id) {
            return request.refuse(code).into();
        }
        // From version 5 on a member must say what it was told when it joined (KIP-559).
        if caller.version >= 5 && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
            return request.refuse(ErrorCode::INCONSISTENT_GROUP_PROTOCOL).into();
        }
        let ticket = self.parking.issue();
        let (groups, mut fx) = self.groups(now);
        match groups.get_mut(&request.group_id) {
            Some(entry) => entry.membership.sync(&mut fx, ticket, &request),
            None => fx.sync_refused(ticket, ErrorCode::UNKNOWN_MEMBER_ID),
        }
        self.answered_or_parked(ticket)
    }

    pub(crate) fn heartbeat(
        &mut self,
        now: Now,
        caller: &Caller,
        request: HeartbeatRequest,
    ) -> HeartbeatResponse {
        if let Err(code) = self.check_group(caller, &request.group_id) {
            return request.refuse(code);
        }
        let (groups, mut fx) = self.groups(now);
        let Some(entry) = groups.get_mut(&request.group_id) else {
            return request.refuse(ErrorCode::UNKNOWN_MEMBER_ID);
        };
        let error_code = entry.membership.heartbeat(&mut fx, &request);
        HeartbeatResponse { error_code, ..HeartbeatResponse::default() }
    }

    pub(crate) fn leave_group(
        &mut self,
        now: Now,
        caller: &Caller,
        request: LeaveGroupRequest,
    ) -> LeaveGroupResponse {
        if let Err(code) = self.check_group(caller, &request.group_id) {
            return request.refuse(code);
        }
        let (groups, mut fx) = self.groups(now);
        let Some(entry) = groups.get_mut(&request.group_id) else {
            return request.refuse(ErrorCode::UNKNOWN_MEMBER_ID);
        };
        if caller.version < 3 {
            let error_code = entry.membership.leave(&mut fx, &request.member_id, None);
            if error_code.is_ok() {
                entry.membership.after_leaving(&mut fx);
            }
            return LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() };
        }
        let members = request.members.iter().map(|leaving| {
            let instance_id = leaving.group_instance_id.as_ref();
            let error_code = entry.membership.leave(&mut fx, &leaving.member_id, instance_id);
            let (member_id, group_instance_id) =
                (leaving.member_id.clone(), leaving.group_instance_id.clone());
            LeftMember { member_id, group_instance_id, error_code }
        });
        let members: Vec<LeftMember> = members.collect();
        if members.iter().any(|left| left.error_code.is_ok()) {
            entry.membership.after_leaving(&mut fx);
        }
        LeaveGroupResponse { members, ..LeaveGroupResponse::default() }
    }

    /// Whether there can be such a group, and this node coordinates it.
    pub(crate) fn check_group(&self, caller: &Caller, group: &str) -> Result<(), ErrorCode> {
        if group.is_empty() {
            return Err(ErrorCode::INVALID_GROUP_ID);
        }
        self.check_coordinator(caller, Coordinated::Group(group))
    }
}
