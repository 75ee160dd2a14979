//! Adapters that PEFT wrote, against torch's numbers: made by `tests/fixtures/lora.py`.

use super::{Adaptable, fixture::*, load_adapter};

/// Allowed distance of log-probabilities, and of gradients relative in L2 norm.
const NEAR: f64 = 1e-5;
/// The reference is torch in f64; torch in f32 is 1.4e-5 away from it in the tower's gradients, with fused attention 2.3e-5.
const GRADIENTS_NEAR: f64 = 2.5e-5;

#[test]
fn adapters_of_peft_give_torchs_log_probs_and_gradients() {
    for name in ADAPTERS {
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
        assert!(worst < NEAR && furthest_gradient.0 < GRADIENTS_NEAR, "{name}");

        // The adapter is no trifle.
        let plain = super::fixture::answers(&model.with_adapter(false));
        let moved = furthest(&plain[0], answers[0].iter().map(|value| f64::from(*value)));
        assert!(moved > 0.1, "{name} moves log-probabilities by {moved} only");
    }
}
