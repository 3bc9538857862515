//! Plugs a disk or a network card into a level that runs. Its kernel must use it, and notice that it is removed again.

use std::rc::Rc;
use std::time::Duration;

use nestmatrix_model::LevelNumber;
use nestmatrix_vmm::qemu::{ChannelKind, HardwareDifference, PLUG_PORT};
use nestmatrix_vmm::shell::quote;
use nestmatrix_vmm::wire::{CallError, Wire};
use serde_json::{Value, json};

use super::{Done, POLL, machine_of};
use crate::Stop;
use crate::stack::Stack;
use crate::steps::text_of;

/// The identifier of the device that is plugged in.
const DEVICE: &str = "nest-plugged";
/// The identifier of its backend in QEMU: the disk's file, or the card's network.
const BACKEND: &str = "nest-plugged-backend";
/// The serial number of a disk.
const SERIAL: &str = "nest-plugged";
/// The size of a disk, in bytes.
const DISK_BYTES: u64 = 16 << 20;
/// The address of a network card. No other card has it: QEMU numbers its own from another one on.
const MAC: &str = "52:54:00:6e:65:73";

/// The script that prints the name of the disk that was plugged in, if the kernel sees it.
const FIND_DISK: &str = "for s in /sys/block/vd*/serial; do
  r=; [ -e \"$s\" ] && read -r r <\"$s\"
  [ \"$r\" = nest-plugged ] && { d=${s%/serial}; echo \"${d##*/}\"; }
done; :";

/// The script that writes random data to that disk, reads it again from the disk itself, and prints a hash of what it read and of what it
/// wrote. A variable `d` is the disk's name.
const USE_DISK: &str = "p=/run/nest-pattern
dd if=/dev/urandom of=$p bs=65536 count=4 2>/dev/null || exit 1
dd if=$p of=/dev/$d bs=65536 2>/dev/null && sync || exit 3
echo 3 >/proc/sys/vm/drop_caches
dd if=/dev/$d bs=65536 count=4 2>/dev/null | md5sum && md5sum <$p && rm -f $p";

/// The script that prints the name of the card that was plugged in, if the kernel sees it, and `1` if it has switched it on and has a link.
const FIND_CARD: &str = "modprobe virtio_net 2>/dev/null
for a in /sys/class/net/*/address; do
  m=; read -r m <\"$a\"; [ \"$m\" = 52:54:00:6e:65:73 ] || continue
  i=${a%/address}; i=${i##*/}
  ip link set dev $i up 2>/dev/null || ifconfig $i up 2>/dev/null
  c=; read -r c 2>/dev/null </sys/class/net/$i/carrier; echo \"$i $c\"
done; :";

/// Whether it is what md5sum prints of data.
fn is_hash(word: &str) -> bool {
    word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Stack<'_> {
    /// Plugs a disk into `level`, which must write to it and read from it, and removes it.
    pub(super) async fn hotplug_disk(&mut self, level: LevelNumber) -> Result<Done, Stop> {
        self.check_that_devices_can_be_plugged(level)?;
        let (id, on) = (machine_of(self, level)?, self.host_of(level)?);
        let folder = Rc::clone(&on.host).machine_host().map_err(|e| self.harness(e.to_string()))?;
        let file = folder.path_of(&format!("{id}.plugged"));
        let quoted = quote(&file);
        let (made, said) = self
            .run_on_host_of(level, &*on.host, &format!("rm -f {quoted}; truncate -s {DISK_BYTES} {quoted}"))
            .await?;
        let remove = format!("rm -f {quoted}");
        if !made {
            return Err(self.harness(format!("there is no file for a disk of {level}: {said}")));
        }
        let used = self.use_disk(level, &file).await;
        let held = match used {
            Ok(hash) => {
                let read = format!("dd if={quoted} bs=65536 count=4 2>/dev/null | md5sum");
                let (_, held) = self.run_on_host_of(level, &*on.host, &read).await?;
                match is_hash(first_word(&held)) {
                    true => Ok((hash, held)),
                    false => Err(self.harness(format!("the file of the disk can't be read: {held:?}"))),
                }
            }
            Err(stop) => Err(stop),
        };
        let (hash, held) = match held {
            Ok(held) => held,
            Err(stop) => {
                self.remove_after_stop(level, &*on.host, &remove).await;
                return Err(stop);
            }
        };
        self.run_on_host_of(level, &*on.host, &remove).await?;
        if first_word(&held) != hash {
            let seen = format!("{level} wrote data with the hash {hash}, and its file has {:?}", held.trim());
            return Err(self.wrong_hardware(level, HardwareDifference::DiskContent { seen }));
        }
        let seen = "its kernel used a new disk, whose file had what was written, and saw that it was removed";
        Ok(Done { seen: seen.to_owned(), stood_still: Duration::ZERO, booted_again: None })
    }

    /// Plugs a disk in this file in, uses it, and removes it; returns the hash of what was written.
    async fn use_disk(&mut self, level: LevelNumber, file: &str) -> Result<String, Stop> {
        let qemu = self.wire(level, ChannelKind::Qmp)?;
        let of_file = json!({"driver": "file", "filename": file});
        let backend = json!({"driver": "raw", "node-name": BACKEND, "file": of_file});
        self.during(level, async { Ok(qemu.call("blockdev-add", backend).await?) }).await?;
        self.plug(level, &qemu, "virtio-blk", json!({"drive": BACKEND, "serial": SERIAL})).await?;
        let disk = self.until_kernel_sees(level, "disk", FIND_DISK, true, |said| !said.is_empty()).await?;
        let used = self.run(level, &format!("d={disk}; {USE_DISK}")).await?;
        let said = text_of(&used);
        let mut hashes = said.lines().map(first_word);
        let (read, wrote) = (hashes.next().unwrap_or_default(), hashes.next().unwrap_or_default());
        // Without hashes, a tool is missing or there is no room for the data: that says nothing about the disk.
        let refused = used.status == Some(3);
        let has_answered = refused || (is_hash(read) && is_hash(wrote));
        if !has_answered {
            return Err(self
                .harness(format!("the new disk of {level} was not tried: {said:?}"))
                .about(level));
        }
        if refused || read != wrote {
            let seen = format!("{level} wrote to it and read it, and printed {said:?}");
            return Err(self.wrong_hardware(level, HardwareDifference::DiskContent { seen }));
        }
        let hash = wrote.to_owned();
        self.unplug(level, &qemu, "disk", FIND_DISK).await?;
        self.during(level, async { Ok(qemu.call("blockdev-del", json!({"node-name": BACKEND})).await?) })
            .await?;
        Ok(hash)
    }

    /// Plugs a network card into `level`, whose kernel must switch it on, and removes it.
    pub(super) async fn hotplug_network(&mut self, level: LevelNumber) -> Result<Done, Stop> {
        self.check_that_devices_can_be_plugged(level)?;
        let qemu = self.wire(level, ChannelKind::Qmp)?;
        // A hub to which nothing else is connected.
        let network = json!({"type": "hubport", "id": BACKEND, "hubid": 1});
        self.during(level, async { Ok(qemu.call("netdev_add", network).await?) }).await?;
        let mut card = json!({"netdev": BACKEND, "mac": MAC});
        if self.request.plan.profile.transport == "pci" {
            // Not every QEMU comes with the card's boot ROM.
            card["romfile"] = "".into();
        }
        self.plug(level, &qemu, "virtio-net", card).await?;
        let is_on = |said: &str| said.split_whitespace().nth(1) == Some("1");
        let seen = self.until_kernel_sees(level, "network card", FIND_CARD, true, is_on).await?;
        self.unplug(level, &qemu, "network card", FIND_CARD).await?;
        self.during(level, async { Ok(qemu.call("netdev_del", json!({"id": BACKEND})).await?) }).await?;
        let name = first_word(&seen);
        let seen = format!("its kernel switched on a new network card, {name}, and saw that it was removed");
        Ok(Done { seen, stood_still: Duration::ZERO, booted_again: None })
    }

    fn check_that_devices_can_be_plugged(&self, level: LevelNumber) -> Result<(), Stop> {
        match self.request.plan.profile.no_device_plugging {
            None => Ok(()),
            Some(why) => Err(self.harness(format!("{level} can't get a device: {why}"))),
        }
    }

    /// Plugs a device of this kind in, with these properties.
    async fn plug(
        &mut self,
        level: LevelNumber,
        qemu: &Wire,
        kind: &str,
        mut device: Value,
    ) -> Result<(), Stop> {
        let id = machine_of(self, level)?;
        device["driver"] = format!("{kind}-{}", self.request.plan.profile.transport).into();
        device["id"] = DEVICE.into();
        if self.machines.requested(id).is_some_and(|requested| requested.machine.hardware.plug_port) {
            device["bus"] = PLUG_PORT.into();
        }
        self.during(level, async { Ok(qemu.call("device_add", device).await?) }).await?;
        Ok(())
    }

    /// Runs a script until what it prints is what it should be after the device was plugged in or removed; returns that, without the
    /// last line end.
    async fn until_kernel_sees(
        &mut self,
        level: LevelNumber,
        device: &str,
        script: &str,
        plugged: bool,
        should: impl Fn(&str) -> bool,
    ) -> Result<String, Stop> {
        let patience = self.limits.of(level).silence;
        let clock = self.watch.stopwatch();
        loop {
            let said = text_of(&self.run(level, script).await?).trim().to_owned();
            if should(&said) {
                return Ok(said);
            }
            if clock.elapsed(&self.watch) >= patience {
                return Err(self.wrong_device(level, device, plugged));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Removes the device that was plugged in. QEMU only asks the kernel for it, and the kernel must agree. After that, the script that
    /// looks for it prints nothing.
    async fn unplug(
        &mut self,
        level: LevelNumber,
        qemu: &Wire,
        device: &str,
        script: &str,
    ) -> Result<(), Stop> {
        self.during(level, async { Ok(qemu.call("device_del", json!({"id": DEVICE})).await?) }).await?;
        let patience = self.limits.of(level).silence;
        let clock = self.watch.stopwatch();
        while self.during(level, async { Ok(has_device(qemu).await?) }).await? {
            if clock.elapsed(&self.watch) >= patience {
                return Err(self.wrong_device(level, device, false));
            }
            tokio::time::sleep(POLL).await;
        }
        self.until_kernel_sees(level, device, script, false, str::is_empty).await.map(drop)
    }

    /// The stop of a level whose kernel does not see a device that was plugged in, or still has one that was removed.
    fn wrong_device(&self, level: LevelNumber, device: &str, plugged: bool) -> Stop {
        self.wrong_hardware(level, HardwareDifference::DeviceOfKernel { device: device.to_owned(), plugged })
    }
}

/// Whether a QEMU has the device.
async fn has_device(qemu: &Wire) -> Result<bool, CallError> {
    let path = format!("/machine/peripheral/{DEVICE}");
    match qemu.call("qom-get", json!({"path": path, "property": "type"})).await {
        Ok(_) => Ok(true),
        Err(CallError::Refused { .. }) => Ok(false),
        Err(e) => Err(e),
    }
}

fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}
