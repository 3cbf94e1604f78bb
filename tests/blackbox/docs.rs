//! The documents agree with the code.

use std::collections::BTreeSet;

use harness::{output, root};

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

    // The examples are valid: only the invalid address of `admin.listen` stops this process. It is built without the feature
    // `nats`, so it would refuse `nats.url`, and there are neither
    // certificates nor intentions. Issuers and `auth.mode = "off"` exclude each other.
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
