//! SQL without the program under test.

use sqlx::Connection as _;

/// Executes one statement at the database with this URL.
pub fn execute(url: &str, statement: &str) {
    let statement = sqlx::AssertSqlSafe(statement.to_owned());
    sqlx::any::install_default_drivers();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut connection = sqlx::AnyConnection::connect(url).await.expect("the database answers");
        sqlx::raw_sql(statement).execute(&mut connection).await.expect("the statement is right");
        connection.close().await.expect("the database answers");
    });
}
