//! The conversations with a stack's machines, by their channels.

use nestmatrix_model::LevelNumber;
use nestmatrix_vmm::qemu::{ChannelKind, ChannelName};
use nestmatrix_vmm::wire::Wire;
use tokio::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Wires {
    /// In the order in which they began.
    named: Vec<(ChannelName, Wire)>,
    /// The level that was migrated to the second set of channels: the levels inside it use that, too.
    on_second: Option<LevelNumber>,
}

impl Wires {
    /// Adds a conversation.
    pub(super) fn add(&mut self, mut channel: ChannelName, wire: Wire) {
        channel.second |= self.on_second.is_some_and(|moved| channel.level > moved);
        self.named.push((channel, wire));
    }

    /// The conversation of this kind with a level, with its first machine if there is one.
    pub(super) fn of_level(&self, level: LevelNumber, kind: ChannelKind) -> Option<&Wire> {
        let of_kind = self.named.iter().filter(|(of, _)| of.level == level && of.kind == kind);
        of_kind.min_by_key(|(channel, _)| channel.second).map(|(_, wire)| wire)
    }

    /// The conversations with a machine of a level, and with the levels inside it.
    pub(super) fn from(&self, level: LevelNumber, second: bool) -> impl Iterator<Item = &Wire> {
        let inside = move |channel: &ChannelName| channel.level >= level && channel.second == second;
        self.named.iter().filter(move |(channel, _)| inside(channel)).map(|(_, wire)| wire)
    }

    /// The conversation on exactly this channel.
    pub(super) fn on(&self, channel: ChannelName) -> Option<&Wire> {
        self.named.iter().find(|(of, _)| *of == channel).map(|(_, wire)| wire)
    }

    /// When each conversation with a level received its last message.
    pub(super) fn last_received(&self, level: LevelNumber) -> impl Iterator<Item = Instant> {
        let of_level = self.named.iter().filter(move |(channel, _)| channel.level == level);
        of_level.filter_map(|(_, wire)| wire.last_received())
    }

    /// Ends the conversation over a port that was closed from inside. The QEMU of the level further in is gone, but the socket
    /// of its channel can't show that.
    pub(super) fn port_closed(&self, id: &str) {
        for (_, wire) in self.named.iter().filter(|(channel, _)| channel.to_string() == id) {
            wire.declare_closed(format!("its port {id} was closed"));
        }
    }

    /// `level` has been migrated: conversations with it and with the levels inside it use the other set of channels, and its first
    /// QEMU gets no more commands.
    pub(super) fn move_to(&mut self, level: LevelNumber, second: bool) {
        self.on_second = second.then_some(level);
        for (channel, _) in self.named.iter_mut().filter(|(channel, _)| channel.level >= level) {
            channel.second = second;
        }
        let is_monitor = |(of, _): &(ChannelName, Wire)| of.level == level && of.kind == ChannelKind::Qmp;
        if let Some(first) = self.named.iter().position(is_monitor) {
            self.named.remove(first);
        }
    }
}
