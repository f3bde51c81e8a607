//! The harness does to servers what the tests say it does.

use futures::StreamExt;
use holdfast_tests::redis_cluster::RedisCluster;
use holdfast_tests::redis_sentinel::RedisSentinel;
use std::time::Duration;
use tokio::time::timeout;

#[tokio::test]
async fn sentinels_promote_a_replica_and_the_old_primary_comes_back_as_one() {
    let _turn = crate::turn().await;
    let mut group = RedisSentinel::start().await;
    let mut told = group.told(1).await;

    group.nodes[0].kill();
    let switched = async { while told.next().await.is_some_and(|(channel, _)| channel != "+switch-master") {} };
    timeout(Duration::from_secs(30), switched).await.expect("a Sentinel that tells of the switch");
    let promoted = group.failed_over(0).await;
    group.nodes[0].start_again();

    assert_eq!(group.whole_again().await, promoted);
}

#[tokio::test]
async fn a_cluster_promotes_a_replica_of_a_primary_that_died() {
    let _turn = crate::turn().await;
    let mut cluster = RedisCluster::start_with_replicas(2).await;
    let before = cluster.primary_of("hf:{river}:line").await.expect("a primary");

    cluster.nodes[before].kill();
    let after = cluster.failed_over("hf:{river}:line", before).await;

    assert!(after >= 3, "a replica");
}
