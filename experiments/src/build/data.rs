//! The records of an experiment: files, the tasks taken from them, and their order.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, Result, bail};
use medgrpo_datasets::{
    ClipId, Dataset, MedVidBenchFile, Runs, TaskKind, TaskSample, Usable,
    cursor::{Cursor, CursorState, Group},
};
use medgrpo_trainers::{TrainError, feeder::SampleStream};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::resolved::{EvalFile, Experiment, OnBadRow, TrainFile};

/// A file with the rows that can be used.
pub(crate) struct DataFile {
    pub(crate) path: PathBuf,
    pub(crate) usable: Usable<MedVidBenchFile>,
    pub(crate) weight: f64,
    pub(crate) tasks: Vec<TaskKind>,
}

impl DataFile {
    fn open(
        path: &PathBuf,
        root: &PathBuf,
        weight: f64,
        tasks: &[TaskKind],
        on_bad_row: OnBadRow,
    ) -> Result<Self> {
        let policy = match on_bad_row {
            OnBadRow::Error => medgrpo_datasets::OnBadRow::Error,
            OnBadRow::Skip => medgrpo_datasets::OnBadRow::Skip,
        };
        let usable = Usable::new(MedVidBenchFile::open(path, root)?, policy)
            .context("give `data.on_bad_row = \"skip\"` to train without the bad rows")?;
        Ok(Self { path: path.clone(), usable, weight, tasks: tasks.to_vec() })
    }

    /// Places in `usable` of the rows of these tasks.
    pub(crate) fn places(&self, tasks: &[TaskKind]) -> Vec<usize> {
        let labels = self.usable.labels().iter().enumerate();
        labels
            .filter(|(_, label)| self.tasks.contains(&label.task) && tasks.contains(&label.task))
            .map(|(place, _)| place)
            .collect()
    }

    /// At most `limit` of these places of each task, spread evenly over the file; 0 takes all.
    pub(crate) fn spread(&self, tasks: &[TaskKind], limit: usize) -> Vec<usize> {
        let mut chosen = Vec::new();
        for &task in tasks {
            let places = self.places(&[task]);
            let count = if limit == 0 { places.len() } else { limit.min(places.len()) };
            chosen.extend((0..count).map(|number| places[number * places.len() / count]));
        }
        chosen.sort_unstable();
        chosen
    }

    /// Names a row in messages and rollouts.
    pub(crate) fn origin(&self, sample: &TaskSample) -> String {
        self.origin_of(sample.row)
    }

    /// The same of a row of the file.
    pub(crate) fn origin_of(&self, row: usize) -> String {
        format!("{}, row {row}", self.path.display())
    }
}

/// Opens the files to train on.
pub(crate) fn open_train(experiment: &Experiment) -> Result<Vec<DataFile>> {
    let open = |file: &TrainFile| {
        DataFile::open(&file.file, &file.root, file.weight, &file.tasks, experiment.data.on_bad_row)
    };
    experiment.data.train.iter().map(open).collect()
}

/// A split to evaluate on.
pub(crate) struct EvalSplit {
    pub(crate) name: String,
    pub(crate) file: DataFile,
}

impl EvalSplit {
    /// Places of at most `limit` rows of each task, spread evenly over the file; 0 takes all.
    pub(crate) fn places(&self, limit: usize) -> Vec<usize> {
        self.file.spread(&self.file.tasks, limit)
    }
}

/// Opens the splits that the experiment evaluates on.
pub(crate) fn open_eval(experiment: &Experiment) -> Result<Vec<EvalSplit>> {
    let Some(evaluate) = &experiment.evaluate else {
        return Ok(Vec::new());
    };
    let wanted = |file: &&EvalFile| evaluate.splits.contains(&file.name);
    let open = |file: &EvalFile| {
        let data = DataFile::open(&file.file, &file.root, 1.0, &file.tasks, experiment.data.on_bad_row)?;
        Ok(EvalSplit { name: file.name.clone(), file: data })
    };
    experiment.data.eval.iter().filter(wanted).map(open).collect()
}

/// A place in the order of a stage's rows.
#[derive(Serialize, Deserialize)]
struct Place {
    /// With more or fewer rows the same place is another one.
    num_rows: usize,
    cursor: CursorState,
}

/// The training samples of one stage in their seeded order.
pub(crate) struct MixtureStream {
    files: Arc<Vec<DataFile>>,
    /// (file, place) of every row of the stage.
    rows: Vec<(usize, usize)>,
    cursor: Cursor,
}

impl MixtureStream {
    /// The rows of `tasks`, up to `questions_per_clip` of one clip next to each other, from the start or from a saved place.
    pub(crate) fn new(
        files: &Arc<Vec<DataFile>>,
        tasks: &[TaskKind],
        questions_per_clip: usize,
        seed: u64,
        state: Option<&Value>,
    ) -> Result<Self> {
        let mut rows = Vec::new();
        let mut groups = Vec::new();
        for (number, file) in files.iter().enumerate() {
            let first = rows.len();
            rows.extend(file.places(tasks).into_iter().map(|place| (number, place)));
            groups.push(Group { rows: (first..rows.len()).collect(), weight: file.weight });
        }
        if rows.is_empty() {
            let names: Vec<&str> = tasks.iter().map(|task| task.key()).collect();
            bail!("no row of `data.train` is of the tasks of this stage ({})", names.join(", "));
        }
        let clip = |(file, place): &(usize, usize)| files[*file].usable.labels()[*place].clip;
        let clips: Vec<Option<ClipId>> = rows.iter().map(clip).collect();
        let runs = Runs { clips, max_len: questions_per_clip };
        let mut cursor = Cursor::weighted(groups, seed)?.in_runs(runs);
        if let Some(state) = state {
            let place: Place =
                serde_json::from_value(state.clone()).context("the checkpoint's place in the data")?;
            if place.num_rows != rows.len() {
                bail!(
                    "the run was on {} usable rows, now there are {}: bring the data back to what it was, or start anew",
                    place.num_rows,
                    rows.len()
                );
            }
            cursor = cursor.resume(place.cursor)?;
        }
        Ok(Self { files: Arc::clone(files), rows, cursor })
    }
}

impl SampleStream for MixtureStream {
    fn next_sample(&mut self) -> Result<(String, TaskSample), TrainError> {
        let (file, place) = self.rows[self.cursor.next_row()];
        let file = &self.files[file];
        let sample = file.usable.get(place)?;
        Ok((file.origin(&sample), sample))
    }

    fn state(&self) -> Value {
        let place = Place { num_rows: self.rows.len(), cursor: self.cursor.state() };
        serde_json::to_value(place).expect("plain numbers serialise")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use medgrpo_datasets::synth::{SynthConfig, render};

    use super::*;

    #[test]
    fn questions_on_one_clip_meet_in_a_step_of_the_practice_set() {
        const NUM_PROMPTS: usize = 8;
        let dir = tempfile::tempdir().unwrap();
        let config = SynthConfig { out_dir: dir.path().to_owned(), seed: 2, clips: 30 };
        render(&config, &|_, _| {}).unwrap();
        let (path, root) = (dir.path().join("train.json"), dir.path().to_owned());
        let file = DataFile::open(&path, &root, 1.0, &TaskKind::BENCHMARK, OnBadRow::Error).unwrap();
        let num_rows = file.usable.len();
        let files = Arc::new(vec![file]);
        let stream = |questions_per_clip, state: Option<&Value>| {
            MixtureStream::new(&files, &TaskKind::BENCHMARK, questions_per_clip, 4, state).unwrap()
        };
        let mean_clips = |questions_per_clip| {
            let mut stream = stream(questions_per_clip, None);
            let num_steps = num_rows / NUM_PROMPTS;
            let mut num_clips = 0;
            for _ in 0..num_steps {
                let samples = (0..NUM_PROMPTS).map(|_| stream.next_sample().unwrap().1);
                let clips: Vec<ClipId> = samples.map(|sample| sample.clip().unwrap()).collect();
                num_clips += (0..NUM_PROMPTS).filter(|at| !clips[..*at].contains(&clips[*at])).count();
            }
            num_clips as f64 / num_steps as f64
        };
        let [plain, pairs, many] = [1, 2, NUM_PROMPTS].map(mean_clips);
        println!("{num_rows} rows; clips a step: {plain:.2}, in pairs {pairs:.2}, in runs {many:.2}");
        assert!(many < 0.6 * plain && pairs < 0.9 * plain, "{plain} {pairs} {many}");

        let origins = |stream: &mut MixtureStream, count: usize| -> Vec<String> {
            (0..count).map(|_| stream.next_sample().unwrap().0).collect()
        };
        let mut whole = stream(NUM_PROMPTS, None);
        assert_eq!(origins(&mut whole, num_rows).into_iter().collect::<BTreeSet<_>>().len(), num_rows);
        for _ in 0..3 {
            let mut resumed = stream(NUM_PROMPTS, Some(&whole.state()));
            assert_eq!(origins(&mut resumed, 11), origins(&mut whole, 11));
        }
    }
}
