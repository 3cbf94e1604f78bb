//! The templates of scripts/new-service.

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::root;

/// The options of scripts/new-service: the folders beside templates/service.
const OPTIONS: [&str; 3] = ["long-work", "publishes", "follows"];

/// The lines of templates/service that an option replaces.
const REPLACED: [&str; 7] = [
    "//! `sample` owns the items.",
    "//! [`rpc`] answers calls. [`wire`] converts between the contract and [`domain`], which holds the rules; [`store`] holds",
    "//! the SQL.",
    "use mesh::store::{Error, Transaction};",
    "use mesh::{Resources, Violations};",
    "    Ok(())",
    "",
];

/// The files below a folder, by their paths in it.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut folders, mut found) = (VecDeque::from([folder.to_owned()]), Vec::new());
    while let Some(inner) = folders.pop_front() {
        for path in std::fs::read_dir(inner).expect("a folder").flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push_back(path);
            } else {
                found.push(path.strip_prefix(folder).expect("below it").to_owned());
            }
        }
    }
    found
}

/// An option, and the text of one of its files.
type Other = (&'static str, String);

/// The files of templates/service: the path, the text, and those of the options that replace it.
fn replaced() -> Vec<(PathBuf, String, Vec<Other>)> {
    let read = |folder: &str, file: &Path| std::fs::read_to_string(root().join("templates").join(folder).join(file));
    let plain = files(&root().join("templates/service")).into_iter();
    let plain = plain.map(|file| {
        let text = read("service", &file).expect("a file");
        let others = OPTIONS.iter().filter_map(|option| Some((*option, read(option, &file).ok()?)));
        (file.clone(), text, others.collect())
    });
    plain.collect()
}

/// A file of an option replaces a file of templates/service and keeps its other lines: a change to one belongs in all.
#[test]
fn options_keep_the_service_template() {
    for (file, plain, others) in replaced() {
        for (option, text) in others {
            let mut lines = text.lines();
            for line in plain.lines().filter(|line| !REPLACED.contains(line)) {
                let kept = lines.any(|other| other == line);
                assert!(kept, "templates/{option}/{0} lacks a line of templates/service/{0}: {line}", file.display());
            }
        }
    }
}

/// Two options that change one line of a file, or add several lines in one place, cannot be told apart.
#[test]
fn options_combine_to_all_of_their_lines() {
    for set in 1..1 << OPTIONS.len() {
        let chosen: Vec<_> = (0..OPTIONS.len()).filter(|at| set >> at & 1 == 1).map(|at| OPTIONS[at]).collect();
        let folder = tempfile::tempdir().expect("a folder");
        let mut expand = Command::new(root().join("templates/expand"));
        expand.arg(folder.path()).args(["sample", "50055"]);
        expand.args(chosen.iter().map(|option| if *option == "follows" { "follows=origin" } else { *option }));
        let expanded = expand.output().expect("bash runs");
        assert!(expanded.status.success(), "{chosen:?}: {}", String::from_utf8_lossy(&expanded.stderr));

        // rustfmt changes white space, and commas.
        let count = |text: &str| text.chars().filter(|c| !c.is_whitespace() && *c != ',').count();
        for (file, plain, others) in replaced() {
            let others: Vec<_> = others.iter().filter(|(option, _)| chosen.contains(option)).collect();
            if others.is_empty() {
                continue;
            }
            let made = std::fs::read_to_string(folder.path().join(&file)).expect("a file");
            let expected = others.iter().map(|(_, text)| count(text)).sum::<usize>() + count(&plain);
            assert_eq!(
                count(&made) + others.len() * count(&plain),
                expected,
                "{chosen:?}, {}:\n{made}",
                file.display()
            );
        }
    }
}

/// Copies what scripts/new-service reads and edits.
pub(crate) fn copy_project(to: &Path) {
    for folder in ["deploy", "docs", "proto", "scripts", "services", "templates"] {
        let from = root().join(folder);
        // A project may have deleted the folder.
        if !from.is_dir() {
            continue;
        }
        for file in files(&from) {
            let target = to.join(folder).join(&file);
            std::fs::create_dir_all(target.parent().expect("a folder")).expect("a folder");
            std::fs::copy(from.join(&file), target).expect("a file");
        }
    }
    for file in ["Cargo.toml", "Cargo.lock", "mesh.toml", "README.md", "rustfmt.toml", ".gitattributes"] {
        std::fs::copy(root().join(file), to.join(file)).expect("a file");
    }
}

#[test]
fn new_service_says_how_to_see_its_copy_and_what_it_does() {
    let project = tempfile::tempdir().expect("a folder");
    copy_project(project.path());
    let add = |arguments: &[&str]| {
        let added = Command::new("scripts/new-service").args(arguments).current_dir(project.path()).output();
        let added = added.expect("bash runs");
        let [out, err] = [added.stdout, added.stderr].map(|text| String::from_utf8(text).expect("UTF-8"));
        assert!(added.status.success(), "{arguments:?}: {err}");
        (out, err)
    };
    let (out, err) = add(&["origins", "--publishes"]);
    assert!(!out.contains("copy") && err.is_empty(), "{out}{err}");
    std::fs::create_dir_all(project.path().join("data")).expect("a folder");
    std::fs::write(project.path().join("data/shelf.db"), "").expect("a file");
    let (out, err) = add(&["shelf", "--long-work", "--follows", "origins"]);
    for expected in ["-- events lag ", "-- events follow origins --snapshot ", "8080/v1/shelf/copies/KEY "] {
        assert!(out.contains(expected), "{out}");
    }
    let warning = err.trim_end();
    assert!(warning.lines().count() == 1 && warning.contains("data/shelf.db is there"), "{err}");
    assert!(warning.ends_with("scripts/reset-data shelf removes it"), "{err}");
    let readme = std::fs::read_to_string(project.path().join("services/origins/README.md")).expect("a README");
    assert!(readme.contains("- It publishes an event for each item.\n"), "{readme}");
    let events = readme.rsplit_once("\n\n").expect("a table").1;
    assert!(
        events.starts_with("| event ")
            && events.ends_with("| `origins.v1.ItemAdded` | `item.item_id` | each call that adds an item |\n"),
        "{readme}"
    );
    let readme = std::fs::read_to_string(project.path().join("services/shelf/README.md")).expect("a README");
    for line in ["- It imports items in the background: ", "- It keeps a copy of what `origins` publishes: "] {
        assert!(readme.contains(line), "{readme}");
    }
    for call in ["CreateItem", "ImportItems", "GetCopy", "GetItem"] {
        assert!(readme.contains(&format!("| `shelf.v1.ShelfService/{call}` | ")), "{readme}");
    }
}

/// A contract says of a text what the framework checks and what its violations say.
#[test]
fn contract_of_a_template_has_the_words_of_its_rule() {
    let text = |file: &str| std::fs::read_to_string(root().join(file)).expect("a file");
    assert!(text("templates/service/services/sample/src/domain.rs").contains("NAME: Text = Text::line(200)"));
    let rules = text("crates/mesh-rpc/src/call/text.rs");
    let words = rules.split('"').find(|part| part.starts_with("1 to {most}")).expect("the rule for one line");
    let words = words.replace("{most}", "200");
    for (template, fields) in [("service", 2), ("long-work", 3), ("publishes", 2), ("follows", 2)] {
        let contract = text(&format!("templates/{template}/proto/sample/v1/sample.proto"));
        assert_eq!(contract.matches(&words).count(), fields, "templates/{template}: {words}");
    }
    let words = words.replace("200", "1000");
    assert!(text("templates/follows/services/sample/src/follow.rs").contains("KEY: Text = Text::line(1000)"));
    assert!(text("templates/follows/proto/sample/v1/sample.proto").contains(&words), "{words}");
}

/// Runs templates/parts in a project with these contracts, each the name of a service and the text behind its package.
fn parts(contracts: &[(&str, &str)], services: &[&str]) -> Result<String, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |path: String, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    };
    let script = std::fs::read_to_string(root().join("templates/parts")).expect("a file");
    write("templates/parts".to_owned(), &script);
    for (name, text) in contracts {
        write(format!("proto/{name}/v1/{name}.proto"), &format!("/* {{ \" */ package {name}.v1;\n{text}"));
    }
    let found = Command::new("bash").arg(folder.path().join("templates/parts")).args(services).output();
    let found = found.expect("bash runs");
    let text = |bytes| String::from_utf8(bytes).expect("text").trim_end().to_owned();
    if found.status.success() { Ok(text(found.stdout)) } else { Err(text(found.stderr)) }
}

/// A contract that has a method of each kind that a composer cannot call, and at the end one that it can.
const MANY: &str = r#"
// rpc GetComment(GetShelfRequest) returns (GetShelfResponse) { NO_SIDE_EFFECTS ACCESS_PUBLIC }
service ShelfService {
  rpc GetPlain(GetShelfRequest) returns (GetShelfResponse);
  rpc GetStream(GetShelfRequest) returns (stream GetShelfResponse) {
    option idempotency_level = NO_SIDE_EFFECTS;
    option (mesh.options.v1.authorization) = {access: ACCESS_PUBLIC};
  }
  rpc GetInternal(GetShelfRequest) returns (GetShelfResponse) {
    option idempotency_level = NO_SIDE_EFFECTS;
    option (mesh.options.v1.authorization) = {access: ACCESS_INTERNAL};
  }
  rpc GetChanging(GetShelfRequest) returns (GetShelfResponse) {
    option idempotency_level = IDEMPOTENT;
    option (mesh.options.v1.authorization) = {access: ACCESS_PUBLIC};
  }
  rpc FindShelf(GetShelfRequest) returns (GetShelfResponse) {
    option idempotency_level = NO_SIDE_EFFECTS;
    option (mesh.options.v1.authorization) = {access: ACCESS_PUBLIC};
  }
  rpc GetTwo(GetTwoRequest) returns (GetShelfResponse) {
    option idempotency_level = NO_SIDE_EFFECTS;
    option (mesh.options.v1.authorization) = {access: ACCESS_PUBLIC};
  }
  rpc GetText(GetTextRequest) returns (GetShelfResponse) {
    option idempotency_level = NO_SIDE_EFFECTS;
    option (mesh.options.v1.authorization) = {access: ACCESS_PUBLIC};
  }
  rpc GetMany(GetShelfRequest) returns (GetManyResponse) {
    option idempotency_level = NO_SIDE_EFFECTS;
    option (mesh.options.v1.authorization) = {access: ACCESS_PUBLIC};
  }
  rpc GetForeign(GetShelfRequest) returns (GetForeignResponse) {
    option idempotency_level = NO_SIDE_EFFECTS;
    option (mesh.options.v1.authorization) = {access: ACCESS_PUBLIC};
  }
  rpc GetScoped(GetShelfRequest) returns (GetShelfResponse) {
    option idempotency_level = NO_SIDE_EFFECTS;
    option (mesh.options.v1.authorization) = {access: ACCESS_AUTHENTICATED scopes: "shelf.read"};
  }
  rpc GetShelf(.many.v1.GetShelfRequest) returns (GetShelfResponse) { // {
    option (google.api.http) = {get: "/v1//shelves/{shelf_id}"};
    option idempotency_level = NO_SIDE_EFFECTS;
    option (mesh.options.v1.authorization).access = ACCESS_AUTHENTICATED;
  }
}
message GetTwoRequest { int32 size = 2; string shelf_id = 1 [(buf.validate.field).string.uuid = true]; }
message GetTextRequest { string shelf_id = 1 [(buf.validate.field).string.max_len = 9]; }
message GetManyResponse { repeated Shelf shelves = 1; }
message GetForeignResponse { google.type.Date date = 1; }
message GetShelfRequest {
  reserved 2;
  string shelf_id = 1 [
    (buf.validate.field) = {string: {uuid: true}}
  ];
}
message GetShelfResponse { many.v1.Shelf top_shelf = 1; }
message Shelf { string name = 1; enum Kind { KIND_UNSPECIFIED = 0; } repeated string books = 2; }
"#;

/// A contract whose only method gets its message by `key`.
fn gets(key: &str) -> String {
    format!(
        "service BookService {{ rpc GetBook(GetBookRequest) returns (GetBookResponse) {{
           option idempotency_level = NO_SIDE_EFFECTS;
           option (mesh.options.v1.authorization) = {{access: ACCESS_PUBLIC}};
         }} }}
         message GetBookRequest {{ string {key} = 1 [(buf.validate.field).string.uuid = true]; }}
         message GetBookResponse {{ Book book = 1; }}
         message Book {{}}"
    )
}

#[test]
fn parts_are_the_methods_that_a_composer_can_call() {
    let (same, other) = (gets("shelf_id"), gets("book_id"));
    let contracts = [("many", MANY), ("same", &same), ("other", &other), ("empty", "message Book {}")];
    let many =
        "many v1 many/v1/many.proto ShelfService GetShelf shelf_id GetShelfRequest GetShelfResponse top_shelf Shelf";
    let also = "same v1 same/v1/same.proto BookService GetBook shelf_id GetBookRequest GetBookResponse book Book";
    assert_eq!(parts(&contracts, &["many"]), Ok(many.to_owned()));
    assert_eq!(parts(&contracts, &["same", "many"]), Ok(format!("{also}\n{many}")));
    for (services, why) in [
        (["many", "empty"], "`empty` has no method that gets one message by a UUID, "),
        (["many", "other"], "`other` has no method that gets one message by shelf_id, as `many` has: "),
    ] {
        let refused = parts(&contracts, &services).expect_err("a service lacks the method");
        assert!(refused.starts_with(why) && refused.lines().count() == 1, "{services:?}: {refused}");
    }
}

#[test]
fn new_service_composes_what_each_service_has_of_one_id() {
    let project = tempfile::tempdir().expect("a folder");
    copy_project(project.path());
    let run = |script: &str, arguments: &[&str]| {
        let run = Command::new(script).args(arguments).current_dir(project.path()).output().expect("bash runs");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        if run.status.success() { Ok(text(run.stdout)) } else { Err(text(run.stderr)) }
    };
    let text = |file: &str| std::fs::read_to_string(project.path().join(file)).expect("a file");
    for source in ["shelves", "authors", "alpha_shelves"] {
        run("scripts/new-service", &[source]).expect("a service");
    }
    for (list, why) in [
        ("", "--composes needs 1 to 5 services"),
        ("shelves,", "there is no service ``"),
        ("shelves,monolith", "there is no service `monolith`"),
        ("shelves,authors,shelves", "got `shelves` twice"),
        ("shelves,pages", "`pages` cannot compose itself"),
        ("a,b,c,d,e,f", "got 6 services to compose: expected 5 at most"),
    ] {
        let refused = run("scripts/new-service", &["pages", "--composes", list]).expect_err("refused");
        assert!(refused.contains(why) && refused.lines().count() == 1, "{list}: {refused}");
    }
    let refused = run("scripts/new-service", &["pages", "--composes", "shelves", "--publishes"]).expect_err("refused");
    assert!(refused.contains("owns no data") && refused.lines().count() == 1, "{refused}");

    // A name in the list may contain the name of the new service, or a word of the template.
    let composers = [("pages", "shelves,authors"), ("alpha", "shelves"), ("shelve", "alpha_shelves,authors,shelves")];
    let edited = ["services/monolith/Cargo.toml", "services/monolith/src/main.rs"];
    for (name, list) in composers {
        let before = edited.map(text);
        run("scripts/new-service", &[name, "--composes", list]).expect("a composer");
        let contract = text(&format!("proto/{name}/v1/{name}.proto"));
        let calls = text(&format!("services/{name}/src/rpc.rs"));
        let declared = text(&format!("services/{name}/src/lib.rs"));
        for (at, peer) in list.split(',').enumerate() {
            assert!(contract.contains(&format!("  {peer}.v1.Item {peer} = {};", at + 2)), "{contract}");
            assert!(calls.contains(&format!("contracts::{peer}::v1 as {peer};")), "{calls}");
            let (declares, contract) = (if at == 0 { "calls" } else { "calls_if_there" }, format!("\"{peer}.v1."));
            assert!(declared.contains(&format!(".{declares}({contract}")), "{declared}");
        }
        assert!(!project.path().join("services").join(name).join("migrations").exists());
        let first = list.split(',').next().expect("a service");
        let used = run("scripts/remove-service", &[first]).expect_err("it is used");
        assert!(used.contains(&format!("proto/{name}, services/{name}. ")), "{used}");
        assert_eq!(run("scripts/remove-service", &[name]), Ok(format!("removed {name}\n")));
        assert_eq!(edited.map(text), before);
    }
    // A service that declares calls of another one does not start without it.
    let mut declares =
        std::fs::OpenOptions::new().append(true).open(project.path().join("services/authors/src/lib.rs"));
    let declares = declares.as_mut().expect("a file");
    declares
        .write_all(b"// .calls((\"shelves\", \"google.longrunning.Operations\"), &[\"GetOperation\"])\n")
        .expect("it");
    let used = run("scripts/remove-service", &["shelves"]).expect_err("it is used");
    assert!(used.contains("is used by: services/authors. "), "{used}");
    // What all services share is as it was, apart from these two lists and Cargo.lock.
    for file in ["mesh.toml", "Cargo.toml", "README.md"] {
        assert_eq!(text(file), std::fs::read_to_string(root().join(file)).expect("a file"), "{file}");
    }
}
