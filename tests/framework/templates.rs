//! The templates of scripts/new-service.

use std::collections::VecDeque;

use harness::root;

/// The lines of templates/service that templates/long-work replaces.
const REPLACED: [&str; 9] = [
    "//! [`rpc`] answers calls. [`wire`] converts between the contract and [`domain`], which holds the rules; [`store`] holds",
    "//! the SQL.",
    "        .serves(|resources| SampleServiceServer::new(rpc::Items::new(resources.store())))",
    "use mesh::Violations;",
    "    pub(crate) fn new(store: Store) -> Self {",
    "        Self { store }",
    "| `sample` | 50055 | Owns the items. |",
    "| `services/sample` | Owns the items. |",
    "",
];

/// A file of templates/long-work replaces a file of templates/service and keeps its other lines: a change to one
/// belongs in both.
#[test]
fn long_work_template_keeps_the_service_template() {
    let [service, more] = ["templates/service", "templates/long-work"].map(|folder| root().join(folder));
    let mut folders = VecDeque::from([more.clone()]);
    while let Some(folder) = folders.pop_front() {
        for path in std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push_back(path);
                continue;
            }
            let file = path.strip_prefix(&more).expect("below it");
            let Ok(plain) = std::fs::read_to_string(service.join(file)) else { continue };
            let text = std::fs::read_to_string(&path).expect("a file");
            let mut lines = text.lines();
            for line in plain.lines().filter(|line| !REPLACED.contains(line)) {
                let kept = lines.any(|other| other == line);
                assert!(kept, "templates/long-work/{0} lacks a line of templates/service/{0}: {line}", file.display());
            }
        }
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
    for (template, fields) in [("service", 2), ("long-work", 3)] {
        let contract = text(&format!("templates/{template}/proto/sample/v1/sample.proto"));
        assert_eq!(contract.matches(&words).count(), fields, "templates/{template}: {words}");
    }
}
