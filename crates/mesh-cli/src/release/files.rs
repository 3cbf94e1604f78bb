//! Reads builds from files: a manifest, or a program that writes its own.

use std::fs::{File, FileType};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;

use mesh_release::Build;
use tokio::io::{AsyncReadExt as _, copy, sink};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::shown;

/// The limit for a program that writes its manifest, and for a pipe.
const LIMIT: Duration = Duration::from_secs(10);
/// The begin of a program: ELF, Mach-O in two forms, and a script.
const PROGRAMS: [&[u8]; 4] = [b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"#!"];
/// More is no manifest, in bytes.
const LARGEST: u64 = 64 << 20;
/// What is read of the errors of a program, in bytes.
const ERRORS: u64 = 64 << 10;

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
    let bytes = match content(path).await.map_err(|why| format!("{shown} cannot be read: {why}"))? {
        Content::Program => {
            written_by(path, service.as_deref()).await.map_err(|why| format!("{shown} writes no manifest: {why}"))?
        }
        Content::Manifest(bytes) => bytes,
    };
    let build = Build::read(&bytes).map_err(|why| format!("{shown} {why}"))?;
    match service {
        Some(service) if service != build.service() => {
            Err(format!("{shown} is a build of `{}`, and not of `{service}`", build.service()))
        }
        _ => Ok(build),
    }
}

/// The manifests of clients outside of the mesh in a folder, by default [`CONSUMERS`], in the order of their names. The
/// name of a client is that of its file. Files that are no manifests by their names are listed on standard error, but
/// for README.md.
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
            let shown = shown::one_line(&other.display().to_string());
            shown::note(&format!("{shown} is ignored: the name of a manifest ends with .manifest"));
        }
    }
    let read = manifests.iter().map(|path| {
        let Content::Manifest(bytes) = content_of(path, false).map_err(|error| cannot(path, error))? else {
            return Err(format!("{} is a program, and no manifest", path.display()));
        };
        let mut build = Build::read(&bytes).map_err(|why| format!("{} {why}", path.display()))?;
        build.manifest.service = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(build)
    });
    read.collect()
}

/// What a file holds.
enum Content {
    /// A program, of which only the begin was read.
    Program,
    /// What may be a manifest.
    Manifest(Vec<u8>),
}

/// Reads a file, or a pipe to its end, within the limit.
async fn content(path: &Path) -> Result<Content, String> {
    let (done, read) = oneshot::channel();
    let path = path.to_owned();
    // No thread of the runtime: its end would wait for a pipe without a writer.
    std::thread::spawn(move || done.send(content_of(&path, true)));
    match timeout(LIMIT, read).await {
        Ok(Ok(read)) => read.map_err(|error| error.to_string()),
        _ => Err(format!("it did not end within {LIMIT:?}")),
    }
}

/// Reads a regular file, or a pipe to its end.
fn content_of(path: &Path, takes_pipes: bool) -> io::Result<Content> {
    let kind = path.metadata()?.file_type();
    if !(kind.is_file() || takes_pipes && is_pipe(kind)) {
        return Err(io::Error::other("it is no regular file"));
    }
    let (mut file, mut bytes) = (File::open(path)?, Vec::new());
    file.by_ref().take(4).read_to_end(&mut bytes)?;
    if kind.is_file() && PROGRAMS.iter().any(|program| bytes.starts_with(program)) {
        return Ok(Content::Program);
    }
    file.take(LARGEST).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::other(format!("it has more than {LARGEST} bytes")));
    }
    Ok(Content::Manifest(bytes))
}

fn is_pipe(kind: FileType) -> bool {
    #[cfg(unix)]
    return std::os::unix::fs::FileTypeExt::is_fifo(&kind);
    #[cfg(not(unix))]
    false
}

/// What a program writes with `--manifest`.
async fn written_by(program: &Path, service: Option<&str>) -> Result<Vec<u8>, String> {
    // Without a folder, a name would be looked for on PATH.
    let program = program.canonicalize().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.arg(service.map_or("--manifest".to_owned(), |service| format!("--manifest={service}")));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    #[cfg(unix)]
    command.process_group(0);
    command.kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let group = child.id();
    let failed = match timeout(LIMIT, output_of(&mut child)).await {
        Ok(Ok(written)) => return written,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("it did not end within {LIMIT:?}"),
    };
    // What it started as well. The standard library sends signals to no group.
    if let Some(group) = group {
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{group}")]).stderr(Stdio::null()).status().await;
    }
    Err(failed)
}

/// What a program writes, if it succeeds: the outer error is one of reading it, or that it writes too much.
async fn output_of(child: &mut Child) -> io::Result<Result<Vec<u8>, String>> {
    let (Some(out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) else { return Ok(Ok(Vec::new())) };
    let out = async {
        let mut bytes = Vec::new();
        out.take(LARGEST + 1).read_to_end(&mut bytes).await?;
        let fits = bytes.len() as u64 <= LARGEST;
        if fits { Ok(bytes) } else { Err(io::Error::other(format!("it writes more than {LARGEST} bytes"))) }
    };
    let said = async {
        let mut said = Vec::new();
        (&mut err).take(ERRORS).read_to_end(&mut said).await?;
        copy(&mut err, &mut sink()).await?;
        Ok(said)
    };
    let (out, said, status) = tokio::try_join!(out, said, child.wait())?;
    if status.success() {
        return Ok(Ok(out));
    }
    let said = String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned();
    Ok(Err(if said.is_empty() { status.to_string() } else { said.trim_start_matches("error: ").to_owned() }))
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

    fn pipe(path: &Path) {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    }

    #[test]
    fn consumers_are_regular_files_of_a_sensible_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("phones.manifest");
        let refused = || consumers(Some(folder.path())).unwrap_err();
        pipe(&path);
        assert!(refused().ends_with("phones.manifest cannot be read: it is no regular file"), "{}", refused());
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("missing", &path).unwrap();
        assert!(refused().contains("phones.manifest cannot be read"), "{}", refused());
        std::fs::remove_file(&path).unwrap();
        File::create(&path).unwrap().set_len(LARGEST + 1).unwrap();
        assert!(refused().ends_with("it has more than 67108864 bytes"), "{}", refused());
        std::fs::write(&path, "#!/bin/sh").unwrap();
        assert!(refused().contains("is a program, and no manifest"), "{}", refused());
    }

    #[tokio::test]
    async fn pipes_are_read_to_their_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        pipe(&path);
        let written = Build::foreign("phones", Vec::new(), &[]).unwrap().manifest.encode_to_vec();
        let (begin, end) = written.split_at(10);
        let (to, begin, end) = (path.clone(), begin.to_vec(), end.to_vec());
        let writer = std::thread::spawn(move || {
            let mut pipe = File::options().write(true).open(to).unwrap();
            for part in [begin, end] {
                io::Write::write_all(&mut pipe, &part).unwrap();
                std::thread::yield_now();
            }
        });
        let build = read(&Given { service: None, path }).await.unwrap();
        writer.join().unwrap();
        assert_eq!(build.service(), "phones");
        let refused = read(&Given { service: None, path: "/dev/zero".into() }).await.unwrap_err();
        assert_eq!(refused, "/dev/zero cannot be read: it is no regular file");
    }

    #[tokio::test]
    async fn program_that_writes_too_much_is_ended_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let (path, pid) = (folder.path().join("script"), folder.path().join("pid"));
        std::fs::write(&path, format!("#!/bin/sh\ncat /dev/zero & echo $! > {}; wait", pid.display())).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let refused = read(&Given { service: None, path }).await.unwrap_err();
        assert!(refused.ends_with("writes no manifest: it writes more than 67108864 bytes"), "{refused}");
        let pid = std::fs::read_to_string(pid).unwrap();
        let runs = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        // A zombie has ended.
        while runs().is_ok_and(|stat| !stat.contains(") Z ")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
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
