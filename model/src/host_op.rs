//! Operations with an implementation of their own for arrays in the processor's memory, and a gradient of their own
//! (docs/decisions/008).
//!
//! Callers stay generic: where the tensors are no such arrays [`apply`] says so, and they compose tensor operations.

use std::fmt::Debug;

use burn::tensor::{TensorPrimitive, backend::Backend};

/// Numbers that a thread works on at a time where each is worked on by itself.
pub(crate) const PIECE: usize = 1 << 13;

/// What becomes of `N` arrays of f32.
pub(crate) trait HostOp<const N: usize>: Clone + Debug + Send + 'static {
    /// What the backward pass wants to know besides inputs and output.
    type Kept: Clone + Debug + Send + 'static;

    /// Shape of the output.
    fn output_shape(&self) -> Vec<usize>;

    /// The output, and what to keep of it.
    fn forward(&self, inputs: [&[f32]; N]) -> (Vec<f32>, Self::Kept);

    /// The gradient of every input, if `grad` is that of `output`.
    fn gradients(
        &self,
        inputs: [&[f32]; N],
        output: &[f32],
        kept: &Self::Kept,
        grad: &[f32],
    ) -> [Vec<f32>; N];
}

/// `op` of `inputs`; `None` where they are no arrays of f32 in the processor's memory.
#[cfg(any(feature = "flex", test))]
pub(crate) fn apply<B: Backend, O: HostOp<N>, const N: usize>(
    op: &O,
    inputs: [TensorPrimitive<B>; N],
) -> Option<TensorPrimitive<B>> {
    on_flex::apply(op, inputs)
}

/// `None`, as no backend is compiled whose arrays are in the processor's memory.
#[cfg(not(any(feature = "flex", test)))]
pub(crate) fn apply<B: Backend, O: HostOp<N>, const N: usize>(
    _: &O,
    _: [TensorPrimitive<B>; N],
) -> Option<TensorPrimitive<B>> {
    None
}

/// Whether [`apply`] computes for tensors of `B`.
#[cfg(any(feature = "flex", test))]
pub(crate) fn serves<B: Backend>() -> bool {
    on_flex::serves::<B>()
}

/// Not, as no backend is compiled whose arrays are in the processor's memory.
#[cfg(not(any(feature = "flex", test)))]
pub(crate) fn serves<B: Backend>() -> bool {
    false
}

/// The one place of this crate that knows a backend.
#[cfg(any(feature = "flex", test))]
mod on_flex {
    use std::any::{Any, TypeId};

    use burn::{
        backend::{
            Autodiff,
            autodiff::{
                checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
                grads::Gradients,
                ops::{Backward, Ops, OpsKind},
            },
        },
        tensor::{DType, TensorData, TensorMetadata, ops::FloatTensor},
    };
    use burn_flex::{Flex, FlexTensor};

    use super::{Backend, HostOp, TensorPrimitive};

    /// An array that may be part of a graph.
    type Learning = FloatTensor<Autodiff<Flex>>;

    pub(super) fn serves<B: Backend>() -> bool {
        let backend = TypeId::of::<B>();
        backend == TypeId::of::<Flex>() || backend == TypeId::of::<Autodiff<Flex>>()
    }

    pub(super) fn apply<B: Backend, O: HostOp<N>, const N: usize>(
        op: &O,
        inputs: [TensorPrimitive<B>; N],
    ) -> Option<TensorPrimitive<B>> {
        if inputs.iter().any(|input| input.dtype() != DType::F32) {
            return None;
        }
        let inputs = match cast::<_, [TensorPrimitive<Flex>; N]>(inputs) {
            Ok(inputs) => {
                let inputs = inputs.map(|input| in_order(input.tensor()));
                let (output, _) = forward(op, &inputs);
                return cast(TensorPrimitive::<Flex>::Float(output)).ok();
            }
            Err(inputs) => inputs,
        };
        let inputs = cast::<_, [TensorPrimitive<Autodiff<Flex>>; N]>(inputs).ok()?;
        let output = learn(op, inputs.map(TensorPrimitive::tensor));
        cast(TensorPrimitive::<Autodiff<Flex>>::Float(output)).ok()
    }

    /// The value under the other name of its type; itself if that is another type.
    fn cast<T: 'static, U: 'static>(value: T) -> Result<U, T> {
        let mut slot = Some(value);
        let other = (&mut slot as &mut dyn Any).downcast_mut::<Option<U>>().and_then(Option::take);
        other.ok_or_else(|| slot.expect("only taken where the types are one"))
    }

    fn forward<O: HostOp<N>, const N: usize>(op: &O, inputs: &[FlexTensor; N]) -> (FlexTensor, O::Kept) {
        let (output, kept) = op.forward(inputs.each_ref().map(numbers));
        (tensor(output, op.output_shape()), kept)
    }

    /// The tensor in an order that [`numbers`] can read.
    fn in_order(tensor: FlexTensor) -> FlexTensor {
        if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
    }

    fn numbers(tensor: &FlexTensor) -> &[f32] {
        tensor.as_slice().expect("contiguous f32")
    }

    fn tensor(values: Vec<f32>, shape: Vec<usize>) -> FlexTensor {
        FlexTensor::from_data(TensorData::new(values, shape))
    }

    /// `op` as a node of the graph that `inputs` are part of.
    fn learn<O: HostOp<N>, const N: usize>(op: &O, inputs: [Learning; N]) -> Learning {
        let nodes = inputs.each_ref().map(|input| input.node.clone());
        let inputs = inputs.map(|input| in_order(input.primitive));
        let (output, kept) = forward(op, &inputs);
        match Gradient(op.clone()).prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((inputs, output.clone(), kept), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    #[derive(Debug)]
    struct Gradient<O>(O);

    impl<O: HostOp<N>, const N: usize> Backward<Flex, N> for Gradient<O> {
        type State = ([FlexTensor; N], FlexTensor, O::Kept);

        fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
            let (inputs, output, kept) = ops.state;
            let asked = in_order(gradients.consume::<Flex>(&ops.node));
            let values = inputs.each_ref().map(numbers);
            let found = self.0.gradients(values, numbers(&output), &kept, numbers(&asked));
            for ((parent, input), found) in ops.parents.into_iter().zip(&inputs).zip(found) {
                if let Some(parent) = parent {
                    gradients.register::<Flex>(parent.id, tensor(found, input.shape().to_vec()));
                }
            }
        }
    }
}

/// Compares an operation, and its gradients, with the composed one on random inputs of `shapes`.
#[cfg(test)]
pub(crate) fn check<const N: usize>(
    what: &str,
    shapes: [[usize; 2]; N],
    in_one: impl Fn([tests::Input; N]) -> tests::Input + Sync,
    composed: impl Fn([tests::Input; N]) -> tests::Input,
) {
    let numbers = tests::numbers(shapes, &in_one);
    let expected = tests::numbers(shapes, composed);
    for (place, (found, expected)) in numbers.iter().zip(&expected).enumerate() {
        let largest = expected.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
        let difference = found.iter().zip(expected).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(
            difference <= 2e-6 * largest.max(1.0),
            "{what}: {place} (0 is the output) differs by {difference} of {largest}"
        );
    }
    let again = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| tests::numbers(shapes, &in_one))
    };
    assert!(again(1) == again(3), "{what}: threads change a bit");
}

#[cfg(test)]
pub(crate) mod tests {
    use burn::{
        backend::Autodiff,
        tensor::{DType, Tensor, TensorData, backend::Backend},
    };
    use burn_flex::{Flex, FlexDevice};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::{HostOp, apply};

    pub(crate) type Input = Tensor<Autodiff<Flex>, 2>;

    /// Output and gradients of all inputs.
    pub(super) fn numbers<const N: usize>(
        shapes: [[usize; 2]; N],
        work: impl Fn([Input; N]) -> Input,
    ) -> Vec<Vec<f32>> {
        let mut generator = ChaCha8Rng::seed_from_u64(17);
        let mut random = |[rows, columns]: [usize; 2]| {
            let values: Vec<f32> = (0..rows * columns).map(|_| generator.random_range(-2.0..2.0)).collect();
            Input::from_data(TensorData::new(values, [rows, columns]), &FlexDevice)
        };
        let leaves = shapes.map(|shape| random(shape).require_grad());
        let found = work(leaves.clone());
        let asked = random(found.dims());
        let mut gradients = (found.clone() * asked).sum().backward();
        let gradients = leaves.map(|leaf| leaf.grad_remove(&mut gradients).expect("it is used").into_data());
        let all = std::iter::once(found.into_data()).chain(gradients);
        all.map(|data| data.to_vec().expect("f32")).collect()
    }

    /// Twice what there is.
    #[derive(Clone, Debug)]
    struct Twice;

    impl HostOp<1> for Twice {
        type Kept = ();

        fn output_shape(&self) -> Vec<usize> {
            vec![2, 3]
        }

        fn forward(&self, [x]: [&[f32]; 1]) -> (Vec<f32>, ()) {
            (x.iter().map(|x| 2.0 * x).collect(), ())
        }

        fn gradients(&self, _: [&[f32]; 1], _: &[f32], (): &(), grad: &[f32]) -> [Vec<f32>; 1] {
            [grad.iter().map(|x| 2.0 * x).collect()]
        }
    }

    fn twice<B: Backend>(x: Tensor<B, 2>) -> Option<Tensor<B, 2>> {
        apply(&Twice, [x.into_primitive()]).map(Tensor::from_primitive)
    }

    #[test]
    fn parts_and_transposed_views_are_read_in_their_order() {
        let x = Tensor::<Flex, 2>::from_floats([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]], &FlexDevice);
        let part = x.clone().narrow(0, 1, 3);
        let values = |x: Option<Tensor<Flex, 2>>| x.unwrap().into_data().to_vec::<f32>().unwrap();
        assert_eq!(values(twice(part.transpose())), [6.0, 10.0, 14.0, 8.0, 12.0, 16.0]);
        assert_eq!(values(twice(x.narrow(0, 1, 3).reshape([2, 3]))), [6.0, 8.0, 10.0, 12.0, 14.0, 16.0]);
    }

    #[test]
    fn other_precisions_are_left_to_tensor_operations() {
        let x = Tensor::<Flex, 2>::ones([2, 3], &FlexDevice);
        assert!(twice(x.clone()).is_some() && twice(x.cast(DType::F64)).is_none());
    }
}
