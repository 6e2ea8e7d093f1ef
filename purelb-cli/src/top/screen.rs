//! The terminal, and the loop.

use std::io::{self, IsTerminal};
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use ratatui::crossterm::{cursor, execute};
use ratatui::layout::{Position, Rect};
use ratatui::{DefaultTerminal, Terminal};
use tokio::signal::unix::{SignalKind, signal};

use super::draw::{self, Setting};
use super::model::Model;
use super::source::{Source, SourceError};
use super::state::{State, Wish};

/// How often a frame is drawn.
const FRAME: Duration = Duration::from_millis(100);

/// How far a step through time goes.
const STEP: Duration = Duration::from_secs(1);

/// Of how many times the time that rows took to make the loop waits until it makes them again: a cluster
/// of many thousand addresses that all move must not keep keys waiting.
const LEISURE: u32 = 4;

/// Why a view ended before it was to.
#[derive(Debug, thiserror::Error)]
pub enum ScreenError {
    /// There is nothing to see.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The terminal does not do what is asked of it.
    #[error("the terminal cannot be used")]
    Terminal(#[from] io::Error),
    /// There is no terminal.
    #[error("this is no terminal: with --once a single frame is printed as text")]
    NoTerminal,
}

/// Shows what `source` tells until the viewer or a signal ends it, from a moment of its own time on if it
/// has that. The terminal is as before afterwards, also after a panic.
///
/// # Errors
///
/// If there is no terminal, or it or the source fails.
pub fn show(source: &mut dyn Source, from: Duration, setting: &Setting) -> Result<(), ScreenError> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(ScreenError::NoTerminal);
    }
    let is_ended = ended_by_signals()?;
    let model = begin(source, from)?;
    let mut terminal = ratatui::try_init()?;
    show_cursor_on_panic();
    let shown = View::new(source, model, setting).run(&mut terminal, &is_ended);
    ratatui::try_restore()?;
    shown
}

/// One frame as text that shows every row, `width` columns wide.
///
/// # Errors
///
/// If the source fails.
pub fn once(
    source: &mut dyn Source,
    from: Duration,
    width: u16,
    setting: &Setting,
) -> Result<String, ScreenError> {
    let mut model = begin(source, from)?;
    model.refresh();
    let state = State { is_paused: setting.has_own_time, ..State::default() };
    let height = draw::height(&model, &state);
    Ok(text(&still(&model, &state, setting, width.max(draw::SMALLEST.0), height)))
}

/// A frame of this size, on no terminal.
pub fn still(model: &Model, state: &State, setting: &Setting, width: u16, height: u16) -> Buffer {
    let Ok(mut terminal) = Terminal::new(TestBackend::new(width, height));
    let Ok(frame) = terminal.draw(|frame| draw::draw(frame, model, state, setting));
    frame.buffer.clone()
}

/// The letters of a frame, without blanks at the ends of lines.
pub fn text(buffer: &Buffer) -> String {
    let area = buffer.area();
    let mut text = String::new();
    for y in 0..area.height {
        let cells = (0..area.width).filter_map(|x| buffer.cell(Position::new(x, y)));
        let line: String = cells.map(|cell| cell.symbol()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn begin(source: &mut dyn Source, from: Duration) -> Result<Model, SourceError> {
    match source.own_time() {
        Some(time) => time.seek(from),
        None => source.begin(),
    }
}

/// What gives the terminal back on a panic leaves the cursor to a destructor, which a panic that aborts
/// does not run.
fn show_cursor_on_panic() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        // There is nothing left to do about a terminal that fails as well.
        let _ = execute!(io::stdout(), cursor::Show);
        before(panic);
    }));
}

/// A flag that the signals which end a program raise.
fn ended_by_signals() -> io::Result<Arc<AtomicBool>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let is_ended = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&is_ended);
    let entered = runtime.enter();
    let kinds = [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::terminate()];
    let [hangup, interrupt, terminate] = kinds.map(signal);
    let (mut hangup, mut interrupt, mut terminate) = (hangup?, interrupt?, terminate?);
    drop(entered);
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = hangup.recv() => {}
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            raised.store(true, Ordering::Relaxed);
        });
    });
    Ok(is_ended)
}

/// What is on the screen.
struct View<'a> {
    source: &'a mut dyn Source,
    model: Model,
    /// What is shown instead while a source that cannot stop does not stand still.
    still: Option<Model>,
    state: State,
    setting: &'a Setting,
    /// When rows may be made again.
    rest_until: Instant,
}

impl<'a> View<'a> {
    fn new(source: &'a mut dyn Source, model: Model, setting: &'a Setting) -> Self {
        let (state, rest_until) = (State::default(), Instant::now());
        Self { source, model, still: None, state, setting, rest_until }
    }

    fn run(
        &mut self,
        terminal: &mut DefaultTerminal,
        is_ended: &AtomicBool,
    ) -> Result<(), ScreenError> {
        let mut last = Instant::now();
        while !is_ended.load(Ordering::Relaxed) {
            let span = last.elapsed();
            last += span;
            self.pass(span)?;
            let size = terminal.size()?;
            self.settle(Rect::new(0, 0, size.width, size.height));
            let model = self.still.as_ref().unwrap_or(&self.model);
            terminal.draw(|frame| draw::draw(frame, model, &self.state, self.setting))?;
            let due = last + FRAME;
            // Every key that is there is taken in before the next frame.
            let mut wait = due.saturating_duration_since(Instant::now());
            while event::poll(wait)? {
                if self.handle(&event::read()?)? {
                    return Ok(());
                }
                wait = Duration::ZERO;
            }
        }
        Ok(())
    }

    fn pass(&mut self, span: Duration) -> Result<(), SourceError> {
        if self.source.own_time().is_none() {
            self.source.advance(span, &mut self.model)?;
        } else if !self.state.is_paused {
            self.source.advance(self.state.passing(span), &mut self.model)?;
        }
        let start = Instant::now();
        if start >= self.rest_until {
            self.model.refresh();
            self.rest_until = start + start.elapsed() * LEISURE;
        }
        Ok(())
    }

    /// Nothing is scrolled past its end, and what is to stand still does.
    fn settle(&mut self, area: Rect) {
        let stands_still = self.state.is_paused && !self.setting.has_own_time;
        match (stands_still, &self.still) {
            (true, None) => self.still = Some(self.model.clone()),
            (false, Some(_)) => self.still = None,
            (true, Some(_)) | (false, None) => {}
        }
        let model = self.still.as_ref().unwrap_or(&self.model);
        let furthest = draw::furthest(area, model, &self.state);
        self.state.settle(furthest);
    }

    /// Returns whether to end.
    fn handle(&mut self, event: &Event) -> Result<bool, SourceError> {
        let Event::Key(key) = event else { return Ok(false) };
        if key.kind == KeyEventKind::Release {
            return Ok(false);
        }
        match self.state.handle_key(*key) {
            Some(Wish::Quit) => return Ok(true),
            Some(Wish::Ahead) if self.setting.has_own_time => {
                self.source.advance(STEP, &mut self.model)?;
            }
            Some(Wish::Back) => {
                if let Some(time) = self.source.own_time() {
                    self.model = time.seek(time.position().saturating_sub(STEP))?;
                    self.model.refresh();
                }
            }
            Some(Wish::Ahead) | None => {}
        }
        Ok(false)
    }
}
