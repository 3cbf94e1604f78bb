//! The edges between services, as a dashboard sees them: in memory, and over the network.

use std::io::BufReader;

use harness::film::{create, render, smallest_picture, wait};
use harness::{Grpcurl, Process};
use serde_json::{Deserializer, Value, json};

const METHOD: &str = "catalog.v1.CatalogService/GetTitle";

/// The edges of the method in the first message of a watch.
fn edges(process: &Process) -> Vec<Value> {
    let mut watch = process.grpcurl().open_with("mesh.inspect.v1.InspectService/Watch", &json!({}));
    let output = BufReader::new(watch.stdout.take().expect("its output"));
    let first = Deserializer::from_reader(output).into_iter::<Value>().next().expect("a message").expect("JSON");
    watch.kill().expect("it runs");
    watch.wait().expect("it ends");
    let edges = first["edges"].as_array().expect("edges").iter();
    edges.filter(|edge| edge["method"] == METHOD).cloned().collect()
}

/// The edge of a side.
fn side<'a>(edges: &'a [Value], side: &str) -> &'a Value {
    edges.iter().find(|edge| edge["side"] == side).unwrap_or_else(|| panic!("no {side} in {edges:?}"))
}

/// Renders a picture: artwork asks the catalog for the title.
fn picture(catalog: &Grpcurl, artwork: &Grpcurl) {
    let title = create(catalog, "Metropolis");
    wait(artwork, &render(artwork, &title["titleId"], &smallest_picture()));
}

#[test]
fn edges_in_memory_have_both_sides() {
    if !Grpcurl::installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    let grpcurl = process.grpcurl();
    picture(&grpcurl, &grpcurl);
    let edges = edges(&process);
    for name in ["SIDE_CLIENT", "SIDE_SERVER"] {
        let edge = side(&edges, name);
        assert_eq!((&edge["caller"], &edge["callee"]), (&json!("artwork"), &json!("catalog")), "{edge}");
        assert!(edge["memory"] == true && edge["codes"] == json!([{"count": "1"}]), "{edge}");
    }
    let about = grpcurl.call("mesh.inspect.v1.InspectService/GetProcess", &json!({})).json();
    let declared = json!({"caller": "artwork", "callee": "catalog", "method": METHOD});
    assert!(about["calls"].as_array().expect("calls").contains(&declared), "{about}");
    let services = about["services"].as_array().expect("services");
    let artwork = services.iter().find(|service| service["name"] == "artwork").expect("artwork");
    assert!(artwork["database"] == "sqlite" && artwork["contracts"][0] == "artwork.v1.ArtworkService", "{artwork}");
}

#[test]
fn edges_over_the_network_have_a_claimed_caller_without_certificates() {
    if !Grpcurl::installed() {
        return;
    }
    let catalog = Process::start("catalog", &[]);
    let address = catalog.address.to_string();
    let artwork = Process::start("artwork", &[("MESH__REGISTRY", "static"), ("MESH__STATIC__CATALOG", &address)]);
    picture(&catalog.grpcurl(), &artwork.grpcurl());
    let (at_artwork, at_catalog) = (edges(&artwork), edges(&catalog));
    let made = side(&at_artwork, "SIDE_CLIENT");
    assert_eq!(
        (&made["caller"], &made["callee"], &made["memory"]),
        (&json!("artwork"), &json!("catalog"), &Value::Null)
    );
    let served = side(&at_catalog, "SIDE_SERVER");
    assert_eq!((&served["caller"], &served["claimedCaller"]), (&Value::Null, &json!("artwork")), "{served}");
    assert_eq!((&served["callee"], &served["codes"]), (&json!("catalog"), &json!([{"count": "1"}])), "{served}");
}
