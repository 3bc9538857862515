//! What a level with a network tried to reach, and what answered.
//!
//! QEMU copies the packets of both directions to two files in the level around (`-object filter-dump`), which are read when the
//! stack has ended. The guest can't change them. Each file is on a file system of its own with a fixed size: a guest that sends
//! without end fills that and nothing else, and QEMU then stops copying (net/dump.c).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use etherparse::{ArpPacketSlice, IcmpEchoHeader, Icmpv4Type, LaxNetSlice, LaxSlicedPacket, TransportSlice};
use nestmatrix_model::LevelNumber;
use nestmatrix_vmm::qemu::{RECEIVED, SENT, traffic_folder};
use serde::{Deserialize, Serialize};

use super::stack::Stack;
use crate::host::Host;

/// The size of the file system of each direction, in KiB.
const LIMIT_KIB: usize = 512;

/// What a level sent to one address and port, and what came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// `tcp`, `udp`, `icmp`, `igmp`, `arp`, or `ip-NUMBER`.
    pub protocol: String,
    /// The address of the other side.
    pub address: IpAddr,
    /// Its port, for protocols that have ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Bytes that the level sent there, with all headers.
    pub sent_bytes: u64,
    /// Bytes that came from there.
    pub received_bytes: u64,
    /// Whether the other side answered: for TCP, whether it accepted a connection.
    pub answered: bool,
}

/// The traffic of a level with a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Every address and port, in their order.
    pub contacts: Vec<Contact>,
    /// Whether a file was full, or ends within a packet, so that there may have been more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub incomplete: bool,
}

/// One of the two directions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Sent,
    Received,
}

/// Protocol, address and port of the other side.
type Key = (String, IpAddr, Option<u16>);

impl Traffic {
    /// Reads the files of both directions.
    fn read(sent: &[u8], received: &[u8]) -> Self {
        let mut contacts: BTreeMap<Key, Contact> = BTreeMap::new();
        let mut incomplete = false;
        for (file, direction) in [(sent, Direction::Sent), (received, Direction::Received)] {
            let is_full = file.len() + (4 << 10) > LIMIT_KIB << 10;
            let is_whole = for_each_packet(file, |length, packet| {
                let Some((key, accepts)) = side(packet, direction) else { return };
                let (protocol, address, port) = key.clone();
                let contact = contacts.entry(key).or_insert(Contact {
                    protocol,
                    address,
                    port,
                    sent_bytes: 0,
                    received_bytes: 0,
                    answered: false,
                });
                match direction {
                    Direction::Sent => contact.sent_bytes += length,
                    Direction::Received => {
                        contact.received_bytes += length;
                        contact.answered |= accepts;
                    }
                }
            });
            incomplete |= is_full || !is_whole;
        }
        Self { contacts: contacts.into_values().collect(), incomplete }
    }
}

/// Calls `with` for each packet of a file in libpcap's format: its length, and its first bytes. Returns whether the file ends with a
/// whole packet. QEMU writes numbers in the byte order of its machine.
fn for_each_packet(file: &[u8], mut with: impl FnMut(u64, &[u8])) -> bool {
    let (header, mut rest) = match file.split_at_checked(24) {
        Some(parts) => parts,
        None => return false,
    };
    let number = |bytes: &[u8]| -> Option<u32> {
        let bytes: [u8; 4] = bytes.try_into().ok()?;
        // The magic number, as a little-endian machine writes it.
        Some(if header.starts_with(&[0xd4, 0xc3, 0xb2, 0xa1]) {
            u32::from_le_bytes(bytes)
        } else {
            u32::from_be_bytes(bytes)
        })
    };
    while let Some((record, after)) = rest.split_at_checked(16) {
        let (Some(kept), Some(length)) = (number(&record[8..12]), number(&record[12..16])) else {
            return false;
        };
        let kept = usize::try_from(kept).unwrap_or(usize::MAX);
        let Some((packet, after)) = after.split_at_checked(kept) else { return false };
        with(u64::from(length), packet);
        rest = after;
    }
    rest.is_empty()
}

/// The other side of a packet, and whether the packet accepts or answers something. None if it is not about any address.
fn side(packet: &[u8], direction: Direction) -> Option<(Key, bool)> {
    let packet = LaxSlicedPacket::from_ethernet(packet).ok()?;
    let other = |source: IpAddr, destination: IpAddr| match direction {
        Direction::Sent => destination,
        Direction::Received => source,
    };
    let (address, number) = match packet.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            let address = other(header.source_addr().into(), header.destination_addr().into());
            (address, ip.payload().ip_number.0)
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            let address = other(header.source_addr().into(), header.destination_addr().into());
            (address, ip.payload().ip_number.0)
        }
        LaxNetSlice::Arp(arp) => return Some((("arp".to_owned(), arp_address(arp, direction)?, None), true)),
    };
    let port = |source: u16, destination: u16| match direction {
        Direction::Sent => Some(destination),
        Direction::Received => Some(source),
    };
    Some(match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let port = port(tcp.source_port(), tcp.destination_port());
            (("tcp".to_owned(), address, port), tcp.syn() && tcp.ack())
        }
        Some(TransportSlice::Udp(udp)) => {
            (("udp".to_owned(), address, port(udp.source_port(), udp.destination_port())), true)
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            let answers = matches!(icmp.icmp_type(), Icmpv4Type::EchoReply(IcmpEchoHeader { .. }));
            (("icmp".to_owned(), address, None), answers)
        }
        Some(TransportSlice::Icmpv6(_)) => (("icmp".to_owned(), address, None), false),
        Some(TransportSlice::Igmp(_)) => (("igmp".to_owned(), address, None), false),
        None => ((format!("ip-{number}"), address, None), false),
    })
}

fn arp_address(arp: &ArpPacketSlice<'_>, direction: Direction) -> Option<IpAddr> {
    let address = match direction {
        Direction::Sent => arp.target_protocol_addr(),
        Direction::Received => arp.sender_protocol_addr(),
    };
    let address: [u8; 4] = address.try_into().ok()?;
    Some(Ipv4Addr::from(address).into())
}

/// The script that makes the file systems for the traffic of a level's machine.
pub fn prepare_script(label: &str) -> String {
    let folder = traffic_folder(label);
    let mount = |name: &str| {
        format!("mkdir -p {folder}/{name} && mount -t tmpfs -o size={LIMIT_KIB}k tmpfs {folder}/{name}\n")
    };
    mount(SENT) + &mount(RECEIVED)
}

impl Stack<'_> {
    /// Reads the traffic of every level that has a network and whose host still answers.
    pub(super) async fn read_traffic(&mut self) {
        let plan = self.request.plan;
        let with_network = plan.levels.iter().filter(|level| level.settings.hardware.network.is_some());
        let levels: Vec<LevelNumber> = with_network.map(|plan| plan.level).collect();
        for level in levels {
            let hosts = self.levels.hosts();
            let host = hosts.into_iter().find(|(number, _)| Some(*number) == plan.around(level));
            let Some((_, host)) = host else { continue };
            let longest = self.limits.run.of(level).total;
            let mut cancellation = self.watch.cancellation();
            let label = level.to_string();
            let read = tokio::select! {
                read = tokio::time::timeout(longest, read_files(&*host, &label)) => read,
                () = cancellation.requested() => return,
            };
            match read {
                Ok(Some(traffic)) => self.ledger.level(level).traffic = Some(traffic),
                Ok(None) | Err(_) => {
                    tracing::warn!("the traffic of {level} can't be read from the level around it");
                }
            }
        }
    }
}

async fn read_files(host: &dyn Host, label: &str) -> Option<Traffic> {
    let folder = traffic_folder(label);
    let mut files = Vec::new();
    for name in [SENT, RECEIVED] {
        let read = host.run(&format!("cat {folder}/{name}/packets")).await;
        let read = read.ok().filter(|read| read.status == Some(0))?;
        files.push(read.stdout);
    }
    Some(Traffic::read(&files[0], &files[1]))
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketBuilder, TcpOptionElement};

    use super::*;

    const GUEST: [u8; 4] = [10, 0, 2, 15];
    const GATEWAY: [u8; 4] = [10, 0, 2, 2];
    const OUTSIDE: [u8; 4] = [192, 0, 2, 1];

    /// A packet from `source` to `destination`: a request to connect, or its acceptance.
    fn tcp(source: ([u8; 4], u16), destination: ([u8; 4], u16), accepts: bool) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(source.0, destination.0, 64)
            .tcp(source.1, destination.1, 1, 1000)
            .syn()
            .options(&[TcpOptionElement::MaximumSegmentSize(1460)])
            .unwrap();
        let builder = if accepts { builder.ack(2) } else { builder };
        let mut packet = Vec::new();
        builder.write(&mut packet, &[]).unwrap();
        packet
    }

    fn udp(source: ([u8; 4], u16), destination: ([u8; 4], u16)) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(source.0, destination.0, 64)
            .udp(source.1, destination.1);
        let mut packet = Vec::new();
        builder.write(&mut packet, &[7; 300]).unwrap();
        packet
    }

    /// A file as QEMU writes it with `maxlen`.
    fn file(packets: &[Vec<u8>], maxlen: usize) -> Vec<u8> {
        let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
        file.extend([0; 16]);
        for packet in packets {
            let kept = packet.len().min(maxlen);
            file.extend([0; 8]);
            file.extend(u32::try_from(kept).unwrap().to_le_bytes());
            file.extend(u32::try_from(packet.len()).unwrap().to_le_bytes());
            file.extend(&packet[..kept]);
        }
        file
    }

    fn contacts(traffic: &Traffic) -> Vec<String> {
        let text = |one: &Contact| {
            let port = one.port.map(|port| format!(":{port}")).unwrap_or_default();
            format!(
                "{} {}{port} {} {} {}",
                one.protocol, one.address, one.sent_bytes, one.received_bytes, one.answered
            )
        };
        traffic.contacts.iter().map(text).collect()
    }

    #[test]
    fn what_was_tried_and_what_answered_are_apart() {
        let sent = file(
            &[
                tcp((GUEST, 4000), (GATEWAY, 80), false),
                tcp((GUEST, 4001), (OUTSIDE, 443), false),
                udp((GUEST, 68), ([255; 4], 67)),
            ],
            64,
        );
        let received = file(&[udp((GATEWAY, 67), (GUEST, 68)), tcp((OUTSIDE, 443), (GUEST, 4001), true)], 64);
        let traffic = Traffic::read(&sent, &received);
        assert!(!traffic.incomplete);
        let expected = [
            "tcp 10.0.2.2:80 58 0 false",
            "tcp 192.0.2.1:443 58 58 true",
            "udp 10.0.2.2:67 0 342 true",
            "udp 255.255.255.255:67 342 0 false",
        ];
        assert_eq!(contacts(&traffic), expected);
    }

    #[test]
    fn a_file_that_is_cut_off_or_full_is_incomplete() {
        let packet = tcp((GUEST, 4000), (GATEWAY, 80), false);
        let (sent, nothing) = (file(&[packet.clone(), packet.clone()], 64), file(&[], 64));
        let cut = Traffic::read(&sent[..sent.len() - 1], &nothing);
        assert!(cut.incomplete && cut.contacts[0].sent_bytes == 58, "{cut:?}");
        let many = file(&vec![packet; LIMIT_KIB * 1024 / 74], 64);
        assert!(many.len() <= LIMIT_KIB << 10 && Traffic::read(&many, &nothing).incomplete);
        assert!(Traffic::read(&[], &nothing).incomplete, "QEMU writes a header at its start");
    }

    #[test]
    fn no_bytes_of_a_guest_end_the_reader() {
        let mut seed = 1_u32;
        for length in 0..400_usize {
            let mut random = || {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            };
            let packet: Vec<u8> = (0..length).map(|_| random()).collect();
            let _ = side(&packet, Direction::Sent);
            let _ = Traffic::read(&packet, &file(std::slice::from_ref(&packet), 64));
        }
    }
}
