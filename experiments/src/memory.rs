//! How much memory this process holds, where the system tells it.

/// Now, in bytes.
pub(crate) fn resident_bytes() -> Option<u64> {
    of_status("VmRSS:")
}

/// At most so far, in bytes.
pub(crate) fn peak_resident_bytes() -> Option<u64> {
    of_status("VmHWM:")
}

/// What this process may hold at most: the machine's memory, or the limit of its group of processes.
pub(crate) fn machine_bytes() -> Option<u64> {
    let table = std::fs::read_to_string("/proc/meminfo").ok()?;
    let machine = in_kib(&table, "MemTotal:")?;
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = limit.and_then(|limit| limit.trim().parse::<u64>().ok());
    Some(limit.map_or(machine, |limit| limit.min(machine)))
}

fn of_status(key: &str) -> Option<u64> {
    in_kib(&std::fs::read_to_string("/proc/self/status").ok()?, key)
}

/// The number of a line `key NUMBER kB`, in bytes.
fn in_kib(table: &str, key: &str) -> Option<u64> {
    let line = table.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_no_less_than_what_is_held() {
        assert_eq!(resident_bytes().is_some(), cfg!(target_os = "linux"));
        if let Some(now) = resident_bytes() {
            assert!(now > 1 << 20 && Some(now) <= peak_resident_bytes(), "{now}");
            assert!(machine_bytes() >= Some(now));
        }
    }
}
