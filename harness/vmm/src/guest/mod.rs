//! A guest as seen from outside: its console, its guest agent, and the shell on the console of a level that has no agent.

mod agent;
mod console;
mod powershell;
mod shell;
mod symptom;

pub use agent::{Agent, ExecOutput, ExecState, OpenFile};
pub use console::{Console, Shown, excerpt, printable};
pub use powershell::powershell_error;
pub use shell::{Answers, PanelLines, SharedAnswers, Shell};
pub use symptom::{GuestFailure, GuestSymptom, fatal_messages, kernel_message, symptom_in};
