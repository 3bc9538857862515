//! The configuration of Bochs: its machine, and what that is connected to.

use std::fmt::Write as _;
use std::io;

use nestmatrix_vmm::qemu::Machine;
use tokio::net::TcpListener;

use crate::host::Relay;

/// The firmware, by its files' names.
pub(super) const ROMS: [&str; 2] = ["BIOS-bochs-latest", "vgabios.bin"];

/// The most memory of a machine that Bochs keeps in its own memory, in MiB; the rest is in a file.
pub(super) const MOST_MEMORY_MIB: u32 = 2048;

/// The port of L0 that is forwarded.
const RELAY_PORT: u16 = 5000;

/// The display of the machine. What it shows is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Display {
    /// None, as the user's build has it.
    None,
    /// A dumb terminal. Debian's build has no display that shows nothing.
    Terminal,
    /// The one through which a save is started.
    Rfb,
}

impl Display {
    /// Its library, with options: Bochs does not wait for a client, and asks on its standard input.
    fn library(self) -> &'static str {
        match self {
            Self::None => "nogui",
            Self::Terminal => "term",
            Self::Rfb => "rfb, options=\"timeout=0, no_gui_console\"",
        }
    }
}

/// A machine, and what Bochs connects it to.
pub(super) struct Configuration<'c> {
    pub(super) machine: &'c Machine,
    /// The listeners for its serial lines.
    pub(super) serial: &'c [TcpListener],
    pub(super) display: Display,
}

impl Configuration<'_> {
    /// bochsrc. sync=none: the guest's time runs as fast as it is emulated. A triple fault ends Bochs, as a reset ends QEMU here.
    ///
    /// # Errors
    /// A listener has no address.
    pub(super) fn text(&self) -> io::Result<String> {
        let Self { machine, serial, display } = self;
        let (guest, host) = (machine.memory_mib, machine.memory_mib.min(MOST_MEMORY_MIB));
        let [bios, vga] = ROMS;
        // Bochs makes plugins in the order of its folder, and restores a machine without its usual ones. Here, both are in this order. The
        // user's build has no plugins, and would refuse their names.
        let plugins = match display {
            Display::None => "",
            Display::Terminal | Display::Rfb => {
                "plugin_ctrl: speaker=0, gameport=0, parallel=0, iodebug=0, extfpuirq=0, unmapped=0, biosdev=0, serial=0, e1000=0
plugin_ctrl: unmapped=1, biosdev=1, serial=1, e1000=1
"
            }
        };
        let mut text = format!(
            "config_interface: textconfig
display_library: {display}
{plugins}cpu: model={}, count={}, ips=200000000, reset_on_triple_fault=0, ignore_bad_msrs=1
memory: guest={guest}, host={host}
romimage: file={bios}, options=fastboot
vgaromimage: file={vga}
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path=cd.iso, status=inserted
boot: cdrom
clock: sync=none, time0=utc
log: /dev/null
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
e1000: card=0, enabled=1, mac=52:54:00:12:34:56, ethmod=slirp, script=slirp.conf
",
            machine.cpu.model,
            machine.hardware.cpus,
            display = display.library(),
        );
        for (number, listener) in (1..).zip(*serial) {
            let address = listener.local_addr()?;
            // Writing to a String can't fail.
            let _ = writeln!(text, "com{number}: enabled=1, mode=socket-client, dev={address}");
        }
        Ok(text)
    }
}

/// The network card's configuration: nothing gets out, and one port in.
pub(super) fn network(relay: &Relay) -> String {
    let address = relay.address();
    format!(
        "# slirp config\nrestricted = 1\nipv6_enabled = 0\nhostfwd = tcp:{address}-10.0.2.15:{RELAY_PORT}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_the_machine_and_one_port_in() {
        let (relay, _held) = Relay::new().unwrap();
        let network = network(&relay);
        assert!(network.contains("restricted = 1") && network.matches("hostfwd").count() == 1, "{network}");
        assert!(network.starts_with("# slirp config\n"), "Bochs wants this line");
    }
}
