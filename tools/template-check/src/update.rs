//! scripts/update-from-template, with two versions of the template and a project that has changed since the first.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use crate::project::Project;
use crate::template::{Template, read_toml};

/// The changes of the template's next version: lines next to those that users and scripts/new-service change, one new
/// file, and one deleted file.
fn next_version(template: &Project) -> Result<()> {
    edit(template, "mesh.toml", "# drain_limit = \"8s\"", "# drain_limit = \"9s\"")?;
    for folder in ["", "hooks/start/", "hooks/none/"] {
        let main = format!("{folder}services/monolith/src/main.rs");
        edit(template, &main, "//! Every service", "//! All that there is: every service")?;
    }
    edit(template, "Cargo.toml", "[profile.release]\n", "[profile.release]\noverflow-checks = true\n")?;
    edit(template, "Cargo.lock", "# It is not intended", "# It really is not intended")?;
    edit(template, "docs/CONTRACTS.md", "# Contracts\n", "# All contracts\n")?;
    fs::write(template.folder.join("docs/NEWS.md"), "# News\n")?;
    fs::remove_file(template.folder.join("buf.yaml"))?;
    template.commit()
}

pub(crate) struct Versions {
    /// A repository of the template with two versions.
    pub(crate) template: Project,
    pub(crate) old: String,
    new: String,
}

impl Versions {
    pub(crate) fn of(template: &Template) -> Result<Self> {
        let folder = template.place("update");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        let versions = template.project(folder.join("template"));
        fs::create_dir_all(&versions.folder)?;
        let now = template.project(template.folder.clone());
        versions.become_like(&now)?;
        versions.commit()?;
        let old = head(&versions)?;
        next_version(&versions)?;
        let new = head(&versions)?;
        Ok(Self { template: versions, old, new })
    }

    /// A project of the old version, with changes by its user.
    fn project(&self, template: &Template, example: &str) -> Result<Project> {
        let source = format!("--define=template={}", self.template.folder.display());
        let answers =
            [&format!("--define=example={example}"), &source, &format!("--define=template_version={}", self.old)];
        let made = template.generate(&format!("update/{example}"), &answers.map(String::as_str))?;
        made.commit()?;
        made.run("scripts/new-service", &["reviews"])?;
        edit(&made, "mesh.toml", "# listen = \"127.0.0.1:8080\"", "listen = \"127.0.0.1:8081\"")?;
        edit(&made, "README.md", "# shop\n", "# The shop\n")?;
        made.commit()?;
        self.with_cargo_generate(template, made)
    }

    /// Puts a `cargo-generate` on PATH that calls this program.
    pub(crate) fn with_cargo_generate(&self, template: &Template, project: Project) -> Result<Project> {
        let tools = template.place("update/bin");
        fs::create_dir_all(&tools)?;
        let program = tools.join("cargo-generate");
        if !program.exists() {
            fs::hard_link(std::env::current_exe()?, &program)
                .or_else(|_| fs::copy(std::env::current_exe()?, &program).map(drop))?;
        }
        Ok(project.with_tools(&tools))
    }
}

pub(crate) fn is_merged(template: &Template) -> Result<()> {
    let versions = Versions::of(template)?;
    for example in crate::options::EXAMPLES {
        let shop = versions.project(template, example)?;
        let before = head(&shop)?;
        let printed = shop.run("scripts/update-from-template", &[])?;
        ensure!(printed.contains(&versions.new[..12]), "it printed {printed}");
        shop.is_clean()?;
        ensure!(shop.run("git", &["rev-parse", "HEAD~1"])?.trim() == before, "the update is not one commit");

        let holds = |file: &str, text: &str| -> Result<()> {
            let found = fs::read_to_string(shop.folder.join(file)).with_context(|| file.to_owned())?;
            ensure!(found.contains(text), "{file} has no `{text}`");
            Ok(())
        };
        // The changes of the template, and those of the user.
        holds("docs/NEWS.md", "# News")?;
        ensure!(!shop.folder.join("buf.yaml").exists(), "buf.yaml is still there");
        holds("mesh.toml", "# drain_limit = \"9s\"\n")?;
        holds("mesh.toml", "\nlisten = \"127.0.0.1:8081\"\n")?;
        holds("services/monolith/src/main.rs", "//! All that there is")?;
        holds("services/monolith/src/main.rs", "reviews::service()")?;
        holds("docs/CONTRACTS.md", "# All contracts")?;
        holds("services/reviews/README.md", "reviews.v1.ReviewsService/")?;
        holds("README.md", "# The shop\n")?;
        holds(".mesh/answers.toml", &versions.new[..12])?;
        shop.run("cargo", &["metadata", "--locked", "--format-version=1"])?;

        let printed = shop.run("scripts/update-from-template", &[])?;
        ensure!(printed.contains("this project is at"), "the second update printed {printed}");
    }
    Ok(())
}

/// Runs the command of README.md, which everybody copies: the project knows its template and version, and the command
/// says what comes next.
pub(crate) fn is_recorded(template: &Template) -> Result<()> {
    let versions = Versions::of(template)?;
    let readme = fs::read_to_string(template.folder.join("README.md"))?;
    let command =
        readme.lines().find(|line| line.starts_with("cargo generate ")).context("README.md has no command")?;
    let folder = template.place("update/recorded");
    fs::create_dir_all(&folder)?;
    let shell = versions.with_cargo_generate(template, template.project(folder.clone()))?;
    let source = versions.template.folder.display();
    for (example, first) in
        [("none", "scripts/new-service reviews"), ("film", "for name in catalog artwork billing library;")]
    {
        let more = format!("--silent --vcs=none --no-workspace --define=example={example} --define=database=postgres");
        let script = format!("export USER=me; rm -rf shop; template='{source}'; {command} {more} 2>&1");
        let printed = shell.run("bash", &["-c", &script])?;
        let answers = read_toml(&folder.join("shop/.mesh/answers.toml"))?;
        let recorded = |key: &str| answers["values"][key].as_str().unwrap_or_default().to_owned();
        ensure!(recorded("template") == source.to_string(), "the template is {}", recorded("template"));
        ensure!(recorded("template_version") == versions.new, "the version is {}", recorded("template_version"));
        for expected in ["Next:\n", "  cd shop\n", first, "cargo run", "docs/guide/first-service.md"] {
            ensure!(printed.contains(expected), "`{expected}` is not in what is printed:\n{printed}");
        }
        ensure!(!printed.contains("Note:"), "it printed {printed}");
    }
    Ok(())
}

pub(crate) fn is_refused(template: &Template) -> Result<()> {
    let versions = Versions::of(template)?;
    let shop = versions.project(template, "none")?;
    let refuses = |shop: &Project, arguments: &[&str], why: &str| -> Result<()> {
        let Err(error) = shop.run("scripts/update-from-template", arguments) else { bail!("not refused: {why}") };
        let printed = error.to_string();
        let printed: Vec<_> = printed.lines().skip(1).collect();
        ensure!(printed.len() == 1 && printed[0].contains(why), "`{why}` is refused with {printed:?}");
        Ok(())
    };
    refuses(&shop, &["v99"], "the template has no version `v99`")?;
    refuses(&shop, &["--from", "v99"], "--from says")?;
    refuses(&shop, &["--template", "/nowhere"], "cannot clone /nowhere")?;
    refuses(&shop, &["--tempalte", "x"], "there is no option")?;
    let without = shop.with_path(&["/usr/bin", "/bin"]);
    refuses(&without, &[], "cargo install cargo-generate")?;
    fs::write(shop.folder.join("new"), "")?;
    refuses(&shop, &[], "commit or stash")?;
    fs::remove_file(shop.folder.join("new"))?;

    let (known, unknown) = (format!("template_version = '{}'", versions.old), "template_version = ''");
    edit(&shop, ".mesh/answers.toml", &known, unknown)?;
    shop.commit()?;
    // The project is newer than both versions.
    refuses(&shop, &[], &format!("the template was at {}", versions.new))?;
    edit(&shop, ".mesh/answers.toml", unknown, &known)?;
    shop.commit()?;

    // Both sides changed one line: git reports the conflict and leaves it to the user.
    edit(&shop, "mesh.toml", "# drain_limit = \"8s\"", "drain_limit = \"1s\"")?;
    shop.commit()?;
    let Err(error) = shop.run("scripts/update-from-template", &[]) else { bail!("a conflict is not reported") };
    let printed = error.to_string();
    ensure!(
        printed.contains("mesh.toml") && printed.contains("git cherry-pick --continue"),
        "the conflict printed {printed}"
    );
    let conflict = fs::read_to_string(shop.folder.join("mesh.toml"))?;
    ensure!(conflict.contains("<<<<<<<"), "no conflict in {conflict}");
    shop.run("git", &["cherry-pick", "--abort"])?;

    edit(&shop, ".mesh/answers.toml", &versions.template.folder.display().to_string(), "")?;
    refuses(&shop, &[], "pass --template URL")?;
    fs::remove_file(shop.folder.join(".mesh/answers.toml"))?;
    refuses(&shop, &[], "there is no .mesh/answers.toml")?;
    shop.run("git", &["checkout", "--quiet", "--", "."])?;
    fs::rename(shop.folder.join(".git"), shop.folder.with_file_name("git"))?;
    // The project is inside a repository nonetheless, that of the template.
    refuses(&shop, &[], "git repository")
}

fn head(project: &Project) -> Result<String> {
    Ok(project.run("git", &["rev-parse", "HEAD"])?.trim().to_owned())
}

pub(crate) fn edit(project: &Project, file: &str, from: &str, to: &str) -> Result<()> {
    let path = project.folder.join(Path::new(file));
    let text = fs::read_to_string(&path).with_context(|| file.to_owned())?;
    ensure!(text.contains(from), "{file} has no `{from}` to change");
    fs::write(path, text.replacen(from, to, 1))?;
    Ok(())
}
