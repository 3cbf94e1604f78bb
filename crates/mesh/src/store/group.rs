//! Group commit: transactions that arrive together become durable together.
//!
//! On SQLite a commit costs a flush of the disk, a hundred times what the statements cost, and there is one writer. So
//! the transactions of this process are savepoints of one real transaction, one after the other, and whoever was
//! waiting when it began is in it. Who commits still hears of it only when it is durable, and who rolls back takes
//! nobody along.
//!
//! The order is that of a fair lock. The first of a group sends somebody to queue for the lock once more, to commit:
//! whoever stands before that one is in the group, whoever comes behind it is in the next. A transaction that arrives
//! alone has its commit right behind it, and waits for nothing.
//!
//! A caller may go away at any moment, so no statement of this module runs in a caller's future: whatever opens or
//! closes a savepoint runs in a task of its own, to its end.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use sqlx::AnyConnection;
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};
use tokio::time::timeout;

use super::Error;

/// How many are made durable together at most, so that the first of them does not wait for ever longer queues.
const MOST: usize = 64;

/// The one writer of a database. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Group {
    writer: Arc<Mutex<Writer>>,
    /// How long to wait for one's turn.
    patience: Duration,
}

#[derive(Debug)]
struct Writer {
    connection: AnyConnection,
    /// Whether there is a transaction for the next to be in.
    open: bool,
    /// Who is in it and waits for its end.
    members: Vec<oneshot::Sender<Result<(), String>>>,
    /// Whether the last one went away without a word, and its savepoint is still there.
    abandoned: bool,
}

/// A savepoint in the transaction of its group; rolled back if it is dropped.
#[derive(Debug)]
pub(super) struct Member {
    writer: OwnedMutexGuard<Writer>,
    done: bool,
}

impl Group {
    pub(super) fn new(connection: AnyConnection, patience: Duration) -> Self {
        let writer = Writer { connection, open: false, members: Vec::new(), abandoned: false };
        Self { writer: Arc::new(Mutex::new(writer)), patience }
    }

    /// Waits for its turn, and opens a savepoint.
    pub(super) async fn join(&self) -> Result<Member, Error> {
        let writer = timeout(self.patience, Arc::clone(&self.writer).lock_owned());
        let writer = writer.await.map_err(|_| Error::Unavailable(sqlx::Error::PoolTimedOut))?;
        let mut member = Member { writer, done: true };
        let group = self.clone();
        to_its_end(async move {
            member.writer.clean_up().await;
            let begin = if member.writer.open { "SAVEPOINT member" } else { "BEGIN IMMEDIATE; SAVEPOINT member" };
            if let Err(error) = member.writer.run(begin).await {
                member.writer.fail(&error).await;
                return Err(error.into());
            }
            if !std::mem::replace(&mut member.writer.open, true) {
                tokio::spawn(group.commit());
            }
            member.done = false;
            Ok(member)
        })
        .await
    }

    /// Makes durable what there is when it is this one's turn.
    pub(super) async fn commit(self) {
        let mut writer = self.writer.lock().await;
        writer.clean_up().await;
        if writer.open {
            writer.commit().await;
        }
    }
}

impl Member {
    /// Ends the savepoint, and waits until its group is durable.
    pub(super) async fn commit(mut self) -> Result<(), Error> {
        let durable = to_its_end(async move {
            self.done = true;
            let (sender, durable) = oneshot::channel();
            match self.writer.run("RELEASE member").await {
                Ok(()) => {
                    self.writer.members.push(sender);
                    if self.writer.members.len() >= MOST {
                        self.writer.commit().await;
                    }
                    Ok(durable)
                }
                Err(error) => {
                    // SQLite has rolled back everything, as it does when the disk is full.
                    self.writer.fail(&error).await;
                    Err(Error::Unavailable(error))
                }
            }
        });
        match durable.await?.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(Error::Unavailable(sqlx::Error::Protocol(why))),
            Err(_) => Err(Error::Unavailable(sqlx::Error::WorkerCrashed)),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // There is no waiting in a drop: whoever comes next does it first.
        self.writer.abandoned |= !self.done;
    }
}

impl Writer {
    /// Rolls back whoever went away.
    async fn clean_up(&mut self) {
        if std::mem::take(&mut self.abandoned)
            && let Err(error) = self.run("ROLLBACK TO member; RELEASE member").await
        {
            self.fail(&error).await;
        }
    }

    async fn commit(&mut self) {
        match self.run("COMMIT").await {
            Ok(()) => self.end(Ok(())),
            Err(error) => self.fail(&error).await,
        }
    }

    /// Nothing of this transaction has happened.
    async fn fail(&mut self, error: &sqlx::Error) {
        // Most often SQLite has done it already, and says that there is nothing to roll back.
        let _ = self.run("ROLLBACK").await;
        self.end(Err(error.to_string()));
    }

    fn end(&mut self, result: Result<(), String>) {
        self.open = false;
        for member in self.members.drain(..) {
            // Whoever does not wait any more does not want to know.
            let _ = member.send(result.clone());
        }
    }

    async fn run(&mut self, sql: &'static str) -> sqlx::Result<()> {
        sqlx::raw_sql(sql).execute(&mut self.connection).await.map(drop)
    }
}

/// Runs something to its end, whether or not its caller stays.
async fn to_its_end<T: Send + 'static>(
    task: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    tokio::spawn(task).await.unwrap_or(Err(Error::Unavailable(sqlx::Error::WorkerCrashed)))
}

impl Deref for Member {
    type Target = AnyConnection;
    fn deref(&self) -> &AnyConnection {
        &self.writer.connection
    }
}

impl DerefMut for Member {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.writer.connection
    }
}
