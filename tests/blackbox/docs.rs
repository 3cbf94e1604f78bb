//! The documents agree with the code.

use std::collections::{BTreeMap, BTreeSet};

use harness::{command, output, root};

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The text between back ticks outside of code blocks.
fn quoted(text: &str) -> Vec<String> {
    let prose: Vec<_> = text.split("```").step_by(2).collect();
    prose.iter().flat_map(|part| part.split('`').skip(1).step_by(2)).map(ToOwned::to_owned).collect()
}

/// A document; `None` if the owner of the project has deleted it.
fn document(path: &str) -> Option<String> {
    root().join(path).exists().then(|| read(path))
}

#[test]
fn architecture_paths_exist() {
    let Some(text) = document("docs/ARCHITECTURE.md") else { return };
    let quoted = quoted(&text);
    let paths: Vec<_> = quoted
        .iter()
        .filter(|word| word.contains('/') && !word.contains([' ', '<', '*', ':', '{', '(', '"']))
        .collect();
    // `/metrics` is a path of HTTP, `catalog.v1.CatalogService/GetTitle` a method.
    let paths: Vec<_> = paths.into_iter().filter(|word| !word.starts_with('/') && !word.contains(".v1.")).collect();
    assert!(paths.len() > 20, "only {paths:?}");
    for path in paths {
        // The owner of a project may delete these folders.
        let of_deploy = ["container", "kubernetes", "systemd"].map(|folder| format!("deploy/{folder}"));
        let folders = of_deploy.iter().map(String::as_str).chain(["docs", "deploy"]);
        let is_deleted = folders.into_iter().any(|of| path.starts_with(of) && !root().join(of).exists());
        assert!(is_deleted || root().join(path).exists(), "docs/ARCHITECTURE.md names `{path}`, which does not exist");
    }
}

#[test]
fn architecture_names_each_crate_and_service() {
    let Some(map) = document("docs/ARCHITECTURE.md") else { return };
    for folder in ["services", "crates"] {
        for entry in std::fs::read_dir(root().join(folder)).expect("a folder").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let package = format!("{folder}/{name}");
            // A service that scripts/new-service made has a README instead of a row.
            let has_a_readme = folder == "services" && entry.path().join("README.md").exists();
            let listed = !entry.path().is_dir() || has_a_readme || map.contains(&format!("`{package}`"));
            assert!(listed, "docs/ARCHITECTURE.md does not list `{package}`: add a row to its map");
        }
    }
}

#[test]
fn mesh_toml_documents_every_key_with_its_default() {
    // The error for an unknown key lists all keys.
    let printed = output("monolith", &["--set=xxxxxxxxxxxx=1", "--listen=127.0.0.1:0"], |_| ());
    let printed = String::from_utf8(printed.stderr).expect("UTF-8");
    let known = printed.trim().rsplit_once("the keys are ").expect("the keys").1;
    let known: BTreeSet<_> = known.split(", ").map(ToOwned::to_owned).collect();

    let uncommented: Vec<_> = read("mesh.toml").lines().map(uncomment).collect();
    let table: toml::Table = uncommented.join("\n").parse().expect("mesh.toml with its examples is TOML");
    let mut documented = BTreeSet::new();
    keys("", &table, &mut documented);
    // `static` and `services.NAME` have keys for each service; mesh.toml shows those of some as examples. Settings of a
    // service's own are shown. A service in another language has a contract, too; its sidecar has a file of its own.
    let once = |keys: &BTreeSet<String>| -> BTreeSet<String> {
        let of_a_service = |key: &str| {
            let name = key.strip_prefix("services.").and_then(|rest| rest.split_once('.'));
            name.is_some_and(|(_, key)| ["listen", "database_url"].contains(&key) || key.starts_with("database."))
        };
        let of_each = |key: &str| key.starts_with("static.") || of_a_service(key);
        keys.iter().filter(|key| !of_each(key)).cloned().collect()
    };
    assert_eq!(once(&documented), once(&known));

    // The examples are valid: only the invalid address of `admin.listen` stops this process. It is built without the
    // feature `nats`, so it would refuse `nats.url`, and there are neither certificates nor intentions. Issuers and
    // `auth.mode = "off"` exclude each other.
    let files = [
        "url = \"nats://",
        "certificate = \".mesh/ca",
        "key = \".mesh/ca",
        "bundle = \".mesh/ca",
        "intentions = \"",
        "issuers = \"",
        "issuer_bundle = \"",
    ];
    let valid = uncommented.into_iter().filter(|line| !files.iter().any(|file| line.starts_with(file)));
    let text = valid.collect::<Vec<_>>().join("\n");
    let web = table["edge"]["web"].as_str().and_then(|web| web.split_once('=')).expect("PATH=FOLDER").1;
    let started = output("monolith", &["--listen=127.0.0.1:0", "--set=admin.listen=127.0.0.256:0"], |folder| {
        std::fs::write(folder.join("mesh.toml"), text).expect("a file");
        std::fs::create_dir_all(folder.join(web)).expect("a folder");
        std::fs::write(folder.join(web).join("index.html"), "").expect("a file");
    });
    let errors = String::from_utf8(started.stderr).expect("UTF-8");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(errors.contains("admin.listen"), "{errors}");
}

/// A comment of the form `# key = value` is an example; every other comment is prose.
fn uncomment(line: &str) -> String {
    let example = line.strip_prefix("# ").filter(|rest| {
        rest.split_once(" = ").is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
    });
    example.unwrap_or(line).to_owned()
}

fn keys(prefix: &str, table: &toml::Table, found: &mut BTreeSet<String>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            toml::Value::Table(table) => keys(&key, table, found),
            _ => drop(found.insert(key)),
        }
    }
}

/// A key in mesh.toml, with the value in its comment.
struct Example {
    key: String,
    value: String,
    /// The comment above it.
    prose: String,
}

fn examples(text: &str) -> Vec<Example> {
    let (mut table, mut prose, mut found) = (String::new(), String::new(), Vec::new());
    for line in text.lines() {
        let example = uncomment(line);
        if let Some(name) = line.strip_prefix('[') {
            table = name.trim_end_matches(']').to_owned();
        } else if line.is_empty() {
            prose.clear();
        } else if example != line {
            let (name, value) = example.split_once(" = ").expect("a key with a value");
            let key = if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") };
            found.push(Example { key, value: value.trim_matches('"').to_owned(), prose: prose.clone() });
        } else {
            prose += line;
        }
    }
    found
}

/// The keys of a process and their defaults; `None`: a key has none.
fn defaults(process: &str) -> BTreeMap<String, Option<String>> {
    let (mut command, folder) = (command(process), tempfile::tempdir().expect("a folder"));
    // What the harness sets is no default.
    command.env_remove("MESH__REGISTRY").env_remove("MESH__DRAIN_DELAY");
    let printed = command.arg("--print-config").current_dir(folder.path()).output().expect("it starts");
    let printed = String::from_utf8(printed.stdout).expect("UTF-8");
    let default = |line: &str| match line.strip_prefix("# ") {
        Some(unset) => Some((unset.strip_suffix(" is not set")?.to_owned(), None)),
        None => {
            let (key, value) = line.strip_suffix("# default")?.split_once(" = ")?;
            Some((key.to_owned(), Some(value.trim().trim_matches('"').to_owned())))
        }
    };
    printed.lines().filter_map(default).collect()
}

/// A value that may be written in several ways: a number, a time, a folder.
fn meant(value: &str) -> String {
    let unit = value.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number = value.strip_suffix(unit).and_then(|number| number.parse::<f64>().ok());
    let seconds = match unit {
        "" => Some(1.0),
        "ms" => Some(0.001),
        "s" => Some(1.0),
        "m" | "min" => Some(60.0),
        "h" => Some(3600.0),
        "d" | "day" | "days" => Some(86400.0),
        _ => None,
    };
    match number.zip(seconds) {
        Some((number, seconds)) => format!("{}{}", number * seconds, if unit.is_empty() { "" } else { "s" }),
        None => value.trim_start_matches("./").to_owned(),
    }
}

#[test]
fn mesh_toml_shows_the_defaults_of_the_binaries() {
    let monolith = defaults("monolith");
    let (mut compared, mut wrong) = (0, Vec::new());
    for Example { key, value, prose } in examples(&read("mesh.toml")) {
        // Addresses of peers are examples, and each service listens at its own when it runs alone.
        let service = key.strip_prefix("services.").and_then(|rest| rest.strip_suffix(".listen"));
        let default = match service {
            Some(service) => defaults(service).remove("listen"),
            None if key.starts_with("static.") => continue,
            // A project may be made for Postgres.
            None if value.starts_with("postgres://") => continue,
            None => monolith.get(&key).cloned(),
        };
        let names_a_default = prose.contains("default") || prose.contains("Without it");
        let agrees = match &default {
            // Not listed, as `nats.url` is not if no service publishes; an unknown key fails another test.
            None | Some(None) => names_a_default,
            Some(Some(default)) => meant(default) == meant(&value) || (names_a_default && prose.contains(default)),
        };
        compared += usize::from(matches!(default, Some(Some(_))));
        if !agrees {
            wrong.push(format!("{key} = {value}, and by default {default:?}"));
        }
    }
    assert!(wrong.is_empty(), "mesh.toml does not show the defaults: {wrong:#?}");
    assert!(compared > 25, "only {compared} keys have a default");
}

#[test]
fn values_are_the_same_in_each_way_to_write_them() {
    for (one, other) in [("2min", "2m"), ("7d", "7days"), ("1.0", "1"), ("./data", "data"), ("1000ms", "1s")] {
        assert_eq!(meant(one), meant(other));
    }
    for (one, other) in [("1s", "1"), ("1m", "1h"), ("4MiB", "4"), ("true", "false")] {
        assert_ne!(meant(one), meant(other));
    }
}

#[test]
fn readme_calls_return_the_shown_answers() {
    use harness::{Grpcurl, Process};
    if !Grpcurl::installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    let readme = read("README.md");
    let blocks: Vec<_> = readme.split("```").skip(1).step_by(2).filter(|block| block.contains("$ grpcurl")).collect();
    assert!(!blocks.is_empty(), "README.md shows no call");
    for block in blocks {
        let mut lines = block.lines().skip(1).peekable();
        while let Some(line) = lines.next() {
            let Some(command) = line.strip_prefix("$ ") else { continue };
            let mut expected = Vec::new();
            while lines.peek().is_some_and(|line| !line.starts_with("$ ")) {
                expected.extend(lines.next());
            }
            let answer = shell(command, process.address);
            let (answer, expected) = (shape(&answer), shape(&expected.join("\n")));
            // Services may be added: a list may have more rows than the README shows.
            let listed = command.ends_with(" list") && expected.iter().all(|line| answer.contains(line));
            assert!(listed || answer == expected, "{command}\n{answer:#?}\n{expected:#?}");
        }
    }
}

/// Runs a command of the README against the process of this test.
fn shell(command: &str, address: std::net::SocketAddr) -> String {
    let command = command.replace("127.0.0.1:8080", &address.to_string());
    let mut path = std::ffi::OsString::from(root().join(".tools/bin"));
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let output = std::process::Command::new("bash").arg("-c").arg(&command).env("PATH", path).output();
    let output = output.expect("bash runs");
    String::from_utf8(output.stdout).expect("UTF-8") + &String::from_utf8(output.stderr).expect("UTF-8")
}

/// An answer without its ids and times, which are the words with many digits.
fn shape(text: &str) -> Vec<String> {
    let varies = |word: &&str| word.chars().filter(char::is_ascii_digit).count() < 9;
    let line = |line: &str| line.split_whitespace().filter(varies).collect::<Vec<_>>().join(" ");
    text.lines().map(line).filter(|line| !line.is_empty()).collect()
}
