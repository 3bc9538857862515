//! Devices that a scenario gives to a level: their options on QEMU's command line, and how QEMU shows that they are there.

use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Device, Network, NetworkCard, TpmDevice, Viommu};
use serde_json::Value;

use crate::wire::CallError;

use super::hardware::optional;
use super::tpm::{ID as TPM, TPM_SOCKET, has_tpm, tpm_folder};
use super::{Monitor, Placement};

/// A device of a machine, in addition to those of the harness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestDevice {
    /// Its name in scenarios.
    pub name: String,
    /// QEMU's type, if it is a device and not a property of the machine.
    kind: Option<&'static str>,
    /// Its own options, after its identifier.
    options: String,
    /// Options of the command line that it needs before it.
    backends: Vec<(&'static str, String)>,
    /// Properties of the machine that it needs, or that it is.
    pub(super) machine_properties: &'static [(&'static str, &'static str)],
    /// Whether it is on the bus of all other devices.
    on_bus: bool,
    /// If it is a TPM, the name of the folder of the swtpm that plays it.
    tpm_folder: Option<String>,
}

/// The size of an empty drive.
const NVME: (&str, &str) = ("blockdev", "driver=null-co,node-name=nest-nvme,size=67108864,read-zeroes=on");

/// A network of one card: a hub to which nothing else is connected.
const OWN_NETWORK: (&str, &str) = ("netdev", "hubport,id=nest-lone,hubid=0");

/// QEMU's user-mode network. Nothing leaves it: neither to this machine nor beyond (`restrict`).
const RESTRICTED: (&str, &str) = ("netdev", "user,id=nest-network,restrict=on");

/// The identifier of the network of a card for measurements.
pub const SINK: &str = "nest-sink";

/// A user-mode network that nothing leaves, with an address whose port 9 counts: each connection gets a process in the level around,
/// which reads all that is sent and then answers how many bytes it was. No address is in the network of [`RESTRICTED`].
const SINK_NETWORK: (&str, &str) =
    ("netdev", "user,id=nest-sink,restrict=on,ipv6=off,net=10.0.9.0/24,guestfwd=tcp:10.0.9.100:9-cmd:wc -c");

/// How a network names a process that it starts for a connection.
const PROCESS: &str = "-cmd:";

/// The address of this card, for which a level looks. No other card has it: the addresses that QEMU chooses begin with 52:54:00:12:34.
const SINK_MAC: &str = "52:54:00:6e:65:74";

/// The name of the direction from a level to its network.
pub const SENT: &str = "sent";
/// The name of the direction from a network to its level.
pub const RECEIVED: &str = "received";

/// How the value of the option begins that copies packets.
const PACKET_COPY: &str = "filter-dump,";

/// How many bytes of each packet are kept: all headers, without most of the data.
const KEPT_BYTES: usize = 128;

/// The folder, in the level around, of a machine's traffic.
pub fn traffic_folder(label: &str) -> String {
    format!("/run/nest/traffic-{label}")
}

fn owned((option, value): (&'static str, &str)) -> (&'static str, String) {
    (option, value.to_owned())
}

/// The options of a network card. It boots nothing, and not every QEMU comes with the card's boot ROM.
fn card_on(network: &str, is_ccw: bool) -> String {
    let without_rom = if is_ccw { "" } else { ",romfile=" };
    format!(",netdev={network}{without_rom}")
}

const SPLIT_IRQCHIP: &[(&str, &str)] = &[("kernel-irqchip", "split")];
const SMMU: &[(&str, &str)] = &[("iommu", "smmuv3")];

impl GuestDevice {
    /// The device of a machine of this architecture; none if QEMU has no such device for it.
    pub fn of(device: Device, profile: &ArchInfo) -> Option<Self> {
        let is_ccw = profile.transport == "ccw";
        let virtio = |pci, ccw| if is_ccw { ccw } else { pci };
        let plain = |kind| Self {
            name: device.to_string(),
            kind: Some(kind),
            options: String::new(),
            backends: Vec::new(),
            machine_properties: &[],
            on_bus: !is_ccw,
            tpm_folder: None,
        };
        Some(match device {
            Device::Viommu => match profile.viommu {
                Viommu::Missing(_) => return None,
                // Interrupts of devices can only be remapped by QEMU itself.
                Viommu::Device(kind) => {
                    Self { machine_properties: SPLIT_IRQCHIP, on_bus: false, ..plain(kind) }
                }
                Viommu::Property(_) => Self { kind: None, machine_properties: SMMU, ..plain("") },
            },
            Device::VirtioNet => Self {
                options: card_on("nest-lone", is_ccw),
                backends: vec![owned(OWN_NETWORK)],
                ..plain(virtio("virtio-net-pci", "virtio-net-ccw"))
            },
            Device::VirtioRng => plain(virtio("virtio-rng-pci", "virtio-rng-ccw")),
            Device::VirtioBalloon => plain(virtio("virtio-balloon-pci", "virtio-balloon-ccw")),
            Device::Watchdog => Self { on_bus: !is_ccw, ..plain(profile.watchdog) },
            Device::Nvme => Self {
                options: ",drive=nest-nvme,serial=nest-nvme".to_owned(),
                backends: vec![owned(NVME)],
                ..plain("nvme")
            },
            Device::VirtioNetSink => Self {
                options: format!("{},mac={SINK_MAC}", card_on(SINK, is_ccw)),
                backends: vec![owned(SINK_NETWORK)],
                ..plain(virtio("virtio-net-pci", "virtio-net-ccw"))
            },
        })
    }

    /// The network card of a level with a network. QEMU copies all packets into the folder of the machine with this label.
    pub fn of_network(network: Network, card: NetworkCard, profile: &ArchInfo, label: &str) -> Self {
        let is_ccw = profile.transport == "ccw";
        let folder = traffic_folder(label);
        // Which direction a packet has is QEMU's word, not that of an address in the packet. `rx` is what the network receives.
        let copy = |name: &str, queue: &str| {
            let dump = format!(
                "{PACKET_COPY}id=nest-{name},netdev=nest-network,queue={queue},maxlen={KEPT_BYTES},\
                 file={folder}/{name}/packets"
            );
            ("object", dump)
        };
        match network {
            Network::Restricted => Self {
                name: "restricted-network".to_owned(),
                kind: Some(match card {
                    NetworkCard::Virtio if is_ccw => "virtio-net-ccw",
                    NetworkCard::Virtio => "virtio-net-pci",
                    NetworkCard::E1000e => "e1000e",
                    NetworkCard::E1000 => "e1000",
                }),
                options: card_on("nest-network", is_ccw),
                backends: vec![owned(RESTRICTED), copy(SENT, "rx"), copy(RECEIVED, "tx")],
                machine_properties: &[],
                on_bus: !is_ccw,
                tpm_folder: None,
            },
        }
    }

    /// The TPM of a machine of this architecture; none if QEMU has no TPM for it.
    pub fn of_tpm(profile: &ArchInfo, label: &str) -> Option<Self> {
        let TpmDevice::Device { name: kind, .. } = profile.tpm else { return None };
        Some(Self {
            name: "tpm".to_owned(),
            kind: Some(kind),
            options: format!(",tpmdev={TPM}"),
            backends: vec![("tpmdev", format!("emulator,id={TPM},chardev={TPM}"))],
            machine_properties: &[],
            on_bus: false,
            tpm_folder: Some(tpm_folder(label)),
        })
    }

    /// The name of the folder of the swtpm that plays it, if it is a TPM.
    pub fn tpm_folder(&self) -> Option<&str> {
        self.tpm_folder.as_deref()
    }

    /// QEMU's name for its kind, if it is a TPM.
    pub(crate) fn tpm_model(&self) -> Option<&'static str> {
        self.kind.filter(|_| self.tpm_folder.is_some())
    }

    /// QEMU's options for it. `on_bus` is the end of an option that puts a device on the bus of all other devices.
    pub(crate) fn options(&self, placement: &dyn Placement, on_bus: &str) -> Vec<(&'static str, String)> {
        let mut options: Vec<(&str, String)> = Vec::new();
        options.extend(self.tpm_folder.iter().map(|folder| {
            let socket = format!("{}/{TPM_SOCKET}", placement.path_of(folder)).replace(',', ",,");
            ("chardev", format!("socket,id={TPM},path={socket}"))
        }));
        options.extend(self.backends.iter().cloned());
        if let Some(kind) = self.kind {
            let bus = if self.on_bus { on_bus } else { "" };
            options.push(("device", format!("{kind},id={}{}{bus}", self.id(), self.options)));
        }
        options
    }

    /// Whether it is an object of QEMU's with an identifier, and not a property of the machine.
    pub fn has_identifier(&self) -> bool {
        self.kind.is_some()
    }

    /// Whether QEMU starts a process for it.
    pub fn starts_processes(&self) -> bool {
        self.backends.iter().any(|(_, value)| value.contains(PROCESS))
    }

    pub(super) fn copies_packets(&self) -> bool {
        self.backends.iter().any(|(_, value)| value.starts_with(PACKET_COPY))
    }

    pub(super) fn copy_no_packets(&mut self) {
        self.backends.retain(|(_, value)| !value.starts_with(PACKET_COPY));
    }

    fn id(&self) -> String {
        format!("nest-{}", self.name)
    }

    /// The words of the command line that QEMU may name if it refuses the device.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        let tpm = self.tpm_folder.as_ref().map(|_| ["-tpmdev", "tpmdev", TPM]);
        let properties = self.machine_properties.iter().map(|(name, _)| *name);
        self.kind.into_iter().chain(properties).chain(tpm.into_iter().flatten())
    }

    /// Whether the machine has it: the object exists, has its type, and is in use.
    pub(super) async fn is_in(&self, monitor: &Monitor) -> Result<bool, CallError> {
        let Some(kind) = self.kind else {
            for (property, value) in self.machine_properties {
                if optional(monitor.property("/machine", property).await)?.as_str() != Some(value) {
                    return Ok(false);
                }
            }
            return Ok(true);
        };
        let path = format!("/machine/peripheral/{}", self.id());
        let is = optional(monitor.property(&path, "type").await)?;
        let realized = optional(monitor.property(&path, "realized").await)?;
        let is_there = is.as_str() == Some(kind) && realized == Value::Bool(true);
        Ok(is_there && (self.tpm_folder.is_none() || has_tpm(monitor, kind).await?))
    }
}
