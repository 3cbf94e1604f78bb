//! What is forgotten, and what is told of it.

use mesh_proto::mesh::operations::v1::watch_response;
use tonic::Code;

use crate::bench::{Bench, HANG, SUCCEED, metadata, refused};

/// A stream that is resumed there begins with a gap, and goes on with what is there now.
async fn assert_gap(bench: &Bench, name: &str, cursor: Vec<u8>) {
    let mut watch = bench.watch(name, cursor).await;
    let gap = watch.stream.message().await.unwrap().unwrap();
    assert!(matches!(gap.event, Some(watch_response::Event::Gap(_))), "{gap:?}");
    assert_eq!(watch.next().await.unwrap().1, bench.get(name).await);
}

on_both!(what_was_told_too_long_ago_is_a_gap);
async fn what_was_told_too_long_ago_is_a_gap(bench: Bench) {
    // More than is forgotten at once.
    let name = bench.begin(600, SUCCEED).await;
    bench.wait(&name).await;
    let last = metadata(&bench.get(&name).await).revision;
    let (begin, later) = (bench.cursor(&name, 1).await, bench.cursor(&name, last - 5).await);
    bench.tamper("UPDATE feed SET told = 1 WHERE revision < 560").await;
    let bench = bench.restart().await;
    bench.until("SELECT COUNT(*) FROM feed WHERE revision < 560", 0).await;
    bench.until("SELECT floor FROM feed_owner", 560).await;
    assert_gap(&bench, &name, begin.clone()).await;
    let mut watch = bench.watch(&name, later.clone()).await;
    assert_eq!(metadata(&watch.next().await.unwrap().1).revision, last - 4, "what is kept is told");

    // Nothing is left by which a hole could be seen.
    bench.tamper("UPDATE feed SET told = 1").await;
    let bench = bench.restart().await;
    bench.until("SELECT COUNT(*) FROM feed", 0).await;
    for cursor in [begin, later] {
        assert_gap(&bench, &name, cursor).await;
    }
}

on_both!(what_ended_long_ago_is_forgotten_and_what_has_not_ended_is_not);
async fn what_ended_long_ago_is_forgotten_and_what_has_not_ended_is_not(bench: Bench) {
    let old = bench.begin(0, SUCCEED).await;
    bench.wait(&old).await;
    bench.tamper("UPDATE operations SET finished = 1").await;
    let (new, open) = (bench.begin(0, SUCCEED).await, bench.begin(0, HANG).await);
    bench.wait(&new).await;
    bench.running(&open).await;
    let bench = bench.restart().await;
    bench.until("SELECT COUNT(*) FROM operations WHERE finished = 1", 0).await;
    assert_eq!(refused(bench.find(&old).await), (Code::NotFound, "OPERATION_NOT_FOUND".to_owned()));
    assert!(bench.get(&new).await.done);
    bench.running(&open).await;
}
