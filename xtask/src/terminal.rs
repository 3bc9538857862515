//! Prints to the terminal, or to whatever standard output and standard error are.

use std::io::{IsTerminal, Write as _};
use std::os::fd::AsFd;

use nestmatrix::report::Style;
use terminal_size::terminal_size_of;
use tracing_subscriber::EnvFilter;

/// Logs to standard error what `NESTMATRIX_LOG` asks for.
pub fn start_log() {
    let log = EnvFilter::try_from_env("NESTMATRIX_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let colours =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(log)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        // By default, a message that can't be written ends the program with a panic.
        .log_internal_errors(false)
        .without_time()
        .init();
}

/// Prints text that is in the records too. Errors are ignored, so a closed pipe does not end the run.
pub fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Prints text to standard error. Errors are ignored: `eprint!` would panic, for example if the program that reads it has ended.
pub fn print_to_stderr(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Prints a line to standard error, as `eprintln!` does, but never panics.
#[macro_export]
macro_rules! note {
    ($($arguments:tt)*) => {
        $crate::terminal::print_to_stderr(&(format!($($arguments)*) + "\n"))
    };
}
pub use note;

/// Width and colours of a stream.
pub fn style_of<T: AsFd + IsTerminal>(stream: &T) -> Style {
    if !stream.is_terminal() {
        return Style::plain();
    }
    let width = terminal_size_of(stream).map(|(width, _)| usize::from(width.0));
    Style::for_terminal(width.filter(|width| *width > 0), |name| std::env::var_os(name))
}
