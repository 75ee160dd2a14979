//! Fresh weights from a seed, the same on every backend and for every order of parameters.

use burn::{module::Module, tensor::backend::Backend};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::module_map::{ParamInfo, Part, fill_parameters};

/// Fills `model` with normal weights of standard deviation `std`, norms of gain one and biases of zero.
///
/// Each parameter draws from a stream of its own, named by `seed` and the parameter's name.
pub fn init_random<B: Backend, M: Module<B>>(model: M, seed: u64, std: f32) -> M {
    fill_parameters(model, Part::Base, |info| Some(fresh_values(info, seed, std)))
}

fn fresh_values(info: &ParamInfo, seed: u64, std: f32) -> Vec<f32> {
    let len = info.shape.iter().product();
    if info.shape.len() > 1 {
        let mut rng = named_stream(seed, &info.name);
        return (0..len).map(|_| normal(&mut rng) * std).collect();
    }
    vec![if info.name.ends_with(".bias") { 0.0 } else { 1.0 }; len]
}

/// The random numbers of `seed` and `name`.
pub(super) fn named_stream(seed: u64, name: &str) -> ChaCha8Rng {
    let key = blake3::Hasher::new().update(&seed.to_le_bytes()).update(name.as_bytes()).finalize();
    ChaCha8Rng::from_seed(*key.as_bytes())
}

/// A standard normal number (Box and Muller 1958).
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    (radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()) as f32
}
