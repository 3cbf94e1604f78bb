//! Runs one child process and reports its output and its end.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::Context as _;
use tokio::sync::mpsc::UnboundedSender;

/// An event of a child.
pub(super) enum Event {
    /// The child has written a line.
    Line { name: String, line: String },
    /// The child has ended. All its lines came before.
    Ended { name: String, how: String },
}

/// A running process, killed when it is dropped.
pub(super) struct Child {
    pub(super) name: String,
    /// `None` once the child has ended: its process id may then belong to another process.
    process: Arc<Mutex<Option<std::process::Child>>>,
}

impl Child {
    pub(super) fn spawn(name: &str, mut command: Command, events: &UnboundedSender<Event>) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let program = command.get_program().to_string_lossy().into_owned();
        let mut process = command.spawn().with_context(|| format!("cannot start {program}"))?;
        let outputs: [Option<Box<dyn Read + Send>>; 2] = [
            process.stdout.take().map(|output| Box::new(output) as _),
            process.stderr.take().map(|output| Box::new(output) as _),
        ];
        let child = Self { name: name.to_owned(), process: Arc::new(Mutex::new(Some(process))) };
        child.listen(outputs, events.clone());
        Ok(child)
    }

    /// Reads the outputs in threads, because reading blocks. The threads end with the child.
    fn listen(&self, outputs: [Option<Box<dyn Read + Send>>; 2], events: UnboundedSender<Event>) {
        let readers = outputs.into_iter().flatten().map(|output| {
            let (name, events) = (self.name.clone(), events.clone());
            thread::spawn(move || {
                for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                    let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                    let _ = events.send(Event::Line { name: name.clone(), line });
                }
            })
        });
        let readers: Vec<_> = readers.collect();
        let (name, process) = (self.name.clone(), Arc::clone(&self.process));
        thread::spawn(move || {
            // A child that has closed both outputs has ended or is about to.
            readers.into_iter().for_each(|reader| drop(reader.join()));
            let process = process.lock().unwrap_or_else(PoisonError::into_inner).take();
            let how = match process.map(|mut process| process.wait()) {
                Some(Ok(status)) => status.to_string(),
                Some(Err(error)) => error.to_string(),
                None => "killed".to_owned(),
            };
            let _ = events.send(Event::Ended { name, how });
        });
    }

    /// Sends SIGTERM, as a supervisor does, so that the child can drain.
    pub(super) fn terminate(&self) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(process) = process.as_mut() else { return };
        // The standard library sends only SIGKILL. A crate that sends SIGTERM would enable features with which
        // `cargo run` and scripts/up build mesh twice.
        let asked = Command::new("kill").arg("-TERM").arg(process.id().to_string()).status();
        if !asked.is_ok_and(|status| status.success()) {
            let _ = process.kill();
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
