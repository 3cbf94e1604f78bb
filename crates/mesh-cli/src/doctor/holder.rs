//! Finds the process that listens on a port: in /proc on Linux, by lsof elsewhere. Processes of other users are visible
//! only to root.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::process::Command;

/// The number of characters of a process name that the kernel keeps.
const KEPT: usize = 15;

/// A process that listens.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Holder {
    /// The name of its program, cut to 15 characters.
    pub(super) name: String,
    pub(super) process: u32,
}

/// The process that listens on `port`, on any address of this machine.
pub(super) fn of(port: u16) -> Option<Holder> {
    if cfg!(target_os = "linux") { in_proc(port) } else { by_lsof(port) }
}

impl Holder {
    /// Whether the process runs this program.
    pub(super) fn is(&self, program: &str) -> bool {
        program.chars().take(KEPT).eq(self.name.chars())
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.process)
    }
}

/// Matches the inodes of listening sockets with the files that each process has open.
fn in_proc(port: u16) -> Option<Holder> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| std::fs::read_to_string(table).unwrap_or_default());
    let sockets: HashSet<_> = tables.iter().flat_map(|table| listening(table, port)).collect();
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let mut holders = processes.filter_map(|entry| {
        let process = entry.file_name().to_str()?.parse().ok()?;
        has_one_of(&entry.path(), &sockets).then_some(())?;
        let name = std::fs::read_to_string(entry.path().join("comm")).ok()?.trim_end().to_owned();
        Some(Holder { name, process })
    });
    holders.next()
}

/// The link targets of the sockets that listen on `port`, from a table of /proc/net.
fn listening(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let of_port = lines.filter(|columns| {
        let local = columns.get(1).and_then(|address| address.rsplit_once(':'));
        local.and_then(|(_, hex)| u16::from_str_radix(hex, 16).ok()) == Some(port) && columns.get(3) == Some(&LISTEN)
    });
    of_port.filter_map(|columns| columns.get(9).map(|inode| format!("socket:[{inode}]"))).collect()
}

fn has_one_of(process: &Path, sockets: &HashSet<String>) -> bool {
    let open = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    let mut links = open.filter_map(|file| std::fs::read_link(file.path()).ok());
    links.any(|link| link.to_str().is_some_and(|link| sockets.contains(link)))
}

fn by_lsof(port: u16) -> Option<Holder> {
    let mut lsof = Command::new("lsof");
    lsof.args(["-nP", "-sTCP:LISTEN", "-Fpc", "+c", &KEPT.to_string()]).arg(format!("-iTCP:{port}"));
    read_lsof(&String::from_utf8_lossy(&lsof.output().ok()?.stdout))
}

/// Reads the output of `lsof -F`: one field a line, named by its first letter.
fn read_lsof(output: &str) -> Option<Holder> {
    let field = |letter| output.lines().find_map(|line| line.strip_prefix(letter));
    Some(Holder { process: field('p')?.parse().ok()?, name: field('c')?.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_reads_the_table_of_the_kernel() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 20 4 30 10 -1
   2: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0 0 10 0\n";
        assert_eq!(listening(table, 8080), ["socket:[4711]"]);
        assert_eq!(listening(table, 80), ["socket:[4713]"]);
        assert!(listening(table, 50051).is_empty() && listening("", 80).is_empty());
    }

    #[test]
    fn read_lsof_finds_process_and_name() {
        let holder = Holder { name: "monolith".to_owned(), process: 4711 };
        assert_eq!(read_lsof("p4711\ncmonolith\nf9\n"), Some(holder));
        assert_eq!(read_lsof(""), None);
    }

    #[test]
    fn holder_matches_a_program_by_the_kept_part_of_its_name() {
        let holder = |name: &str| Holder { name: name.to_owned(), process: 1 };
        assert!(holder("a_service_of_a_").is("a_service_of_a_long_name"));
        assert!(!holder("mono").is("monolith") && !holder("monolith2").is("monolith"));
    }
}
