//! `mesh events trace` with long work among the events.

use harness::film::{create, wait};
use harness::{Grpcurl, Process, eventually, uuid};
use serde_json::json;

use crate::film::operations_cli::mesh;

#[test]
fn events_trace_shows_a_rental_with_its_steps_and_its_charge() {
    if !Grpcurl::installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    let (target, grpcurl) = (["--address", &process.address.to_string()], process.grpcurl());
    let title_id = create(&grpcurl, "Metropolis")["titleId"].clone();
    eventually("the copy has the title", || {
        let found = grpcurl.call("library.v1.LibraryService/GetTitle", &json!({"title_id": title_id}));
        (!found.failed()).then_some(())
    });
    let trace = uuid().replace('-', "");
    let traceparent = format!("traceparent: 00-{trace}-00f067aa0ba902b7-01");
    let rent = |viewer: &str| {
        let request =
            json!({"request_id": uuid(), "viewer_id": viewer, "title_id": title_id, "expected_price_cents": 399});
        let request = request.to_string();
        let rented =
            grpcurl.run(&["-H", &traceparent, "-d", &request], &["library.v1.LibraryService/RentTitle"]).json();
        let name = rented["name"].as_str().expect("a name").to_owned();
        assert!(wait(&grpcurl, &name)["response"].is_object());
        name
    };
    let name = rent("one");
    let printed = mesh(target, &["events", "trace", &trace]).answer();
    let lines: Vec<_> = printed.lines().collect();
    let [operation, reserve, charge, grant, made] = lines[..] else { panic!("{printed}") };
    assert!(
        operation.starts_with("library ") && operation.ends_with(&format!(" RentTitle {name} succeeded")),
        "{printed}"
    );
    for (step, line) in [("reserve", reserve), ("charge", charge), ("grant", grant)] {
        assert!(line.starts_with(&format!("  step {step} done, attempt 1, begun ")), "{printed}");
    }
    assert!(made.starts_with("billing ") && made.contains(" ChargeMade "), "{printed}");
    // Another operation of the same first cause.
    let second = rent("two");
    let printed = mesh(target, &["events", "trace", &trace]).answer();
    assert!(printed.lines().count() == 10 && printed.contains(&second), "{printed}");
}
