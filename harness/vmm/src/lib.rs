//! One virtual machine or emulator: its command line and process ([`qemu`]), its description for libvirt ([`libvirt`]), its guest as
//! seen from outside ([`guest`]), and the lines of JSON that are exchanged with QEMU and the guest agent ([`wire`]). What goes to a shell is quoted by [`shell`].
//! An emulator on this machine runs in a [`sandbox`].

pub mod guest;
pub mod libvirt;
pub mod qemu;
pub mod sandbox;
pub mod shell;
pub mod wire;
