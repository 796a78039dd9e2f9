//! Rules of access and users of SCRAM.

use ottla_broker::Broker;
use ottla_protocol::error_code::ErrorCode;

use super::{Cluster, check_error};
use crate::admin::{
    Acl, AclFilter, AclOperation, AclResource, NewDelegationToken, ScramChange, ScramMechanism,
};
use crate::error::ErrorKind;

const STANDARD: &str = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";

fn guarded(super_users: &str) -> Cluster {
    let broker = Broker::builder().setting("authorizer.class.name", STANDARD);
    Cluster::built(broker.setting("super.users", super_users))
}

fn rules() -> [Acl; 3] {
    [
        Acl::allow("User:alice", AclOperation::Read, AclResource::Topic, "orders"),
        Acl::allow("User:alice", AclOperation::Write, AclResource::Topic, "ord").prefixed(),
        Acl::deny("User:*", AclOperation::Delete, AclResource::Topic, "*").from_host("10.0.0.1"),
    ]
}

#[tokio::test(start_paused = true)]
async fn rules_of_access_are_created_described_and_deleted() {
    let admin = guarded("User:ANONYMOUS").admin();
    let mut all = rules().to_vec();
    all.sort();
    for _ in 0..2 {
        // A rule that is there already stays, once.
        assert_eq!(admin.create_acls(rules()).await.all().unwrap().len(), 3);
        assert_eq!(admin.describe_acls(&AclFilter::default()).await.unwrap(), all);
    }
    let deciding = AclFilter::matching(AclResource::Topic, "orders");
    assert_eq!(admin.describe_acls(&deciding).await.unwrap(), all);
    let deciding = AclFilter::matching(AclResource::Topic, "order");
    assert_eq!(admin.describe_acls(&deciding).await.unwrap().len(), 2);
    let named = AclFilter { name: Some("orders".into()), ..AclFilter::default() };
    let writes = AclFilter { operation: Some(AclOperation::Write), ..AclFilter::default() };
    let mut deleted = admin.delete_acls([named.clone(), writes.clone()]).await;
    assert_eq!(deleted.take(&named).unwrap(), [rules()[0].clone()]);
    assert_eq!(deleted.take(&writes).unwrap(), [rules()[1].clone()]);
    assert_eq!(admin.describe_acls(&AclFilter::default()).await.unwrap(), [rules()[2].clone()]);
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_makes_no_sense_is_refused_alone() {
    let admin = guarded("User:ANONYMOUS").admin();
    let [good, ..] = rules();
    let bad = Acl::allow("alice", AclOperation::Read, AclResource::Topic, "orders");
    let other = Acl::allow("User:alice", AclOperation::Alter, AclResource::Cluster, "mine");
    let mut results = admin.create_acls([good.clone(), bad.clone(), other.clone()]).await;
    assert!(results.take(&good).is_ok());
    check_error(results.take(&bad), ErrorKind::Broker, &["alice", "principal"]);
    check_error(results.take(&other), ErrorKind::Broker, &["kafka-cluster"]);
}

#[tokio::test(start_paused = true)]
async fn who_may_not_alter_the_cluster_makes_no_rules_and_no_users() {
    let admin = guarded("User:root").admin();
    let [rule, ..] = rules();
    let error = admin.create_acls([rule.clone()]).await.take(&rule).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authorization);
    assert_eq!(
        admin.describe_acls(&AclFilter::default()).await.unwrap_err().kind(),
        ErrorKind::Authorization
    );
    let deleted = admin.delete_acls([AclFilter::default()]).await.take(&AclFilter::default());
    assert_eq!(deleted.unwrap_err().kind(), ErrorKind::Authorization);
    let change = ScramChange::set("alice", ScramMechanism::Sha256, "secret");
    let altered = admin.alter_user_scram_credentials([change]).await.take("alice");
    assert_eq!(altered.unwrap_err().kind(), ErrorKind::Authorization);
    let described = admin.describe_user_scram_credentials(&[]).await;
    assert_eq!(described.unwrap_err().kind(), ErrorKind::Authorization);
}

#[tokio::test(start_paused = true)]
async fn without_an_authorizer_there_are_no_rules() {
    let admin = Cluster::new(1).admin();
    let [rule, ..] = rules();
    let error = admin.create_acls([rule.clone()]).await.take(&rule).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::SECURITY_DISABLED));
    let error = admin.describe_acls(&AclFilter::default()).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::SECURITY_DISABLED));
}

#[tokio::test(start_paused = true)]
async fn users_of_scram_are_made_described_and_deleted() {
    let admin = Cluster::new(1).admin();
    let set = |user: &str, mechanism| ScramChange::set(user, mechanism, "secret");
    let changes = [
        set("alice", ScramMechanism::Sha256),
        set("alice", ScramMechanism::Sha512).iterations(8_192),
        set("bob", ScramMechanism::Sha256),
        set("carol", ScramMechanism::Sha256).iterations(20_000),
        set("dave", ScramMechanism::Sha256).iterations(-1),
        ScramChange::delete("erin", ScramMechanism::Sha256),
    ];
    let mut results = admin.alter_user_scram_credentials(changes).await;
    assert!(results.take("alice").is_ok() && results.take("bob").is_ok());
    let error = results.take("carol").unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UNACCEPTABLE_CREDENTIAL), "{error}");
    check_error(results.take("dave"), ErrorKind::InvalidArgument, &["dave", "-1"]);
    assert_eq!(results.take("erin").unwrap_err().code(), Some(ErrorCode::RESOURCE_NOT_FOUND));

    let all = admin.describe_user_scram_credentials(&[]).await.unwrap().all().unwrap();
    let alice = [(ScramMechanism::Sha256, 4_096), (ScramMechanism::Sha512, 8_192)];
    let bob = [(ScramMechanism::Sha256, 4_096)];
    assert_eq!(all, [("alice".to_string(), alice.into()), ("bob".to_string(), bob.into())].into());

    let gone = ScramChange::delete("alice", ScramMechanism::Sha256);
    admin.alter_user_scram_credentials([gone]).await.all().unwrap();
    let mut named = admin.describe_user_scram_credentials(&["alice", "carol"]).await.unwrap();
    assert_eq!(named.take("alice").unwrap(), alice[1..].iter().copied().collect());
    assert_eq!(named.take("carol").unwrap_err().code(), Some(ErrorCode::RESOURCE_NOT_FOUND));
}

#[tokio::test(start_paused = true)]
async fn nobody_has_a_token_who_has_not_logged_in() {
    let admin = Cluster::built(Broker::builder().setting("delegation.token.secret.key", "x")).admin();
    let error = admin.create_delegation_token(&NewDelegationToken::default()).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::DELEGATION_TOKEN_REQUEST_NOT_ALLOWED), "{error}");
    let error = admin.describe_delegation_tokens(None).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::DELEGATION_TOKEN_REQUEST_NOT_ALLOWED), "{error}");
}
