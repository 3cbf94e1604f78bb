//! The schema that mesh has in every database.

use mesh_store::Migration;

const LISTS: &[&[Migration]] =
    &[&[mesh_store::REQUESTS], &mesh_operations::SCHEMA, &[mesh_store::LOG], &[mesh_follow::FOLLOWERS], RELAY];

/// The migrations of mesh, which every database has.
pub(crate) const SCHEMA: [Migration; Migration::count(LISTS)] = Migration::join(LISTS);

#[cfg(feature = "nats")]
const RELAY: &[Migration] = &[mesh_carrier::RELAY];
// A program without the relay runs on a schema with its table, and the other way round.
#[cfg(not(feature = "nats"))]
const RELAY: &[Migration] = &[];
