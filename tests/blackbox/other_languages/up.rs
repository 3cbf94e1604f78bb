//! `mesh up`, which scripts/up calls: it starts programs with their sidecars.

use std::os::unix::fs::symlink;

use harness::{Consul, Curl, Up, eventually, python, python_with, root, token, uuid};
use serde_json::json;
use tempfile::TempDir;

use super::PACKAGES;

/// A project with the catalog, the gateway and these examples.
fn project(examples: &[&str]) -> TempDir {
    let folder = Up::project(&["catalog", "gateway"]);
    std::fs::create_dir(folder.path().join("examples")).expect("a folder");
    for linked in examples.iter().map(|example| format!("examples/{example}")).chain([".tools".to_owned()]) {
        symlink(root().join(&linked), folder.path().join(&linked)).expect("a link");
    }
    folder
}

#[test]
#[ignore = "needs packages of Python and Consul: .ci/full"]
fn up_starts_programs_with_tls_and_stops_them() {
    if python_with(PACKAGES).is_none() || Consul::start().is_none() || !Curl::installed() {
        return;
    }
    let mut up = Up::start(project(&["ratings", "recommendations"]), &["--tls"], &[("MESH__AUTH__MODE", "required")]);
    let names: Vec<_> = up.places.keys().collect();
    assert_eq!(names, ["catalog", "consul", "gateway", "ratings", "recommendations"], "{:#?}", up.lines);
    let user = |name: &str, scopes: &[&str]| {
        Curl::to(up.places["gateway"]).with_token(&token(up.folder.path(), name, scopes, "1h"))
    };
    let title = json!({"requestId": uuid(), "name": "Seen", "year": 1927});
    let title = eventually("the gateway finds the catalog", || {
        let created = user("olga", &["catalog.write"]).json("POST", "/v1/titles", &title);
        (created.status == 200).then(|| created.json()["titleId"].as_str().expect("an id").to_owned())
    });
    let noted = eventually("the gateway finds recommendations", || {
        let request = json!({"requestId": uuid()});
        let noted = user("alice", &[]).json("POST", &format!("/v1/titles/{title}:noteWatched"), &request);
        (noted.status == 200).then_some(noted)
    });
    assert!(noted.json()["watchTime"].is_string());
    assert!(up.folder.path().join("data/recommendations.db").is_file(), "its data is where that of the others is");
    up.signal("TERM");
    assert_eq!(up.ended(), Some(0));
    for (name, place) in &up.places {
        assert!(std::net::TcpStream::connect(place).is_err(), "{name} still runs");
    }
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn up_leaves_out_programs_whose_packages_are_missing() {
    if python().is_none() || Consul::start().is_none() {
        return;
    }
    let folder = project(&["ratings"]);
    let lacking = folder.path().join("examples/lacking");
    std::fs::create_dir(&lacking).expect("a folder");
    std::fs::write(lacking.join("requirements.txt"), "# A list.\nno-such-package-1==1.0\n").expect("a file");
    std::fs::write(lacking.join("sidecar.toml"), "[sidecar]\nservice = \"lacking\"\ncommand = \"python3 main.py\"\n")
        .expect("a file");
    let up = Up::start(folder, &[], &[]);
    assert_eq!(up.places.keys().collect::<Vec<_>>(), ["catalog", "consul", "gateway", "ratings"]);
    let line = up.lines.iter().find(|line| line.contains("lacking")).expect("a line");
    assert!(line.contains("no-such-package-1") && line.contains("scripts/tools python"), "{line}");
}
