//! Rentals: a saga over library and billing, and a copy of the catalog.

use harness::film::create;
use harness::{Grpcurl, Session, eventually, uuid};
use serde_json::{Value, json};

mod copy; // the copy of the catalog while that changes, stops and is restored
mod expiry; // a rental ends by itself
mod leaks; // a saga that is cancelled, late or without billing while it charges
mod own_writes; // a caller finds its own write by its token
mod topologies; // the same behaviour in every topology

/// The system under test: calls of its services, and the rows of billing.
struct System<'a> {
    catalog: &'a Grpcurl,
    library: &'a Grpcurl,
    charges: Session,
}

impl System<'_> {
    /// Calls a method of library.
    fn call(&self, method: &str, request: &Value) -> Value {
        self.library.call(&format!("library.v1.LibraryService/{method}"), request).json()
    }

    /// A new title of the catalog, as soon as the copy has it.
    fn title(&self) -> String {
        let title_id = create(self.catalog, "Metropolis")["titleId"].as_str().expect("an id").to_owned();
        copied(self.library, &title_id, "1");
        title_id
    }

    /// Starts to rent a title; returns the name of the operation.
    fn start(&self, request: &Value) -> String {
        self.call("RentTitle", request)["name"].as_str().expect("a name").to_owned()
    }

    /// The code and the reason of a rental that is refused at once.
    fn refused(&self, request: &Value) -> (String, String) {
        self.library.call("library.v1.LibraryService/RentTitle", request).failure()
    }

    /// The only rental of the viewer of a request.
    fn rental(&self, request: &Value) -> Value {
        let rentals = self.call("ListRentals", &json!({"viewer_id": request["viewer_id"]}));
        let rentals = rentals["rentals"].as_array().expect("a rental");
        assert_eq!(rentals.len(), 1, "{rentals:?}");
        rentals[0].clone()
    }

    /// The states of all charges in billing's table.
    fn states(&mut self) -> Vec<i64> {
        self.charges.numbers("SELECT state FROM charges ORDER BY create_time")
    }
}

/// The numbers of the states in billing's table.
const CHARGED: i64 = 1;
const REFUNDED: i64 = 2;
const DECLINED: i64 = 3;
const VOIDED: i64 = 4;

/// Waits until the copy has a revision of a title.
fn copied(library: &Grpcurl, title_id: &str, revision: &str) -> Value {
    eventually("the copy has the title", || {
        let found = library.call("library.v1.LibraryService/GetTitle", &json!({"title_id": title_id}));
        let title = if found.failed() { return None } else { found.json()["title"].clone() };
        (title["revision"] == revision).then_some(title)
    })
}

/// A request to rent a title at its price, of a new viewer.
fn request(title_id: &str) -> Value {
    json!({"request_id": uuid(), "viewer_id": uuid(), "title_id": title_id, "expected_price_cents": 399})
}

/// The same request of another id, with one more field.
fn with(request: &Value, field: &str, value: &str) -> Value {
    let mut request = request.clone();
    request["request_id"] = uuid().into();
    request[field] = value.into();
    request
}

/// The names and the states of the steps of an operation.
fn steps(operation: &Value) -> Vec<(String, String)> {
    let steps = operation["metadata"]["steps"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().expect("a text").trim_start_matches("STEP_STATE_").to_owned();
    steps.iter().map(|step| (text(&step["name"]), text(&step["state"]))).collect()
}

fn named(steps: &[(&str, &str)]) -> Vec<(String, String)> {
    steps.iter().map(|(name, state)| ((*name).to_owned(), (*state).to_owned())).collect()
}

/// The reason of an operation that failed.
fn reason(operation: &Value) -> &str {
    let details = operation["error"]["details"].as_array().expect("an error");
    details.iter().find_map(|detail| detail["reason"].as_str()).expect("a reason")
}

/// What each topology must do.
fn rents(mut system: System<'_>) {
    let title_id = system.title();
    rents_with_its_progress(&mut system, &title_id);
    undoes_a_declined_rental(&mut system, &title_id);
    refuses_what_the_viewer_can_mend(&system, &title_id);
}

fn rents_with_its_progress(system: &mut System<'_>, title_id: &str) {
    let request = request(title_id);
    let name = system.start(&request);
    let watch = system.library.call("mesh.operations.v1.OperationEventsService/Watch", &json!({"name": name})).text();
    let frames: Vec<Value> =
        serde_json::Deserializer::from_str(&watch).into_iter().collect::<Result<_, _>>().expect("JSON");
    let last = frames.last().expect("an end");
    let end = last.get("update").or(last.get("snapshot")).expect("an operation");
    assert_eq!((&end["done"], &end["metadata"]["phase"]), (&json!(true), &json!("PHASE_COMMITTED")), "{end}");
    assert_eq!(steps(end), named(&[("reserve", "DONE"), ("charge", "DONE"), ("grant", "DONE")]));
    let rental = &end["response"]["rental"];
    assert_eq!((&rental["state"], &rental["priceCents"]), (&json!("RENTAL_STATE_GRANTED"), &json!("399")), "{end}");
    assert_eq!(system.rental(&request), *rental);
    assert_eq!(system.states(), [CHARGED]);

    let again = system.library.call("library.v1.LibraryService/RentTitle", &with(&request, "card", "other"));
    assert_eq!(again.failure(), ("AlreadyExists".to_owned(), "ALREADY_RENTED".to_owned()));
    assert_eq!(again.detail("google.rpc.ErrorInfo")["metadata"]["operation"], name);
}

fn undoes_a_declined_rental(system: &mut System<'_>, title_id: &str) {
    let request = with(&request(title_id), "card", "test-declined");
    let name = system.start(&request);
    let done = harness::film::wait(system.library, &name);
    assert_eq!(reason(&done), "CARD_DECLINED", "{done}");
    assert_eq!(steps(&done), named(&[("reserve", "UNDONE"), ("charge", "UNDONE")]));
    assert_eq!(system.rental(&request)["state"], "RENTAL_STATE_RELEASED");
    assert_eq!(system.states(), [CHARGED, DECLINED]);
}

fn refuses_what_the_viewer_can_mend(system: &System<'_>, title_id: &str) {
    let not_found = ("NotFound".to_owned(), "TITLE_NOT_FOUND".to_owned());
    assert_eq!(system.refused(&request(&uuid())), not_found);
    let update = json!({"title": {"title_id": title_id, "revision": "1", "price_cents": "499"}});
    system.catalog.call("catalog.v1.CatalogService/UpdateTitle", &update).json();
    assert_eq!(copied(system.library, title_id, "2")["priceCents"], "499");
    let changed = ("FailedPrecondition".to_owned(), "PRICE_CHANGED".to_owned());
    assert_eq!(system.refused(&request(title_id)), changed);

    system.catalog.call("catalog.v1.CatalogService/DeleteTitle", &json!({"title_id": title_id})).json();
    let refused = || (system.refused(&request(title_id)) == not_found).then_some(());
    eventually("the title is removed from the copy", refused);
}
