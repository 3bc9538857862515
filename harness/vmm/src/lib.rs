//! One virtual machine or emulator: its command line and process ([`qemu`]), its guest as seen from outside ([`guest`]), and the lines
//! of JSON that are exchanged with QEMU and the guest agent ([`wire`]).

pub mod guest;
pub mod qemu;
pub mod wire;
