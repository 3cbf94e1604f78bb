//! The metrics of the process itself, by the names that Prometheus' own clients give them.

use std::fmt;
use std::time::SystemTime;

use mesh_runtime::Usage;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, NoLabelSet};
use prometheus_client::metrics::MetricType;

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
        let start = self.start.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        gauge(&mut encoder, "process_start_time_seconds", "Start of the process, in seconds since 1970", &start)?;
        let usage = Usage::now();
        if let Some(cpu) = usage.cpu {
            let help = "CPU time of the process";
            let mut counter = encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
            counter.encode_counter::<NoLabelSet, _, u64>(&cpu.as_secs_f64(), None)?;
        }
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Memory of the process in RAM", usage.resident),
            ("process_virtual_memory_bytes", "Address space of the process", usage.address_space),
            ("process_threads", "Threads of the process", usage.threads),
            ("process_open_fds", "Open files of the process, connections among them", usage.open_files),
            ("process_max_fds", "The limit of open files", usage.most_open_files),
        ] {
            if let Some(value) = value {
                gauge(&mut encoder, name, help, &value)?;
            }
        }
        Ok(())
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: &impl EncodeGaugeValue) -> fmt::Result {
    encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(value)
}
