//! The services in other languages: the folders below `examples` with a `sidecar.toml`, which configures the process
//! beside the program.
//!
//! `sidecar.service` and `sidecar.command` of the file are read here; the sidecar itself checks it as a whole.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, anyhow};
use mesh_runtime::settings::toml_mistake;

/// Where `scripts/tools python` installs packages.
const PYTHON: &str = ".tools/python/bin";
/// The list of packages beside a program in Python.
const PACKAGES: &str = "requirements.txt";
/// Prints the packages of a list that are not installed.
const MISSING: &str = "\
import importlib.metadata, re, sys
for line in open(sys.argv[1]):
    name = re.split('[^A-Za-z0-9._-]', line.strip())[0]
    try:
        name and importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        print(name)
";

/// A service whose program has a sidecar.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sidecar {
    pub(crate) service: String,
    /// The path of its `sidecar.toml`.
    pub(crate) config: PathBuf,
    /// The program that the sidecar starts; `None` if somebody else does.
    program: Option<String>,
}

/// All of them, by name; none without the folder.
pub(crate) fn find(examples: &Path) -> anyhow::Result<Vec<Sidecar>> {
    let Ok(folders) = std::fs::read_dir(examples) else { return Ok(Vec::new()) };
    let files = folders.filter_map(|folder| Some(folder.ok()?.path().join("sidecar.toml")));
    let mut found = files.filter(|file| file.is_file()).map(Sidecar::read).collect::<Result<Vec<_>, _>>()?;
    found.sort_by(|one, other| one.service.cmp(&other.service));
    Ok(found)
}

/// The folders in which a sidecar looks for its program.
pub(crate) fn path() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let python = std::path::absolute(PYTHON).ok().filter(|folder| folder.is_dir());
    let folders = python.into_iter().chain(std::env::split_paths(&path));
    // A folder with a colon in its name cannot be on PATH.
    std::env::join_paths(folders).unwrap_or(path)
}

impl Sidecar {
    fn read(config: PathBuf) -> anyhow::Result<Self> {
        let shown = config.display();
        let text = std::fs::read_to_string(&config).with_context(|| format!("cannot read {shown}"))?;
        let table: toml::Table = text.parse().map_err(|error| anyhow!("{shown}, {}", toml_mistake(&text, &error)))?;
        let word = |key: &str| table.get("sidecar")?.get(key)?.as_str()?.split_whitespace().next().map(str::to_owned);
        let service = word("service").with_context(|| format!("{shown} has no sidecar.service: name the service"))?;
        Ok(Self { service, program: word("command"), config })
    }

    /// What this machine lacks to run the program, and how to get it; `None` if nothing is known to be missing.
    pub(crate) fn lacks(&self) -> Option<String> {
        let program = self.program.as_ref()?;
        let Some(found) = locate(program) else {
            return Some(format!("{program} is not installed: install it, or change sidecar.command"));
        };
        let packages = self.config.with_file_name(PACKAGES);
        if !packages.is_file() {
            return None;
        }
        let printed = Command::new(found).args(["-c", MISSING]).arg(&packages).stdin(Stdio::null()).output().ok()?;
        let missing = String::from_utf8_lossy(&printed.stdout).split_whitespace().collect::<Vec<_>>().join(", ");
        (!missing.is_empty()).then(|| format!("{missing} is missing: `scripts/tools python` installs it"))
    }
}

/// The file of a program, as a sidecar finds it.
fn locate(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|program| program.is_file());
    }
    let mut files = std::env::split_paths(&path()).map(|folder| folder.join(program)).collect::<Vec<_>>().into_iter();
    files.find(|program| program.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(folder: &Path, name: &str, config: &str) -> PathBuf {
        let file = folder.join(name).join("sidecar.toml");
        std::fs::create_dir_all(folder.join(name)).unwrap();
        std::fs::write(&file, config).unwrap();
        file
    }

    #[test]
    fn sidecars_are_the_folders_with_a_configuration() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("web")).unwrap();
        let b = example(folder.path(), "two", "listen = '127.0.0.1:0'\n[sidecar]\nservice = 'b'");
        let a = example(folder.path(), "one", "[sidecar]\nservice = 'z'\ncommand = 'python3 main.py'");
        let sidecar = |service: &str, config, program: Option<&str>| Sidecar {
            service: service.to_owned(),
            config,
            program: program.map(str::to_owned),
        };
        assert_eq!(find(folder.path()).unwrap(), [sidecar("b", b, None), sidecar("z", a, Some("python3"))]);
        assert_eq!(find(&folder.path().join("none")).unwrap(), []);
    }

    #[test]
    fn sidecar_without_a_service_or_with_a_mistake_is_named() {
        for (config, expected) in [("", "sidecar.service"), ("listen = '127.0.0.1:0'\n[sidecar", "line 2")] {
            let folder = tempfile::tempdir().unwrap();
            example(folder.path(), "one", config);
            let error = find(folder.path()).unwrap_err().to_string();
            assert!(error.contains("one/sidecar.toml") && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn sidecar_lacks_a_program_or_packages() {
        let folder = tempfile::tempdir().unwrap();
        let lacks = |command: &str| {
            example(folder.path(), "one", &format!("[sidecar]\nservice = 'one'\ncommand = '{command}'"));
            find(folder.path()).unwrap()[0].lacks()
        };
        assert_eq!(lacks("sh main.sh"), None);
        assert!(lacks("no-such-program-1 main").unwrap().contains("no-such-program-1 is not installed"));
        assert!(lacks("./no-such-program main").is_some());
        // In the place of Python: it prints its last argument, the list.
        std::fs::write(folder.path().join("one").join(PACKAGES), "").unwrap();
        assert!(lacks("echo").unwrap().contains("scripts/tools python"));
        assert_eq!(lacks("true"), None);
    }
}
