//! Cursors that are not of this history of the database.

use mesh_proto::mesh::events::v1::subscribe_response::Frame;

use crate::fixture::{Copy, Fixture};

/// A reader that has caught up behind five events.
async fn caught_up(fixture: &Fixture) -> Copy {
    for name in ["one", "two", "three", "four", "five"] {
        fixture.make(name).await;
    }
    let mut reader = fixture.follow(b"", &[]).await.unwrap();
    reader.catch_up().await;
    reader.copy
}

/// Resumes, and expects a reset and then an equal copy.
async fn is_reset(fixture: &Fixture, copy: Copy) {
    let mut reader = fixture.follow(&copy.cursor, &[]).await.unwrap();
    assert!(matches!(reader.next().await, Frame::Reset(_)));
    reader.catch_up().await;
    assert_eq!(reader.copy.things, fixture.things().await);
}

on_both!(cursor_below_the_kept_events_is_reset);
async fn cursor_below_the_kept_events_is_reset(fixture: Fixture) {
    let copy = caught_up(&fixture).await;
    fixture.make("six").await;
    fixture.execute("DELETE FROM events WHERE position <= 5; UPDATE events_head SET floor = 6").await;
    is_reset(&fixture, copy).await;
}

on_both!(cursor_of_a_restored_database_is_reset_although_its_position_exists);
async fn cursor_of_a_restored_database_is_reset_although_its_position_exists(fixture: Fixture) {
    let copy = caught_up(&fixture).await;
    // The backup has three events, and two others have followed.
    fixture.execute("DELETE FROM events WHERE position > 3; UPDATE events_head SET head = 3").await;
    fixture.execute("DELETE FROM things WHERE name IN ('four', 'five')").await;
    // Ahead of the log, and then at a position of it.
    is_reset(&fixture, copy.clone()).await;
    fixture.make("sixth").await;
    fixture.make("seventh").await;
    let mut reader = fixture.follow(b"", &[]).await.unwrap();
    while reader.next().await != Frame::CaughtUp(mesh_proto::mesh::events::v1::CaughtUp {}) {}
    is_reset(&fixture, copy).await;
}

on_both!(cursor_of_another_epoch_is_reset);
async fn cursor_of_another_epoch_is_reset(fixture: Fixture) {
    let mut copy = caught_up(&fixture).await;
    // The epoch stands behind four bytes.
    copy.cursor[4] ^= 1;
    is_reset(&fixture, copy).await;
}

on_both!(reader_whose_next_event_is_deleted_is_reset);
async fn reader_whose_next_event_is_deleted_is_reset(fixture: Fixture) {
    let mut reader = fixture.follow(b"", &[]).await.unwrap();
    reader.catch_up().await;
    fixture.execute("UPDATE events_head SET head = 9, floor = 10").await;
    fixture.make("one").await;
    assert!(matches!(reader.next().await, Frame::Reset(_)));
    let things = fixture.things().await;
    while reader.copy.things != things {
        reader.next().await;
    }
}
