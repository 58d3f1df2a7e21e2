//! How much of the machine is used: threads and device.

use candle_core::{DType, Device};

use crate::{Error, Result};

/// Sets the number of threads for the whole process; `None` leaves it to `RAYON_NUM_THREADS` or the processors there
/// are. Returns the number in use. Results do not depend on it.
///
/// # Errors
/// When the number is 0, or another number is in use already.
pub fn use_threads(threads: Option<usize>) -> Result<usize> {
    if let Some(threads) = threads {
        if threads == 0 {
            return Err(Error::unusable("the number of threads is 0; it must be 1 or more"));
        }
        let built = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        if built.is_err() && rayon::current_num_threads() != threads {
            return Err(Error::unusable(format!(
                "{} threads are in use already, {threads} cannot be set any more",
                rayon::current_num_threads()
            )));
        }
    }
    Ok(rayon::current_num_threads())
}

/// Runs `work` on a thread of the pool. From outside of it, every parallel operation wakes a thread and waits for it;
/// from inside it only splits the work.
pub fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}

/// The device that `auto`, `cpu`, `cuda`, `cuda:N` or `metal` names, and why it was taken.
///
/// # Errors
/// When the name is unknown, this build lacks the device, or the machine does.
pub fn device(name: &str) -> Result<(Device, String)> {
    let number = |text: &str| {
        text.parse::<usize>()
            .map_err(|_| Error::unusable(format!("device {name:?}: {text:?} is not a number")))
    };
    match name {
        "cpu" => Ok((Device::Cpu, "the CPU, as asked".into())),
        "auto" if candle_core::utils::cuda_is_available() => match Device::new_cuda(0) {
            Ok(device) => Ok((device, "the first CUDA device: one is there".into())),
            Err(error) => Ok((Device::Cpu, format!("the CPU: the CUDA device does not start ({error})"))),
        },
        "auto" if candle_core::utils::metal_is_available() => match Device::new_metal(0) {
            Ok(device) => Ok((device, "Metal: it is there".into())),
            Err(error) => Ok((Device::Cpu, format!("the CPU: Metal does not start ({error})"))),
        },
        "auto" => Ok((Device::Cpu, "the CPU: this program was built without a GPU feature".into())),
        "metal" => {
            Ok((Device::new_metal(0).map_err(|error| missing(name, &error))?, "Metal, as asked".into()))
        }
        _ => {
            let index = match name.strip_prefix("cuda") {
                Some("") => 0,
                Some(rest) if rest.starts_with(':') => number(&rest[1..])?,
                _ => {
                    return Err(Error::unusable(format!(
                        "device {name:?} is none of auto, cpu, cuda, cuda:N, metal"
                    )));
                }
            };
            let device = Device::new_cuda(index).map_err(|error| missing(name, &error))?;
            Ok((device, format!("CUDA device {index}, as asked")))
        }
    }
}

/// The 16-bit type that weights have on a GPU.
pub fn half_precision() -> DType {
    DType::BF16
}

/// The type that weights have on a device: f32 on the CPU, 16 bits elsewhere.
pub fn weights_type(device: &Device) -> DType {
    if device.is_cpu() { DType::F32 } else { half_precision() }
}

/// Memory of this machine in bytes; `None` where the system does not tell.
pub fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// Products and sums a second of this machine's matrix product now, in FLOP/s: measured for a twentieth of a second.
///
/// # Errors
/// What the device says.
pub fn flops_per_second(device: &Device) -> Result<f64> {
    const SIDE: usize = 384;
    let a = candle_core::Tensor::ones((SIDE, SIDE), DType::F32, device)?;
    a.matmul(&a)?;
    let (started, mut count) = (std::time::Instant::now(), 0.0);
    while started.elapsed().as_secs_f64() < 0.05 {
        a.matmul(&a)?.sum_all()?.to_scalar::<f32>()?;
        count += 1.0;
    }
    Ok(count * 2.0 * (SIDE as f64).powi(3) / started.elapsed().as_secs_f64())
}

fn missing(name: &str, error: &candle_core::Error) -> Error {
    Error::unusable(format!(
        "device {name} cannot be used: {error}; build with the feature for it, or give --device cpu"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_or_refused() {
        assert!(device("cpu").expect("there").0.is_cpu());
        for bad in ["gpu", "cuda:x", "cudaa", ""] {
            assert!(device(bad).is_err(), "{bad}");
        }
        assert!(use_threads(Some(0)).is_err());
    }
}
