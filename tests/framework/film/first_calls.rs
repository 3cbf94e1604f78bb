//! What a newcomer does with `auth.mode = "required"`: the calls that the start prints, and the example client.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use harness::{Curl, Grpcurl, Process, Proxy, command, find_program, token};

/// A monolith that asks for the tokens of `mesh token` in its folder.
fn monolith() -> Process {
    let folder = tempfile::tempdir().expect("a temporary folder");
    token(folder.path(), "nobody", &[], "1h");
    Process::start_in(folder, "monolith", &[("MESH__AUTH__MODE", "required")])
}

/// Runs lines as if they were copied into a shell in the folder of a project.
fn paste(lines: &str, project: &Path) -> Output {
    let lines = lines.replace("cargo run -q --bin mesh --", &command("mesh").get_program().to_string_lossy());
    let tools = find_program("grpcurl", &[]).expect("grpcurl");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = tools.parent().map(ToOwned::to_owned).into_iter().chain(std::env::split_paths(&path));
    // curl ends with 0 also if the answer is a failure.
    std::fs::write(project.join(".curlrc"), "silent\nshow-error\nfail-with-body\n").expect("a folder");
    let mut shell = Command::new("sh");
    shell.args(["-c", &lines]).current_dir(project).env("CURL_HOME", project);
    shell.env("PATH", std::env::join_paths(path).expect("folders")).output().expect("a shell")
}

#[test]
fn printed_calls_work_when_they_are_copied() {
    if !Curl::installed() || !Grpcurl::installed() {
        return;
    }
    let monolith = monolith();
    let printed = monolith.printed(2);
    let is_call = |line: &&str| !line.is_empty() && !line.contains(" dashboard at ");
    let lines: Vec<_> = printed.iter().map(|line| line.trim()).filter(is_call).collect();
    let [login, list, ..] = lines[..] else { panic!("{lines:?}") };
    assert!(login.starts_with("export MESH_TOKEN=$(cargo run -q --bin mesh -- token --sub "), "{lines:?}");
    assert!(login.contains("catalog.write") && list.ends_with(" list"), "{lines:?}");
    for program in ["grpcurl", "curl"] {
        let calls: Vec<_> = lines.iter().filter(|line| line.starts_with(program) && !line.ends_with(" list")).collect();
        let first = calls.iter().position(|line| line.contains("$MESH_TOKEN"));
        assert!(first.is_some_and(|first| first > 0), "what needs no token comes first: {lines:?}");
        for call in calls {
            let ran = paste(&format!("{login}\n{call}"), &monolith.working_folder());
            assert!(ran.status.success() && !ran.stdout.is_empty(), "{call}: {ran:?}");
        }
    }
    assert!(paste(list, &monolith.working_folder()).status.success());
}

#[test]
fn printed_calls_of_a_process_that_asks_nobody_have_no_token() {
    let printed = Process::start("monolith", &[]).printed(2).join("\n");
    assert!(printed.contains("/CreateTitle") && !printed.contains("TOKEN"), "{printed}");
    let issuers = ("MESH__AUTH__ISSUERS", "https://a.test shop");
    let other = Process::start("monolith", &[issuers]).printed(2).join("\n");
    assert!(
        other.contains("# MESH_TOKEN is a token of an issuer that auth.issuers names, with the scopes "),
        "{other}"
    );
}

fn first_call(process: &Process, address: &str, token: &str) -> Child {
    let mut example = command("first_call");
    example.arg(address).env("MESH_TOKEN", token).current_dir(process.working_folder());
    example.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the example starts")
}

#[test]
fn example_client_sends_a_token_and_sends_it_again_after_a_reconnect() {
    let monolith = monolith();
    let without = first_call(&monolith, &format!("http://{}", monolith.address), "").wait_with_output();
    let without = String::from_utf8(without.expect("it ends").stderr).expect("UTF-8");
    assert!(without.contains("error: Unauthenticated") && without.lines().count() == 1, "{without}");

    let proxy = Proxy::to(monolith.address);
    let alice = token(&monolith.working_folder(), "alice", &["catalog.write", "artwork.write"], "1h");
    let mut example = first_call(&monolith, &format!("http://{}", proxy.address), &alice);
    let mut stdout = example.stdout.take().expect("its output");
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains("1/4") {
        let mut byte = [0];
        stdout.read_exact(&mut byte).expect("it shows progress");
        text.extend(byte);
    }
    let before = proxy.accepted();
    proxy.cut();
    stdout.read_to_end(&mut text).expect("its output");
    let ended = example.wait_with_output().expect("it ends");
    let text = String::from_utf8(text).expect("UTF-8");
    assert!(
        ended.status.success() && text.contains("4/4 succeeded") && text.contains("out/tv.jpg"),
        "{text} {ended:?}"
    );
    assert!(proxy.accepted() > before, "it has connected again");
}
