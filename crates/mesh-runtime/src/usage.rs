//! What the process uses of its machine: CPU time, memory, threads and files.

use std::time::Duration;

/// What the process uses. A field is `None` where the system does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of all threads since the start of the process.
    pub cpu: Option<Duration>,
    /// Memory in RAM, in bytes.
    pub resident: Option<u64>,
    /// Address space, in bytes.
    pub address_space: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Open files, connections among them.
    pub open_files: Option<u64>,
    /// The limit of open files.
    pub most_open_files: Option<u64>,
}

impl Usage {
    /// Asks the system. The time grows with the number of open files: a millisecond for some thousands.
    pub fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        // The folder itself is open while it is read.
        let files = std::fs::read_dir("/proc/self/fd").ok().map(|files| files.count().saturating_sub(1) as u64);
        Self {
            cpu: cpu(),
            resident: field(&status, "VmRSS:").map(|kilobytes| kilobytes * 1024),
            address_space: field(&status, "VmSize:").map(|kilobytes| kilobytes * 1024),
            threads: field(&status, "Threads:"),
            open_files: files,
            most_open_files: most_open_files(),
        }
    }
}

/// The number behind a name of Linux's /proc/self/status.
fn field(status: &str, name: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(unix)]
fn cpu() -> Option<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(Duration::new(time.tv_sec.try_into().ok()?, time.tv_nsec.try_into().ok()?))
}

#[cfg(unix)]
fn most_open_files() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

#[cfg(not(unix))]
fn cpu() -> Option<Duration> {
    None
}

#[cfg(not(unix))]
fn most_open_files() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_that_of_this_process() {
        let usage = Usage::now();
        if cfg!(unix) {
            assert!(usage.cpu.is_some_and(|cpu| cpu > Duration::ZERO));
            assert!(usage.most_open_files.is_none_or(|most| most > 0));
        }
        if cfg!(target_os = "linux") {
            let (resident, all) = (usage.resident.unwrap(), usage.address_space.unwrap());
            assert!(resident > 100_000 && resident < all, "{resident} of {all}");
            assert!(usage.threads.unwrap() >= 1);
            // The tests open and close files, too: one more file need not be one more.
            let _held: Vec<_> = (0..100).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
            assert!(Usage::now().open_files.unwrap() >= 100);
        }
    }

    #[test]
    fn status_of_another_system_has_no_fields() {
        assert_eq!(field("Name:\tx\nVmRSS:\t   512 kB\n", "VmRSS:"), Some(512));
        assert_eq!(field("VmRSS:\tmany", "VmRSS:"), None);
        assert_eq!(field("", "VmRSS:"), None);
    }
}
