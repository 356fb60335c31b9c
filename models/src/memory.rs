//! Memory of this process and of the machine.

use std::fs::read_to_string;

/// Returns the peak memory of the process so far, in MiB, or `None` if the system does not report it.
pub fn peak_mib() -> Option<f64> {
    Some(own("VmHWM:")? as f64 / f64::from(1 << 20))
}

/// Returns the number of bytes that this process may still allocate, or `None` if the system does not report it. It
/// is the minimum of the free memory of the machine, of its control group and of its address space.
pub fn available() -> Option<u64> {
    let machine = || field(&read_to_string("/proc/meminfo").ok()?, "MemAvailable:");
    [machine(), control_group(), address_space()].into_iter().flatten().min()
}

/// Returns the value of a line of `/proc/self/status`, in bytes.
fn own(name: &str) -> Option<u64> {
    field(&read_to_string("/proc/self/status").ok()?, name)
}

/// Returns the value of a line `NAME   123 kB`, in bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()?.saturating_mul(1024))
}

/// Returns the limit of `ulimit -v` minus the memory in use.
fn address_space() -> Option<u64> {
    let limits = read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    let limit: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(limit.saturating_sub(own("VmSize:")?))
}

/// Returns the limit of the control group, version 2 or 1, minus the used memory that cannot be reclaimed.
fn control_group() -> Option<u64> {
    let number = |path: String| read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let groups = read_to_string("/proc/self/cgroup").ok()?;
    let left = |folder: &str, limit: &str, usage: &str| {
        let cache = read_to_string(format!("{folder}/memory.stat")).unwrap_or_default();
        let cache = cache.lines().find_map(|line| line.strip_prefix("inactive_file ")?.parse::<u64>().ok());
        let taken = number(format!("{folder}/{usage}"))?.saturating_sub(cache.unwrap_or(0));
        Some(number(format!("{folder}/{limit}"))?.saturating_sub(taken))
    };
    let mut least = left("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes");
    let path = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    // The limits of all enclosing groups apply too.
    let mut folder = format!("/sys/fs/cgroup{path}");
    while folder.len() >= "/sys/fs/cgroup".len() {
        let here = left(folder.trim_end_matches('/'), "memory.max", "memory.current");
        least = [least, here].into_iter().flatten().min();
        let Some(at) = folder.trim_end_matches('/').rfind('/') else { break };
        folder.truncate(at);
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_in_bytes() {
        let text = "MemTotal:       100 kB\nMemAvailable:     25 kB\n";
        assert_eq!(field(text, "MemAvailable:"), Some(25 << 10));
        assert_eq!(field(text, "SwapFree:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_system_tells() {
        let free = available().unwrap();
        assert!(free > 1 << 20 && free < 1 << 50, "{free}");
    }
}
