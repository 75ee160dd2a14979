//! How much memory this process holds, where the system tells it.

/// Now, in bytes.
pub(crate) fn resident_bytes() -> Option<u64> {
    of_status("VmRSS:")
}

/// At most so far, in bytes.
pub(crate) fn peak_resident_bytes() -> Option<u64> {
    of_status("VmHWM:")
}

fn of_status(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(key))?;
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
        }
    }
}
