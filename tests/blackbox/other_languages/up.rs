//! `mesh up`, which scripts/up calls: it starts programs with their sidecars.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};

use harness::{Consul, Curl, command, eventually, python, python_with, root, token, uuid};
use serde_json::json;
use tempfile::TempDir;

use super::PACKAGES;

/// A folder that `mesh up` takes for a project, with the catalog, the gateway and these examples.
fn project(examples: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for service in ["catalog", "gateway"] {
        std::fs::create_dir_all(folder.path().join("services").join(service)).expect("a folder");
    }
    std::fs::create_dir(folder.path().join("examples")).expect("a folder");
    for linked in examples.iter().map(|example| format!("examples/{example}")).chain([".tools".to_owned()]) {
        symlink(root().join(&linked), folder.path().join(&linked)).expect("a link");
    }
    folder
}

/// A running `mesh up`. It gets SIGTERM when this is dropped.
struct Up {
    child: Child,
    /// What it has printed itself until all was ready.
    lines: Vec<String>,
    places: BTreeMap<String, SocketAddr>,
}

impl Up {
    fn start(folder: &TempDir, options: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut path = std::ffi::OsString::from(root().join(".tools/bin"));
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut up = command("mesh");
        up.args(["up", "--consul-port=0"]).args(options).current_dir(folder.path()).env("PATH", path);
        up.env("MESH__SERVICES__CATALOG__LISTEN", "127.0.0.1:0").env("MESH__LISTEN", "127.0.0.1:0");
        up.envs(environment.iter().copied()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = up.spawn().expect("mesh starts");
        let mut printed = BufReader::new(child.stdout.take().expect("its output")).lines().map_while(Result::ok);
        let (mut lines, mut places) = (Vec::new(), BTreeMap::new());
        while !lines.last().is_some_and(|line: &String| line.contains("Ctrl-C")) {
            let line = printed.next().unwrap_or_else(|| panic!("`mesh up` has ended: {lines:#?}"));
            let Some(text) = line.strip_prefix("up ") else { continue };
            if let [_, name, place] = text.split_whitespace().collect::<Vec<_>>()[..]
                && let Ok(place) = place.parse()
            {
                places.insert(name.to_owned(), place);
            }
            lines.push(text.to_owned());
        }
        std::thread::spawn(move || printed.for_each(drop));
        Self { child, lines, places }
    }

    fn terminate(&mut self) -> Option<i32> {
        let kill = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(kill.expect("kill runs").success());
        eventually("`mesh up` exits", || self.child.try_wait().expect("a child")).code()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = self.terminate();
        }
    }
}

#[test]
#[ignore = "needs packages of Python and Consul: .ci/full"]
fn up_starts_programs_with_tls_and_stops_them() {
    if python_with(PACKAGES).is_none() || Consul::start().is_none() || !Curl::installed() {
        return;
    }
    let folder = project(&["ratings", "recommendations"]);
    let mut up = Up::start(&folder, &["--tls"], &[("MESH__AUTH__MODE", "required")]);
    let names: Vec<_> = up.places.keys().collect();
    assert_eq!(names, ["catalog", "consul", "gateway", "ratings", "recommendations"], "{:#?}", up.lines);
    let user = |name: &str, scopes: &[&str]| {
        Curl::to(up.places["gateway"]).with_token(&token(folder.path(), name, scopes, "1h"))
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
    assert!(folder.path().join("data/recommendations.db").is_file(), "its data is where that of the others is");
    assert_eq!(up.terminate(), Some(0));
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
    let up = Up::start(&folder, &[], &[]);
    assert_eq!(up.places.keys().collect::<Vec<_>>(), ["catalog", "consul", "gateway", "ratings"]);
    let line = up.lines.iter().find(|line| line.contains("lacking")).expect("a line");
    assert!(line.contains("no-such-package-1") && line.contains("scripts/tools python"), "{line}");
}
