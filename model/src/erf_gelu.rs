
#[cfg(test)]
mod tests {
    use burn::{backend::Autodiff, tensor::Tensor};
    use burn_flex::Flex;

    use super::ErfGelu;

    #[test]
    fn values_and_gradients_are_those_of_the_normal_distribution() {
        let x = Tensor::<Autodiff<Flex>, 2>::from_floats([[-2.0, -0.5, 0.0, 1.0, 3.0]], &Default::default());
        let x = x.require_grad();
        let y = ErfGelu {}.forward(x.clone());
        let gradient = x.grad(&y.clone().sum().backward()).unwrap();
        // Φ(1) = 0.8413447 and so on; the derivative is Φ(x) + x φ(x).
        let values = [-0.0455003, -0.1542688, 0.0, 0.8413447, 2.9959503];
        let derivatives = [-0.0852318, 0.1325049, 0.5, 1.0833155, 1.0119456];
        let near = |ours: Vec<f32>, wanted: [f32; 5]| ours.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(near(y.into_data().into_vec().unwrap(), values));
        assert!(near(gradient.into_data().into_vec().unwrap(), derivatives));
    }
}
