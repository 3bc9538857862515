//! Reads the QEMU command lines that the harness writes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::Failure;
use crate::script;

/// What the fake needs to know about its own command line.
#[derive(Debug)]
pub struct CommandLine {
    /// The outermost level.
    pub level: u8,
    /// The sockets of all channels, by the channels' names.
    pub sockets: BTreeMap<String, PathBuf>,
    /// Where the script is.
    pub script: PathBuf,
    /// All of it as text.
    pub text: String,
}

impl CommandLine {
    /// Reads the arguments.
    ///
    /// # Errors
    /// They are not those that the harness passes to a QEMU on this machine.
    pub fn read(arguments: &[String]) -> Result<Self, Failure> {
        let values = |name: &'static str| {
            let pairs = arguments.windows(2).filter(move |pair| pair[0] == name);
            pairs.map(|pair| pair[1].as_str())
        };
        let text = arguments.join(" ");
        let level = level_in(&text).ok_or("no level after -name")?;
        let mut sockets = BTreeMap::new();
        // A fake has no use for swtpm.
        let of_tpm = |chardev: &&str| !chardev.starts_with("socket,id=nest-tpm,");
        for chardev in values("-chardev").filter(of_tpm) {
            let (id, path) = socket(chardev).ok_or_else(|| format!("no socket: -chardev {chardev}"))?;
            let used = |value: &str| {
                let mut words = value.split([',', '=', ':']);
                words.by_ref().any(|word| word == "chardev") && words.next() == Some(&id)
            };
            if !["-mon", "-serial", "-device"].into_iter().flat_map(values).any(used) {
                return Err(format!("chardev {id} is used by nothing").into());
            }
            let name = if id.contains('.') { id } else { format!("l{level}.{id}") };
            sockets.insert(name, path);
        }
        let script = match values("-initrd").next() {
            Some(initramfs) => initramfs.into(),
            // The outermost level boots from a disk.
            None => values("-drive").find_map(script_above).ok_or("no script above the disks")?,
        };
        Ok(Self { level, sockets, script, text })
    }
}

/// The script in the nearest folder above the file of a `-drive`.
fn script_above(drive: &str) -> Option<PathBuf> {
    let (_, file) = drive.split_once(",file=")?;
    Path::new(file).ancestors().skip(1).map(|folder| folder.join(script::FILE)).find(|script| script.exists())
}

/// The identifier and the path of a character device. In a value, a comma is doubled.
fn socket(chardev: &str) -> Option<(String, PathBuf)> {
    let (id, path) = chardev.strip_prefix("socket,id=")?.split_once(",path=")?;
    Some((id.to_owned(), path.replace(",,", ",").into()))
}

/// The level that a QEMU command line, or a script with one, starts.
pub fn level_in(text: &str) -> Option<u8> {
    let (_, name) = text.split_once("-name L")?;
    name.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The text after `key` in a command line or a script with one, up to the end of the word; empty if the key is missing.
pub fn value_of<'a>(text: &'a str, key: &str) -> &'a str {
    let value = text.split_once(key).map_or("", |(_, value)| value);
    value.split([' ', ',', '\'', '\n']).next().unwrap_or_default()
}
