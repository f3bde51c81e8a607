//! The terminal: lines out, lines in.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    thread,
};

use tokio::sync::mpsc;

/// Lines typed ahead; more wait in the pipe.
const TYPED_AHEAD: usize = 16;

/// Prints a line at once, also into a pipe.
pub(crate) fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Clears the screen and prints `frame` in its place.
pub(crate) fn redraw(frame: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    write!(out, "\x1b[H\x1b[2J{frame}")?;
    out.flush()
}

/// Whether a person looks at standard output.
pub(crate) fn is_screen() -> bool {
    io::stdout().is_terminal()
}

/// The lines of standard input, until its end. A thread of its own reads them, for a read of a terminal cannot be
/// cancelled and must not hold up the end of the process.
pub(crate) fn lines() -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel(TYPED_AHEAD);
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if send.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receive
}
