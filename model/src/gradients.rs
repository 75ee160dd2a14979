//! The one way to gradients: a forward and a backward pass on a view of a module.
//!
//! burn 0.21 keeps the graphs of all threads of a process in one place, and every backward pass drops steps there that
//! look unused, those of forward passes still under way among them (docs/decisions/006). Leaves that no other pass
//! knows, in one graph from the start, are what keeps a pass whole.

use burn::{
    module::{AutodiffModule, ModuleMapper, Param},
    optim::GradientsParams,
    tensor::{Tensor, backend::AutodiffBackend},
};

/// The gradients of a scalar, `[1]`, that `pass` makes of a view of `module`, by the ids of `module`'s parameters; and
/// what else `pass` gives.
///
/// Several threads may do this at a time, with the same module too.
///
/// # Errors
/// Those of `pass`.
pub fn gradients<B, M, T, E>(
    module: &M,
    pass: impl FnOnce(&M) -> Result<(Tensor<B, 1>, T), E>,
) -> Result<(GradientsParams, T), E>
where
    B: AutodiffBackend,
    M: AutodiffModule<B>,
{
    let mut own = OwnLeaves::<B> { corners: Vec::new() };
    let view = module.clone().map(&mut own);
    if !own.corners.is_empty() {
        // A step with all leaves for parents puts them into one graph.
        Tensor::cat(own.corners, 0);
    }
    let (loss, rest) = pass(&view)?;
    Ok((GradientsParams::from_grads(loss.backward(), &view), rest))
}

/// Replaces parameters that learn by equal leaves.
struct OwnLeaves<B: AutodiffBackend> {
    /// One number of each, `[1]`.
    corners: Vec<Tensor<B, 1>>,
}

impl<B: AutodiffBackend> ModuleMapper<B> for OwnLeaves<B> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        param.map(|tensor| {
            if !tensor.is_require_grad() {
                return tensor;
            }
            let leaf = tensor.detach().require_grad();
            let corner: [_; D] = std::array::from_fn(|_| 0..1);
            self.corners.push(leaf.clone().slice(corner).reshape([1]));
            leaf
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicBool, Ordering},
    };

    use burn::{backend::Autodiff, module::Initializer};
    use burn_flex::{Flex, FlexDevice};

    use super::*;

    type B = Autodiff<Flex>;

    type Weights = Vec<Param<Tensor<B, 1>>>;

    const USES: usize = 20;

    /// Uses all weights one after the other, and each alone, again and again, by nothing but temporary tensors.
    fn loss(weights: &Weights) -> Tensor<B, 1> {
        let alone = |weight: &Param<Tensor<B, 1>>| {
            let product = Tensor::<B, 1>::ones([1], &FlexDevice) * weight.val();
            Tensor::cat(vec![product, Tensor::ones([1], &FlexDevice)], 0).sum()
        };
        let sum = |terms: Vec<Tensor<B, 1>>| terms.into_iter().reduce(|sum, term| sum + term).unwrap();
        sum((0..USES).map(|_| sum(weights.iter().map(alone).collect())).collect())
    }

    /// Backward passes of other threads must not take steps out of this one's graph; without a view they do.
    #[test]
    fn no_step_is_lost_while_other_threads_run_backward() {
        let weights: Weights = (0..8).map(|_| Initializer::Ones.init([1], &FlexDevice)).collect();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let leaf = Tensor::<B, 1>::ones([1], &FlexDevice).require_grad();
                        (leaf.clone() * leaf).backward();
                    }
                });
            }
            let runs: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        for _ in 0..20 {
                            let (found, ()) =
                                gradients(&weights, |view| Ok::<_, Infallible>((loss(view), ()))).unwrap();
                            for weight in &weights {
                                let found = found.get::<Flex, 1>(weight.id).unwrap().into_data();
                                assert_eq!(found.to_vec::<f32>().unwrap(), [USES as f32]);
                            }
                        }
                    })
                })
                .collect();
            let results: Vec<_> = runs.into_iter().map(|run| run.join()).collect();
            stop.store(true, Ordering::Relaxed);
            assert!(results.iter().all(Result::is_ok));
        });
    }
}
