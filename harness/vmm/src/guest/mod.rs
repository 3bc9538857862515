//! What runs inside a level, as seen from outside: its console, its guest agent, and the shell on the console of one without.

mod agent;
mod console;
mod shell;
mod symptom;

pub use agent::{Agent, ExecOutput, ExecState};
pub use console::{Console, printable};
pub use shell::{Answers, PanelLines, SharedAnswers, Shell};
pub use symptom::fatal_messages;
pub use symptom::{GuestFailure, Trouble, trouble_in};
