//! The gradient of every parameter, by the checkpoint's names and in its layout.

use std::collections::BTreeMap;

use anyhow::Result;
use burn::{
    module::{AutodiffModule, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::{Tensor, backend::AutodiffBackend},
};
use medgrpo::device::Job;
use medgrpo_model::{
    checkpoint::Pretrained,
    group_forward::{Group, LogProbOptions, completion_log_probs},
    qwen2_5_vl::Qwen25Vl,
};

use super::forward::{MAX, numbers};
use crate::{
    device::on_device,
    fixture::{self, relative_l2},
};

/// Allowed relative distance in L2 norm.
const RELATIVE: f64 = 1e-4;

#[test]
fn gradients_equal_the_reference() {
    on_device(Gradients);
}

struct Gradients;

impl Job for Gradients {
    type Output = ();

    fn run<B: AutodiffBackend>(self, device: &B::Device) -> Result<()> {
        for fixture in fixture::all() {
            let (model, source) = Qwen25Vl::<B>::from_dir(&fixture.dir, device)?;
            let records = fixture.gradient_records();
            let answers: Vec<Vec<Vec<u32>>> =
                records.iter().map(|index| vec![fixture.records[*index].answer.clone()]).collect();
            let groups: Vec<Group<'_>> = records
                .iter()
                .zip(&answers)
                .map(|(index, completions)| Group { prompt: &fixture.records[*index].prompt, completions })
                .collect();
            let mut value = 0.0;
            let gradients = gradients(&model, |model| {
                let scored = completion_log_probs(model, &groups, LogProbOptions::default(), device)?;
                let count: usize = scored.lens.iter().sum();
                let loss = scored.log_probs.sum().div_scalar(count as f64).neg();
                value = f64::from(numbers(loss.clone())[0]);
                Ok(loss)
            })?;
            let reference = f64::from(fixture.reference.f32s("grad.loss")[0]);
            assert!(
                (value - reference).abs() <= MAX,
                "{}: loss {value}, reference {reference}",
                fixture.name
            );

            let norms = fixture.figures["gradient_l2"].as_object().unwrap();
            assert_eq!(gradients.len(), norms.len(), "{}: number of parameters", fixture.name);
            let (mut worst, mut worst_norm, mut whole) = (0.0_f64, 0.0_f64, 0);
            for (published, values) in &gradients {
                let name = &source.layout.tensors[published].name;
                let norm = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
                let reference = norms[name].as_f64().unwrap();
                let relative = (norm - reference).abs() / reference;
                assert!(
                    relative <= RELATIVE,
                    "{}: |gradient| of {name} is {norm}, not {reference}",
                    fixture.name
                );
                worst_norm = worst_norm.max(relative);
                let key = format!("grad.{name}");
                if fixture.reference.has(&key) {
                    let relative = relative_l2(values, &fixture.reference.f32s(&key));
                    assert!(
                        relative <= RELATIVE,
                        "{}: gradient of {name} is {relative:e} away",
                        fixture.name
                    );
                    worst = worst.max(relative);
                    whole += 1;
                }
            }
            println!(
                "{}: loss {:.1e} away; norms of {} gradients {worst_norm:.1e} away, {whole} whole ones {worst:.1e} in L2",
                fixture.name,
                (value - reference).abs(),
                gradients.len()
            );
            let all_stored = matches!(&*fixture.name, "flat_tied" | "flat_all_full");
            assert_eq!(
                whole,
                if all_stored { gradients.len() } else { 0 },
                "{}: whole gradients",
                fixture.name
            );
        }
        Ok(())
    }
}

/// Every parameter's gradient of `loss` by published name, linear weights as `[output, input]`; zeros where none
/// arrived.
pub(super) fn gradients<B: AutodiffBackend, M: AutodiffModule<B>>(
    model: &M,
    loss: impl FnOnce(&M) -> Result<Tensor<B, 1>>,
) -> Result<BTreeMap<String, Vec<f32>>> {
    let (gradients, ()) = medgrpo_model::gradients::gradients(model, |view| anyhow::Ok((loss(view)?, ())))?;
    let mut collector = Collector { gradients: &gradients, path: Vec::new(), found: BTreeMap::new() };
    model.visit(&mut collector);
    Ok(collector.found)
}

struct Collector<'a> {
    gradients: &'a GradientsParams,
    path: Vec<(String, String)>,
    found: BTreeMap<String, Vec<f32>>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Collector<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.push((name.to_owned(), container_type.to_owned()));
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let name = self.path.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(".");
        let linear = D == 2
            && self.path.last().is_some_and(|(_, container)| {
                container.ends_with("Linear") || container.ends_with("Projection")
            });
        let values = match self.gradients.get::<B::InnerBackend, D>(param.id) {
            Some(gradient) if linear => numbers(gradient.transpose()),
            Some(gradient) => numbers(gradient),
            None => vec![0.0; param.val().shape().num_elements()],
        };
        assert!(self.found.insert(name, values).is_none());
    }
}
