//! The commands of `mesh events` that show and repair a follower.

use std::process::{Output, Stdio};
use std::sync::atomic::Ordering;

use crate::fixture::{Databases, Follower, Source, within_limit};

/// Runs `mesh events` at the process of the follower, without a terminal. The first run builds the program.
async fn mesh(follower: &Follower, arguments: &[&str]) -> Output {
    let address = follower.mesh.url().replace("http://", "");
    let arguments = [&["--address", &address, "events"], arguments].concat();
    let arguments = arguments.iter().map(ToString::to_string).collect::<Vec<_>>();
    let run = || harness::command("mesh").args(arguments).stdin(Stdio::null()).output();
    tokio::task::spawn_blocking(run).await.unwrap().unwrap()
}

/// The output of a command that succeeded.
async fn answer(follower: &Follower, arguments: &[&str]) -> String {
    let output = mesh(follower, arguments).await;
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The one line of a command that failed.
async fn error(follower: &Follower, arguments: &[&str]) -> String {
    let output = mesh(follower, arguments).await;
    let line = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(output.status.code() == Some(1) && line.lines().count() == 1 && output.stdout.is_empty(), "{output:?}");
    line.trim_end().strip_prefix("error: ").unwrap().to_owned()
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

const PARKED: &str = "SELECT count(*) FROM mesh_parked_events";

#[tokio::test]
async fn commands_show_and_repair_a_follower() {
    // Builds the program, if need be, outside of the limit.
    tokio::task::spawn_blocking(|| harness::command("mesh")).await.unwrap();
    within_limit(shows_and_repairs()).await;
}

async fn shows_and_repairs() {
    let source = Source::start(&Databases::Sqlite).await;
    let follower = Follower::start(&Databases::Sqlite, source.address()).await;
    follower.equals(&source).await;
    follower.control.fails.store(true, Ordering::SeqCst);
    for name in ["poison", "fine", "poison"] {
        source.make(name).await;
    }
    follower.until(PARKED, 2).await;

    let lag = answer(&follower, &["lag"]).await;
    let [head, row] = lag.lines().map(words).collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(head[..8], ["SERVICE", "SOURCE", "STATE", "POSITION", "HEAD", "LAG", "HEARD", "PARKED"]);
    assert_eq!(row[..6], ["shelf", "things", "following", "3", "3", "0"]);
    assert_eq!(row[8], "1", "one key: {lag}");
    let parked = answer(&follower, &["parked", "things"]).await;
    let [_, first, second] = parked.lines().map(words).collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(first[..5], ["shelf", "things", "poison", "1", "Made"]);
    assert!(second[3] == "3" && parked.contains("on purpose") && parked.contains("behind an earlier one"), "{parked}");

    let failed = error(&follower, &["retry", "things", "poison"]).await;
    assert!(failed.starts_with("applied 0 events, and 2 are still parked: "), "{failed}");
    follower.control.fails.store(false, Ordering::SeqCst);
    let applied = answer(&follower, &["retry", "things", "poison"]).await;
    assert_eq!(applied.trim(), "applied 2 events; 0 are parked");
    follower.equals(&source).await;
    for (command, key) in [("retry", "poison"), ("skip", "poison"), ("retry", "unknown"), ("skip", "unknown")] {
        let nothing = error(&follower, &[command, "things", key]).await;
        let expected =
            format!("no event of the key `{key}` is parked: `mesh events parked things` lists the parked events");
        assert_eq!(nothing, expected, "{command}");
    }

    follower.control.fails.store(true, Ordering::SeqCst);
    source.make("poison").await;
    follower.until(PARKED, 1).await;
    let asked = error(&follower, &["skip", "things", "poison", "--service", "shelf"]).await;
    assert!(asked.ends_with("give --yes to do it without a terminal"), "{asked}");
    assert_eq!(follower.count(PARKED).await, 1);
    asks_twice(&follower).await;
    source.make("poison").await;
    follower.until(PARKED, 1).await;
    let skipped = answer(&follower, &["skip", "things", "poison", "--yes"]).await;
    assert!(skipped.starts_with("skipped 1 events; "), "{skipped}");
    assert_eq!(follower.count(PARKED).await, 0);
    assert_ne!(follower.copy().await, source.things().await);

    follower.control.fails.store(false, Ordering::SeqCst);
    let rebuilt = answer(&follower, &["rebuild", "things"]).await;
    assert!(rebuilt.starts_with("build 2 begins"), "{rebuilt}");
    follower.equals(&source).await;
    for (arguments, expected) in [
        (&["rebuild", "nothing"][..], "no service follows `nothing`"),
        (&["parked", "nothing"], "no service follows `nothing`"),
        (&["retry", "things", "key", "--service", "things"], "`things` does not follow `things`"),
    ] {
        let wrong = error(&follower, arguments).await;
        assert!(wrong.starts_with(expected), "{wrong}");
    }
}

/// Runs a program in a terminal, and types each answer behind a question. Prints what the terminal shows.
const TERMINAL: &str = r#"
import os, pty, sys
answers, command = sys.argv[1].split(","), sys.argv[2:]
child, terminal = pty.fork()
if child == 0:
    os.execv(command[0], command)
shown = b""
while True:
    try:
        read = os.read(terminal, 4096)
    except OSError:
        break
    if not read:
        break
    shown += read
    if answers and shown.rstrip(b" ").endswith((b"[y/N]", b"good:")):
        os.write(terminal, answers.pop(0).encode() + b"\n")
sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"#;

/// `skip` without `--yes`, in a terminal.
async fn skip_answering(follower: &Follower, answers: &'static str) -> (Option<i32>, String) {
    let address = follower.mesh.url().replace("http://", "");
    let run = move || {
        let mesh = harness::command("mesh");
        let mut terminal = std::process::Command::new("python3");
        terminal.args(["-c", TERMINAL, answers]).arg(mesh.get_program());
        terminal.args(["--address", &address, "events", "skip", "things", "poison"]).stdin(Stdio::null()).output()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// One event of `poison` is parked, and stays so unless both questions are answered.
async fn asks_twice(follower: &Follower) {
    if harness::find_program("python3", &[]).is_none() {
        harness::skip("python3", "the questions of `mesh events skip` are not tested");
        return;
    }
    for answers in ["n", "", "y,other", "y,"] {
        let (code, shown) = skip_answering(follower, answers).await;
        assert!(code == Some(1) && shown.contains("nothing was skipped"), "{answers}: {shown}");
        assert_eq!(shown.contains("Repeat the key"), answers.starts_with('y'), "{answers}: {shown}");
        assert_eq!(follower.count(PARKED).await, 1, "{answers}");
    }
    let (code, shown) = skip_answering(follower, "y,poison").await;
    assert!(code == Some(0) && shown.contains("skipped 1 events"), "{shown}");
    assert!(shown.contains("Delete 1 parked events of `poison`? The copy of `shelf` will lack them."), "{shown}");
    assert_eq!(follower.count(PARKED).await, 0);
}
