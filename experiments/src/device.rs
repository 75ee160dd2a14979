//! Where to compute: the only place that names a backend.
//!
//! A [`Job`] is generic over the backend and is instantiated once for each compiled one; everything that is not
//! arithmetic stays outside of jobs.

use std::{fmt, num::NonZeroUsize, str::FromStr};

use anyhow::Result;
use burn::tensor::backend::AutodiffBackend;
use medgrpo_model::memory::Habits;
use medgrpo_trainers::workers::Workers;

use crate::cli::DeviceArgs;

/// A device as the user names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The processor, through burn-flex.
    Cpu,
    /// Any GPU with Vulkan, Metal or DirectX, through wgpu.
    Wgpu,
    /// An NVIDIA GPU by number.
    Cuda(usize),
    /// The processor, through PyTorch's libtorch.
    Tch,
}

impl Device {
    /// Whether several micro-batches can be computed side by side on it.
    pub fn takes_workers(self) -> bool {
        matches!(self, Self::Cpu | Self::Tch)
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "wgpu" => Ok(Self::Wgpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            None if text == "tch" => Ok(Self::Tch),
            Some(("cuda", index)) => index
                .parse()
                .map(Self::Cuda)
                .map_err(|_| format!("`{index}` is no device number; say cuda:0")),
            _ => Err(format!("`{text}` is no device; choose cpu, wgpu, cuda:N or tch")),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Wgpu => f.write_str("wgpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Tch => f.write_str("tch"),
        }
    }
}

/// Something to compute on whichever backend.
pub trait Job {
    /// What it gives.
    type Output;

    /// Computes on `device`. `B::InnerBackend` is the same device without autodiff.
    fn run<B: AutodiffBackend>(self, device: &B::Device) -> Result<Self::Output>;
}

/// Limits the worker threads of this process, data and CPU backend alike; 0 takes all cores. To be called once, first.
pub fn use_threads(threads: usize) -> Result<()> {
    Ok(rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?)
}

/// What a device does in its own way with memory, whether this binary can compute on it or not.
pub fn habits(device: Device) -> Habits {
    match device {
        #[cfg(feature = "cpu")]
        Device::Cpu => Habits::of::<burn_flex::Flex>(),
        _ => Habits { own_operations: false, aligns_by_copying: false },
    }
}

/// Most workers that are taken unasked: each holds the activations of a micro-batch.
const DEFAULT_MAX_WORKERS: usize = 4;

/// How many workers there are with `args`, on the threads that [`use_threads`] left.
///
/// # Errors
/// If several are asked for on a GPU, which runs micro-batches one after the other.
pub fn num_workers(args: &DeviceArgs) -> Result<usize> {
    let threads = rayon::current_num_threads();
    Ok(match (args.device, args.workers.map(NonZeroUsize::get)) {
        (device, None) if device.takes_workers() => threads.min(DEFAULT_MAX_WORKERS),
        (device, Some(count)) if device.takes_workers() => count,
        (_, None | Some(1)) => 1,
        (device, Some(count)) => {
            anyhow::bail!(
                "--workers {count}: {device} runs micro-batches one after the other; leave the option out"
            )
        }
    })
}

/// The workers of `args`.
///
/// # Errors
/// As [`num_workers`].
pub fn workers(args: &DeviceArgs) -> Result<Workers> {
    let (count, threads) = (num_workers(args)?, rayon::current_num_threads());
    #[cfg(feature = "tch")]
    if args.device == Device::Tch {
        return workers_of_libtorch(count, threads);
    }
    Ok(Workers::new(count, threads)?)
}

/// Workers whose operations take an equal share of the threads each, in the calling thread too: what a sum rounds to
/// depends on how many threads libtorch cuts it for.
#[cfg(feature = "tch")]
fn workers_of_libtorch(count: usize, threads: usize) -> Result<Workers> {
    let share = (threads / count).max(1) as i32;
    tch::set_num_threads(share);
    // For tasks between operations, of which there are none today; libtorch refuses a second setting.
    if tch::get_num_interop_threads() != share {
        tch::set_num_interop_threads(share);
    }
    // MKL and OpenMP keep the number by thread.
    Ok(Workers::with_start(count, threads, move || tch::set_num_threads(share))?)
}

/// Runs `job` on `device`.
///
/// # Errors
/// If this binary was built without that backend, the machine lacks what it needs, or the job fails.
pub fn run_on<J: Job>(device: Device, job: J) -> Result<J::Output> {
    match device {
        Device::Cpu => run_on_cpu(job),
        #[cfg(feature = "wgpu")]
        Device::Wgpu => {
            use burn::backend::wgpu::{Wgpu, WgpuDevice};
            let device = WgpuDevice::default();
            probe::<Wgpu>(
                &device,
                "no usable GPU was found; on Debian, `apt-get install libvulkan1 mesa-vulkan-drivers` gives a software one",
            )?;
            job.run::<burn::backend::Autodiff<Wgpu>>(&device)
        }
        #[cfg(feature = "cuda")]
        Device::Cuda(index) => {
            use burn::backend::cuda::{Cuda, CudaDevice};
            let device = CudaDevice::new(index);
            probe::<Cuda>(
                &device,
                "CUDA needs the NVIDIA driver (libcuda) and the CUDA toolkit's libnvrtc and headers (CUDA_PATH)",
            )?;
            job.run::<burn::backend::Autodiff<Cuda>>(&device)
        }
        #[cfg(feature = "tch")]
        Device::Tch => {
            use burn_tch::{LibTorch, LibTorchDevice};
            let device = LibTorchDevice::Cpu;
            probe::<LibTorch>(
                &device,
                "this binary computes with the PyTorch it was built with; build it again where that has changed",
            )?;
            job.run::<burn::backend::Autodiff<LibTorch>>(&device)
        }
        #[cfg(not(all(feature = "wgpu", feature = "cuda", feature = "tch")))]
        other => not_built(other),
    }
}

/// Runs `job` on the processor; it is compiled for no other device.
///
/// # Errors
/// If this binary was built without that backend, or the job fails.
pub fn run_on_cpu<J: Job>(job: J) -> Result<J::Output> {
    #[cfg(feature = "cpu")]
    return job.run::<burn::backend::Autodiff<burn_flex::Flex>>(&burn_flex::FlexDevice);
    #[cfg(not(feature = "cpu"))]
    {
        let _ = job;
        not_built(Device::Cpu)
    }
}

#[cfg(not(all(feature = "cpu", feature = "wgpu", feature = "cuda", feature = "tch")))]
fn not_built<T>(device: Device) -> Result<T> {
    let feature = device.to_string();
    let feature = feature.split(':').next().unwrap_or_default();
    anyhow::bail!("this medgrpo was built without {feature}; build it with `--features {feature}`")
}

/// One small computation, so that a missing driver is a message and not a panic in the middle of a run.
#[cfg(any(feature = "wgpu", feature = "cuda", feature = "tch"))]
fn probe<B: burn::tensor::backend::Backend>(device: &B::Device, advice: &str) -> Result<()> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    // Nothing is used after a panic but its message.
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        burn::tensor::Tensor::<B, 1>::ones([2], device).sum().into_scalar();
    }));
    std::panic::set_hook(hook);
    outcome.map_err(|panic| {
        let reason = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("unknown reason");
        anyhow::anyhow!("the device cannot be used: {}\n{advice}", reason.lines().next().unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::Device;

    #[test]
    fn devices_read_back_as_written() {
        for text in ["cpu", "wgpu", "cuda:0", "cuda:3", "tch"] {
            assert_eq!(text.parse::<Device>().map(|device| device.to_string()), Ok(text.to_owned()));
        }
        for text in ["gpu", "cuda:", "cuda:x", "cpu:0", ""] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }
}
