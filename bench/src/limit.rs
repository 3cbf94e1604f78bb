//! The reference: the same rows as mesh writes, in transactions of the same size, written by a bare loop.
//!
//! The loop has no queue, no savepoints and no fences, and reads nothing back: the ratio shows the cost of everything
//! else in mesh. It uses mesh's driver, so the driver is not in the ratio.

use std::time::{Duration, Instant};

use mesh_proto::google::longrunning::Operation;
use mesh_proto::mesh::operations::v1::{OperationMetadata, State};
use prost::Message as _;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Row as _};
use uuid::Uuid;

use crate::machine::{Engine, Place};
use crate::service::THING;

/// The operations of a transaction: mesh writes as many together.
pub(crate) const MOST: usize = 64;

/// The owner without authentication, so that the streams of this benchmark find the operations.
const OWNER: &str = "anonymous";
/// A kind that no worker runs.
const KIND: &str = "Limit";

const OPERATION: &str =
    "INSERT INTO operations (id, owner, kind, request_id, request_hash, state, revision, attempt, fence, worker,
        lease_until, run_at, deadline_at, cancel_requested, progress, result, created, updated, finished)
    VALUES ($1, $2, $3, $1, $4, 1, 1, 0, 0, '', 0, $5, $6, 0, $7, $7, $5, $5, 0)
    ON CONFLICT (owner, kind, request_id) DO NOTHING";
const INPUT: &str = "INSERT INTO operation_input (operation, input) VALUES ($1, $2)";
const CLAIM: &str = "UPDATE operations SET state = 2, revision = 2, attempt = 1, fence = 1, worker = $1,
        lease_until = $2, updated = $3 WHERE id = $4 AND revision = 1";
const END: &str = "UPDATE operations SET state = 3, revision = 3, lease_until = 0, result = $1, updated = $2,
        finished = $2 WHERE id = $3 AND revision = 2";
const FORGET: [&str; 2] =
    ["DELETE FROM operation_input WHERE operation = $1", "DELETE FROM operation_steps WHERE operation = $1"];
const NEXT: &str = "INSERT INTO feed_owner (owner, next, floor) VALUES ($1, $2, 1)
    ON CONFLICT (owner) DO UPDATE SET next = feed_owner.next + $2 RETURNING next";
const FEED: &str = "INSERT INTO feed (owner, position, operation, revision, type, told, payload)
    VALUES ($1, $2, $3, $4, 1, $5, $6)";

/// The transactions of the reference.
#[derive(Clone, Copy)]
pub(crate) enum Sequence {
    /// Starts operations, a statement a row.
    Starts { operations: usize, things: bool },
    /// Starts operations, a statement a table.
    Sets,
    /// Starts, claims and ends operations, a statement a row: three transactions.
    Lifecycles,
}

/// As many concurrent loops as mesh has connections to write with.
pub(crate) struct Loops(Vec<Limit>);

impl Loops {
    pub(crate) async fn open(place: &Place, connections: usize) -> anyhow::Result<Self> {
        let mut loops = Vec::new();
        for _ in 0..connections {
            loops.push(Limit::open(place).await?);
        }
        Ok(Self(loops))
    }

    /// Operations per second.
    pub(crate) async fn rate(&mut self, sequence: Sequence, time: Duration) -> anyhow::Result<f64> {
        let begin = Instant::now();
        let loops = self.0.drain(..).map(|mut limit| {
            tokio::spawn(async move {
                let mut done = 0;
                while begin.elapsed() < time {
                    done += limit.run(sequence).await?;
                }
                anyhow::Ok((limit, done))
            })
        });
        let (loops, mut all) = (loops.collect::<Vec<_>>(), 0);
        for one in loops {
            let (limit, done) = one.await??;
            self.0.push(limit);
            all += done;
        }
        Ok(all as f64 / begin.elapsed().as_secs_f64())
    }
}

/// One bare loop.
pub(crate) struct Limit {
    connection: AnyConnection,
    engine: Engine,
    /// A payload as long as mesh's, encoded once.
    payload: Vec<u8>,
    hash: Vec<u8>,
    input: Vec<u8>,
}

impl Limit {
    pub(crate) async fn open(place: &Place) -> anyhow::Result<Self> {
        let connection = place.connect().await?;
        let time = Some(mesh::store::timestamp(mesh::store::now()));
        let metadata = OperationMetadata {
            state: State::Pending.into(),
            revision: 1,
            create_time: time,
            update_time: time,
            ..OperationMetadata::default()
        };
        let name = format!("services/bench/operations/{}", Uuid::nil());
        let metadata = Some(prost_types::Any::from_msg(&metadata)?);
        let payload = Operation { name, metadata, ..Operation::default() }.encode_to_vec();
        Ok(Self { connection, engine: place.engine, payload, hash: vec![7; 32], input: Vec::new() })
    }

    async fn run(&mut self, sequence: Sequence) -> sqlx::Result<usize> {
        match sequence {
            Sequence::Starts { operations, things } => self.starts(operations, things).await.map(|ids| ids.len()),
            Sequence::Sets => self.sets(MOST).await.map(|ids| ids.len()),
            Sequence::Lifecycles => self.lifecycles().await,
        }
    }

    async fn starts(&mut self, operations: usize, things: bool) -> sqlx::Result<Vec<String>> {
        let (ids, now) = (ids(operations), mesh::store::now());
        let mut tx = self.connection.begin().await?;
        for id in &ids {
            if things {
                sqlx::query(THING).bind(id).bind("thing").bind(now).execute(&mut *tx).await?;
            }
            let insert = sqlx::query(OPERATION).bind(id).bind(OWNER).bind(KIND).bind(&self.hash);
            insert.bind(now).bind(now + 3_600_000_000).bind(Vec::new()).execute(&mut *tx).await?;
            sqlx::query(INPUT).bind(id).bind(&self.input).execute(&mut *tx).await?;
        }
        append_feed(&mut tx, &ids, 1, now, &self.payload).await?;
        tx.commit().await?;
        Ok(ids)
    }

    async fn lifecycles(&mut self) -> sqlx::Result<usize> {
        let ids = self.starts(MOST, false).await?;
        let now = mesh::store::now();

        let mut tx = self.connection.begin().await?;
        for id in &ids {
            let claim = sqlx::query(CLAIM).bind("limit").bind(now + 30_000_000).bind(now).bind(id);
            claim.execute(&mut *tx).await?;
        }
        append_feed(&mut tx, &ids, 2, now, &self.payload).await?;
        tx.commit().await?;

        let mut tx = self.connection.begin().await?;
        for id in &ids {
            sqlx::query(END).bind(&self.payload).bind(now).bind(id).execute(&mut *tx).await?;
            for forget in FORGET {
                sqlx::query(forget).bind(id).execute(&mut *tx).await?;
            }
        }
        append_feed(&mut tx, &ids, 3, now, &self.payload).await?;
        tx.commit().await?;
        Ok(ids.len())
    }

    /// Starts operations with four statements in all; returns their ids.
    pub(crate) async fn sets(&mut self, operations: usize) -> sqlx::Result<Vec<String>> {
        let (ids, now) = (ids(operations), mesh::store::now());
        let (hash, input, payload) = (hex(&self.hash), hex(&self.input), hex(&self.payload));
        let rows = ids.iter().enumerate().map(
            |(at, id)| serde_json::json!({ "at": at, "id": id, "hash": hash, "input": input, "payload": payload }),
        );
        let rows = serde_json::Value::from_iter(rows).to_string();
        let [operation, input, feed] = self.set_based();

        let mut tx = self.connection.begin().await?;
        let insert = sqlx::query(AssertSqlSafe(operation)).bind(&rows).bind(OWNER).bind(KIND);
        insert.bind(now).bind(now + 3_600_000_000).execute(&mut *tx).await?;
        sqlx::query(AssertSqlSafe(input)).bind(&rows).execute(&mut *tx).await?;
        let count = i64::try_from(operations).unwrap_or(i64::MAX);
        let last: i64 = sqlx::query(NEXT).bind(OWNER).bind(count).fetch_one(&mut *tx).await?.try_get(0)?;
        let feed = sqlx::query(AssertSqlSafe(feed)).bind(&rows).bind(OWNER).bind(last + 1 - count).bind(now);
        feed.execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(ids)
    }

    /// The statements of [`sets`](Self::sets), which differ between the databases.
    fn set_based(&self) -> [String; 3] {
        let sqlite = self.engine == Engine::Sqlite;
        let from = if sqlite {
            "json_each($1) WHERE true"
        } else {
            "jsonb_to_recordset(CAST($1 AS JSONB)) AS each(at BIGINT, id TEXT, hash TEXT, input TEXT, payload TEXT)"
        };
        let field = |name: &str| if sqlite { format!("value ->> '{name}'") } else { name.to_owned() };
        let bytes = |hex: &str| if sqlite { format!("unhex({hex})") } else { format!("decode({hex}, 'hex')") };
        let (id, at, none) = (field("id"), field("at"), bytes("''"));
        let [hash, input, payload] = ["hash", "input", "payload"].map(|name| bytes(&field(name)));
        [
            format!(
                "INSERT INTO operations (id, owner, kind, request_id, request_hash, state, revision, attempt, fence,
                    worker, lease_until, run_at, deadline_at, cancel_requested, progress, result, created, updated,
                    finished)
                SELECT {id}, $2, $3, {id}, {hash}, 1, 1, 0, 0, '', 0, $4, $5, 0, {none}, {none}, $4, $4, 0 FROM {from}
                ON CONFLICT (owner, kind, request_id) DO NOTHING"
            ),
            format!("INSERT INTO operation_input (operation, input) SELECT {id}, {input} FROM {from}"),
            format!(
                "INSERT INTO feed (owner, position, operation, revision, type, told, payload)
                SELECT $2, $3 + {at}, {id}, 1, 1, $4, {payload} FROM {from}"
            ),
        ]
    }
}

/// Appends to the feed; last in a transaction, because all operations share one counter.
async fn append_feed(
    connection: &mut AnyConnection,
    ids: &[String],
    revision: i64,
    now: i64,
    payload: &[u8],
) -> sqlx::Result<()> {
    for id in ids {
        let position: i64 = sqlx::query(NEXT).bind(OWNER).bind(1_i64).fetch_one(&mut *connection).await?.try_get(0)?;
        let feed = sqlx::query(FEED).bind(OWNER).bind(position).bind(id).bind(revision).bind(now);
        feed.bind(payload).execute(&mut *connection).await?;
    }
    Ok(())
}

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|_| Uuid::now_v7().to_string()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
