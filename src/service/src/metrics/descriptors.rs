//! The list of all metrics: names, meanings and labels.

/// What a metric is.
#[derive(Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Its name.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// Labels of its own, after those that all have.
    pub labels: &'static [&'static str],
}

/// How the values of a metric behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// They only grow, but for a new start.
    Counter,
    /// They come and go.
    Gauge,
}

macro_rules! descriptors {
    ($($variable:ident $name:literal $kind:ident [$($label:literal),*] $help:literal;)+) => {
        $(
            pub(super) static $variable: Descriptor = Descriptor {
                name: $name,
                help: $help,
                kind: Kind::$kind,
                labels: &[$($label),*],
            };
        )+

        /// All metrics of pods and containers.
        pub static DESCRIPTORS: &[&Descriptor] = &[$(&$variable),+];
    };
}

descriptors! {
    CPU_USAGE "container_cpu_usage_seconds_total" Counter ["cpu"] "CPU time used, in seconds";
    CPU_USER "container_cpu_user_seconds_total" Counter [] "CPU time used in programs, in seconds";
    CPU_SYSTEM "container_cpu_system_seconds_total" Counter [] "CPU time used in the kernel, in seconds";
    CPU_PERIODS "container_cpu_cfs_periods_total" Counter [] "Periods in which the CPU quota counted";
    CPU_THROTTLED_PERIODS "container_cpu_cfs_throttled_periods_total" Counter [] "Periods in which the CPU quota ran out";
    CPU_THROTTLED "container_cpu_cfs_throttled_seconds_total" Counter [] "Time spent without CPU quota, in seconds";

    MEMORY_USAGE "container_memory_usage_bytes" Gauge [] "Memory charged, page cache included";
    MEMORY_WORKING_SET "container_memory_working_set_bytes" Gauge [] "Memory that cannot easily be reclaimed";
    MEMORY_RSS "container_memory_rss" Gauge [] "Anonymous memory, in bytes";
    MEMORY_CACHE "container_memory_cache" Gauge [] "Page cache, in bytes";
    MEMORY_MAPPED "container_memory_mapped_file" Gauge [] "Mapped files, in bytes";
    MEMORY_SWAP "container_memory_swap" Gauge [] "Swap in use, in bytes";
    MEMORY_KERNEL "container_memory_kernel_usage" Gauge [] "Memory of the kernel itself, in bytes";
    MEMORY_PEAK "container_memory_max_usage_bytes" Gauge [] "The most memory that was ever charged";
    MEMORY_LIMIT_HITS "container_memory_failcnt" Counter [] "Times the memory limit stood in the way";
    MEMORY_FAULTS "container_memory_failures_total" Counter ["failure_type", "scope"] "Page faults";
    OOM_EVENTS "container_oom_events_total" Counter [] "Processes that the out-of-memory killer ended";

    HUGE_USAGE "container_hugetlb_usage_bytes" Gauge ["pagesize"] "Huge pages in use";
    HUGE_PEAK "container_hugetlb_max_usage_bytes" Gauge ["pagesize"] "The most huge pages that were ever in use";

    CPU_WAITING "container_pressure_cpu_waiting_seconds_total" Counter [] "Time in which some task waited for a CPU, in seconds";
    CPU_STALLED "container_pressure_cpu_stalled_seconds_total" Counter [] "Time in which all tasks waited for a CPU, in seconds";
    MEMORY_WAITING "container_pressure_memory_waiting_seconds_total" Counter [] "Time in which some task waited for memory, in seconds";
    MEMORY_STALLED "container_pressure_memory_stalled_seconds_total" Counter [] "Time in which all tasks waited for memory, in seconds";
    IO_WAITING "container_pressure_io_waiting_seconds_total" Counter [] "Time in which some task waited for input or output, in seconds";
    IO_STALLED "container_pressure_io_stalled_seconds_total" Counter [] "Time in which all tasks waited for input or output, in seconds";

    BLOCK_IO "container_blkio_device_usage_total" Counter ["device", "major", "minor", "operation"] "Bytes read from and written to a block device";
    READ_BYTES "container_fs_reads_bytes_total" Counter ["device"] "Bytes read from a block device";
    READS "container_fs_reads_total" Counter ["device"] "Reads from a block device";
    WRITTEN_BYTES "container_fs_writes_bytes_total" Counter ["device"] "Bytes written to a block device";
    WRITES "container_fs_writes_total" Counter ["device"] "Writes to a block device";

    LAYER_USAGE "container_fs_usage_bytes" Gauge [] "What the container wrote to its root file system";
    DISK_LIMIT "container_fs_limit_bytes" Gauge [] "Size of the file system that it writes to";
    DISK_INODES "container_fs_inodes_total" Gauge [] "How many files the file system that it writes to can have";
    DISK_FREE_INODES "container_fs_inodes_free" Gauge [] "How many more files the file system that it writes to can have";

    RECEIVED_BYTES "container_network_receive_bytes_total" Counter ["interface"] "Bytes received";
    RECEIVED_PACKETS "container_network_receive_packets_total" Counter ["interface"] "Packets received";
    RECEIVED_DROPPED "container_network_receive_packets_dropped_total" Counter ["interface"] "Packets thrown away while receiving";
    RECEIVED_ERRORS "container_network_receive_errors_total" Counter ["interface"] "Bad packets received";
    SENT_BYTES "container_network_transmit_bytes_total" Counter ["interface"] "Bytes sent";
    SENT_PACKETS "container_network_transmit_packets_total" Counter ["interface"] "Packets sent";
    SENT_DROPPED "container_network_transmit_packets_dropped_total" Counter ["interface"] "Packets thrown away while sending";
    SENT_ERRORS "container_network_transmit_errors_total" Counter ["interface"] "Failures to send a packet";

    PROCESSES "container_processes" Gauge [] "Processes";
    THREADS "container_threads" Gauge [] "Threads";
    THREADS_LIMIT "container_threads_max" Gauge [] "The most threads that there may be; 0: any number";
    DESCRIPTORS_OPEN "container_file_descriptors" Gauge [] "Open file descriptors of all processes";
    SOCKETS "container_sockets" Gauge [] "Open file descriptors of all processes that are sockets";
    SOFT_LIMITS "container_ulimits_soft" Gauge ["ulimit"] "Soft resource limits of the first process, those that are numbers";

    START_TIME "container_start_time_seconds" Gauge [] "When it was started, in seconds since the epoch";
    LAST_SEEN "container_last_seen" Gauge [] "When its values were read, in seconds since the epoch";
    SPEC_CPU_PERIOD "container_spec_cpu_period" Gauge [] "Period of the CPU quota, in microseconds";
    SPEC_CPU_QUOTA "container_spec_cpu_quota" Gauge [] "CPU quota for each period, in microseconds";
    SPEC_CPU_SHARES "container_spec_cpu_shares" Gauge [] "CPU shares";
    SPEC_MEMORY "container_spec_memory_limit_bytes" Gauge [] "Memory limit; 0: none";
    SPEC_MEMORY_RESERVATION "container_spec_memory_reservation_limit_bytes" Gauge [] "Memory that is protected from reclaim; 0: none";
    SPEC_MEMORY_SWAP "container_spec_memory_swap_limit_bytes" Gauge [] "Limit of memory and swap together; 0: none";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn there_are_56_and_each_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = DESCRIPTORS.iter().map(|found| found.name).collect();
        assert_eq!((names.len(), DESCRIPTORS.len()), (56, 56));
        assert!(names.iter().all(|name| name.starts_with("container_")));
    }
}
