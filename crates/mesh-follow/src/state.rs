//! The state of a follower, as operators see it.

use mesh_proto::mesh::events::v1::Follower as Shown;
use mesh_proto::mesh::events::v1::follower::State;
use mesh_store::{Error, timestamp};

use super::follower::Follower;
use super::parked::{self, MOST_PARKED};
use super::row;

/// The state of a follower: by what this process knows if it has the lease, or else by what its holder last wrote.
/// Calls that read the copy know of it from then on.
pub(super) async fn of(follower: &Follower) -> Result<Shown, Error> {
    let Follower { service, source, store, seen, copied, .. } = follower;
    // First: what is shown beside a position is not older than it.
    let sight = seen.sight();
    let row = row::read(store.reader(), store.dialect(), source).await?;
    // A reader that sees FOLLOWING is served by its next call.
    copied.move_to(&row.place);
    let parked_keys = parked::keys(store, source).await?.len();
    let sight = sight.unwrap_or(row.sight);
    let state = if parked_keys > MOST_PARKED {
        State::Stopped
    } else if row.place.whole == 0 {
        State::Building
    } else if row.place.is_building() {
        State::Rebuilding
    } else {
        State::Following
    };
    Ok(Shown {
        service: (*service).to_owned(),
        source: (*source).to_owned(),
        state: state.into(),
        position: sight.position.max(0),
        head: sight.head,
        lag: sight.lag_events(),
        heard_time: (sight.heard > 0).then(|| timestamp(sight.heard)),
        parked_keys: i32::try_from(parked_keys).unwrap_or(i32::MAX),
        error: sight.error,
        generation: row.place.generation,
    })
}
