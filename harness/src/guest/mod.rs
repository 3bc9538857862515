//! What runs inside a level, as seen from outside: its console and its guest agent.

mod agent;
mod console;
mod symptom;

pub use agent::{Agent, ExecOutput, ExecState};
pub use console::{Console, printable};
pub use symptom::symptom_in;
