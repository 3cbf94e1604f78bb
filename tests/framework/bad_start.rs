//! A process that cannot start prints one line for each error, with a remedy, and exits with a non-zero code.

use std::path::Path;

use harness::{command, output};

/// The errors of a process that refuses to start.
pub(crate) fn refuses(arguments: &[&str], prepare: impl FnOnce(&Path)) -> Vec<String> {
    let output = output("monolith", arguments, prepare);
    assert!(!output.status.success());
    assert!(output.stdout.is_empty(), "the process printed an address it listens on");
    let errors = String::from_utf8(output.stderr).expect("UTF-8");
    errors.lines().map(|line| line.strip_prefix("error: ").expect("an error").to_owned()).collect()
}

/// Asserts that there is one error, and that it contains all `words`.
pub(crate) fn refuses_with(words: &[&str], arguments: &[&str], prepare: impl FnOnce(&Path)) {
    let errors = refuses(arguments, prepare);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    for word in words {
        assert!(errors[0].contains(word), "`{word}` is not in: {}", errors[0]);
    }
}

pub(crate) fn mesh_toml(text: &str) -> impl FnOnce(&Path) {
    move |folder| std::fs::write(folder.join("mesh.toml"), text).expect("a file")
}

pub(crate) const FREE: &str = "--listen=127.0.0.1:0";

#[test]
fn taken_port_is_refused() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    refuses_with(&[&address, "another process", "--listen"], &["--listen", &address], |_| ());
}

#[test]
fn variable_with_one_underscore_is_refused() {
    let mut command = command("monolith");
    let refused = command.env("MESH_LISTEN", "127.0.0.1:0").arg(FREE).output().expect("it starts");
    assert!(!refused.status.success());
    let error = String::from_utf8(refused.stderr).expect("UTF-8");
    assert!(error.contains("MESH_LISTEN") && error.contains("MESH__LISTEN"), "{error}");
}

#[test]
fn taken_admin_port_is_refused() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    refuses_with(&[&address, "admin.listen"], &[FREE, &format!("--set=admin.listen={address}")], |_| ());
}

#[test]
fn misspelt_key_is_refused() {
    for (text, key, meant) in
        [("lisen = '127.0.0.1:0'", "lisen", "listen"), ("[log]\nformt = 'json'", "log.formt", "log.format")]
    {
        refuses_with(&["mesh.toml", &format!("`{key}`"), meant], &[FREE], mesh_toml(text));
    }
}

#[test]
fn value_out_of_range_is_refused() {
    for (text, key, allowed) in [
        ("drain_limit = '11min'", "drain_limit", "0s to 10min"),
        ("call_deadline = 5", "call_deadline", "1ms to 1h"),
        // A month, beside the `m` of a minute.
        ("[operations]\nkeep = '1M'", "operations.keep", "min or m, h, d, weeks, months"),
        ("[log]\nlevel = 'loud'", "log.level", "debug"),
        ("[log]\nlevel = ''", "log.level", "off, error, warn, info"),
        ("[[services]]\nname = 'catalog'", "`services` is a list of tables", "[services.NAME], in single brackets"),
    ] {
        refuses_with(&["mesh.toml", key, allowed], &[FREE], mesh_toml(text));
    }
}

#[test]
fn address_in_another_form_is_refused_with_the_right_one() {
    for (text, words) in [
        ("--set=registry=http://127.0.0.1:8500", ["`registry`", "write consul://127.0.0.1:8500"]),
        ("--set=advertise=::1", ["`advertise`", "write [::1], or [::1]:PORT"]),
        ("--set=registry=dns://{servce}", ["`registry`", "dns://{service}"]),
    ] {
        refuses_with(&words, &[FREE, text], |_| ());
    }
}

#[test]
fn invalid_toml_is_refused() {
    refuses_with(&["mesh.toml", "line 2"], &[FREE], mesh_toml("listen = '127.0.0.1:0'\nlog ="));
}

#[test]
fn missing_config_file_is_refused() {
    refuses_with(&["nowhere.toml", "cannot be read"], &[FREE, "--config=nowhere.toml"], |_| ());
}

#[test]
fn errors_are_all_listed_at_once() {
    let errors = refuses(&[FREE, "--set=nonsense"], mesh_toml("lisen = 'x'\ndrain_limit = 'x'"));
    assert_eq!(errors.len(), 3, "{errors:#?}");
}

#[test]
fn unknown_flag_is_refused() {
    let output = output("monolith", &["--lisen=x"], |_| ());
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--listen"));
}

#[test]
fn check_config_exits_with_0_or_2_and_serves_nothing() {
    let valid = output("monolith", &["--check-config"], mesh_toml("listen = '127.0.0.1:0'"));
    assert_eq!((valid.status.code(), valid.stdout.len(), valid.stderr.len()), (Some(0), 0, 0), "{valid:?}");
    let mistakes = "lisen = '127.0.0.1:0'\ndrain_limit = '1y'";
    let invalid = output("monolith", &["--check-config", "--set=log.format=xml"], mesh_toml(mistakes));
    let errors = String::from_utf8(invalid.stderr).expect("UTF-8");
    assert_eq!((invalid.status.code(), errors.lines().count()), (Some(2), 3), "{errors}");
}

#[test]
fn print_config_shows_each_source_and_no_secret() {
    let arguments = ["--print-config", "--set=drain_limit=1s", "--set=consul.token=hush"];
    let printed = output("monolith", &arguments, mesh_toml("call_deadline = '2s'"));
    assert_eq!(printed.status.code(), Some(0), "{printed:?}");
    let listing = String::from_utf8(printed.stdout).expect("UTF-8");
    let line = |start: &str| {
        let found = listing.lines().find(|line| line.starts_with(start));
        found.unwrap_or_else(|| panic!("no {start} in {listing}")).to_owned()
    };
    assert!(line("call_deadline = \"2s\"").ends_with("# mesh.toml"), "{listing}");
    assert!(line("drain_limit = \"1s\"").ends_with("# --set"), "{listing}");
    assert!(line("listen = \"127.0.0.1:8080\"").ends_with("# default"), "{listing}");
    assert!(line("# consul.token is set, and secret").ends_with("# --set") && !listing.contains("hush"), "{listing}");
    // What it prints is a configuration file.
    let again = output("monolith", &["--print-config"], |folder| {
        std::fs::write(folder.join("mesh.toml"), &listing).expect("a file");
    });
    assert_eq!(again.status.code(), Some(0), "{again:?}");
}
