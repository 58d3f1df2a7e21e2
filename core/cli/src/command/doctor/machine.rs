//! Processors, device and memory.

use sipf_core::machine;
use sipf_core::model::kernels::matmul::instruction_set;

use super::Check;

/// Less free memory than this and even the bundled models may not fit, in bytes.
const LEAST_MEMORY: u64 = 512 << 20;

pub(super) fn checks() -> Vec<Check> {
    vec![threads(), device(), memory()]
}

fn threads() -> Check {
    let found = machine::use_threads(None).map(|threads| {
        format!(
            "{threads} for models, {} for programs; {} {}, kernels for {}",
            sipf_sandbox::slots(),
            std::env::consts::OS,
            std::env::consts::ARCH,
            instruction_set()
        )
    });
    Check::of("threads", found)
}

fn device() -> Check {
    Check::of("device", machine::device("auto").map(|(_, why)| why))
}

fn memory() -> Check {
    let Some((free, total)) = free_memory() else {
        return Check::good("memory", "this system does not say how much is free");
    };
    let message = format!("{} MiB of {} MiB free", free >> 20, total >> 20);
    match free < LEAST_MEMORY {
        true => Check::broken("memory", format!("{message}; runs need {} MiB", LEAST_MEMORY >> 20)),
        false => Check::good("memory", message),
    }
}

/// Free and total memory in bytes; a container's limit counts where there is one.
fn free_memory() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? << 10)
    };
    let (free, total) = (field("MemAvailable")?, field("MemTotal")?);
    let number = |file: &str| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    match (number("/sys/fs/cgroup/memory.max"), number("/sys/fs/cgroup/memory.current")) {
        (Some(limit), Some(used)) if limit < total => Some((free.min(limit.saturating_sub(used)), limit)),
        _ => Some((free, total)),
    }
}
