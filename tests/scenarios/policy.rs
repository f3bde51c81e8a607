//! A helpline changes its mind while people wait.

use holdfast_domain::Policy;
use holdfast_domain::policy::Numbers;
use holdfast_proto::v1::{GetPolicyRequest, PutPolicyRequest, PutPolicyResponse, Urgency};
use holdfast_tests::events::Events;
use holdfast_tests::processes::{Deployment, HELPLINE, numbers, policy};
use tonic::{Code, Status};

async fn put(house: &Deployment, policy: &Policy, expected_revision: u64) -> Result<PutPolicyResponse, Status> {
    let request = PutPolicyRequest {
        helpline: HELPLINE.to_owned(),
        toml: policy.to_toml().expect("a policy"),
        expected_revision,
        supervisor_id: "lead".to_owned(),
        dry_run: false,
    };
    Ok(house.queue().await.put_policy(request).await?.into_inner())
}

fn with_head_starts(head_start_ms: [u64; 3]) -> Numbers {
    Numbers { head_start_ms, ..numbers() }
}

#[tokio::test]
async fn a_new_policy_moves_those_who_wait_at_once_on_every_replica_and_can_be_gone_back_from() {
    let house = Deployment::with(with_head_starts([0, 0, 0])).await;
    let mut events = Events::after(&house.queues[0], "").await;
    assert_eq!(events.until("policy_set").await.policy_revision, 1);
    let mut low = house.visitor().await.urgent(Urgency::Low);
    let mut high = house.visitor().await.urgent(Urgency::High);
    low.asks().await;
    high.asks().await;
    low.until_chat("place 1", |chat| chat.place == 1).await;

    let changed = policy(with_head_starts([0, 60_000, 120_000]));
    assert_eq!(put(&house, &changed, 1).await.expect("a policy in force").revision, 2);
    high.until_chat("place 1", |chat| chat.place == 1).await;
    let set = events.until("policy_set").await;
    let stale = put(&house, &changed, 1).await.expect_err("another revision is in force");
    let mut ana = house.responder("ana").await;
    let assignment = ana.takes().await;
    let offered = events.until("offered").await;

    assert_eq!(assignment.chat_id, high.chat_id());
    assert_eq!((set.policy_revision, offered.policy_revision), (2, 2), "each decision names its revision");
    assert_eq!(stale.code(), Code::Aborted);
    let first = GetPolicyRequest { helpline: HELPLINE.to_owned(), revision: 1 };
    let first = house.queue().await.get_policy(first).await.expect("an earlier one").into_inner();
    let back = Policy::from_toml(&first.toml).expect("a policy");
    assert_eq!(put(&house, &back, 2).await.expect("the earlier one again").revision, 3);
}

#[tokio::test]
async fn a_policy_that_leaves_somebody_without_a_way_out_is_refused_and_changes_nothing() {
    let house = Deployment::usual().await;
    let mut visitor = house.visitor().await;
    visitor.asks().await;

    let nowhere = Policy { resources: Vec::new(), ..policy(numbers()) };
    let refused = put(&house, &nowhere, 1).await.expect_err("a dead end");

    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(house.floor().await.policy_revision, 1);
    assert_eq!(house.responder("ana").await.takes().await.chat_id, visitor.chat_id());
}
