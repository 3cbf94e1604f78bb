//! The metrics of the process itself, by the names that Prometheus' own clients give them.

use std::fmt;
use std::time::SystemTime;

use mesh_runtime::Usage;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Asks the system at each reading.
#[derive(Debug)]
pub(super) struct ProcessMetrics {
    start: SystemTime,
}

impl ProcessMetrics {
    /// The process starts now, or a moment ago.
    pub(super) fn starting() -> Self {
        Self { start: SystemTime::now() }
    }
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut write = |name: &str, help: &str, metric: &dyn Written| metric.write(&mut encoder, name, help);
        let start = self.start.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        write("process_start_time_seconds", "Start of the process, in seconds since 1970", &ConstGauge::new(start))?;
        let usage = Usage::now();
        if let Some(cpu) = usage.cpu {
            write("process_cpu_seconds", "CPU time of the process", &ConstCounter::new(cpu.as_secs_f64()))?;
        }
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Memory of the process in RAM", usage.resident),
            ("process_virtual_memory_bytes", "Address space of the process", usage.address_space),
            ("process_threads", "Threads of the process", usage.threads),
            ("process_open_fds", "Open files of the process, connections among them", usage.open_files),
            ("process_max_fds", "The limit of open files", usage.most_open_files),
        ] {
            if let Some(value) = value {
                write(name, help, &ConstGauge::new(value))?;
            }
        }
        Ok(())
    }
}

/// A value that is written with its description.
trait Written {
    fn write(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> fmt::Result;
}

impl<M: EncodeMetric> Written for M {
    fn write(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> fmt::Result {
        self.encode(encoder.encode_descriptor(name, help, None, self.metric_type())?)
    }
}
