//! `medgrpo train --dashboard`: a run on a whole terminal.
//!
//! It reads what progress lines, metrics and warnings are made of, and steers nothing. While it has the terminal, lines
//! for stdout and stderr are kept, and written when it gives it back: at the end, on an error, on a panic, and before a second Ctrl-C ends the process.

mod board;
mod view;

use std::{
    io::{self, IsTerminal as _, Write},
    panic,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
};
use signal_hook::{consts::SIGINT, low_level};

pub(crate) use board::{Board, Sample, Stream};

/// Time between two pictures.
const REFRESH: Duration = Duration::from_millis(250);

/// The one that has the terminal.
static SHOWN: Mutex<Option<Board>> = Mutex::new(None);
/// Whether the terminal has been given back.
static IS_OVER: AtomicBool = AtomicBool::new(false);

fn shown() -> MutexGuard<'static, Option<Board>> {
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells the dashboard, if there is one, and gives what it answers.
pub(crate) fn tell<T>(change: impl FnOnce(&mut Board) -> T) -> Option<T> {
    shown().as_mut().map(change)
}

/// Gives the terminal back when it is dropped.
#[derive(Debug)]
pub(crate) struct Dashboard {
    drawing: Option<JoinHandle<()>>,
}

impl Dashboard {
    /// Takes the terminal; `None`, with a warning, where stdout is none. Ctrl-C must be caught by then: in the mode the
    /// terminal is in it is a key, which is made a signal again.
    ///
    /// # Errors
    ///
    /// If the terminal refuses.
    pub(crate) fn start(run: &Path, stop: Arc<AtomicBool>) -> Result<Option<Self>> {
        if !io::stdout().is_terminal() {
            tracing::warn!("--dashboard takes a terminal, and stdout is none: progress is told in lines");
            return Ok(None);
        }
        // Hooks the panics of all threads, to give the terminal back before they are told.
        let terminal = ratatui::try_init().context("--dashboard: the terminal refuses")?;
        let restoring = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            IS_OVER.store(true, Ordering::SeqCst);
            restoring(panicked);
        }));
        *shown() = Some(Board::new(run.display().to_string()));
        IS_OVER.store(false, Ordering::SeqCst);
        let drawing = std::thread::spawn(move || draw(terminal, &stop));
        Ok(Some(Self { drawing: Some(drawing) }))
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        IS_OVER.store(true, Ordering::SeqCst);
        if let Some(drawing) = self.drawing.take() {
            // Its own panic has been told.
            let _ = drawing.join();
        }
        give_back();
    }
}

/// Restores the terminal and writes what was kept.
fn give_back() {
    ratatui::restore();
    let Some(mut board) = shown().take() else { return };
    for (stream, line) in board.take_kept() {
        // A closed pipe is no failure.
        let _ = match stream {
            Stream::Out => writeln!(io::stdout(), "{line}"),
            Stream::Err => write!(io::stderr(), "{line}"),
        };
    }
}

/// Draws until it is over.
fn draw(mut terminal: DefaultTerminal, stop: &AtomicBool) {
    while !IS_OVER.load(Ordering::SeqCst) {
        let pictured = {
            let mut shown = shown();
            let Some(board) = shown.as_mut() else { return };
            board.is_stopping = stop.load(Ordering::Relaxed);
            terminal.draw(|frame| view::draw(frame, board, Instant::now())).is_ok()
        };
        // A terminal that is gone takes no pictures; training goes on.
        if !pictured {
            return;
        }
        match event::poll(REFRESH)
            .and_then(|is_there| if is_there { event::read().map(Some) } else { Ok(None) })
        {
            Ok(Some(Event::Key(key)))
                if key.kind == KeyEventKind::Press
                    && key.code == KeyCode::Char('c')
                    && key.modifiers.contains(KeyModifiers::CONTROL) =>
            {
                if stop.load(Ordering::Relaxed) {
                    // The second one ends the process at once.
                    IS_OVER.store(true, Ordering::SeqCst);
                    give_back();
                }
                // Nobody to catch it is no more than a key without effect.
                let _ = low_level::raise(SIGINT);
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

/// Where warnings go: to the dashboard while there is one, else to stderr.
#[derive(Debug)]
pub(crate) struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let kept = tell(|board| board.keep(Stream::Err, String::from_utf8_lossy(bytes).into_owned()));
        match kept {
            Some(()) => Ok(bytes.len()),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
