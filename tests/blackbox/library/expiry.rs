//! A rental ends by itself.

use harness::{Grpcurl, Postgres, Process, Session, uuid};
use serde_json::{Value, json};

use super::topologies::database;
use super::{System, named, request, steps, with};

fn expires(mut library: Session, system: &System<'_>) {
    let request = request(&system.title());
    let rent = || harness::film::wait(system.library, &system.start(&with(&request, "card", "test")));
    let current = || {
        // In capitals, and beside a title without a rental.
        let titles = [uuid(), request["title_id"].as_str().expect("an id").to_uppercase()];
        let request = json!({"viewer_id": request["viewer_id"], "title_ids": titles});
        system.call("ListCurrentRentals", &request)["rentals"].as_array().cloned().unwrap_or_default()
    };
    assert_eq!(current(), [] as [Value; 0]);
    let granted = rent()["response"]["rental"].clone();
    assert_eq!(current(), std::slice::from_ref(&granted));
    let period = library.numbers("SELECT expire_time - update_time FROM rentals")[0];
    assert_eq!(period, 48 * 60 * 60 * 1_000_000, "{granted}");

    // As an earlier version grants.
    library.execute("UPDATE rentals SET expire_time = NULL");
    assert_eq!(current(), std::slice::from_ref(&granted));
    library.execute("UPDATE rentals SET update_time = update_time - 49 * 3600000000");
    assert_eq!(current(), [] as [Value; 0]);
    library.execute("UPDATE rentals SET update_time = update_time + 49 * 3600000000");
    library.execute("UPDATE rentals SET expire_time = update_time + 1");
    assert_eq!(current(), [] as [Value; 0]);
    let expired = system.rental(&request);
    assert_eq!((&expired["state"], &expired["updateTime"]), (&json!("RENTAL_STATE_EXPIRED"), &expired["expireTime"]));
    assert_eq!(steps(&rent()), named(&[("reserve", "DONE"), ("charge", "DONE"), ("grant", "DONE")]));
    assert_eq!(library.numbers("SELECT state FROM rentals ORDER BY rental_id"), [4, 2]);
    assert_eq!(library.count("SELECT count(*) FROM rentals WHERE update_time = expire_time"), 1);
}

#[test]
fn rental_expires_and_the_title_can_be_rented_again() {
    if Grpcurl::installed() {
        let monolith = Process::start("monolith", &[]);
        let grpcurl = monolith.grpcurl();
        let system = System { catalog: &grpcurl, library: &grpcurl, charges: database(&monolith, "billing") };
        expires(database(&monolith, "library"), &system);
    }
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn rental_expires_on_postgres() {
    let Some(postgres) = Postgres::start().filter(|_| Grpcurl::installed()) else { return };
    let url = postgres.database("rentals_that_expire");
    let monolith = Process::start("monolith", &[("MESH__SERVICES__LIBRARY__DATABASE_URL", &url)]);
    let grpcurl = monolith.grpcurl();
    let system = System { catalog: &grpcurl, library: &grpcurl, charges: database(&monolith, "billing") };
    expires(Session::open(&url), &system);
}
