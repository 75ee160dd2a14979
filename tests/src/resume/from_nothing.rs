//! A model made from nothing is stored as a published one: other programs load it.

use super::Unbroken;
use crate::fixture::{Fixture, Tensors};

#[test]
fn tensors_have_the_names_and_axes_of_a_checkpoint_that_transformers_wrote() {
    let unbroken = Unbroken::shared();
    let run = unbroken.scene.run("unbroken");
    let published = Tensors::read_checkpoint(&Fixture::open("flat_tied").dir);
    for folder in ["model-init", "model"] {
        let ours = Tensors::read_checkpoint(&run.path().join(folder));
        assert!(ours.0.len() > 20, "{folder}");
        for (name, tensor) in &ours.0 {
            let axes = published.shape(name).len();
            assert_eq!(tensor.shape.len(), axes, "{folder}: axes of {name}");
        }
        let convolution = ours.shape("visual.patch_embed.proj.weight");
        assert_eq!(convolution, [16, 3, 2, 14, 14], "{folder}");
    }
}
