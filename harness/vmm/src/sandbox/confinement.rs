//! What an emulator may reach, as data, and as words of a command line.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Ends the words of a confinement.
const END: &str = "--";

/// The words for what of the network may be used.
const PORTS: &str = "ports";
const UNRESTRICTED: &str = "unrestricted";

/// The TCP ports that an emulator may use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ports {
    /// Those that it may connect to.
    pub connect: Vec<u16>,
    /// Those that it may listen on.
    pub bind: Vec<u16>,
}

/// What of the network an emulator may use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Network {
    /// Nothing.
    #[default]
    None,
    /// These ports of this machine, and nothing else of TCP.
    Ports(Ports),
    /// All that this machine has.
    Unrestricted,
}

impl Network {
    fn ports(&mut self) -> Option<&mut Ports> {
        match self {
            Self::Ports(ports) => Some(ports),
            Self::None | Self::Unrestricted => None,
        }
    }
}

/// What an emulator may reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confinement {
    /// Files and folders that it reads and executes.
    pub read: Vec<PathBuf>,
    /// Files and folders that it also writes.
    pub write: Vec<PathBuf>,
    /// What of the network it may use.
    pub network: Network,
    /// A file that is opened before the confinement, because its path can't be opened within it. The emulator gets the descriptor, and
    /// finds the descriptor's path in its arguments instead of this one.
    pub opened: Option<PathBuf>,
    /// The size of its address space, in MiB.
    pub address_space_mib: u64,
    /// The size of a file that it writes, in MiB.
    pub file_size_mib: u64,
    /// The file that says what is in force.
    pub report: Option<PathBuf>,
}

impl Confinement {
    /// The words that [`Confinement::parse`] reads. Paths are made absolute, since the emulator may work in another folder.
    pub fn words(&self) -> Vec<OsString> {
        // Only an empty path has no absolute one.
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let mut words = Vec::new();
        let mut option = |name: &str, value: &OsStr| words.extend([name.into(), value.to_owned()]);
        for (name, paths) in [("--read", &self.read), ("--write", &self.write)] {
            paths.iter().for_each(|path| option(name, absolute(path).as_os_str()));
        }
        match &self.network {
            Network::None => {}
            Network::Ports(Ports { connect, bind }) => {
                option("--network", OsStr::new(PORTS));
                for (name, ports) in [("--connect", connect), ("--bind", bind)] {
                    ports.iter().for_each(|port| option(name, OsStr::new(&port.to_string())));
                }
            }
            Network::Unrestricted => option("--network", OsStr::new(UNRESTRICTED)),
        }
        for (name, path) in [("--opened", &self.opened), ("--report", &self.report)] {
            path.iter().for_each(|path| option(name, absolute(path).as_os_str()));
        }
        for (name, mib) in [("--address-space", self.address_space_mib), ("--file-size", self.file_size_mib)]
        {
            option(name, OsStr::new(&mib.to_string()));
        }
        words.push(END.into());
        words
    }

    /// Reads the words of a confinement; returns it and the words after it, or the word that it does not know.
    ///
    /// # Errors
    /// A word is unknown, or no word ends the confinement.
    pub fn parse(words: &[OsString]) -> Result<(Self, &[OsString]), OsString> {
        let mut read = Self::default();
        let mut rest = words;
        loop {
            let (name, value) = match rest {
                [end, after @ ..] if end == END => return Ok((read, after)),
                [name, value, after @ ..] => {
                    rest = after;
                    (name, value)
                }
                [name] => return Err(name.clone()),
                [] => return Err(END.into()),
            };
            let path = || PathBuf::from(value);
            let bad = || value.clone();
            let number = || value.to_str().and_then(|text| text.parse::<u64>().ok()).ok_or_else(bad);
            let port = || u16::try_from(number()?).map_err(|_| bad());
            match name.to_str() {
                Some("--network") if value == PORTS => read.network = Network::Ports(Ports::default()),
                Some("--network") if value == UNRESTRICTED => read.network = Network::Unrestricted,
                Some("--read") => read.read.push(path()),
                Some("--write") => read.write.push(path()),
                Some("--connect") => read.network.ports().ok_or_else(|| name.clone())?.connect.push(port()?),
                Some("--bind") => read.network.ports().ok_or_else(|| name.clone())?.bind.push(port()?),
                Some("--opened") => read.opened = Some(path()),
                Some("--report") => read.report = Some(path()),
                Some("--address-space") => read.address_space_mib = number()?,
                Some("--file-size") => read.file_size_mib = number()?,
                _ => return Err(name.clone()),
            }
        }
    }

    /// The arguments of the emulator with the path `opened` instead of that of the file which was opened for it.
    pub(super) fn with_opened(&self, arguments: &[OsString], opened: &Path) -> Vec<OsString> {
        let (Some(from), Some(to)) = (self.opened.as_ref().and_then(|path| path.to_str()), opened.to_str())
        else {
            return arguments.to_vec();
        };
        let replaced = |argument: &OsString| match argument.to_str() {
            Some(text) => replace_value(text, from, to).into(),
            None => argument.clone(),
        };
        arguments.iter().map(replaced).collect()
    }
}

/// The options of an argument with `to` instead of each value `from`. A longer path that begins like `from` stays.
fn replace_value(argument: &str, from: &str, to: &str) -> String {
    let of_option = |option: &str| match option.split_once('=') {
        Some((name, value)) if value == from => format!("{name}={to}"),
        None if option == from => to.to_owned(),
        _ => option.to_owned(),
    };
    argument.split(',').map(of_option).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_as_words_is_read_again() {
        let confinement = Confinement {
            read: vec!["/a b".into(), "/--".into()],
            write: vec!["/c".into()],
            network: Network::Ports(Ports { connect: vec![1, 2], bind: vec![3] }),
            opened: Some("/proc/1/fd/2".into()),
            address_space_mib: 4,
            file_size_mib: 5,
            report: Some("/d".into()),
        };
        for confinement in [confinement, Confinement { network: Network::Unrestricted, ..Default::default() }]
        {
            let mut words = confinement.words();
            words.extend(["qemu".into(), "--".into()]);
            let (read, after) = Confinement::parse(&words).unwrap();
            assert_eq!(read, confinement);
            assert_eq!(after, ["qemu", "--"]);
        }
    }

    #[test]
    fn every_path_is_absolute() {
        let path = || PathBuf::from("results/x");
        let relative = Confinement {
            read: vec![path()],
            write: vec![path()],
            report: Some(path()),
            ..Confinement::default()
        };
        let words = relative.words();
        let (read, _) = Confinement::parse(&words).unwrap();
        let here = std::env::current_dir().unwrap().join(path());
        assert_eq!(
            (read.read, read.write, read.report),
            (vec![here.clone()], vec![here.clone()], Some(here))
        );
    }

    #[test]
    fn an_unknown_word_is_an_error() {
        let parse = |text: &str| {
            let words: Vec<OsString> = text.split(' ').map(OsString::from).collect();
            Confinement::parse(&words).map(|_| ()).unwrap_err()
        };
        assert_eq!(parse("--reed /a -- qemu"), "--reed");
        assert_eq!(parse("--network ports --connect 65536 -- qemu"), "65536");
        assert_eq!(parse("--read /a"), "--");
    }

    #[test]
    fn only_the_whole_path_of_the_opened_file_is_replaced() {
        let confinement = Confinement { opened: Some("/proc/1/fd/2".into()), ..Confinement::default() };
        let arguments = ["mem-path=/proc/1/fd/2,share=on".into(), "file=/proc/1/fd/22".into(), "-S".into()];
        assert_eq!(
            confinement.with_opened(&arguments, Path::new("/proc/self/fd/3")),
            ["mem-path=/proc/self/fd/3,share=on", "file=/proc/1/fd/22", "-S"]
        );
    }
}
