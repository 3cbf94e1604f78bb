//! The commands `mesh release`, with catalog and artwork as processes, and changed manifests as builds to deploy.

use std::net::TcpListener;
use std::path::PathBuf;

use contracts::mesh::release::v1::{Manifest, Migration};
use harness::{Consul, Process, Secured, command, output};
use mesh_release::{View, complete};
use prost::Message as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::operations_cli::{Finished, mesh};

const GET: &str = "catalog.v1.CatalogService/GetTitle";
const LIST: &str = "catalog.v1.CatalogService/ListTitles";

/// The manifest of a program.
fn manifest(program: &str) -> Manifest {
    let written = output(program, &["--manifest"], |_| ());
    assert!(written.status.success(), "{program}");
    Manifest::decode(&*written.stdout).expect("a manifest")
}

/// Builds to deploy, as files in a folder.
struct Builds(TempDir);

impl Builds {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    /// Writes a manifest with this version. `contracts` are descriptor sets; a file of an earlier one counts.
    fn write(&self, name: &str, version: &str, mut manifest: Manifest, contracts: &[&[u8]]) -> String {
        version.clone_into(&mut manifest.version);
        let manifest = complete(manifest, contracts).expect("a manifest");
        self.file(name, &manifest.encode_to_vec())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path: PathBuf = self.0.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        path.display().to_string()
    }

    /// Catalog without GetTitle.
    fn catalog_without(&self) -> String {
        let manifest = manifest("catalog");
        let view = View::read(&manifest.contracts).expect("contracts");
        let left = view.methods_of(&manifest.serves).into_iter().filter(|method| *method != GET).map(str::to_owned);
        let part = view.part(&left.collect(), &manifest.publishes.iter().cloned().collect());
        self.write("catalog-without", "1.1", manifest, &[&part])
    }

    /// Artwork that calls ListTitles in place of GetTitle.
    fn artwork_that_lists(&self) -> String {
        let (mut manifest, catalog) = (manifest("artwork"), self::manifest("catalog").contracts);
        let call = manifest.calls.iter_mut().find(|call| call.method == GET).expect("the call");
        LIST.clone_into(&mut call.method);
        let own = manifest.contracts.clone();
        self.write("artwork-lists", "1.1", manifest, &[&catalog, &own])
    }

    /// A program in whose contracts GetTitle has another name.
    fn renamed(&self, program: &str) -> String {
        let mut manifest = manifest(program);
        let own = std::mem::take(&mut manifest.contracts);
        // The names are of one length, and no other text has either.
        let own = replaced(own, b"GetTitle", b"GotTitle");
        for call in &mut manifest.calls {
            call.method = call.method.replace("GetTitle", "GotTitle");
        }
        self.write(&format!("{program}-renamed"), "1.1", manifest, &[&own])
    }
}

fn replaced(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    let places: Vec<_> =
        bytes.windows(from.len()).enumerate().filter(|(_, text)| *text == from).map(|(at, _)| at).collect();
    places.into_iter().for_each(|at| bytes[at..at + to.len()].copy_from_slice(to));
    bytes
}

/// Catalog and artwork as processes.
struct Apart {
    catalog: Process,
    artwork: Process,
}

impl Apart {
    fn start() -> Self {
        let catalog = Process::start("catalog", &[]);
        let address = catalog.address.to_string();
        let artwork = Process::start("artwork", &[("MESH__REGISTRY", "static"), ("MESH__STATIC__CATALOG", &address)]);
        Self { catalog, artwork }
    }

    fn release(&self, arguments: &[&str]) -> Finished {
        let at = [&self.catalog, &self.artwork].map(|process| format!("--at={}", process.address));
        let (name, rest) = arguments.split_first().expect("a command");
        release(&[&[*name, &at[0], &at[1]], rest].concat())
    }

    fn plan(&self, deploy: &[&str]) -> Finished {
        let deploy: Vec<_> = deploy.iter().map(|file| format!("--deploy={file}")).collect();
        self.release(&[&["plan"], &deploy.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat())
    }
}

/// Runs `mesh release`. In its output `0.0.0` stands for the version of the project.
fn release(arguments: &[&str]) -> Finished {
    let (name, rest) = arguments.split_first().expect("a command");
    let finished = mesh(["release", name], rest);
    Finished { out: finished.out.replace(&manifest("catalog").version, "0.0.0"), ..finished }
}

/// The lines of a plan, without that of what runs.
fn lines(finished: &Finished) -> Vec<&str> {
    let mut lines = finished.out.lines();
    let running = lines.next().unwrap_or_default();
    assert!(
        running.starts_with("running (") && running.ends_with(": artwork 0.0.0 ×1, catalog 0.0.0 ×1"),
        "{finished:?}"
    );
    lines.filter(|line| !line.starts_with("degraded: ")).collect()
}

#[test]
fn release_plan_says_what_goes_alone_in_which_order_together_or_not() {
    let (apart, builds) = (Apart::start(), Builds::new());
    let program = command("catalog").get_program().to_string_lossy().into_owned();
    let same = apart.plan(&[&program]);
    assert_eq!((same.code, lines(&same)), (Some(0), vec!["step 1  catalog 0.0.0 (runs already)  alone"]));

    let (catalog, artwork) = (builds.catalog_without(), builds.artwork_that_lists());
    let ordered = apart.plan(&[&catalog, &artwork]);
    assert_eq!(
        (ordered.code, lines(&ordered)),
        (
            Some(0),
            vec![
                "step 1  artwork 0.0.0 → 1.1  alone",
                "step 2  catalog 0.0.0 → 1.1  after artwork: does not serve CatalogService/GetTitle, which artwork 0.0.0 calls",
                "back    catalog, artwork",
            ]
        ),
        "{ordered:?}"
    );
    let blocked = apart.plan(&[&catalog]);
    let why = "  catalog 1.1 does not serve CatalogService/GetTitle, which artwork 0.0.0 calls";
    assert_eq!((blocked.code, lines(&blocked)), (Some(3), vec!["BLOCKED", why]), "{blocked:?}");
    let checked = apart.release(&["check", "catalog", "--deploy", &catalog]);
    assert_eq!((checked.code, lines(&checked)), (Some(3), vec!["BLOCKED", why]));
    let checked = apart.release(&["check", "catalog"]);
    assert_eq!((checked.code, lines(&checked)), (Some(0), vec!["catalog fits all that runs"]));

    let together = apart.plan(&[&builds.renamed("catalog"), &builds.renamed("artwork")]);
    assert_eq!(
        (together.code, lines(&together)),
        (
            Some(4),
            vec![
                "TOGETHER  catalog 1.1 + artwork 1.1",
                "  catalog 1.1 does not serve CatalogService/GetTitle, which artwork 0.0.0 calls",
                "  artwork 1.1 calls CatalogService/GotTitle, which catalog 0.0.0 does not serve",
                "  to part them: keep CatalogService/GetTitle in catalog 1.1; deploy catalog, artwork; remove \
                 CatalogService/GetTitle in the next catalog",
                "back    artwork + catalog",
            ]
        ),
        "{together:?}"
    );
}

#[test]
fn release_plan_counts_clients_outside_of_the_mesh() {
    let (apart, builds) = (Apart::start(), Builds::new());
    let consumers = tempfile::tempdir().expect("a folder");
    std::fs::write(consumers.path().join("phones-1.4.manifest"), manifest("gateway").encode_to_vec()).expect("a file");
    std::fs::write(consumers.path().join("README.md"), "Not a manifest.").expect("a file");
    let (catalog, artwork) = (builds.catalog_without(), builds.artwork_that_lists());
    let folder = format!("--consumers={}", consumers.path().display());
    let blocked = apart.release(&["plan", &folder, "--deploy", &catalog, "--deploy", &artwork]);
    assert_eq!(blocked.code, Some(3), "{blocked:?}");
    assert!(blocked.out.contains("which phones-1.4 0.0.0 calls\n"), "{blocked:?}");

    // What runs may be broken already.
    let checked = apart.release(&["check", &folder, "catalog"]);
    assert!(checked.code == Some(0) && checked.out.ends_with("\ncatalog fits all that runs\n"), "{checked:?}");
    std::fs::copy(builds.renamed("gateway"), consumers.path().join("phones-1.5.manifest")).expect("a file");
    let checked = apart.release(&["check", &folder, "catalog"]);
    let broken = "BROKEN    catalog 0.0.0 does not serve CatalogService/GotTitle, which phones-1.5 1.1 calls";
    assert!(checked.code == Some(3) && checked.out.lines().any(|line| line == broken), "{checked:?}");

    // It would count as a build of the service.
    let named = consumers.path().join("catalog.manifest");
    std::fs::copy(consumers.path().join("phones-1.4.manifest"), &named).expect("a file");
    for arguments in [vec!["plan", "--deploy", &artwork], vec!["check", "catalog"], vec!["show"]] {
        let refused = apart.release(&[&arguments[..1], &[&folder], &arguments[1..]].concat());
        assert_eq!((refused.code, refused.err.lines().count()), (Some(2), 1), "{refused:?}");
        assert!(refused.err.contains("catalog.manifest of a client outside"), "{refused:?}");
    }

    // A folder that is mistyped is not one without clients.
    let mistyped = apart.release(&["plan", "--consumers=mistyped", "--deploy", &catalog]);
    assert_eq!((mistyped.code, mistyped.err.lines().count()), (Some(2), 1), "{mistyped:?}");
}

#[test]
fn release_lists_what_it_does_not_know() {
    let apart = Apart::start();
    let program = command("catalog").get_program().to_string_lossy().into_owned();
    // It accepts connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = format!("--at={}", silent.local_addr().expect("an address"));
    let plan = apart.release(&["plan", &at, "--deploy", &program]);
    let unknown: Vec<_> = plan.out.lines().filter(|line| line.starts_with("UNKNOWN ")).collect();
    assert_eq!((plan.code, unknown.len()), (Some(0), 1), "{plan:?}");
    let strict = apart.release(&["plan", &at, "--strict", "--deploy", &program]);
    assert_eq!((strict.code, strict.err.lines().count()), (Some(1), 1), "{strict:?}");
    let nobody = mesh(["--address", "127.0.0.1:1"], &["release", "plan", "--deploy", &program]);
    assert!(nobody.error().contains("no process answers"), "{nobody:?}");
    // A service may be the one that does not answer.
    let mut other = manifest("catalog");
    "billing".clone_into(&mut other.service);
    let builds = Builds::new();
    let plan = apart.release(&["plan", &at, "--deploy", &builds.write("billing", "1.0", other, &[])]);
    assert!(plan.out.contains("billing 1.0 (what runs of it is UNKNOWN)"), "{plan:?}");
}

#[test]
fn release_fails_if_no_instance_answers() {
    let program = command("catalog").get_program().to_string_lossy().into_owned();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = silent.local_addr().expect("an address").to_string();
    let at = format!("--at={silent}");
    for arguments in [vec!["plan", "--deploy", &program], vec!["check", "catalog", "--deploy", &program], vec!["show"]]
    {
        for closed in ["--at=127.0.0.1:1", &at] {
            let failed = release(&[&arguments[..1], &[closed], &arguments[1..]].concat());
            assert!(failed.error().starts_with("no instance answered"), "{failed:?}");
            assert_eq!(failed.out, "", "nothing is planned");
        }
        let failed = mesh(["--address", &silent], &[&["release"], &arguments[..]].concat());
        assert!(failed.error().starts_with("no instance answered"), "{failed:?}");
        let both = mesh(["--address", &silent], &[&["release"], &arguments[..], &[&at]].concat());
        assert!(both.code == Some(2) && both.err.contains("--address and --at exclude each other"), "{both:?}");
        // Beside Consul, which is not there.
        let both = mesh(["--consul", "127.0.0.1:1"], &[&["release"], &arguments[..], &[&at]].concat());
        assert!(both.error().contains("no Consul agent answers"), "{both:?}");
    }
}

#[test]
fn release_says_what_a_process_asks_of_its_callers() {
    let program = command("catalog").get_program().to_string_lossy().into_owned();
    let plan = |at: &Process| release(&["plan", &format!("--at={}", at.address), "--deploy", &program]);
    let secured = Secured::new(&["catalog"]);
    let catalog = secured.start("catalog", &[]);
    let refused = plan(&catalog);
    assert!(refused.error().contains("if it speaks TLS, add --tls"), "{refused:?}");
    // A user without a token, and one who is no operator.
    let folder = tempfile::tempdir().expect("a folder");
    let alice = harness::token(folder.path(), "alice", &[], "1h");
    let keys = folder.path().join(".mesh/ca/issuer.json").display().to_string();
    let issuer = format!("https://issuer.dev.mesh mesh {keys}");
    let catalog = Process::start("monolith", &[("MESH__AUTH__MODE", "required"), ("MESH__AUTH__ISSUERS", &issuer)]);
    let refused = plan(&catalog);
    assert!(refused.error().contains("MESH_TOKEN"), "{refused:?}");
    let mut asked = command("mesh");
    asked.env("MESH_TOKEN", alice).args([
        "release",
        "plan",
        &format!("--at={}", catalog.address),
        "--deploy",
        &program,
    ]);
    let asked = asked.current_dir(folder.path()).output().expect("mesh runs");
    let said = String::from_utf8(asked.stderr).expect("UTF-8");
    assert!(asked.status.code() == Some(1) && said.lines().count() == 1 && said.contains("mesh.operator"), "{said}");
}

#[test]
fn release_refuses_files_that_are_no_builds() {
    let builds = Builds::new();
    let path = |program: &str| command(program).get_program().to_string_lossy().into_owned();
    let (catalog, monolith) = (path("catalog"), path("monolith"));
    let whole = manifest("catalog").encode_to_vec();
    let changed = replaced(whole.clone(), b"ListTitles", b"LostTitles");
    for (deploy, words) in [
        (vec![builds.file("text", b"no manifest")], "cannot be decoded"),
        (vec![builds.file("empty", b"")], "is no manifest"),
        (vec![builds.file("cut", &whole[..whole.len() / 2])], "cannot be decoded"),
        (vec![builds.file("changed", &changed)], "it was changed"),
        (vec!["missing".to_owned()], "cannot be read"),
        (vec![monolith.clone()], "several services: --manifest=artwork"),
        (vec![format!("nobody={monolith}")], "there is no service `nobody`"),
        (vec![format!("artwork={catalog}")], "there is no service `artwork`"),
        (vec![catalog.clone(), format!("catalog={monolith}")], "`catalog` is given twice"),
        (vec!["/bin/sh".to_owned()], "writes no manifest"),
    ] {
        let arguments: Vec<_> = deploy.iter().map(|file| format!("--deploy={file}")).collect();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        // Nobody is asked before.
        let refused = mesh(["--address", "127.0.0.1:1"], &[&["release", "plan"], &arguments[..]].concat());
        assert_eq!((refused.code, &*refused.out, refused.err.lines().count()), (Some(2), "", 1), "{refused:?}");
        assert!(refused.err.contains(words), "{deploy:?}: {refused:?}");
    }
}

#[test]
fn release_diff_finds_breaks_of_contracts_and_migrations() {
    let builds = Builds::new();
    let catalog = command("catalog").get_program().to_string_lossy().into_owned();
    let without = builds.catalog_without();
    let diff = |new: &str, format: &str| release(&["diff", &catalog, new, "--format", format]);
    let same = diff(&catalog, "text");
    assert_eq!((same.code, &*same.out), (Some(0), "catalog 0.0.0 → 0.0.0\nthe same to others\n"));
    // Nobody is asked, so there need not be a certificate.
    let local = mesh(["--tls", "release"], &["diff", &catalog, &catalog]);
    assert_eq!((local.code, &*local.err), (Some(0), ""), "{local:?}");
    let broken = diff(&without, "text");
    let line = "broken    catalog.v1.CatalogService/GetTitle: is gone";
    assert_eq!((broken.code, broken.out.lines().nth(1)), (Some(3), Some(line)), "{broken:?}");
    let github = diff(&without, "github");
    let annotation = "::error file=proto/catalog/v1/catalog.proto,title=mesh release diff::catalog.v1.CatalogService/GetTitle: is gone";
    assert_eq!((github.code, github.out.lines().next()), (Some(3), Some(annotation)));
    let json: Value = serde_json::from_str(&diff(&without, "json").out).expect("JSON");
    assert_eq!((&json["service"], &json["differences"][0]["severity"]), (&"catalog".into(), &"broken".into()));

    let migrated = |sql: &str, breaks_before| {
        let mut manifest = manifest("catalog");
        let lists = &mut manifest.schema.as_mut().expect("a schema").lists;
        let list = lists.iter_mut().find(|list| list.name == "service_migrations").expect("the list");
        let version = list.migrations.len() as i64 + 1;
        list.migrations.push(Migration { version, description: "next".to_owned(), sql: sql.to_owned(), breaks_before });
        let own = manifest.contracts.clone();
        diff(&builds.write("catalog-migrated", "1.1", manifest, &[&own]), "text")
    };
    let additive = migrated("ALTER TABLE titles ADD COLUMN rating BIGINT;", 0);
    assert_eq!(
        (additive.code, additive.out.contains("change    migration 2 next of service_migrations is additive")),
        (Some(0), true)
    );
    let drops = "ALTER TABLE titles DROP COLUMN synopsis;";
    let silent = migrated(drops, 0);
    assert_eq!(
        (silent.code, silent.out.contains("wants .breaks_before(…): ALTER TABLE titles")),
        (Some(3), true),
        "{silent:?}"
    );
    let said = migrated(drops, 1);
    assert_eq!((said.code, said.out.contains("degraded  migration 2 next")), (Some(0), true), "{said:?}");
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn release_show_finds_instances_by_consul() {
    let Some(consul) = Consul::start() else { return };
    let environment = [("MESH__REGISTRY", &*consul.registry())];
    let running = [(); 2].map(|()| Process::start("catalog", &environment));
    let target = ["--consul", &consul.address.to_string()];
    let found = harness::eventually("both are registered", || {
        let shown = mesh(target, &["release", "show"]);
        shown.out.lines().find(|line| line.starts_with("catalog ") && line.contains(" 2 ")).map(str::to_owned)
    });
    assert!(found.contains(&manifest("catalog").digest[..12]), "{found}");
    // A gateway, which Consul does not know, is given beside it.
    let gateway = Process::start("gateway", &environment);
    let at = format!("--at={}", gateway.address);
    let both = mesh(target, &["release", "show", &at]);
    let row = |service: &str| both.out.lines().filter(|line| line.starts_with(service)).count();
    assert_eq!((both.code, row("catalog "), row("gateway ")), (Some(0), 1, 1), "{both:?}");
    // An instance of artwork at the address of catalog.
    let address = running[0].address;
    let entry =
        json!({"ID": "liar", "Name": "artwork", "Address": address.ip(), "Port": address.port(), "Tags": ["grpc"]});
    consul.put("/v1/agent/service/register", &entry);
    let unknown = harness::eventually("the lie is found", || {
        let shown = mesh(target, &["release", "show"]);
        shown.err.lines().find(|line| line.starts_with("UNKNOWN artwork: ")).map(str::to_owned)
    });
    assert!(unknown.contains("there is no service `artwork`"), "{unknown}");
    assert_eq!(mesh(target, &["release", "show", "--strict"]).code, Some(1));
}
