//! The dashboard of a process: its page, its stream, and readers that it refuses.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout};

use harness::{Curl, Process};
use serde_json::{Value, json};

use crate::bad_start::{FREE, refuses_with};

const TOKEN: &str = "canary-dashboard-token-0123456789";
const HTML: [&str; 2] = ["--header", "Accept: text/html"];

/// An open page, which merges changes as the page in a browser does.
pub(crate) struct Events {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    pub(crate) state: Value,
}

impl Events {
    pub(crate) fn open(curl: &Curl) -> Self {
        let mut child = curl.open("/dashboard/events", &["--max-time", "120"]);
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        Self { child, lines, state: Value::Null }
    }

    /// Reads the next event. `false`: the stream has ended.
    fn read(&mut self) -> bool {
        let (mut name, mut is_event) = (String::new(), false);
        while let Some(line) = self.lines.next() {
            let line = line.expect("UTF-8");
            if let Some(event) = line.strip_prefix("event: ") {
                event.clone_into(&mut name);
            } else if let Some(data) = line.strip_prefix("data: ") {
                self.merge(&name, serde_json::from_str(data).expect("JSON"));
                is_event = true;
            } else if line.is_empty() && is_event {
                return true;
            }
        }
        false
    }

    fn merge(&mut self, name: &str, json: Value) {
        if name == "state" {
            self.state = json;
            return;
        }
        for (section, rows) in json.as_object().expect("an object") {
            let Some(rows) = rows.as_array() else { continue };
            let own = self.state[section].as_array_mut().expect("a section");
            for row in rows {
                own.retain(|old| old["key"] != row["key"]);
                own.push(row.clone());
            }
        }
        for (section, keys) in json["gone"].as_object().expect("what is gone") {
            let own = self.state[section].as_array_mut().expect("a section");
            own.retain(|row| !keys.as_array().expect("keys").contains(&row["key"]));
        }
    }

    /// Reads until the state is as it should be, for at most a minute of updates.
    pub(crate) fn until<T>(&mut self, what: &str, is: impl Fn(&Self) -> Option<T>) -> T {
        for _ in 0..60 {
            if let Some(found) = is(self) {
                return found;
            }
            assert!(self.read(), "the stream has ended before {what}: {:#}", self.state);
        }
        panic!("not {what}: {:#}", self.state);
    }

    /// The rows of a section with this value in a field.
    pub(crate) fn rows<'a>(&'a self, section: &str, field: &'a str, value: &'a str) -> impl Iterator<Item = &'a Value> {
        let rows = self.state[section].as_array().map(Vec::as_slice).unwrap_or_default();
        rows.iter().filter(move |row| row[field] == value)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The line about the dashboard that a process prints.
fn url(process: &Process) -> String {
    let lines = process.printed(0);
    let line = lines.iter().find_map(|line| line.split_once(" dashboard at ")).expect("a dashboard");
    line.1.to_owned()
}

#[test]
fn dashboard_is_the_page_of_a_browser() {
    if !Curl::installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    assert_eq!(url(&process), format!("http://{}/dashboard/", process.address));
    let curl = process.curl();
    let sent = curl.send("/", &HTML, b"");
    assert_eq!((sent.status, sent.header("location")), (303, Some("/dashboard/")));
    assert_eq!(curl.get("/").status, 200, "the start page, for curl");
    let page = curl.get("/dashboard/");
    assert!(page.header("content-type").expect("a type").starts_with("text/html"), "{page:?}");
    assert!(page.header("content-security-policy").expect("a policy").starts_with("default-src 'none'"), "{page:?}");
    let script = curl.get("/dashboard/app.js");
    let tag = format!("If-None-Match: {}", script.header("etag").expect("a tag"));
    assert_eq!(curl.send("/dashboard/app.js", &["--header", &tag], b"").status, 304);
    assert_eq!(curl.get("/dashboard/none.js").status, 404);
    assert_eq!(curl.get("/docs").status, 200, "it stays");
}

#[test]
fn dashboard_is_off_if_the_configuration_says_so() {
    if !Curl::installed() {
        return;
    }
    let process = Process::start("monolith", &[("MESH__DASHBOARD__MODE", "off")]);
    let curl = process.curl();
    assert_eq!((curl.send("/", &HTML, b"").status, curl.get("/dashboard/").status), (200, 404));
    assert!(!process.printed(0).iter().any(|line| line.contains("dashboard")));
}

#[test]
fn dashboard_refuses_other_names_and_other_sites() {
    if !Curl::installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    let curl = process.curl();
    let paths = ["/dashboard/", "/dashboard/app.js", "/dashboard/events", "/dashboard/api/calls"];
    for path in paths {
        for (header, status) in [
            ("Host: rebound.example", 421),
            ("Origin: http://evil.example", 403),
            ("Origin: null", 403),
            ("Sec-Fetch-Site: cross-site", 403),
        ] {
            let refused = curl.send(path, &["--header", header], b"");
            assert_eq!(refused.status, status, "{path} with {header}");
            assert!(refused.json()["error"]["reason"].is_string(), "{refused:?}");
        }
    }
    let call = json!({"method": "grpc.health.v1.Health/Check"}).to_string();
    let post = |headers: &[&str]| {
        let headers: Vec<_> = headers.iter().flat_map(|header| ["--header", header]).collect();
        let body = ["--data-binary", "@-"];
        curl.send("/dashboard/api/call", &[&headers[..], &body].concat(), call.as_bytes()).status
    };
    assert_eq!(post(&["x-dashboard: 1"]), 415, "a form");
    assert_eq!(post(&["Content-Type: application/json"]), 403, "without the header of the page");
    let own = ["Content-Type: application/json", "x-dashboard: 1"];
    assert_eq!(post(&own), 200);
    assert_eq!(post(&[&own[..], &["Origin: http://evil.example"]].concat()), 403);
    assert_eq!(curl.send("/dashboard/", &["--request", "POST"], b"").status, 405);
}

#[test]
fn dashboard_follows_the_process_until_it_drains() {
    if !Curl::installed() {
        return;
    }
    let mut process = Process::start("monolith", &[]);
    let mut events = Events::open(&process.curl());
    let row = events.until("the process is up", |events| events.rows("processes", "state", "up").next().cloned());
    assert_eq!((&row["process"], &row["address"]), (&json!("monolith"), &json!(process.address.to_string())));
    assert_eq!(events.state["hub"]["mode"], "call");
    process.signal("TERM");
    while events.read() {}
    let (status, _) = process.ended();
    assert!(status.success(), "{status}");
}

#[test]
fn dashboard_asks_for_its_token() {
    if !Curl::installed() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).expect("a file");
    let file = file.display().to_string();
    let environment = [("MESH__DASHBOARD__TOKEN_FILE", &*file), ("MESH__DASHBOARD__LISTEN", "127.0.0.1:0")];
    let process = Process::start("monolith", &environment);
    let url = url(&process);
    let (authority, path) = url.trim_start_matches("http://").split_once('/').expect("a path");
    let curl = Curl::to(authority.parse().expect("an address"));
    assert_eq!(process.curl().get("/dashboard/").status, 404, "the page has a listener of its own");
    for path in ["/dashboard/", "/dashboard/events", "/dashboard/api/calls"] {
        assert_eq!(curl.get(path).status, 401, "{path}");
    }
    let opened = curl.get(&format!("/{path}"));
    assert_eq!(opened.status, 303, "{opened:?}");
    let cookie = opened.header("set-cookie").expect("a cookie").split(';').next().expect("a value").to_owned();
    assert_eq!(curl.send("/dashboard/", &["--header", &format!("Cookie: {cookie}")], b"").status, 200);
    assert_eq!(curl.get(&format!("/{path}")).status, 401, "the link is good once");
    let curl = curl.with_token(TOKEN);
    assert_eq!(curl.get("/dashboard/").status, 200);
    assert!(curl.send("/dashboard/link", &["--request", "POST"], b"").json()["path"].is_string());

    let id = format!("/dashboard/api/processes/{}/configuration", process.address);
    let shown = curl.get(&id).text();
    assert!(shown.contains("dashboard.token_file") && !shown.contains(TOKEN), "{shown}");
    assert!(!process.log().contains(TOKEN));
}

#[test]
fn dashboard_of_a_process_that_asks_for_tokens_asks_for_its_link() {
    if !Curl::installed() {
        return;
    }
    let process = Process::start("monolith", &[("MESH__AUTH__MODE", "required")]);
    let url = url(&process);
    let (_, path) = url.trim_start_matches("http://").split_once('/').expect("a path");
    let curl = process.curl();
    for path in ["/dashboard/", "/dashboard/events", "/dashboard/api/logs"] {
        assert_eq!(curl.get(path).status, 401, "{path}");
    }
    let call = json!({"method": "grpc.health.v1.Health/Check"});
    let own = ["--header", "Content-Type: application/json", "--header", "x-dashboard: 1", "--data-binary", "@-"];
    assert_eq!(curl.send("/dashboard/api/call", &own, call.to_string().as_bytes()).status, 401);
    let opened = curl.get(&format!("/{path}"));
    let cookie = opened.header("set-cookie").expect("a cookie").split(';').next().expect("a value").to_owned();
    assert_eq!(curl.send("/dashboard/", &["--header", &format!("Cookie: {cookie}")], b"").status, 200);
}

#[test]
fn dashboard_without_a_token_is_on_loopback_alone() {
    let all = "--set=tls.mode=plaintext";
    let open = ["--listen=0.0.0.0:0", all, "--set=dashboard.mode=read"];
    refuses_with(&["dashboard.mode", "which others can reach", "dashboard.token_file"], &open, |_| ());
    let listen = [FREE, "--set=dashboard.mode=call", "--set=dashboard.listen=0.0.0.0:0"];
    refuses_with(&["dashboard.mode", "which others can reach"], &listen, |_| ());
    refuses_with(&["dashboard.mode", "off, read or call"], &[FREE, "--set=dashboard.mode=on"], |_| ());
    let short = |folder: &std::path::Path| std::fs::write(folder.join("token"), "short").expect("a file");
    refuses_with(&["dashboard.token_file", "32 characters"], &[FREE, "--set=dashboard.token_file=token"], short);
    refuses_with(&["dashboard.token_file", "cannot be read"], &[FREE, "--set=dashboard.token_file=none"], |_| ());
}
