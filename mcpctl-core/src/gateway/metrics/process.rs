use std::fmt;

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

/// What the system says of this process; nothing where it says nothing.
#[derive(Debug, Default)]
pub(super) struct Process(#[cfg(target_os = "linux")] Option<linux::Numbers>);

impl Process {
    pub(super) fn read() -> Self {
        Self(
            #[cfg(target_os = "linux")]
            linux::Numbers::read().ok(),
        )
    }
}

impl Collector for Process {
    #[cfg(target_os = "linux")]
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |numbers| numbers.encode(&mut encoder))
    }

    #[cfg(not(target_os = "linux"))]
    fn encode(&self, _: DescriptorEncoder<'_>) -> fmt::Result {
        Ok(())
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use prometheus_client::{encoding::NoLabelSet, metrics::MetricType, registry::Unit};

    use super::{
        super::write::{Family, gauge},
        DescriptorEncoder, fmt,
    };

    #[derive(Debug)]
    pub(super) struct Numbers {
        memory_bytes: u64,
        cpu_seconds: f64,
        open_fds: u64,
        /// Since 1970.
        start_seconds: f64,
    }

    impl Numbers {
        pub(super) fn read() -> procfs::ProcResult<Self> {
            let myself = procfs::process::Process::myself()?;
            let stat = myself.stat()?;
            let ticks = procfs::ticks_per_second() as f64;
            Ok(Self {
                memory_bytes: stat.rss.saturating_mul(procfs::page_size()),
                cpu_seconds: (stat.utime + stat.stime) as f64 / ticks,
                open_fds: myself.fd_count()? as u64,
                start_seconds: procfs::boot_time_secs()? as f64 + stat.starttime as f64 / ticks,
            })
        }

        pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
            let family = Family::bytes("process_resident_memory", "Memory that is resident");
            gauge(encoder, family, &self.memory_bytes)?;
            let help = "Processor time of user and system together";
            encoder
                .encode_descriptor("process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?
                .encode_counter::<NoLabelSet, _, u64>(&self.cpu_seconds, None)?;
            gauge(
                encoder,
                Family::new("process_open_fds", "File descriptors that are open"),
                &self.open_fds,
            )?;
            let help = "When the process started, in seconds since 1970";
            gauge(encoder, Family::seconds("process_start_time", help), &self.start_seconds)
        }
    }
}
