//! The metric that chooses a stage's best checkpoint: whether anything will ever give it.

use medgrpo_datasets::TaskKind;
use medgrpo_rewards::leaderboard::headline_names;

use super::Judge;
use crate::config::resolved::{Evaluate, Experiment, Stage};

/// How the names of an evaluation's numbers start.
const EVALUATION: &str = "eval/";

impl Judge {
    pub(super) fn best(&mut self, key: &str, stage: &Stage, experiment: &Experiment) {
        let path = format!("{key}.metric_for_best_model");
        let Some(metric) = &stage.trainer.metric_for_best_model else {
            if stage.trainer.greater_is_better.is_some() {
                let key = format!("{key}.greater_is_better");
                let message = format!("`{key}` has no effect without `metric_for_best_model`");
                self.note(&key, message, "leave it out, or name a metric");
            }
            return;
        };
        let refused = match metric.strip_prefix(EVALUATION) {
            Some(number) if stage.trainer.eval_steps == 0 => Err((
                format!("nothing gives `{EVALUATION}{number}` while `{key}.eval_steps` is 0"),
                format!("set {key}.eval_steps"),
            )),
            Some(number) => match &experiment.evaluate {
                Some(evaluate) => evaluation_gives(number, evaluate, experiment),
                // That nothing can be evaluated is told of `eval_steps`.
                None => Ok(()),
            },
            None if stage.trainer.save_steps == 0 => Err((
                format!("`{metric}` is looked at where a checkpoint is saved, and `{key}.save_steps` is 0"),
                format!("set {key}.save_steps, or choose a number of the evaluations"),
            )),
            None => step_gives(metric, stage),
        };
        if let Err((reason, help)) = refused {
            self.note(&path, format!("`{path}` is {metric:?}: {reason}"), help);
        }
    }
}

/// The reason and the remedy.
type Refused = Result<(), (String, String)>;

/// `SPLIT/NUMBER`.
fn evaluation_gives(number: &str, evaluate: &Evaluate, experiment: &Experiment) -> Refused {
    // A judge is asked after training only.
    let known: Vec<&str> = headline_names().into_iter().filter(|name| !name.ends_with("_llm")).collect();
    let help = format!(
        "give {EVALUATION}SPLIT/NUMBER with a split of {} and a number of {}",
        evaluate.splits.join(", "),
        known.join(", ")
    );
    let split = number.rsplit_once('/').filter(|(split, _)| evaluate.splits.iter().any(|it| it == split));
    let Some((split, name)) = split else {
        return Err(("it names no split that is evaluated".to_owned(), help));
    };
    if !known.contains(&name) {
        return Err((format!("evaluations during training give no number `{name}`"), help));
    }
    let file = experiment.data.eval.iter().find(|file| file.name == split);
    match task_of(name) {
        Some(task) if file.is_some_and(|file| !file.tasks.contains(&task)) => {
            Err((format!("the tasks of split {split} leave out {task}"), help))
        }
        _ => Ok(()),
    }
}

/// The task that a headline number is about.
fn task_of(name: &str) -> Option<TaskKind> {
    name.split('_').next().and_then(TaskKind::from_key)
}

/// A number of a step. Names with a slash depend on the data, and are looked for at the first step that is saved.
fn step_gives(metric: &str, stage: &Stage) -> Refused {
    let mut known = vec!["loss", "entropy", "grad_norm"];
    if let Some(policy) = stage.recipe.on_policy() {
        known.extend(["reward", "reward_std", "frac_reward_zero_std", "frac_unscored"]);
        known.extend((policy.beta > 0.0).then_some("kl"));
    }
    if metric.contains('/') || known.contains(&metric) {
        return Ok(());
    }
    let help = format!(
        "name one of {}, a number with a slash of metrics.jsonl, or eval/SPLIT/NUMBER",
        known.join(", ")
    );
    Err(("the steps of this stage give no such number".to_owned(), help))
}

#[cfg(test)]
mod tests {
    use crate::config::load;

    /// What is told of these keys of a trainer; nothing if they are fine.
    fn told(recipe: &str, keys: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.toml");
        let text = format!(
            "model.path = 'base'\n[data]\ntrain = [{{ file = 'train.json' }}]\n\
             eval = [{{ file = 'test.json', tasks = ['tag', 'vs'] }}, {{ file = 'other.json' }}]\n\
             [evaluate]\nsplits = ['test']\n[[stage]]\nname = 's'\nrecipe.type = '{recipe}'\n\
             trainer = {{ max_steps = 4, {keys} }}\n"
        );
        std::fs::write(&file, text).unwrap();
        load(&file, &[]).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_metric_that_nothing_gives_is_told_before_anything_runs() {
        for (recipe, keys, wanted) in [
            ("sft", "greater_is_better = true", "no effect without `metric_for_best_model`"),
            ("sft", "metric_for_best_model = 'eval/test/tag_miou_03'", "set stage.0.trainer.eval_steps"),
            (
                "sft",
                "eval_steps = 2, metric_for_best_model = 'eval/other/nap_acc'",
                "no split that is evaluated",
            ),
            ("sft", "eval_steps = 2, metric_for_best_model = 'eval/test/tag_iou'", "no number `tag_iou`"),
            ("sft", "eval_steps = 2, metric_for_best_model = 'eval/test/vs_llm'", "no number `vs_llm`"),
            ("sft", "eval_steps = 2, metric_for_best_model = 'eval/test/nap_acc'", "leave out"),
            ("sft", "metric_for_best_model = 'reward'", "give no such number"),
            ("grpo", "metric_for_best_model = 'kl'", "give no such number"),
            ("grpo", "save_steps = 0, metric_for_best_model = 'reward'", "set stage.0.trainer.save_steps"),
        ] {
            let told = told(recipe, keys);
            assert!(told.contains(wanted), "{keys}: {told}");
        }
        for (recipe, keys) in [
            ("sft", "eval_steps = 2, metric_for_best_model = 'eval/test/tag_miou_03'"),
            ("sft", "metric_for_best_model = 'loss'"),
            ("grpo", "metric_for_best_model = 'reward', greater_is_better = false"),
            ("grpo", "metric_for_best_model = 'raw/tag/AVOS/mean'"),
        ] {
            assert_eq!(told(recipe, keys), "", "{keys}");
        }
    }
}
