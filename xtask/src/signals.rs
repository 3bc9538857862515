//! Signals that ask the harness to end: the first ends it in order, the second at once.

use std::cell::Cell;
use std::process;
use std::rc::Rc;

use nestmatrix_stack::Cancellation;
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};

/// Listens to SIGINT, SIGTERM and SIGHUP.
pub struct Signals {
    /// Tells the run.
    pub cancellation: Cancellation,
    received: Rc<Cell<Option<u8>>>,
}

impl Signals {
    /// Begins to listen; must be called within a [`tokio::task::LocalSet`].
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
                // A shell's way to say by which signal a command ended.
                let code = 128 + u8::try_from(signal as i32).unwrap_or(0);
                if first.replace(Some(code)).is_some() {
                    // Everything that was started is tied to this process and ends with it.
                    process::exit(code.into());
                }
                eprintln!("ending in order; once more ends at once");
                let _ = request.send(true);
            }
        });
        Ok(Self { cancellation, received })
    }

    /// The exit code for the signal that was received, if one was.
    pub fn exit_code(&self) -> Option<u8> {
        self.received.get()
    }
}
