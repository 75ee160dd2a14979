//! Which device the tests of the arithmetic run on: `MEDGRPO_TEST_DEVICE` = `cpu` (default), `wgpu`, `cuda:N`
//! or `tch`.

use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use burn::tensor::backend::AutodiffBackend;
use medgrpo::device::{Device, Job, run_on};
use medgrpo_model::precision::Precision;

/// One job at a time: a software GPU shares the processor, and figures are printed in order.
static TURN: Mutex<()> = Mutex::new(());

/// Runs `job` on the chosen device and panics if it fails. A device that this build or machine lacks is skipped, loudly.
pub(crate) fn on_device<J: Job>(job: J) -> Option<J::Output> {
    let device = chosen();
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(reason) = run_on(device, Nothing) {
        assert_ne!(device, Device::Cpu, "the default device must work: {reason:#}");
        println!("\n*** SKIPPED: nothing was tested on {device}: {reason:#}\n");
        return None;
    }
    match run_on(device, job) {
        Ok(output) => Some(output),
        Err(error) => panic!("on {device}: {error:#}"),
    }
}

/// The device that `MEDGRPO_TEST_DEVICE` names.
pub(crate) fn chosen() -> Device {
    match std::env::var("MEDGRPO_TEST_DEVICE") {
        Ok(name) => name.parse().unwrap_or_else(|error| panic!("MEDGRPO_TEST_DEVICE: {error}")),
        Err(_) => Device::Cpu,
    }
}

/// Whether the chosen device computes in bfloat16.
pub(crate) fn has_bf16() -> bool {
    run_on(chosen(), HasBf16).unwrap_or(false)
}

struct HasBf16;

impl Job for HasBf16 {
    type Output = bool;

    fn run<B: AutodiffBackend>(self, device: &B::Device) -> Result<bool> {
        Ok(Precision::Bf16.is_supported::<B::InnerBackend>(device))
    }
}

struct Nothing;

impl Job for Nothing {
    type Output = ();

    fn run<B: AutodiffBackend>(self, _: &B::Device) -> Result<()> {
        Ok(())
    }
}
