//! A daemon, watched: its status, asked for again and again, and drawn.

mod screen;
mod source;
mod view;

use std::time::Duration;

use kiln_daemon::status::Status;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::failure::{Failure, While};
use crate::interrupt;
use screen::{Key, Screen};
pub(crate) use source::Source;
pub(crate) use view::Order;
use view::View;

/// How often the daemon is asked.
const INTERVAL: Duration = Duration::from_secs(1);

/// The status as lines of text, of whatever width.
pub(crate) fn snapshot(status: &Status, order: Order) -> String {
    let view = View { status, order, colours: false };
    view.lines().into_iter().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Draws the daemon's status on the terminal until somebody has seen enough.
pub(crate) async fn watch(source: Source, order: Order, colours: bool) -> Result<(), Failure> {
    // That there is a daemon shows before the screen is cleared.
    let first = source.status().await?;
    let end = interrupt::requested().doing(|| "listening for signals")?;
    let mut screen = Screen::open().doing(|| "preparing the terminal")?;
    let mut answers = ask(source);
    let mut state = State { status: first, trouble: None, order, scrolled: 0, colours };
    let mut end = std::pin::pin!(end);
    loop {
        state.draw(&mut screen).doing(|| "writing to the terminal")?;
        tokio::select! {
            biased;
            () = &mut end => return Ok(()),
            input = screen.input() => match input {
                Some(Key::Quit) => return Ok(()),
                Some(key) => state.press(key),
                None => {}
            },
            Some(answer) = answers.recv() => match answer {
                Ok(status) => (state.status, state.trouble) = (*status, None),
                Err(trouble) => state.trouble = Some(trouble),
            },
        }
    }
}

/// Asks the daemon again and again, until the answer is dropped.
fn ask(source: Source) -> mpsc::Receiver<Result<Box<Status>, String>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let answer = source.status().await.map(Box::new).map_err(|failure| failure.message());
            if sender.send(answer).await.is_err() {
                return;
            }
        }
    });
    receiver
}

struct State {
    status: Status,
    /// Why there is nothing newer.
    trouble: Option<String>,
    order: Order,
    /// Lines that are above the window.
    scrolled: usize,
    colours: bool,
}

impl State {
    fn press(&mut self, key: Key) {
        match key {
            Key::Up => self.scrolled = self.scrolled.saturating_sub(1),
            Key::Down => self.scrolled = self.scrolled.saturating_add(1),
            Key::Left => self.order = self.order.previous(),
            Key::Right => self.order = self.order.next(),
            Key::Quit | Key::Other => {}
        }
    }

    fn draw(&mut self, screen: &mut Screen) -> std::io::Result<()> {
        let view = View { status: &self.status, order: self.order, colours: self.colours };
        let mut lines = view.lines();
        if let Some(trouble) = &self.trouble {
            lines.insert(0, view.trouble(trouble));
        }
        let height = screen.size().height;
        self.scrolled = self.scrolled.min(lines.len().saturating_sub(height));
        screen.show(lines.iter().skip(self.scrolled).take(height))
    }
}
