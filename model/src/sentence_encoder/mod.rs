//! Sentence vectors of BERT encoders (all-MiniLM-L6-v2 and its kin), equal to sentence-transformers' within rounding.
//!
//! A directory as that library saves it is read as it is: network, pooling, normalisation, truncation. What would change
//! the numbers and is not implemented is refused by name. A forward pass holds texts of one length only: no padding.

mod bert;
mod config;
mod directory;
mod pooling;
mod tokenizer;

use std::path::Path;

use burn::{
    module::Module,
    tensor::{Int, Tensor, TensorData, backend::Backend},
};
use rayon::prelude::*;

use self::{
    bert::Bert, config::BertConfig, directory::Directory, pooling::Pooling, tokenizer::SentenceTokenizer,
};
use crate::{ModelError, weights::load_renamed};

/// Most tokens in one forward pass: enough for full matrix products, few enough to stay in cache.
const MAX_BATCH_TOKENS: usize = 2048;
/// Shorter vectors are divided by this and not by their length, as in the reference.
const MIN_NORM: f32 = 1e-12;

/// Turns texts into vectors.
#[derive(Debug)]
pub struct SentenceEncoder<B: Backend> {
    network: Bert<B>,
    tokenizer: SentenceTokenizer,
    pooling: Pooling,
    normalize: bool,
    device: B::Device,
}

impl<B: Backend> SentenceEncoder<B> {
    /// Loads a sentence-transformers directory onto `device`.
    ///
    /// # Errors
    /// With the file and the key or tensor: when something is missing, broken or not implemented.
    pub fn from_dir(dir: &Path, device: &B::Device) -> Result<Self, ModelError> {
        let directory = Directory::read(dir)?;
        let config = BertConfig::from_dir(&directory.transformer)?;
        let pooling = Pooling::from_dir(&directory.pooling, config.hidden_size)?;
        let tokenizer =
            SentenceTokenizer::from_dir(&directory.transformer, directory.max_seq_length, &config)?;
        let network = Bert::new(&config, device);
        let network = load_renamed(network, &directory.transformer, &bert::NAMES)?.no_grad();
        Ok(Self { network, tokenizer, pooling, normalize: directory.normalize, device: device.clone() })
    }

    /// One vector for each text, all of one length.
    ///
    /// Texts are cut after the directory's `max_seq_length` tokens. Batches are spread over rayon's threads: a caller that
    /// runs on one of them holds no lock meanwhile.
    ///
    /// # Errors
    /// If the tokenizer cannot represent a text, or damaged weights give numbers that are not finite.
    pub fn encode(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, ModelError> {
        let ids: Vec<Vec<i32>> =
            texts.par_iter().map(|text| self.tokenizer.encode(text)).collect::<Result<_, _>>()?;
        let mut by_length: Vec<usize> = (0..ids.len()).collect();
        by_length.sort_by_key(|&text| ids[text].len());
        let batches: Vec<&[usize]> = by_length
            .chunk_by(|&a, &b| ids[a].len() == ids[b].len())
            .flat_map(|same| same.chunks((MAX_BATCH_TOKENS / ids[same[0]].len()).max(1)))
            .collect();
        let encoded: Vec<Vec<Vec<f32>>> =
            batches.par_iter().map(|batch| self.encode_batch(batch, &ids)).collect::<Result<_, _>>()?;

        let mut vectors = vec![Vec::new(); texts.len()];
        for (text, vector) in batches.iter().copied().flatten().zip(encoded.into_iter().flatten()) {
            vectors[*text] = vector;
        }
        Ok(vectors)
    }

    /// The vectors of `batch`, texts of equally many tokens.
    fn encode_batch(&self, batch: &[usize], ids: &[Vec<i32>]) -> Result<Vec<Vec<f32>>, ModelError> {
        let shape = [batch.len(), ids[batch[0]].len()];
        let values: Vec<i32> = batch.iter().flat_map(|&text| &ids[text]).copied().collect();
        let ids = Tensor::<B, 2, Int>::from_data(TensorData::new(values, shape), &self.device);
        let pooled = self.pooling.forward(&self.network.forward(ids));
        let width = pooled.dims()[1];
        let mut values: Vec<f32> =
            pooled.into_data().convert::<f32>().into_vec().expect("converted to f32 just before");
        if !values.iter().all(|value| value.is_finite()) {
            return Err(ModelError::Input(
                "the sentence encoder gives numbers that are not finite: its weights are damaged".to_owned(),
            ));
        }
        if self.normalize {
            values.chunks_exact_mut(width).for_each(to_unit_length);
        }
        Ok(values.chunks_exact(width).map(<[f32]>::to_vec).collect())
    }
}

fn to_unit_length(vector: &mut [f32]) {
    let square: f64 = vector.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    let norm = (square.sqrt() as f32).max(MIN_NORM);
    vector.iter_mut().for_each(|value| *value /= norm);
}

#[cfg(test)]
mod tests {
    use super::to_unit_length;

    #[test]
    fn vectors_get_length_one_and_nothing_stays_nothing() {
        let mut vector = [3.0, -4.0];
        to_unit_length(&mut vector);
        assert_eq!(vector, [0.6, -0.8]);
        let mut nothing = [0.0; 3];
        to_unit_length(&mut nothing);
        assert_eq!(nothing, [0.0; 3]);
    }
}
