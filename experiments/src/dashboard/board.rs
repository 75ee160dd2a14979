//! What the dashboard knows of a run: filled by the same calls that write progress and logs, drawn by `view`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use crate::report::StageHistory;

/// Warnings and alarms that are kept to be shown.
const MAX_NOTES: usize = 20;

/// Where a line belongs that came while the dashboard had the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// A result.
    Out,
    /// A warning.
    Err,
}

/// A piece of work with a known number of parts.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(super) label: String,
    pub(super) unit: String,
    pub(super) total: usize,
    /// Parts done before this process began.
    first: usize,
    pub(super) done: usize,
    pub(super) message: String,
    started: Instant,
}

impl Work {
    /// Time since its start, and the time left at the same pace.
    pub(super) fn times(&self, now: Instant) -> (Duration, Option<Duration>) {
        let elapsed = now.saturating_duration_since(self.started);
        let fresh = self.done.saturating_sub(self.first);
        let left = self.total.saturating_sub(self.done) as f64 * elapsed.as_secs_f64() / fresh as f64;
        (elapsed, Duration::try_from_secs_f64(left).ok())
    }
}

/// A completion of the last step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    /// Step, task and dataset, file and row.
    pub(crate) title: String,
    pub(crate) text: String,
    pub(crate) reward: Option<f32>,
}

/// The last numbers of a task in a dataset, as far as they were logged.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Signal {
    /// `tag/AVOS`
    pub(super) name: String,
    /// In the order of [`SIGNALS`].
    pub(super) values: Vec<Option<f64>>,
}

/// Columns of the table of signals: heading, what stands before the name of task and dataset in a metric, and behind it.
pub(super) const SIGNALS: [(&str, &str, &str); 6] = [
    ("reward", "rewards/", "/mean"),
    ("deviation", "rewards/", "/std"),
    ("raw metric", "raw/", "/mean"),
    ("no signal", "frac_reward_zero_std/", ""),
    ("cut off", "completions/clipped_ratio/", ""),
    ("unread", "frac_unparsed/", ""),
];

/// The state of a run.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// The run directory.
    pub(super) run: String,
    /// Number of the stage from 1, number of stages, name.
    pub(super) stage: Option<(usize, usize, String)>,
    /// The innermost last, with their numbers.
    works: Vec<(usize, Work)>,
    num_works: usize,
    /// Of the stage.
    pub(super) series: BTreeMap<String, Vec<(usize, f64)>>,
    pub(super) notes: VecDeque<String>,
    pub(super) sample: Option<Sample>,
    pub(super) is_stopping: bool,
    /// Written once the terminal is given back.
    kept: Vec<(Stream, String)>,
}

impl Board {
    pub(super) fn new(run: String) -> Self {
        Self { run, ..Self::default() }
    }

    /// A stage begins, or goes on after what is `logged`; `place` counts from 0.
    pub(crate) fn begin_stage(&mut self, place: usize, num_stages: usize, name: &str, logged: StageHistory) {
        self.stage = Some((place + 1, num_stages, name.to_owned()));
        self.series = logged.series;
        self.sample = None;
    }

    /// The numbers of a step.
    pub(crate) fn log(&mut self, step: usize, metrics: &BTreeMap<String, f64>) {
        for (name, &value) in metrics {
            if value.is_finite() {
                self.series.entry(name.clone()).or_default().push((step, value));
            }
        }
    }

    /// A completion to show; none leaves the last one there.
    pub(crate) fn show(&mut self, sample: Option<Sample>) {
        self.sample = sample.or(self.sample.take());
    }

    /// Work begins; the number is for [`work`](Self::work) and [`end_work`](Self::end_work).
    pub(crate) fn begin_work(&mut self, label: &str, total: usize, unit: &str) -> usize {
        self.num_works += 1;
        let work = Work {
            label: label.to_owned(),
            unit: unit.to_owned(),
            total,
            first: 0,
            done: 0,
            message: String::new(),
            started: Instant::now(),
        };
        self.works.push((self.num_works, work));
        self.num_works
    }

    fn work(&mut self, number: usize) -> Option<&mut Work> {
        self.works.iter_mut().find(|(known, _)| *known == number).map(|(_, work)| work)
    }

    /// So many parts were done before.
    pub(crate) fn resume_work(&mut self, number: usize, done: usize) {
        if let Some(work) = self.work(number) {
            (work.first, work.done) = (done, done);
        }
    }

    /// So many parts are done.
    pub(crate) fn advance_work(&mut self, number: usize, done: usize) {
        if let Some(work) = self.work(number) {
            work.done = done;
        }
    }

    /// What to show beside them.
    pub(crate) fn tell_work(&mut self, number: usize, message: String) {
        if let Some(work) = self.work(number) {
            work.message = message;
        }
    }

    /// It is over, or was given up.
    pub(crate) fn end_work(&mut self, number: usize) {
        self.works.retain(|(known, _)| *known != number);
    }

    /// The work that is being done.
    pub(super) fn current_work(&self) -> Option<&Work> {
        self.works.last().map(|(_, work)| work)
    }

    /// A line for the time after; warnings are shown at once too.
    pub(crate) fn keep(&mut self, stream: Stream, line: String) {
        if stream == Stream::Err {
            self.notes.push_back(plain(&line));
            if self.notes.len() > MAX_NOTES {
                self.notes.pop_front();
            }
        }
        self.kept.push((stream, line));
    }

    pub(super) fn take_kept(&mut self) -> Vec<(Stream, String)> {
        std::mem::take(&mut self.kept)
    }

    /// The last value of every pair of task and dataset.
    pub(super) fn signals(&self) -> Vec<Signal> {
        let between = |(_, before, behind): &(&str, &str, &str), metric: &str| {
            metric.strip_prefix(before)?.strip_suffix(behind).map(str::to_owned)
        };
        let names: BTreeSet<String> = self
            .series
            .keys()
            .flat_map(|metric| SIGNALS.iter().filter_map(move |column| between(column, metric)))
            .filter(|name| name.matches('/').count() == 1)
            .collect();
        let signal = |name: String| {
            let value = |(_, before, behind): &(&str, &str, &str)| {
                self.series.get(&format!("{before}{name}{behind}"))?.last().map(|&(_, value)| value)
            };
            let values = SIGNALS.iter().map(value).collect();
            Signal { name, values }
        };
        names.into_iter().map(signal).collect()
    }
}

/// Text without what moves a terminal: colours are dropped, other control characters become dots.
pub(super) fn plain(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(character) = chars.next() {
        if character == '\u{1b}' && chars.peek() == Some(&'[') {
            chars.next();
            // Parameters up to the letter that ends the sequence.
            while chars.next().is_some_and(|inner| !('\u{40}'..='\u{7e}').contains(&inner)) {}
        } else if character.is_control() && character != '\n' {
            kept.push('·');
        } else {
            kept.push(character);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_work_is_shown_and_knows_its_pace() {
        let mut board = Board::new("runs/a".to_owned());
        let stage = board.begin_work("grpo", 110, "steps");
        board.resume_work(stage, 100);
        board.advance_work(stage, 102);
        let evaluation = board.begin_work("evaluate", 8, "records");
        assert_eq!(board.current_work().unwrap().label, "evaluate");
        assert_eq!(board.current_work().unwrap().times(Instant::now()).1, None, "nothing is done yet");
        board.end_work(evaluation);
        let work = board.current_work().unwrap();
        // Two of this process's steps in 10 s leave 8 for 40 s.
        let (elapsed, left) = work.times(work.started + Duration::from_secs(10));
        assert_eq!((elapsed, left), (Duration::from_secs(10), Some(Duration::from_secs(40))));
    }

    #[test]
    fn signals_are_pairs_of_task_and_dataset() {
        let mut board = Board::default();
        let step = |pairs: &[(&str, f64)]| -> BTreeMap<String, f64> {
            pairs.iter().map(|&(name, value)| (name.to_owned(), value)).collect()
        };
        board.log(
            1,
            &step(&[("rewards/tag/AVOS/mean", 0.25), ("frac_reward_zero_std", 0.5), ("loss", f64::NAN)]),
        );
        board.log(2, &step(&[("rewards/tag/AVOS/mean", 0.5), ("rewards/tag/AVOS/std", 0.125)]));
        board.log(3, &step(&[("frac_reward_zero_std/stg/CholecT50", 1.0)]));
        let [stg, tag] = &board.signals()[..] else { panic!("{:?}", board.signals()) };
        assert_eq!((stg.name.as_str(), stg.values[3]), ("stg/CholecT50", Some(1.0)));
        assert_eq!((tag.name.as_str(), tag.values[0], tag.values[1]), ("tag/AVOS", Some(0.5), Some(0.125)));
        assert!(!board.series.contains_key("loss"), "what is not finite is not drawn");
    }

    #[test]
    fn text_cannot_move_the_terminal() {
        assert_eq!(plain("\u{1b}[33mWARN\u{1b}[0m a\tb\nc\u{7}"), "WARN a·b\nc·");
        assert_eq!(plain("\u{1b}[2"), "");
        assert_eq!(plain("\u{1b}]0;title"), "·]0;title");
        let mut board = Board::default();
        (0..30).for_each(|number| board.keep(Stream::Err, number.to_string()));
        board.keep(Stream::Out, "table".to_owned());
        assert_eq!((board.notes.len(), board.notes.back().unwrap().as_str()), (MAX_NOTES, "29"));
        assert_eq!(board.take_kept().len(), 31);
    }
}
