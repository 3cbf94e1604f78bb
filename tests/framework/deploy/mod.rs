//! The files of deploy/: what they configure, and what runs by them. .ci/deploy has the checks that need other
//! programs. The owner of a project may delete the folder.

mod image;
mod units;

use harness::{command, root};

/// A file of deploy/; `None` if it is deleted.
fn file(path: &str) -> Option<String> {
    std::fs::read_to_string(root().join("deploy").join(path)).ok()
}

/// The services with a folder, without monolith and gateway.
fn services() -> Vec<String> {
    let folders = std::fs::read_dir(root().join("services")).expect("services").flatten();
    let names = folders.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| root().join("services").join(name).join("src/lib.rs").exists()).collect()
}

/// The variables of lines such as `  MESH__TLS__MODE: plaintext`, below a line of compose.yaml.
fn variables(compose: &str, below: &str) -> Vec<(String, String)> {
    let lines = compose.split_once(below).unwrap_or_else(|| panic!("{below} is not there")).1.lines().skip(1);
    let lines = lines.skip_while(|line| !line.trim().starts_with("MESH__"));
    let lines = lines.map_while(|line| line.trim().split_once(": ").filter(|(name, _)| name.starts_with("MESH__")));
    let value = |value: &str| value.trim_matches('"').replace("${POSTGRES_PASSWORD:-development}", "development");
    let found: Vec<_> = lines.map(|(name, text)| (name.to_owned(), value(text))).collect();
    assert!(found.len() > 2, "{found:?}");
    found
}

/// Checks the configuration that these variables give a program, and prints it.
fn configured(binary: &str, variables: &[(String, String)]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let mut checked = command(binary);
    checked.current_dir(folder.path()).env("MESH__LISTEN", "0.0.0.0:50051");
    checked.envs(variables.iter().map(|(name, value)| (name, value))).arg("--print-config");
    let checked = checked.output().expect("it runs");
    let errors = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success() && errors.is_empty(), "{binary}: {errors}");
    String::from_utf8(checked.stdout).expect("UTF-8")
}

#[test]
fn compose_configures_each_service() {
    let Some(compose) = file("container/compose.yaml") else { return };
    let shared = variables(&compose, "x-environment: ");
    for service in services() {
        let line = format!("\n  {service}: {{<<: *service, build: {{<<: *build, args: {{SERVICE: {service}}}}}}}\n");
        assert!(compose.contains(&line), "deploy/container/compose.yaml has no line{line}");
        let config = configured(&service, &shared);
        for peer in services().iter().filter(|peer| **peer != service) {
            let address = format!("static.{peer} = \"{peer}:50051\"");
            assert!(config.contains(&address), "{service} looks for {peer} elsewhere:\n{config}");
        }
        let owns_data = root().join("services").join(&service).join("migrations").is_dir();
        assert_eq!(config.contains(&format!("services.{service}.database_url is set")), owns_data, "{config}");
    }
    let config = configured("gateway", &[shared, variables(&compose, "\n  gateway:")].concat());
    assert!(config.contains("listen = \"0.0.0.0:8080\"") && config.contains("edge.enabled = true"), "{config}");
}

/// The overlay with a database for each service. What the objects are otherwise, .ci/kubernetes.py checks.
#[test]
fn kubernetes_configures_each_service() {
    let Some(settings) = file("kubernetes/base/pod/mesh.env") else { return };
    let set = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut shared: Vec<_> = settings.lines().filter(|line| !line.starts_with('#')).filter_map(set).collect();
    assert!(shared.len() > 3, "{shared:?}");
    let folder = tempfile::tempdir().expect("a folder");
    let url = folder.path().join("url");
    std::fs::write(&url, "postgres://mesh:development@postgres/{service}\n").expect("a file");
    let database = file("kubernetes/overlays/postgres/database.yaml").expect("a file");
    assert!(database.contains("MESH__DATABASE__URL_FILE"), "{database}");
    shared.push(("MESH__DATABASE__URL_FILE".to_owned(), url.to_string_lossy().into_owned()));
    for service in services() {
        let host = service.replace('_', "-");
        let list = file("kubernetes/base/services/kustomization.yaml").expect("a file");
        assert!(list.contains(&format!("\n  - {service}.yaml\n")), "kustomization.yaml has no {service}: {list}");
        let objects = file(&format!("kubernetes/base/services/{service}.yaml")).expect("a file");
        let owns_data = root().join("services").join(&service).join("migrations").is_dir();
        assert_eq!(objects.contains("owns-data: \"true\""), owns_data, "{service}");
        assert!(objects.contains(&format!("\n  name: {host}\n")), "{service}: {objects}");
        let config = configured(&service, &shared);
        assert!(config.contains("listen = \"0.0.0.0:50051\""), "{config}");
        for peer in services().iter().filter(|peer| **peer != service) {
            let address = format!("static.{peer} = \"{}:50051\"", peer.replace('_', "-"));
            assert!(config.contains(&address), "{service} looks for {peer} elsewhere:\n{config}");
        }
        assert_eq!(config.contains(&format!("services.{service}.database_url is set")), owns_data, "{config}");
    }
    let edge = [("MESH__EDGE__ENABLED", "true"), ("MESH__EDGE__LISTEN", "0.0.0.0:8080")];
    shared.extend(edge.map(|(name, value)| (name.to_owned(), value.to_owned())));
    for binary in ["gateway", "monolith"] {
        let folder = if binary == "gateway" { "services" } else { binary };
        let objects = file(&format!("kubernetes/base/{folder}/{binary}.yaml")).expect("a file");
        for (name, value) in edge {
            assert!(objects.contains(&format!("- {{name: {name}, value: \"{value}\"}}")), "{objects}");
        }
        assert!(configured(binary, &shared).contains("edge.listen = \"0.0.0.0:8080\""));
    }
}
