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
