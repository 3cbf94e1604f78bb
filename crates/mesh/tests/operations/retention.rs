//! Retention: deletion of old operations and events, and the gaps that streams report.

use mesh_proto::mesh::operations::v1::watch_response;
use tonic::Code;

use crate::fixture::{Fixture, HANG, SUCCEED, metadata, refused};

/// Checks that a stream from this cursor begins with a gap, followed by the current state.
async fn assert_gap(fixture: &Fixture, name: &str, cursor: Vec<u8>) {
    let mut watch = fixture.watch(name, cursor).await;
    let gap = watch.stream.message().await.unwrap().unwrap();
    assert!(matches!(gap.event, Some(watch_response::Event::Gap(_))), "{gap:?}");
    assert_eq!(watch.next().await.unwrap().1, fixture.get(name).await);
}

on_both!(watch_from_a_deleted_revision_begins_with_a_gap);
async fn watch_from_a_deleted_revision_begins_with_a_gap(fixture: Fixture) {
    // More rows than one batch of a deletion.
    let name = fixture.start(600, SUCCEED).await;
    fixture.wait(&name).await;
    let last = metadata(&fixture.get(&name).await).revision;
    let (begin, later) = (fixture.cursor(&name, 1).await, fixture.cursor(&name, last - 5).await);
    fixture.tamper("UPDATE feed SET told = 1 WHERE revision < 560").await;
    let fixture = fixture.restart().await;
    fixture.until("SELECT COUNT(*) FROM feed WHERE revision < 560", 0).await;
    fixture.until("SELECT floor FROM feed_owner", 560).await;
    assert_gap(&fixture, &name, begin.clone()).await;
    let mut watch = fixture.watch(&name, later.clone()).await;
    assert_eq!(metadata(&watch.next().await.unwrap().1).revision, last - 4, "kept rows are sent");

    // No row is left that would show the hole.
    fixture.tamper("UPDATE feed SET told = 1").await;
    let fixture = fixture.restart().await;
    fixture.until("SELECT COUNT(*) FROM feed", 0).await;
    for cursor in [begin, later] {
        assert_gap(&fixture, &name, cursor).await;
    }
}

on_both!(retention_deletes_old_done_operations_and_no_open_ones);
async fn retention_deletes_old_done_operations_and_no_open_ones(fixture: Fixture) {
    let old = fixture.start(0, SUCCEED).await;
    fixture.wait(&old).await;
    fixture.tamper("UPDATE operations SET finished = 1").await;
    let (new, open) = (fixture.start(0, SUCCEED).await, fixture.start(0, HANG).await);
    fixture.wait(&new).await;
    fixture.running(&open).await;
    let fixture = fixture.restart().await;
    fixture.until("SELECT COUNT(*) FROM operations WHERE finished = 1", 0).await;
    assert_eq!(refused(fixture.find(&old).await), (Code::NotFound, "OPERATION_NOT_FOUND".to_owned()));
    assert!(fixture.get(&new).await.done);
    fixture.running(&open).await;
}
