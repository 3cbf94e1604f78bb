//! Reads builds from files: a manifest, or a program that writes its own.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;

use mesh_release::Build;
use tokio::process::Command;
use tokio::time::timeout;

use crate::shown;

/// The limit for a program that writes its manifest.
const LIMIT: Duration = Duration::from_secs(10);
/// The begin of a program: ELF, Mach-O in two forms, and a script.
const PROGRAMS: [&[u8]; 4] = [b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"#!"];
/// A larger file is no manifest, in bytes.
const LARGEST: u64 = 64 << 20;

/// The folder with manifests of clients outside of the mesh.
const CONSUMERS: &str = "deploy/consumers";

/// A build as the command line gives it: `[SERVICE=]FILE`.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    service: Option<String>,
    path: PathBuf,
}

impl FromStr for Given {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_name =
            |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        let named = text.split_once('=').filter(|(service, _)| is_name(service));
        let (service, path) = named.map_or((None, text), |(service, path)| (Some(service.to_owned()), path));
        if path.is_empty() {
            return Err("must be FILE or SERVICE=FILE, such as target/release/catalog".to_owned());
        }
        Ok(Self { service, path: path.into() })
    }
}

/// Reads builds of different services.
///
/// # Errors
///
/// What is wrong with one of them, or two of them: one line.
pub(super) async fn read_all(given: &[Given]) -> Result<Vec<Build>, String> {
    let mut builds: Vec<Build> = Vec::new();
    for one in given {
        let build = read(one).await?;
        if builds.iter().any(|other| other.service() == build.service()) {
            return Err(format!("`{}` is given twice: give one build of each service", build.service()));
        }
        builds.push(build);
    }
    Ok(builds)
}

/// Reads a build.
///
/// # Errors
///
/// What is wrong with it: one line.
pub(super) async fn read(Given { service, path }: &Given) -> Result<Build, String> {
    let shown = path.display();
    let cannot = |error: io::Error| format!("{shown} cannot be read: {error}");
    let bytes = if is_program(path).map_err(cannot)? {
        written_by(path, service.as_deref()).await.map_err(|why| format!("{shown} writes no manifest: {why}"))?
    } else {
        let length = path.metadata().map_err(cannot)?.len();
        if length > LARGEST {
            return Err(format!("{shown} is no manifest: it has {length} bytes"));
        }
        std::fs::read(path).map_err(cannot)?
    };
    let build = Build::read(&bytes).map_err(|why| format!("{shown} {why}"))?;
    match service {
        Some(service) if service != build.service() => {
            Err(format!("{shown} is a build of `{}`, and not of `{service}`", build.service()))
        }
        _ => Ok(build),
    }
}

/// The manifests of clients outside of the mesh in a folder, by default [`CONSUMERS`], in the order of their names. The name of
/// a client is that of its file. Files that are no manifests by their names are listed on standard error, but for README.md.
///
/// # Errors
///
/// What is wrong with the folder, or with one of them: one line. There may be no default folder.
pub(super) fn consumers(folder: Option<&Path>) -> Result<Vec<Build>, String> {
    let path = folder.unwrap_or(Path::new(CONSUMERS));
    let cannot = |path: &Path, error: io::Error| format!("{} cannot be read: {error}", path.display());
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && folder.is_none() => return Ok(Vec::new()),
        entries => entries.map_err(|error| cannot(path, error))?,
    };
    let entries: Result<Vec<_>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut entries = entries.map_err(|error| cannot(path, error))?;
    entries.sort();
    let (manifests, others): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|path| path.extension().is_some_and(|extension| extension == "manifest"));
    for other in others {
        let name = other.file_name().unwrap_or_default().to_string_lossy();
        if name != "README.md" && !name.starts_with('.') {
            shown::note(&format!("{} is ignored: the name of a manifest ends with .manifest", other.display()));
        }
    }
    let read = manifests.iter().map(|path| {
        let bytes = std::fs::read(path).map_err(|error| cannot(path, error))?;
        let mut build = Build::read(&bytes).map_err(|why| format!("{} {why}", path.display()))?;
        build.manifest.service = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(build)
    });
    read.collect()
}

fn is_program(path: &Path) -> io::Result<bool> {
    let mut begin = Vec::new();
    File::open(path)?.take(4).read_to_end(&mut begin)?;
    Ok(PROGRAMS.iter().any(|program| begin.starts_with(program)))
}

/// What a program writes with `--manifest`.
async fn written_by(program: &Path, service: Option<&str>) -> Result<Vec<u8>, String> {
    // Without a folder, a name would be looked for on PATH.
    let program = program.canonicalize().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.arg(service.map_or("--manifest".to_owned(), |service| format!("--manifest={service}")));
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = match timeout(LIMIT, command.output()).await {
        Ok(output) => output.map_err(|error| error.to_string())?,
        Err(_) => return Err(format!("it did not end within {LIMIT:?}")),
    };
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned();
    Err(if said.is_empty() { output.status.to_string() } else { said.trim_start_matches("error: ").to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    #[test]
    fn given_is_a_file_perhaps_of_a_service() {
        let given = |text: &str| {
            text.parse::<Given>().map(|given| (given.service, given.path.display().to_string())).map_err(drop)
        };
        assert_eq!(given("target/release/catalog"), Ok((None, "target/release/catalog".to_owned())));
        assert_eq!(given("catalog=target/monolith"), Ok((Some("catalog".to_owned()), "target/monolith".to_owned())));
        assert_eq!(given("./a=b/c"), Ok((None, "./a=b/c".to_owned())), "no name of a service");
        assert_eq!((given(""), given("catalog=")), (Err(()), Err(())));
    }

    #[test]
    fn consumers_are_none_only_if_the_default_folder_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let names = |folder: &Path| {
            consumers(Some(folder))
                .map(|builds| builds.iter().map(|build| build.service().to_owned()).collect::<Vec<_>>())
        };
        assert!(names(&path("mistyped")).unwrap_err().contains("mistyped cannot be read"));
        let phones = Build::foreign("phones", Vec::new(), &[]).unwrap();
        std::fs::write(path("phones-1.4.manifest"), phones.manifest.encode_to_vec()).unwrap();
        std::fs::write(path("README.md"), "No manifest.").unwrap();
        std::fs::write(path("phones-1.5.binpb"), "No manifest.").unwrap();
        assert_eq!(names(folder.path()), Ok(vec!["phones-1.4".to_owned()]));
        assert!(names(&path("README.md")).unwrap_err().contains("cannot be read"), "no folder");
        std::fs::create_dir(path("phones-1.6.manifest")).unwrap();
        assert!(names(folder.path()).unwrap_err().contains("phones-1.6.manifest cannot be read"));
    }

    #[tokio::test]
    async fn files_that_are_no_builds_are_refused_on_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        for (path, words) in [
            (folder.path().join("missing"), "cannot be read"),
            (file("text", "hello"), "cannot be decoded"),
            (file("empty", ""), "is no manifest"),
            (file("script", "#!/bin/sh\necho no >&2; exit 3"), "writes no manifest"),
            (folder.path().to_owned(), "cannot be read"),
        ] {
            let refused = read(&Given { service: None, path }).await.unwrap_err();
            assert!(refused.contains(words) && !refused.contains('\n'), "{refused}");
        }
    }
}
