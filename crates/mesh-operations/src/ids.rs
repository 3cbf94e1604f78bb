//! The ids of operations, which sort in the order of their starts.
//!
//! An id is a UUID of version 7 and begins with the wall clock of its process, which may go back, or be behind that of
//! another replica. So a new id continues those in the database. Starts at the same moment have no order.

use mesh_store::{Error, Transaction};
use sqlx::Row as _;
use uuid::{NoContext, Timestamp, Uuid};

/// The ids of operations that a transaction inserts.
pub(super) struct Ids {
    /// The last one, or the greatest of the database.
    last: Option<Uuid>,
}

impl Ids {
    /// Continues the ids of the database.
    pub(super) async fn after_those_in(tx: &mut Transaction) -> Result<Self, Error> {
        let greatest = sqlx::query("SELECT max(id) FROM operations").fetch_one(&mut **tx).await?;
        let greatest: Option<String> = greatest.try_get(0)?;
        Ok(Self { last: greatest.and_then(|id| id.parse().ok()) })
    }

    /// An id that is greater than those before it.
    pub(super) fn next(&mut self) -> Uuid {
        let now = Uuid::now_v7();
        let id = self.last.filter(|last| now <= *last).map_or(now, behind);
        self.last = Some(id);
        id
    }
}

/// An id of the millisecond behind that of another one. The rest is random: another replica may ask for the same.
fn behind(last: Uuid) -> Uuid {
    let (seconds, nanos) = last.get_timestamp().unwrap_or(Timestamp::from_unix(NoContext, 0, 0)).to_unix();
    let millis = seconds * 1000 + u64::from(nanos / 1_000_000) + 1;
    let nanos = u32::try_from(millis % 1000).unwrap_or_default() * 1_000_000;
    Uuid::new_v7(Timestamp::from_unix(NoContext, millis / 1000, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_is_greater_than_those_before_it_when_the_clock_went_back() {
        let tomorrow = u64::try_from(mesh_store::now() / 1_000_000).unwrap() + 86_400;
        for last in [None, Some(Uuid::new_v7(Timestamp::from_unix(NoContext, tomorrow, 999_000_000)))] {
            let mut ids = Ids { last };
            let mut before = last.unwrap_or_default();
            for _ in 0..2000 {
                let id = ids.next();
                assert!(id > before && id.get_version_num() == 7, "{id} after {before}");
                before = id;
            }
        }
    }

    #[test]
    fn ids_of_replicas_after_the_same_one_differ() {
        let last = Some(Uuid::new_v7(Timestamp::from_unix(NoContext, 1 << 33, 0)));
        assert_ne!(Ids { last }.next(), Ids { last }.next());
    }
}
