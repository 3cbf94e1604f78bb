//! Statements that fail, and what becomes of their transactions.

use mesh_store::{Condition, Dialect, Error, Store, Transaction};

use crate::fixture::{Fixture, within_limit};

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

/// A statement that returns a column.
async fn names(database: impl sqlx::AnyExecutor<'_>) -> Result<usize, Error> {
    let names = sqlx::query("SELECT name FROM things WHERE name >= $1").bind("").fetch_all(database).await?;
    Ok(names.len())
}

async fn execute(store: &Store, statement: &'static str) {
    let mut tx = store.begin().await.unwrap();
    sqlx::raw_sql(statement).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
}

/// A transaction that has executed a statement before.
async fn begun(store: &Store) -> Transaction {
    let mut tx = store.begin().await.unwrap();
    sqlx::query("SELECT $1").bind(1_i64).execute(&mut *tx).await.unwrap();
    tx
}

#[tokio::test]
#[ignore = "needs Postgres: .ci/full"]
async fn stale_plan_is_renewed_and_never_a_defect() {
    let Some(fixture) = Fixture::postgres().await else { return };
    let store = fixture.store.clone();
    within_limit(async move {
        execute(&store, "CREATE TABLE things (name TEXT NOT NULL)").await;
        execute(&store, "INSERT INTO things (name) VALUES ('one')").await;
        let plan_on_each_connection = async || {
            let mut open = Vec::new();
            for _ in 0..3 {
                let mut tx = store.begin().await.unwrap();
                names(&mut *tx).await.unwrap();
                open.push(tx);
            }
            for tx in open {
                tx.commit().await.unwrap();
            }
        };

        // The first statement of a transaction: a read, and a write.
        plan_on_each_connection().await;
        execute(&store, "ALTER TABLE things ALTER COLUMN name TYPE VARCHAR(9)").await;
        assert_eq!(names(store.reader()).await.unwrap(), 1);
        let mut tx = store.begin().await.unwrap();
        assert_eq!(names(&mut *tx).await.unwrap(), 1);
        sqlx::query("INSERT INTO things (name) VALUES ($1)").bind("two").execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        fixture.until("SELECT count(*) FROM things", 2).await;

        // A later one: its transaction is aborted. The other connections learn of it.
        plan_on_each_connection().await;
        execute(&store, "ALTER TABLE things ALTER COLUMN name TYPE TEXT").await;
        let mut tx = begun(&store).await;
        assert_eq!(names(&mut *tx).await.unwrap_err().condition(), Some(Condition::Busy));
        assert!(tx.commit().await.is_err());
        let mut open = Vec::new();
        for _ in 0..3 {
            let mut tx = begun(&store).await;
            assert_eq!(names(&mut *tx).await.unwrap(), 2);
            open.push(tx);
        }
    })
    .await;
}
