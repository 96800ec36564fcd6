//! What the parts of the house say, on standard error, without tearing the screen.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::screen::Screen;

/// Warnings only, or what every part does; `RUST_LOG` decides otherwise.
pub(crate) fn start(screen: &Screen, verbose: bool) {
    let level = if verbose { "info" } else { "warn" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let colours = io::IsTerminal::is_terminal(&io::stderr());
    // A second subscriber cannot be there: this is called once, by main.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(Above(screen.clone()))
        .try_init();
}

/// Makes writers of one event each.
struct Above(Screen);

impl<'a> MakeWriter<'a> for Above {
    type Writer = Event;

    fn make_writer(&'a self) -> Event {
        Event {
            screen: self.0.clone(),
            text: Vec::new(),
        }
    }
}

/// Collects the text of an event and shows it whole.
struct Event {
    screen: Screen,
    text: Vec<u8>,
}

impl Write for Event {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        self.screen.log(&self.text);
    }
}
