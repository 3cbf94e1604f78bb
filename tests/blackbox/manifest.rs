//! What programs say of themselves, `--manifest`, is true: the calls that they declare are those in their code.

use std::collections::BTreeSet;
use std::process::Output;

use contracts::FILE_DESCRIPTOR_SET;
use contracts::mesh::release::v1::release_service_client::ReleaseServiceClient;
use contracts::mesh::release::v1::{GetManifestRequest, Manifest};
use harness::{Process, command, output, output_in, root};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Code;

/// The services of the project: each is a program of its own.
fn services() -> Vec<String> {
    let folders = std::fs::read_dir(root().join("services")).expect("services").flatten();
    let names = folders.map(|folder| folder.file_name().to_string_lossy().into_owned());
    names.filter(|name| !["monolith", "gateway"].contains(&name.as_str())).collect()
}

fn manifest(program: &str) -> Manifest {
    let Output { status, stdout, stderr } = output(program, &["--manifest"], |_| ());
    assert!(status.success(), "{program}: {}", String::from_utf8_lossy(&stderr));
    Manifest::decode(&*stdout).expect("a manifest")
}

/// The methods of the system: the full name of the gRPC service, and the name of the method, the longest first.
fn methods() -> Vec<(String, String)> {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("a descriptor set");
    let mut methods = Vec::new();
    for file in &set.file {
        for service in &file.service {
            let full = format!("{}.{}", file.package(), service.name());
            methods.extend(service.method.iter().map(|method| (full.clone(), method.name().to_owned())));
        }
    }
    methods.sort_by_key(|(service, method)| std::cmp::Reverse((service.len(), method.len())));
    methods
}

/// The methods whose paths are in a program: the linker keeps the path of a client's method only where it is called.
/// Texts run together in a program, as in `/catalog.v1.CatalogService/GetTitlecatalog`.
fn called(program: &[u8], methods: &[(String, String)]) -> BTreeSet<String> {
    let mut called = BTreeSet::new();
    for (at, _) in program.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
        let rest = &program[at + 1..];
        let is_next = |(service, method): &&(String, String)| {
            let rest = rest.strip_prefix(service.as_bytes()).and_then(|rest| rest.strip_prefix(b"/"));
            rest.is_some_and(|rest| rest.starts_with(method.as_bytes()))
        };
        called.extend(methods.iter().find(is_next).map(|(service, method)| format!("{service}/{method}")));
    }
    called
}

#[test]
fn program_calls_what_it_declares() {
    let methods = methods();
    for service in services() {
        // A server has the paths of its own methods, and mesh those of its contracts.
        let is_of_others = |method: &String| {
            let package = method.split('.').next().unwrap_or_default();
            ![&*service, "google", "grpc", "mesh"].contains(&package)
        };
        let program = std::fs::read(command(&service).get_program()).expect("a program");
        let called: BTreeSet<_> = called(&program, &methods).into_iter().filter(is_of_others).collect();
        let declared = manifest(&service).calls.into_iter().map(|call| call.method);
        let declared: BTreeSet<_> = declared.filter(is_of_others).collect();
        assert_eq!(called, declared, "what `{service}` calls, and what services/{service}/src/lib.rs declares");
    }
}

#[test]
fn calls_are_found_in_texts_that_run_together() {
    let methods = [("a.v1.A", "Get"), ("a.v1.A", "GetAll"), ("a.v1.AB", "Get")];
    let mut methods = methods.map(|(service, method)| (service.to_owned(), method.to_owned()));
    methods.sort_by_key(|(service, method)| std::cmp::Reverse((service.len(), method.len())));
    let found = called(b"x/a.v1.A/GetAllthing/a.v1.AB/Getter a.v1.A/Get /a.v1.A/Made", &methods);
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a.v1.A/GetAll", "a.v1.AB/Get"]);
}

#[test]
fn manifest_is_written_without_opening_anything() {
    for service in services() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // It would not start with this file.
        std::fs::write(folder.path().join("mesh.toml"), "listen = 'nowhere'\n").expect("a file");
        let written = output_in(&folder, &service, &["--manifest"]);
        assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "`{service}` creates no file");
        let manifest = Manifest::decode(&*written.stdout).expect("a manifest");
        assert_eq!((manifest.service, manifest.digest.len()), (service, 64));
    }
}

#[test]
fn manifest_of_a_running_process_is_that_of_its_program() {
    let services = services();
    let monolith = Process::start("monolith", &[]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let get = |service: &str| {
        let request = GetManifestRequest { service: service.to_owned() };
        runtime.block_on(async {
            let url = format!("http://{}", monolith.address);
            let mut client = ReleaseServiceClient::connect(url).await.expect("a connection");
            client.get_manifest(request).await.map(tonic::Response::into_inner)
        })
    };
    for service in &services {
        let answer = get(service).expect("a manifest");
        assert_eq!(answer.services.len(), services.len());
        let written = output("monolith", &[&format!("--manifest={service}")], |_| ());
        assert_eq!(written.stdout, manifest(service).encode_to_vec(), "the same beside others");
        assert_eq!(answer.manifest, written.stdout, "{service}");
    }
    let unknown = get("nobody").expect_err("no such service");
    assert_eq!(unknown.code(), Code::NotFound);
    if services.len() > 1 {
        assert!(get("").expect("the list").manifest.is_empty());
        let Output { status, stdout, stderr } = output("monolith", &["--manifest"], |_| ());
        let stderr = String::from_utf8_lossy(&stderr);
        assert_eq!((status.code(), stdout.len(), stderr.lines().count()), (Some(2), 0, 1), "{stderr}");
        assert!(stderr.contains(&format!("--manifest={}", services.iter().min().expect("one"))), "{stderr}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn manifest_that_cannot_be_written_fails_with_one_line() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("the device");
    let mut program = command("gateway");
    let failed = program.arg("--manifest").stdout(full).output().expect("it runs");
    let said = String::from_utf8_lossy(&failed.stderr);
    assert_eq!((failed.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("the manifest cannot be written: No space left"), "{said}");
}
