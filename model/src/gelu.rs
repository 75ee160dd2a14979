//! GELU whose gradient is exact on every backend.
//!
//! burn 0.21 differentiates its own exact GELU as the tanh approximation with rounded constants wherever a backend
//! brings no derivative of its own, which is so on GPUs: gradients of the vision tower come out 2e-4 away.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};

use crate::precision::while_raised;

/// `x · Φ(x)` (Hendrycks & Gimpel 2016); it has no parameters.
#[derive(Module, Clone, Debug, Default)]
pub struct Gelu;

impl Gelu {
    /// Applies it to every element.
    pub fn forward<B: Backend, const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        while_raised(x, |x| {
            let twice_probability =
                x.clone().mul_scalar(std::f64::consts::FRAC_1_SQRT_2).erf().add_scalar(1.0);
            x.mul_scalar(0.5) * twice_probability
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::{backend::Autodiff, tensor::Tensor};
    use burn_flex::Flex;

    use super::Gelu;

    #[test]
    fn values_and_gradients_are_those_of_the_normal_distribution() {
        let x = Tensor::<Autodiff<Flex>, 1>::from_floats([-2.0, -0.5, 0.0, 1.0, 3.0], &Default::default())
            .require_grad();
        let y = Gelu.forward(x.clone());
        let gradient = x.grad(&y.clone().sum().backward()).unwrap();
        // Φ(1) = 0.8413447 and so on; the derivative is Φ(x) + x φ(x).
        let values = [-0.0455003, -0.1542688, 0.0, 0.8413447, 2.9959503];
        let derivatives = [-0.0852318, 0.1325049, 0.5, 1.0833155, 1.0119456];
        let near =
            |ours: Vec<f32>, wanted: [f32; 5]| ours.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(near(y.into_data().into_vec().unwrap(), values));
        assert!(near(gradient.into_data().into_vec().unwrap(), derivatives));
    }
}
