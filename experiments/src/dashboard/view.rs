//! The dashboard as a picture of text: a pure function of what is known and how large the terminal is.

use std::time::{Duration, Instant};

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Style, Stylize as _},
    text::{Line, Span},
    widgets::{Block, LineGauge, Paragraph, Row, Sparkline, Table, Wrap},
};

use super::board::{Board, SIGNALS, plain};
use crate::report::title;

/// Metrics with a curve.
const CURVES: [&str; 5] = ["reward", "entropy", "loss", "kl", "completions/mean_length"];
/// Lines of a curve without its border.
const CURVE_HEIGHT: u16 = 4;
/// Heights of a curve that a terminal can show.
const LEVELS: f64 = 8.0 * CURVE_HEIGHT as f64;

pub(super) fn draw(frame: &mut Frame<'_>, board: &Board, now: Instant) {
    let signals = board.signals();
    let table_height = if signals.is_empty() { 0 } else { signals.len() as u16 + 3 };
    let [heading, gauge, curves, table, rest] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(CURVE_HEIGHT + 2),
        Constraint::Max(table_height),
        Constraint::Min(0),
    ])
    .areas(frame.area());
    draw_heading(frame, heading, board);
    draw_gauge(frame, gauge, board, now);
    draw_curves(frame, curves, board);
    if table_height > 0 {
        let mut head = vec!["task and dataset"];
        head.extend(SIGNALS.iter().map(|(heading, _, _)| *heading));
        let rows = signals.into_iter().map(|signal| {
            let values = signal
                .values
                .into_iter()
                .map(|value| value.map_or("–".to_owned(), |value| format!("{value:.3}")));
            Row::new(std::iter::once(plain(&signal.name)).chain(values))
        });
        let widths = std::iter::once(Constraint::Fill(2)).chain(SIGNALS.iter().map(|_| Constraint::Fill(1)));
        let signals =
            Table::new(rows, widths).header(Row::new(head).dim()).block(Block::bordered().title("signals"));
        frame.render_widget(signals, table);
    }
    let [sample, notes] = Layout::horizontal([Constraint::Fill(3), Constraint::Fill(2)]).areas(rest);
    draw_sample(frame, sample, board);
    draw_notes(frame, notes, board);
}

fn draw_heading(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    let mut words = vec![Span::from(plain(&board.run)).bold()];
    if let Some((place, count, name)) = &board.stage {
        words.push(Span::from(format!("   stage {place} of {count}: {}", plain(name))));
    }
    let hint = if board.is_stopping {
        "   stopping after this step (Ctrl-C again: at once)"
    } else {
        "   Ctrl-C: stop after this step"
    };
    words.push(Span::from(hint).dim());
    frame.render_widget(Line::from(words), area);
}

fn draw_gauge(frame: &mut Frame<'_>, area: Rect, board: &Board, now: Instant) {
    let Some(work) = board.current_work() else { return };
    let (elapsed, left) = work.times(now);
    let whole = |duration: Duration| humantime::format_duration(Duration::from_secs(duration.as_secs()));
    let mut label =
        format!("{} {}/{} {}, {}", plain(&work.label), work.done, work.total, work.unit, whole(elapsed));
    if let Some(left) = left {
        label += &format!(", {} left", whole(left));
    }
    if !work.message.is_empty() {
        label += &format!(", {}", plain(&work.message));
    }
    let ratio = (work.done as f64 / work.total.max(1) as f64).clamp(0.0, 1.0);
    let gauge = LineGauge::default().ratio(ratio).label(label).filled_style(Style::new().fg(Color::Cyan));
    frame.render_widget(gauge, area);
}

fn draw_curves(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    let there: Vec<(&str, &Vec<(usize, f64)>)> =
        CURVES.iter().filter_map(|&metric| Some((metric, board.series.get(metric)?))).collect();
    let areas = Layout::horizontal(there.iter().map(|_| Constraint::Fill(1))).split(area);
    for ((metric, points), area) in there.into_iter().zip(areas.iter()) {
        let last = points.last().map_or(0.0, |&(_, value)| value);
        let block = Block::bordered().title(format!("{} {last:.4}", title(metric)));
        let levels = levels(points, usize::from(block.inner(*area).width));
        let curve = Sparkline::default().data(levels).max(LEVELS as u64).block(block);
        frame.render_widget(curve.style(Style::new().fg(Color::Cyan)), *area);
    }
}

/// The last values as heights from 1 to [`LEVELS`], between the least and the greatest of them.
fn levels(points: &[(usize, f64)], width: usize) -> Vec<u64> {
    let shown = &points[points.len().saturating_sub(width)..];
    let values = || shown.iter().map(|&(_, value)| value);
    let (low, high) = values()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    let height = |value: f64| {
        let share = (value - low) / (high - low);
        // All the same, or too far apart to subtract: in the middle.
        let share = if share.is_finite() { share } else { 0.5 };
        1 + (share * (LEVELS - 1.0)).round() as u64
    };
    values().map(height).collect()
}

fn draw_sample(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    let Some(sample) = &board.sample else { return };
    let reward = sample.reward.map_or("not scored".to_owned(), |reward| format!("reward {reward:.3}"));
    let block = Block::bordered().title(format!("{}: {reward}", plain(&sample.title)));
    frame.render_widget(Paragraph::new(plain(&sample.text)).wrap(Wrap { trim: false }).block(block), area);
}

/// The newest that there is room for.
fn draw_notes(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    if board.notes.is_empty() {
        return;
    }
    let block = Block::bordered().title("alarms and warnings");
    let lines: Vec<Line<'_>> =
        board.notes.iter().rev().map(|note| Line::from(note.trim_end()).fg(Color::Yellow)).collect();
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }).block(block), area);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::{
        dashboard::board::{Sample, Stream},
        report::StageHistory,
    };

    fn drawn(board: &Board, (width, height): (u16, u16)) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, board, Instant::now())).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |row: u16| (0..width).map(|column| buffer[(column, row)].symbol()).collect::<String>();
        (0..height).map(|row| line(row) + "\n").collect()
    }

    fn busy() -> Board {
        let mut board = Board::new("runs/grpo".to_owned());
        board.begin_stage(1, 2, "grpo", StageHistory::default());
        let work = board.begin_work("grpo", 40, "steps");
        board.tell_work(work, "reward 0.500".to_owned());
        for step in 1..=10 {
            let value = step as f64 / 20.0;
            let metrics = [("reward", value), ("entropy", 2.0 - value), ("rewards/tag/AVOS/mean", value)];
            board.log(
                step,
                &metrics
                    .map(|(name, value)| (name.to_owned(), value))
                    .into_iter()
                    .collect::<BTreeMap<_, _>>(),
            );
            board.advance_work(work, step);
        }
        board.show(Some(Sample {
            title: "step 10, tag/AVOS, train.json, row 3".to_owned(),
            text: "1.0-2.0 seconds.\u{1b}[2J and so on".to_owned(),
            reward: Some(0.25),
        }));
        board.keep(Stream::Err, "WARN alarm entropy in step 9".to_owned());
        board
    }

    #[test]
    fn everything_has_its_place() {
        let text = drawn(&busy(), (120, 30));
        for wanted in [
            "runs/grpo   stage 2 of 2: grpo",
            "grpo 10/40 steps",
            "reward 0.500",
            "reward 0.5000",
            "entropy 1.5000",
            "task and dataset",
            "tag/AVOS",
            "step 10, tag/AVOS, train.json, row 3: reward 0.250",
            "1.0-2.0 seconds. and so on",
            "WARN alarm entropy in step 9",
        ] {
            assert!(text.contains(wanted), "`{wanted}` is not in:\n{text}");
        }
        assert!(text.contains('█') && !text.contains('\u{1b}'), "{text}");
        let mut stopping = busy();
        stopping.is_stopping = true;
        assert!(drawn(&stopping, (120, 30)).contains("stopping after this step"));
    }

    #[test]
    fn any_terminal_will_do() {
        for size in [(1, 1), (3, 2), (20, 5), (300, 4), (40, 100)] {
            drawn(&busy(), size);
            drawn(&Board::default(), size);
        }
    }

    #[test]
    fn curves_reach_from_the_least_to_the_greatest_of_what_is_shown() {
        let points = [(1, 100.0), (2, -1.0), (3, 0.0), (4, 1.0)];
        assert_eq!(levels(&points, 3), [1, 17, 32]);
        assert_eq!(levels(&points[2..3], 3), [17]);
        assert_eq!(levels(&[(1, f64::MAX), (2, -f64::MAX)], 9), [17, 1]);
        assert_eq!(levels(&[], 9), [0; 0]);
    }
}
