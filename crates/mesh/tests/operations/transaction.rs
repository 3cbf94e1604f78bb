//! The commit of a transaction, one of whose statements failed.

use mesh_store::Dialect;

use crate::fixture::Fixture;

const INSERT: &str = "INSERT INTO feed_owner (owner, next, floor) VALUES ('somebody', 1, 1)";

on_both!(commit_acknowledges_only_what_was_written);
async fn commit_acknowledges_only_what_was_written(fixture: Fixture) {
    let mut tx = fixture.store.begin().await.unwrap();
    sqlx::query(INSERT).execute(&mut *tx).await.unwrap();
    sqlx::query(INSERT).execute(&mut *tx).await.unwrap_err();
    // SQLite fails the statement, Postgres the transaction.
    let committed = tx.commit().await.is_ok();
    assert_eq!(committed, fixture.store.dialect() == Dialect::Sqlite);
    fixture.until("SELECT count(*) FROM feed_owner WHERE owner = 'somebody'", i64::from(committed)).await;

    // The connection serves the next transaction.
    let mut tx = fixture.store.begin().await.unwrap();
    sqlx::query("DELETE FROM feed_owner").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
}
