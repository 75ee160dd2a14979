//! Which parts of a model learn.

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{Tensor, backend::Backend},
};

use crate::weights::Part;

/// A part of a vision-language model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelPart {
    /// The patch embedding and blocks of the vision tower.
    VisionTower,
    /// What takes the tower's features to the language model.
    Merger,
    /// The decoder with its embedding table and output head.
    LanguageModel,
}

impl ModelPart {
    /// All parts.
    pub const ALL: [Self; 3] = [Self::VisionTower, Self::Merger, Self::LanguageModel];
}

/// The parts of a vision-language model that learn or are frozen, each by itself.
///
/// Adapters are no part of them: they always learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trainable {
    /// [`ModelPart::VisionTower`].
    pub vision_tower: bool,
    /// [`ModelPart::Merger`].
    pub merger: bool,
    /// [`ModelPart::LanguageModel`].
    pub language_model: bool,
}

impl Trainable {
    /// The whole model.
    pub const ALL: Self = Self { vision_tower: true, merger: true, language_model: true };
    /// Nothing but adapters.
    pub const NONE: Self = Self { vision_tower: false, merger: false, language_model: false };
}

/// `module` with the parameters of its checkpoint learning or frozen; those of an adapter stay as they are.
///
/// A frozen parameter gets no gradient, and none is computed for it.
pub(crate) fn base_learns<B: Backend, M: Module<B>>(module: M, learns: bool) -> M {
    module.map(&mut BaseLearns { learns, containers: Vec::new() })
}

/// Whether any parameter of `module` learns, an adapter's included.
pub(crate) fn any_learns<B: Backend, M: Module<B>>(module: &M) -> bool {
    let mut any = AnyLearns(false);
    module.visit(&mut any);
    any.0
}

struct AnyLearns(bool);

impl<B: Backend> ModuleVisitor<B> for AnyLearns {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.0 |= param.is_require_grad();
    }
}

struct BaseLearns {
    learns: bool,
    containers: Vec<String>,
}

impl<B: Backend> ModuleMapper<B> for BaseLearns {
    fn enter_module(&mut self, _name: &str, container_type: &str) {
        self.containers.push(container_type.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.containers.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        match self.containers.last().map_or(Part::Base, |container| Part::of(container)) {
            Part::Base => param.set_require_grad(self.learns),
            Part::Adapter => param,
        }
    }
}
