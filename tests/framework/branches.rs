//! Two branches that add a service each, merged by git; and scripts in odd folders, environments and with other line
//! ends.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::root;
use tempfile::TempDir;

use crate::templates::files;

/// The owner of a project may delete it.
const COMPOSE: &str = "deploy/container/compose.yaml";
const KUBERNETES: &str = "deploy/kubernetes/base/services/kustomization.yaml";

/// A copy of the whole project in a repository of its own, with everything committed.
struct Copy {
    _folder: TempDir,
    root: PathBuf,
}

/// What the project does not track. In a worktree `.git` is a file, which names the repository of the project.
const OTHERS: [&str; 7] = [".git", ".tools", "data", "node_modules", "out", "target", "tools"];

impl Copy {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // A folder of a user may have a space in its name.
        let copy = Self { root: folder.path().join("the shop"), _folder: folder };
        for entry in std::fs::read_dir(root()).expect("the project").flatten() {
            let name = entry.file_name();
            let (from, to) = (entry.path(), copy.root.join(&name));
            std::fs::create_dir_all(&copy.root).expect("a folder");
            if OTHERS.contains(&name.to_string_lossy().as_ref()) {
                continue;
            }
            if from.is_file() {
                std::fs::copy(&from, &to).expect("a file");
            } else {
                for file in files(&from) {
                    let target = to.join(&file);
                    std::fs::create_dir_all(target.parent().expect("a folder")).expect("a folder");
                    std::fs::copy(from.join(&file), target).expect("a file");
                }
            }
        }
        copy.git(&["init", "--quiet", "--initial-branch=main"]);
        // Whatever follows must change no repository but this one.
        let repository = PathBuf::from(copy.git(&["rev-parse", "--absolute-git-dir"]).trim_end());
        assert!(repository.starts_with(copy.root.canonicalize().expect("a folder")), "{}", repository.display());
        copy.commit("as it is");
        copy
    }

    /// Runs a program in the project, without what a hook of git or a user may have set; the output, or the error.
    fn run(&self, program: &str, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.root);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("GIT_") {
                command.env_remove(name);
            }
        }
        ended(&mut command)
    }

    fn git(&self, arguments: &[&str]) -> String {
        let author = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"];
        self.run("git", &[&author[..], arguments].concat()).unwrap_or_else(|error| panic!("git {arguments:?}: {error}"))
    }

    fn commit(&self, message: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", message]);
    }

    fn text(&self, file: &str) -> String {
        std::fs::read_to_string(self.root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    /// Adds a service on a branch of its own.
    fn branch(&self, service: &str, options: &[&str]) {
        self.git(&["switch", "--quiet", "--create", service, "main"]);
        self.run("scripts/new-service", &[&[service], options].concat()).expect("a service");
        self.commit(service);
    }

    /// Merges a branch. Only Cargo.lock may conflict; docs/guide/first-service.md says what to do then.
    fn merge(&self, branch: &str) {
        let author = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"];
        if self.run("git", &[&author[..], &["merge", "--quiet", "--no-edit", branch]].concat()).is_ok() {
            return;
        }
        assert_eq!(self.git(&["diff", "--name-only", "--diff-filter=U"]), "Cargo.lock\n", "merging {branch}");
        self.git(&["checkout", "--quiet", "--ours", "Cargo.lock"]);
        self.run("cargo", &["update", "--quiet", "--workspace", "--offline"]).expect("cargo writes Cargo.lock anew");
        self.commit("merge");
    }

    /// Checks all manifests, and that cargo would not change Cargo.lock.
    fn is_a_workspace(&self) {
        self.run("cargo", &["tree", "--offline", "--locked", "--workspace", "--depth=0"]).expect("a workspace");
    }

    /// The ports of all services, by their sources.
    fn ports(&self) -> Vec<u16> {
        let sources = std::fs::read_dir(self.root.join("services")).expect("services").flatten();
        let text = sources.filter_map(|entry| std::fs::read_to_string(entry.path().join("src/lib.rs")).ok());
        text.filter_map(|text| text.split_once(".port(")?.1.split_once(')')?.0.parse().ok()).collect()
    }
}

fn ended(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Neighbours in the alphabet, services at both of its ends, and options whose files differ.
#[test]
fn branches_that_add_a_service_each_merge() {
    let pairs: [[(&str, &[&str]); 2]; 3] = [
        [("shelf", &[]), ("shelves", &[])],
        [("aa", &["--long-work"]), ("zz", &["--publishes"])],
        [("notes", &["--publishes", "--long-work"]), ("notes_two", &["--publishes"])],
    ];
    let copy = Copy::new();
    let before = ["mesh.toml", "Cargo.toml", "README.md"].map(|file| copy.text(file));
    for [one, two] in pairs {
        copy.branch(one.0, one.1);
        copy.branch(two.0, two.1);
        copy.merge(one.0);
        let main = copy.text("services/monolith/src/main.rs");
        let manifest: toml::Table =
            copy.text("services/monolith/Cargo.toml").parse().expect("TOML without a key twice");
        for name in [one.0, two.0] {
            assert_eq!(main.matches(&format!("        {name}::service(),\n")).count(), 1, "{main}");
            assert!(manifest["dependencies"].get(name).is_some(), "{manifest:?}");
            if copy.root.join(COMPOSE).exists() {
                let line = format!("  {name}: {{<<: *service, build: {{<<: *build, args: {{SERVICE: {name}}}}}}}\n");
                assert_eq!(copy.text(COMPOSE).matches(&line).count(), 1, "{}", copy.text(COMPOSE));
            }
            if copy.root.join(KUBERNETES).exists() {
                let list = copy.text(KUBERNETES);
                assert_eq!(list.matches(&format!("\n  - {name}.yaml\n")).count(), 1, "{list}");
                let objects = copy.text(&KUBERNETES.replace("kustomization", name));
                let (host, contract) = (name.replace('_', "-"), format!("service: {name}.v1."));
                assert!(objects.contains(&contract) && objects.contains(&format!("\n  name: {host}\n")), "{objects}");
            }
            assert!(copy.text(&format!("services/{name}/README.md")).contains(&format!("| `{name}.v1.")));
        }
        let ports = copy.ports();
        assert_eq!(ports.len(), ports.iter().collect::<BTreeSet<_>>().len(), "two services have one port: {ports:?}");
        copy.is_a_workspace();
        assert_eq!(copy.git(&["status", "--porcelain"]), "");
        assert_eq!(["mesh.toml", "Cargo.toml", "README.md"].map(|file| copy.text(file)), before);
        // Both can be removed again.
        for name in [one.0, two.0] {
            copy.run("scripts/remove-service", &[name]).expect("it is removed");
        }
        copy.git(&["diff", "--quiet", "main"]);
        copy.git(&["reset", "--quiet", "--hard"]);
        copy.git(&["switch", "--quiet", "main"]);
    }
}

/// Two branches that change one line of another file conflict as usual.
#[test]
fn merge_of_other_files_conflicts() {
    let attributes = std::fs::read_to_string(root().join(".gitattributes")).expect("a file");
    let union: Vec<_> = attributes.lines().filter_map(|line| line.strip_suffix(" merge=union")).collect();
    assert_eq!(union, [COMPOSE, KUBERNETES, "services/monolith/Cargo.toml", "services/monolith/src/main.rs"]);
}

/// The environment of a hook of git and of a user with CDPATH, in a folder that is not the project's.
fn odd(copy: &Copy, script: &str, arguments: &[&str]) -> Result<String, String> {
    let elsewhere = tempfile::tempdir().expect("a folder");
    // A decoy that `cd scripts/..` would find by CDPATH.
    std::fs::create_dir_all(elsewhere.path().join("the shop/scripts")).expect("a folder");
    let parent = copy.root.parent().expect("a folder");
    let name = copy.root.file_name().expect("a name");
    let mut command = Command::new("bash");
    command.arg(Path::new(name).join("scripts").join(script)).args(arguments).current_dir(parent);
    command.env("CDPATH", elsewhere.path()).env("GIT_DIR", "/nowhere/.git").env("GIT_INDEX_FILE", "/nowhere/index");
    command.env("LC_ALL", "tr_TR.UTF-8").env("POSIXLY_CORRECT", "1").env("GREP_COLORS", "mt=01;31");
    ended(&mut command)
}

#[test]
fn scripts_work_in_any_folder_and_environment() {
    let copy = Copy::new();
    odd(&copy, "new-service", &["shelf", "--long-work"]).expect("a service");
    assert!(copy.text("services/monolith/src/main.rs").contains("shelf::service(),"));
    copy.commit("shelf");
    assert_eq!(odd(&copy, "reset-data", &[]), Ok("nothing to remove in data\n".to_owned()));
    odd(&copy, "remove-service", &["shelf"]).expect("it is removed");
    copy.git(&["diff", "--quiet", "HEAD~1"]);
}

#[test]
fn scripts_edit_files_with_the_line_ends_of_windows() {
    let copy = Copy::new();
    std::fs::write(copy.root.join(".gitattributes"), "* -text\n").expect("a file");
    let edited = ["mesh.toml", "Cargo.toml", "services/monolith/Cargo.toml", "services/monolith/src/main.rs"];
    for file in edited.into_iter().chain(["README.md"]) {
        std::fs::write(copy.root.join(file), copy.text(file).replace('\n', "\r\n")).expect("a file");
    }
    copy.commit("line ends");
    copy.run("scripts/new-service", &["shelf"]).expect("a service");
    for file in &edited[2..] {
        let text = copy.text(file);
        assert!(text.contains("shelf") && text.matches('\n').count() == text.matches("\r\n").count(), "{text}");
    }
    copy.is_a_workspace();
    copy.commit("shelf");
    copy.run("scripts/remove-service", &["shelf"]).expect("it is removed");
    copy.git(&["diff", "--quiet", "HEAD~1"]);
}

/// One line each, and nothing done.
#[test]
fn scripts_refuse_what_they_do_not_know() {
    for (script, arguments, why) in [
        ("new-service", &["größe"][..], "`größe` is not a service name: expected the letters a to z"),
        ("new-service", &["x", "--nonsense"], "there is no option `--nonsense`"),
        ("remove-service", &["größe"], "there is no service `größe`"),
        ("reset-data", &["größe"], "`größe` is not a service name"),
        ("soak", &["nonsense"], "`nonsense` is not a number of kills"),
        ("soak", &["1", "nonsense"], "`nonsense` is not a seed"),
        ("soak", &["1", "2", "3"], "expected KILLS and SEED at most"),
    ] {
        let path = root().join("scripts").join(script);
        // Not every example has every script.
        if !path.exists() {
            continue;
        }
        let mut command = Command::new(path);
        let refused = ended(command.args(arguments)).expect_err("it is refused");
        assert!(refused.lines().count() == 1 && refused.contains(why), "{script} {arguments:?}: {refused}");
    }
}

/// It finds the lists of migrations by the form of their lines, and nothing but .ci/full runs the rest of it.
#[test]
fn previous_adds_a_migration_to_each_list() {
    let folder = tempfile::tempdir().expect("a folder");
    let later = folder.path().join("later");
    let copied = Command::new(root().join("scripts/previous")).arg("--copy").arg(&later).output().expect("bash runs");
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    let read = |file: &str| std::fs::read_to_string(later.join(file)).expect("a file of the copy");
    assert!(read("crates/mesh/src/schema.rs").contains("later_mesh"), "mesh's list has no later migration");
    for service in std::fs::read_dir(root().join("services")).expect("a folder").flatten() {
        let file = Path::new("services").join(service.file_name()).join("src/lib.rs");
        // The processes have no library.
        let own = std::fs::read_to_string(later.join(&file)).unwrap_or_default();
        let has_later = own.contains("later_service");
        assert_eq!(has_later, own.contains(".owns("), "{}: a list and no later migration", file.display());
    }
}
