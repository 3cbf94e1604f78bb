//! `edge.web`: a page of the project's own, by curl.

use std::path::Path;

use harness::{Curl, Process, output};

const INDEX: &str = "<!doctype html>\n<title>App</title>\n";
const SCRIPT: &str = "export const answer = 42;\n";

/// A folder with a page, and with what is left out.
fn fill(folder: &Path) {
    std::fs::create_dir_all(folder.join("web/scripts")).expect("a folder");
    let script = SCRIPT.repeat(100);
    for (name, content) in
        [("web/index.html", INDEX), ("web/scripts/main.js", &*script), ("web/.env", "SECRET"), ("secret.txt", "SECRET")]
    {
        std::fs::write(folder.join(name), content).expect("a file");
    }
    #[cfg(unix)]
    std::os::unix::fs::symlink("../secret.txt", folder.join("web/link.txt")).expect("a link");
}

/// Starts a binary in a folder with a page.
fn start(binary: &str, environment: &[(&str, &str)]) -> Process {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fill(folder.path());
    Process::start_in(folder, binary, &[&[("MESH__EDGE__WEB", "/app=web")], environment].concat())
}

#[test]
fn web_page_is_served_by_every_process_with_an_edge() {
    if !Curl::installed() {
        return;
    }
    let own = [("MESH__EDGE__LISTEN", "127.0.0.1:0")];
    for (binary, environment) in [("monolith", &[][..]), ("gateway", &[]), ("monolith", &own)] {
        let process = start(binary, environment);
        let curl = if environment.is_empty() { process.curl() } else { Curl::to(process.listener("edge")) };
        let index = curl.get("/app/");
        assert_eq!((index.status, index.text().as_str()), (200, INDEX), "{binary}: {index:?}");
        assert_eq!(index.header("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(index.header("x-content-type-options"), Some("nosniff"));
        assert!(index.header("content-security-policy").is_some_and(|policy| policy.contains("default-src 'none'")));
        assert!(curl.get("/").text().contains("href=\"/app/\""), "{binary}: the start page links it");
    }
}

#[test]
fn web_files_are_answered_as_http_has_it() {
    if !Curl::installed() {
        return;
    }
    let process = start("monolith", &[]);
    let curl = process.curl();
    let bare = curl.get("/app");
    assert_eq!((bare.status, bare.header("location")), (302, Some("/app/")));
    let script = "/app/scripts/main.js";
    let plain = curl.get(script);
    assert_eq!(plain.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert_eq!(plain.header("cache-control"), Some("no-cache"));
    let compressed = curl.send(script, &["--header", "Accept-Encoding: gzip"], b"");
    assert_eq!(compressed.header("content-encoding"), Some("gzip"));
    assert!(compressed.body.len() * 4 < plain.body.len());
    assert_eq!(curl.send(script, &["--compressed"], b"").body, plain.body);

    let tag = format!("If-None-Match: {}", plain.header("etag").expect("an ETag"));
    let known = curl.send(script, &["--header", &tag], b"");
    assert_eq!((known.status, known.body.len()), (304, 0));
    let head = curl.send(script, &["--head"], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some(plain.body.len().to_string().as_str()));
    assert_eq!(head.header("etag"), plain.header("etag"));
}

#[test]
fn web_folder_is_all_that_is_served() {
    if !Curl::installed() {
        return;
    }
    let process = start("monolith", &[]);
    let curl = process.curl();
    for path in [
        "/app/none.js",
        "/app/scripts",
        "/app/.env",
        "/app/link.txt",
        "/app/../secret.txt",
        "/app/%2e%2e/secret.txt",
        "/app/..%2fsecret.txt",
        "/app/scripts/../../secret.txt",
        "/app//etc/passwd",
        "/app/%00",
        "/app/%zz",
    ] {
        let page = curl.get(path);
        assert!([400, 404].contains(&page.status), "{path}: {page:?}");
        assert_eq!(page.header("content-type"), Some("application/problem+json"), "{path}");
        assert!(!page.text().contains("SECRET"), "{path}");
    }
    let none = curl.get("/app/none.js");
    assert!(none.status == 404 && none.text().contains("edge.web"), "{none:?}");
    assert_eq!(curl.send("/app/", &["--request", "POST"], b"").status, 404);
}

#[test]
fn web_folder_is_beside_the_file_that_names_it() {
    let elsewhere = tempfile::tempdir().expect("a temporary folder");
    fill(elsewhere.path());
    let file = elsewhere.path().join("mesh.toml");
    std::fs::write(&file, "edge.web = '/app=web'").expect("a file");
    let config = file.display().to_string();
    let check = |more: &[&str]| {
        let checked = output("monolith", &[&["--config", &config, "--check-config"], more].concat(), |_| ());
        (checked.status.success(), String::from_utf8(checked.stderr).expect("UTF-8"))
    };
    assert!(check(&[]).0, "{:?}", check(&[]));
    std::fs::write(&file, "edge.web = '/app=nowhere'").expect("a file");
    assert!(check(&[]).1.contains("nowhere, which cannot be read"), "{:?}", check(&[]));
    // Without an edge nothing reads it.
    assert!(check(&["--set=edge.enabled=false"]).0, "{:?}", check(&["--set=edge.enabled=false"]));
}

#[test]
fn web_that_cannot_be_served_stops_the_process() {
    for (value, says) in [
        ("app=web", "PATH=FOLDER"),
        ("/app=nowhere", "the folder nowhere, which cannot be read"),
        ("/app=web/scripts", "no index.html"),
        ("/docs=web", "choose another path"),
    ] {
        let started = output("monolith", &["--listen=127.0.0.1:0", &format!("--set=edge.web={value}")], fill);
        let errors = String::from_utf8(started.stderr).expect("UTF-8");
        let errors: Vec<_> = errors.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(!started.status.success() && started.stdout.is_empty(), "{value}");
        assert!(
            errors.len() == 1 && errors[0].contains("`edge.web`") && errors[0].contains(says),
            "{value}: {errors:?}"
        );
    }
}
