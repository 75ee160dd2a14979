//! How far a piece of work is: on the dashboard where there is one, a bar on stderr where that is a terminal, now and then a
//! plain line where it is not.

use std::{
    borrow::Cow,
    io::{self, IsTerminal as _, Write},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::dashboard::{self, Stream};

/// Least time between two plain lines.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Progress of one piece of work with a known number of parts. May be told from any thread.
pub struct Progress(Output);

enum Output {
    Bar(ProgressBar),
    Lines(Mutex<Lines>),
    /// The number that the dashboard knows the work by.
    Board(usize),
}

impl Progress {
    /// Starts counting `total` parts, called `unit` (`steps`, `clips`), of the work called `label`.
    pub fn start(label: &str, total: usize, unit: &str) -> Self {
        if let Some(number) = dashboard::tell(|board| board.begin_work(label, total, unit)) {
            Self(Output::Board(number))
        } else if io::stderr().is_terminal() {
            Self(Output::Bar(bar(label, total, unit)))
        } else {
            Self::lines(label, total, unit, Box::new(io::stderr()))
        }
    }

    fn lines(label: &str, total: usize, unit: &str, out: Box<dyn Write + Send>) -> Self {
        Self(Output::Lines(Mutex::new(Lines {
            label: label.to_owned(),
            unit: unit.to_owned(),
            total,
            first: 0,
            done: 0,
            message: String::new(),
            started: Instant::now(),
            last_line: None,
            out,
        })))
    }

    /// Some parts were done before (a resumed run): they do not count towards the rate. To be called first.
    pub fn resume_at(&self, done: usize) {
        match &self.0 {
            Output::Bar(bar) => {
                bar.set_position(done as u64);
                bar.reset_eta();
            }
            Output::Lines(lines) => {
                let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                lines.first = done;
                lines.done = done;
            }
            Output::Board(number) => {
                dashboard::tell(|board| board.resume_work(*number, done));
            }
        }
    }

    /// `done` parts are done.
    pub fn set(&self, done: usize) {
        match &self.0 {
            Output::Bar(bar) => bar.set_position(done as u64),
            Output::Lines(lines) => {
                lines.lock().unwrap_or_else(PoisonError::into_inner).advance(done, Instant::now());
            }
            Output::Board(number) => {
                dashboard::tell(|board| board.advance_work(*number, done));
            }
        }
    }

    /// What to show beside the count (`loss 1.204`), from the next [`set`](Self::set) on.
    pub fn message(&self, message: impl Into<Cow<'static, str>>) {
        match &self.0 {
            Output::Bar(bar) => bar.set_message(message),
            Output::Lines(lines) => {
                lines.lock().unwrap_or_else(PoisonError::into_inner).message = message.into().into_owned();
            }
            Output::Board(number) => {
                dashboard::tell(|board| board.tell_work(*number, message.into().into_owned()));
            }
        }
    }

    /// Prints a line of its own without disturbing the bar.
    pub fn println(&self, line: &str) {
        match &self.0 {
            Output::Bar(bar) => bar.suspend(|| write_line(&mut io::stderr(), line)),
            Output::Lines(lines) => {
                write_line(&mut lines.lock().unwrap_or_else(PoisonError::into_inner).out, line);
            }
            Output::Board(_) => {
                dashboard::tell(|board| board.keep(Stream::Err, format!("{line}\n")));
            }
        }
    }

    /// The work is over. A `Progress` dropped without it was interrupted, and stays as it is.
    pub fn finish(self) {
        match &self.0 {
            Output::Bar(bar) => bar.finish(),
            Output::Lines(lines) => {
                lines.lock().unwrap_or_else(PoisonError::into_inner).finish(Instant::now());
            }
            // Dropping it takes it off.
            Output::Board(_) => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        match &self.0 {
            Output::Bar(bar) if !bar.is_finished() => bar.abandon(),
            Output::Board(number) => {
                dashboard::tell(|board| board.end_work(*number));
            }
            Output::Bar(_) | Output::Lines(_) => {}
        }
    }
}

fn bar(label: &str, total: usize, unit: &str) -> ProgressBar {
    let template = format!(
        "{{prefix}} {{wide_bar:.cyan/blue.dim}} {{pos}}/{{len}} {unit} {{elapsed}}<{{eta}} {{per_sec:.dim}} {{msg}}"
    );
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar =
        ProgressBar::new(total as u64).with_style(style.progress_chars("━╸─")).with_prefix(label.to_owned());
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

struct Lines {
    label: String,
    unit: String,
    total: usize,
    /// Parts done before this process began.
    first: usize,
    done: usize,
    message: String,
    started: Instant,
    last_line: Option<Instant>,
    out: Box<dyn Write + Send>,
}

impl Lines {
    fn advance(&mut self, done: usize, now: Instant) {
        self.done = done;
        let due = self.last_line.is_none_or(|last| now.duration_since(last) >= LINE_INTERVAL);
        // The last part is left to `finish`.
        if due && done < self.total {
            self.last_line = Some(now);
            self.write(now, false);
        }
    }

    fn finish(&mut self, now: Instant) {
        self.write(now, true);
    }

    fn write(&mut self, now: Instant, is_over: bool) {
        let elapsed = now.duration_since(self.started);
        let mut line = format!("{}: {}/{} {}", self.label, self.done, self.total, self.unit);
        let fresh = self.done.saturating_sub(self.first);
        if is_over {
            line.push_str(&format!(" in {}", human(elapsed)));
        }
        if fresh > 0 && !elapsed.is_zero() {
            let rate = fresh as f64 / elapsed.as_secs_f64();
            line.push_str(&format!(", {rate:.*} {}/s", decimals(rate), self.unit));
            if !is_over {
                let left = self.total.saturating_sub(self.done) as f64 / rate;
                line.push_str(&format!(
                    ", {} left",
                    human(Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX))
                ));
            }
        }
        if !self.message.is_empty() {
            line.push_str(&format!(", {}", self.message));
        }
        write_line(&mut self.out, &line);
    }
}

/// Progress that cannot be shown (a closed pipe) is no reason to stop the work.
fn write_line(out: &mut dyn Write, line: &str) {
    let _ = writeln!(out, "{line}");
}

fn decimals(rate: f64) -> usize {
    if rate < 1.0 {
        3
    } else if rate < 100.0 {
        1
    } else {
        0
    }
}

fn human(duration: Duration) -> humantime::FormattedDuration {
    let whole_seconds = duration.as_secs() + u64::from(duration.subsec_millis() >= 500);
    humantime::format_duration(Duration::from_secs(whole_seconds))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Sink {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn advance_each_second(
        progress: &Progress,
        sink: &Sink,
        steps: std::ops::RangeInclusive<usize>,
    ) -> String {
        let Output::Lines(lines) = &progress.0 else { panic!("not a terminal") };
        let mut lines = lines.lock().unwrap();
        let started = lines.started;
        for (second, step) in steps.enumerate() {
            lines.advance(step, started + Duration::from_secs(second as u64 + 1));
        }
        sink.text()
    }

    #[test]
    fn lines_are_rare_and_tell_rate_and_time_left() {
        let sink = Sink::default();
        let progress = Progress::lines("sft", 12, "steps", Box::new(sink.clone()));
        progress.message("loss 1.5");
        let text = advance_each_second(&progress, &sink, 1..=11);
        assert_eq!(
            text,
            "sft: 1/12 steps, 1.0 steps/s, 11s left, loss 1.5\n\
             sft: 6/12 steps, 1.0 steps/s, 6s left, loss 1.5\n\
             sft: 11/12 steps, 1.0 steps/s, 1s left, loss 1.5\n"
        );
        progress.set(12);
        progress.finish();
        let text = sink.text();
        assert!(text.lines().last().unwrap().starts_with("sft: 12/12 steps in 0s"), "{text}");
        assert_eq!(text.lines().count(), 4);
    }

    #[test]
    fn parts_of_an_earlier_process_do_not_count_towards_the_rate() {
        let sink = Sink::default();
        let progress = Progress::lines("grpo", 110, "steps", Box::new(sink.clone()));
        progress.resume_at(100);
        let text = advance_each_second(&progress, &sink, 101..=101);
        assert_eq!(text, "grpo: 101/110 steps, 1.0 steps/s, 9s left\n");
    }

    #[test]
    fn the_bar_template_is_valid() {
        bar("sft", 10, "steps").finish_and_clear();
        let template =
            "{prefix} {wide_bar:.cyan/blue.dim} {pos}/{len} steps {elapsed}<{eta} {per_sec:.dim} {msg}";
        ProgressStyle::with_template(template).unwrap();
    }
}
