//! The connections of a store, by the kind of its database.

use sqlx::AnyPool;

use super::group::Group;
use super::pool::Pool;
use super::sightings::Sightings;

/// The connections to a database. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) enum Connections {
    /// Reads run beside the writer, whose transactions run one after the other.
    Sqlite { readers: AnyPool, writer: Group, sightings: Sightings },
    /// Reads and transactions run at the same time.
    Postgres(Pool),
}
