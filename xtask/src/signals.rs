//! Signals: the first shuts the run down, the second exits immediately.

use std::cell::Cell;
use std::process;
use std::rc::Rc;

use crate::terminal::note;
use nestmatrix_stack::Cancellation;
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};

/// Listens to SIGINT, SIGTERM and SIGHUP.
pub struct Signals {
    /// Requested by the first signal.
    pub cancellation: Cancellation,
    received: Rc<Cell<Option<u8>>>,
}

impl Signals {
    /// Starts to listen; must be called within a [`tokio::task::LocalSet`].
    ///
    /// # Errors
    /// The operating system's.
    pub fn listen() -> std::io::Result<Self> {
        let (request, cancellation) = Cancellation::new();
        let received = Rc::new(Cell::new(None));
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let first = Rc::clone(&received);
        tokio::task::spawn_local(async move {
            loop {
                let signal = tokio::select! {
                    _ = interrupt.recv() => Signal::SIGINT,
                    _ = terminate.recv() => Signal::SIGTERM,
                    _ = hang_up.recv() => Signal::SIGHUP,
                };
                // The exit status that a shell reports for a signal.
                let code = 128 + u8::try_from(signal as i32).unwrap_or(0);
                if first.replace(Some(code)).is_some() {
                    // All children end with this process.
                    process::exit(code.into());
                }
                let _ = request.send(true);
                note!("shutting down; press Ctrl-C again to exit immediately");
            }
        });
        Ok(Self { cancellation, received })
    }

    /// The exit code for the received signal, if there was one.
    pub fn exit_code(&self) -> Option<u8> {
        self.received.get()
    }
}
