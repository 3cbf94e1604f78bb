//! Peers that a name server knows: real answers over UDP, in a network namespace where the port of DNS is free.

use std::net::UdpSocket;
use std::process::Command;
use std::sync::{Arc, Mutex};

use harness::{LIMIT, Process, eventually, eventually_within, find_program, skip};

use super::hops;
use super::load::{Kind, once};
use super::names::answering_at;

/// Set in the namespace.
const INSIDE: &str = "HARNESS_INSIDE";

#[test]
#[ignore = "needs user namespaces: .ci/full"]
fn lookup_takes_the_answers_of_a_name_server() {
    if std::env::var_os(INSIDE).is_some() {
        return follows_a_name_server();
    }
    let allowed = || Command::new("unshare").args(["-rnm", "true"]).output().is_ok_and(|run| run.status.success());
    let Some(ip) = find_program("ip", &["/usr/sbin".into(), "/sbin".into()]).filter(|_| allowed()) else {
        let how = "util-linux and iproute2 have them, and the kernel must allow it";
        return skip("unshare with user namespaces, or ip,", how);
    };
    let etc = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(etc.path().join("resolv.conf"), "nameserver 127.0.0.1\noptions timeout:1\n").expect("a file");
    std::fs::write(etc.path().join("nsswitch.conf"), "hosts: dns\n").expect("a file");
    let script = "set -e; $IP link set lo up
        for file in resolv.conf nsswitch.conf; do [ ! -e /etc/$file ] || mount --bind $ETC/$file /etc/$file; done
        exec \"$0\" \"$@\"";
    // The same test again, in there.
    let (_, module) = module_path!().split_once("::").expect("a module of a crate");
    let test = format!("{module}::lookup_takes_the_answers_of_a_name_server");
    let mut again = Command::new("unshare");
    again.args(["-rnm", "sh", "-c", script]).arg(std::env::current_exe().expect("this program"));
    again.args(["--exact", &test, "--include-ignored", "--nocapture"]);
    let run = again.env("IP", ip).env("ETC", etc.path()).env(INSIDE, "1").output().expect("unshare runs");
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success() && out.contains("1 passed"), "{out}{err}");
}

fn follows_a_name_server() {
    let server = NameServer::start();
    let one = answering_at("127.0.0.2", 0);
    let port = one.address.port();
    let other = answering_at("127.0.0.3", port);
    server.answers(Answer::Addresses(vec![[127, 0, 0, 2]]));
    let caller = Process::start("hop", &[("MESH__REGISTRY", &format!("dns://{{service}}.mesh.test:{port}"))]);
    let counts = || [&one, &other].map(|instance| hops::attempts(instance, "GetTitle"));
    let are_called = || {
        let before = counts();
        for _ in 0..20 {
            once(caller.address, Kind::Get).expect("an instance is called");
        }
        let after = counts();
        [after[0] > before[0], after[1] > before[1]]
    };
    let called = |expected: [bool; 2]| {
        // Twice: while the addresses change, the first calls go to the old ones.
        let both = || are_called() == expected && are_called() == expected;
        // A lookup is seconds behind the last one, and a busy machine adds to it.
        eventually_within(3 * LIMIT, "these instances are called", || both().then_some(()));
    };
    called([true, false]);
    server.answers(Answer::Addresses(vec![[127, 0, 0, 3], [127, 0, 0, 2]]));
    called([true, true]);
    server.answers(Answer::Addresses(vec![[127, 0, 0, 3]]));
    called([false, true]);
    server.answers(Answer::Failure);
    eventually("the failure is logged", || caller.log().contains("using its last addresses").then_some(()));
    called([false, true]);
}

/// A name server on UDP that gives one answer to all questions for IPv4 addresses.
struct NameServer(Arc<Mutex<Answer>>);

#[derive(Clone)]
enum Answer {
    Addresses(Vec<[u8; 4]>),
    /// SERVFAIL.
    Failure,
}

impl NameServer {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:53").expect("the port is free in a new namespace");
        let answer = Arc::new(Mutex::new(Answer::Failure));
        let current = Arc::clone(&answer);
        std::thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut question) {
                let answer = current.lock().expect("no panic").clone();
                socket.send_to(&message(&question[..length], &answer), client).expect("a datagram");
            }
        });
        Self(answer)
    }

    fn answers(&self, answer: Answer) {
        *self.0.lock().expect("no panic") = answer;
    }
}

/// An answer by [RFC 1035](https://www.rfc-editor.org/rfc/rfc1035#section-4).
fn message(question: &[u8], answer: &Answer) -> Vec<u8> {
    const IPV4: &[u8] = &[0, 1, 0, 1];
    let name = 12 + question[12..].iter().position(|byte| *byte == 0).expect("the end of the name") + 1;
    let asked = &question[12..name + 4];
    let (code, addresses) = match answer {
        Answer::Addresses(addresses) if asked.ends_with(IPV4) => (0, addresses.as_slice()),
        Answer::Addresses(_) => (0, &[][..]),
        Answer::Failure => (2, &[][..]),
    };
    let head = [0x81, 0x80 | code, 0, 1, 0, addresses.len() as u8, 0, 0, 0, 0];
    let mut message = [&question[..2], &head, asked].concat();
    for address in addresses {
        // The name of the question, its type, 0 s to live, and 4 bytes.
        message.extend([&[0xc0, 12], IPV4, &[0; 4], &[0, 4], address].concat());
    }
    message
}
