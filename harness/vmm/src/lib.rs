//! One virtual machine or emulator: its command line and process ([`qemu`]), what runs in it as seen from outside ([`guest`]), and
//! the lines of JSON by which QEMU and the guest agent are spoken to ([`wire`]).

pub mod guest;
pub mod qemu;
pub mod wire;
