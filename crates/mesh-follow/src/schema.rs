//! The tables of followers, in the database of the service that follows.

use mesh_store::Migration;

/// The tables of followers.
///
/// `mesh_followers` has a row for each source: the place of its follower. `cursor` is empty before the first frame;
/// `position` is -1 as long as none is known. `generation` is the build of the copy that is written, `whole` the last
/// one that was finished. `holder` is empty if the last one ended in order. `head`, `heard` and `error` are what the
/// holder last knew, for the other replicas.
///
/// `mesh_parked_events` has the events that could not be applied, and the later ones of their keys, which have no
/// `error`.
pub const FOLLOWERS: Migration = Migration::new(
    10,
    "followers",
    "CREATE TABLE mesh_followers (
        source TEXT NOT NULL PRIMARY KEY,
        cursor BYTEA NOT NULL,
        position BIGINT NOT NULL,
        generation BIGINT NOT NULL,
        whole BIGINT NOT NULL,
        attempt BIGINT NOT NULL,
        fence BIGINT NOT NULL,
        holder TEXT NOT NULL,
        lease_until BIGINT NOT NULL,
        head BIGINT NOT NULL,
        heard BIGINT NOT NULL,
        error TEXT NOT NULL
    );
    CREATE TABLE mesh_parked_events (
        source TEXT NOT NULL,
        key TEXT NOT NULL,
        position BIGINT NOT NULL,
        event BYTEA NOT NULL,
        error TEXT NOT NULL,
        parked BIGINT NOT NULL,
        PRIMARY KEY (source, key, position)
    );",
);
