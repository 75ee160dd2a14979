//! Adapters that PEFT wrote, against torch's numbers in f64: made by `tests/fixtures/lora.py`.

use super::{Adaptable, fixture::*, load_adapter};
use crate::{precision::Precision, vlm::Vlm as _};

/// What an adapter's numbers may be away from torch's in f64. `tests/fixtures/lora_precision.py` prints what torch itself
/// is: the tower of the adapter `everywhere` makes more of every rounding.
struct Bounds {
    name: &'static str,
    /// Of each log-probability; torch in f32 6.7e-6 and 8.6e-6.
    log_prob: f64,
    /// Of each matrix' gradient, relative in L2 norm; torch in f32 3.2e-6 and 2.0e-5.
    gradient: f64,
    /// Of all log-probabilities and of all gradients in bfloat16, relative; torch under autocast 9.5e-3 with 3.8e-2 and
    /// 1.0e-1.
    bf16: [f64; 2],
}

const BOUNDS: [Bounds; 2] = [
    Bounds { name: "language", log_prob: 1e-5, gradient: 1e-5, bf16: [1.2e-2, 5e-2] },
    Bounds { name: "everywhere", log_prob: 2e-5, gradient: 2.5e-5, bf16: [1.2e-2, 1.3e-1] },
];

#[test]
fn adapters_of_peft_give_torchs_log_probs_and_gradients() {
    for Bounds { name, log_prob, gradient, .. } in BOUNDS {
        let reference = Tensors::of_adapter(name);
        let mut model = load_adapter(base::<Learning>().0, &adapter_dir(name)).unwrap();
        let answers = answers(&model);
        let mut worst = 0.0_f64;
        for (index, ours) in RECORDS.iter().zip(&answers) {
            let theirs = reference.get(&format!("{index}.answer_logprobs"));
            worst = worst.max(furthest(ours, theirs.iter().copied()));
        }
        let ours = gradients(&model, loss);
        let adapted = model.projections().iter().filter(|(_, projection)| projection.lora.is_some()).count();
        assert_eq!(ours.len(), 2 * adapted, "{name}: gradients of the adapter and of nothing else");
        let mut furthest_gradient = (0.0, String::new());
        for (matrix, gradient) in &ours {
            let away = relative_l2(gradient, reference.get(&format!("grad.{matrix}")).iter().copied());
            if away > furthest_gradient.0 {
                furthest_gradient = (away, matrix.clone());
            }
        }
        println!("{name}: log-probabilities within {worst:.1e}, gradients within {furthest_gradient:?}");
        let num_references = reference.0.keys().filter(|key| key.starts_with("grad.base_model.")).count();
        assert_eq!(ours.len(), num_references);
        assert!(worst < log_prob && furthest_gradient.0 < gradient, "{name}");

        // The adapter is no trifle.
        let plain = super::fixture::answers(&model.with_adapter(false));
        let moved = furthest(&plain[0], answers[0].iter().map(|value| f64::from(*value)));
        assert!(moved > 0.1, "{name} moves log-probabilities by {moved} only");
    }
}

#[test]
fn bfloat16_rounds_no_more_than_torchs_autocast() {
    for Bounds { name, bf16, .. } in BOUNDS {
        let reference = Tensors::of_adapter(name);
        let theirs = |name: &str| reference.get(name).iter().copied();
        let model = load_adapter(base::<Learning>().0, &adapter_dir(name)).unwrap();
        let model = model.with_precision(Precision::Bf16);
        let log_probs = answers(&model).concat();
        let exact = RECORDS.iter().flat_map(|index| theirs(&format!("{index}.answer_logprobs")));
        let of_log_probs = relative_l2(&log_probs, exact);
        let ours = gradients(&model, loss);
        let exact = ours.keys().flat_map(|matrix| theirs(&format!("grad.{matrix}")));
        let of_gradients = relative_l2(&ours.values().flatten().copied().collect::<Vec<_>>(), exact);
        println!("{name}: log-probabilities {of_log_probs:.1e} away, gradients {of_gradients:.1e}");
        // No less than bfloat16 can be: it does compute with that.
        assert!((1e-3..bf16[0]).contains(&of_log_probs), "{name}: log-probabilities");
        assert!((1e-3..bf16[1]).contains(&of_gradients), "{name}: gradients");
    }
}
