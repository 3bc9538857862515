//! What a host reports about itself, as far as nesting depends on it: one shell script and one parser, for this machine and
//! for every booted level. The script only reads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nestmatrix_model::Isa;
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_stack::host::{Facts, HostError, facts_script, run_here};
use nestmatrix_vmm::shell::quote;
use serde::Serialize;

/// What a host reports about itself. What it does not report is empty: absence is a fact too.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Probe {
    /// The facts that are collected from the levels of every stack.
    #[serde(skip)]
    pub facts: Facts,
    /// Its instruction set, as its kernel names it (`uname -m`).
    pub machine: String,
    /// The vendor or the model of its processor: `AuthenticAMD`, `POWER9`, `IBM/S390`.
    pub processor: String,
    /// The number of its processors.
    pub processors: u64,
    /// Its memory, in MiB.
    pub memory_mib: u64,
    /// Its available memory, in MiB.
    pub available_memory_mib: u64,
    /// The number of reserved huge pages.
    pub huge_pages: u64,
    /// The size of a huge page, in KiB.
    pub huge_page_kib: u64,
    /// The result of opening /dev/kvm for reading and writing: `ok` or the operating system's error.
    pub kvm_opens: String,
    /// The mode of /dev/kvm, as `ls` prints it.
    pub kvm_mode: String,
    /// The group of /dev/kvm.
    pub kvm_group: String,
    /// The members of that group in /etc/group.
    pub kvm_members: Vec<String>,
    /// The user's id.
    pub uid: String,
    /// The user's name.
    pub user: String,
    /// The user's groups in this session.
    pub groups: Vec<String>,
    /// The KVM modules that are loaded or built into the kernel.
    pub kvm_modules: Vec<String>,
    /// Whether the architecture's module can be unloaded: it is not built into the kernel.
    pub unloadable: bool,
    /// The module's use count.
    pub module_users: u64,
    /// Where the module is.
    pub module_file: ModuleFile,
    /// `hpage` of the module `kvm`: whether IBM Z backs guests with huge pages.
    pub hpage: String,
    /// The lines of modprobe's configuration that set options of the module, each with its file.
    pub options: Vec<(String, String)>,
    /// The module's `nested` on the kernel command line.
    pub command_line_nested: String,
    /// The parameter on the kernel's command line that switches nesting on, without its name: `nested` of `kvm-arm.mode=nested`.
    pub command_line_mode: String,
    /// The installed QEMU for the architecture.
    pub qemu: String,
    /// Its version.
    pub qemu_version: String,
    /// Whether `apt-get` is installed, which builds images.
    pub apt: bool,
    /// Free disk space in MiB, by purpose.
    pub disks: BTreeMap<String, u64>,
}

/// Where a host has a kernel module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModuleFile {
    /// It can be loaded.
    Loadable,
    /// It is built into the kernel.
    BuiltIn,
    /// The module folder of the running kernel does not have it.
    Missing,
    /// The running kernel has no module folder.
    #[default]
    NoFolder,
}

/// The keys that the script always prints, in addition to those of [`Facts`].
#[cfg(test)]
const KEYS: [&str; 23] = [
    "machine",
    "processor",
    "processors",
    "memory-kib",
    "available-kib",
    "huge-pages",
    "huge-page-kib",
    "kvm-opens",
    "kvm-mode",
    "kvm-group",
    "kvm-members",
    "uid",
    "user",
    "groups",
    "kvm-modules",
    "unloadable",
    "module-users",
    "module-file",
    "hpage",
    "command-line-nested",
    "command-line-mode",
    "qemu",
    "apt",
];

/// The script whose output [`Probe::parse`] reads: POSIX shell, with tools that every system and busybox have, so without
/// awk. It also prints the free space of `folders`, by purpose; they need not exist yet.
pub fn script(profile: &ArchInfo, folders: &[(&str, PathBuf)]) -> String {
    let (module, qemu) = (profile.kvm_module, profile.qemu);
    let switch = profile.nesting_switch.kernel_parameter().and_then(|parameter| parameter.split_once('='));
    let mode = switch.map_or(String::new(), |(name, _)| format!("{name}=*) m=${{o#*=}};; "));
    // In files and on command lines, a module's name can have `-` or `_`.
    let either = module.replace('_', "[-_]");
    let mut script = facts_script(module);
    script.push_str(&format!(
        "LC_ALL=C; set -f
         echo \"machine=$(uname -m)\"
         t=$(printf '\\t'); v=
         while IFS=: read -r k w; do
           case $k in vendor_id*|cpu$t*) v=$w; break;; esac
         done </proc/cpuinfo
         echo \"processor=$v\"; echo \"processors=$(grep -c '^processor' /proc/cpuinfo)\"
         m=; a=; h=; s=
         while read -r k w u; do
           case $k in MemTotal:) m=$w;; MemAvailable:) a=$w;; HugePages_Total:) h=$w;; Hugepagesize:) s=$w;; esac
         done </proc/meminfo
         echo \"memory-kib=$m\"; echo \"available-kib=$a\"; echo \"huge-pages=$h\"; echo \"huge-page-kib=$s\"
         e=; l=; g=; w=
         if [ -c /dev/kvm ]; then
           if e=$( (: <>/dev/kvm) 2>&1); then e=ok; else e=${{e##*: }}; fi
           set -- $(ls -l /dev/kvm); l=$1; g=$4
           while IFS=: read -r n p i u; do [ \"$n\" = \"$g\" ] && w=$u; done 2>/dev/null </etc/group
         fi
         echo \"kvm-opens=$e\"; echo \"kvm-mode=$l\"; echo \"kvm-group=$g\"; echo \"kvm-members=$w\"
         echo \"uid=$(id -u)\"; echo \"user=$(id -un 2>/dev/null)\"; echo \"groups=$(id -Gn 2>/dev/null)\"
         set +f; k=
         for d in /sys/module/kvm*; do [ -d $d ] && k=\"$k ${{d##*/}}\"; done
         echo \"kvm-modules=${{k# }}\"
         u=no; grep -qs '^{module} ' /proc/modules && u=yes; echo \"unloadable=$u\"
         n=; [ -r /sys/module/{module}/refcnt ] && read -r n </sys/module/{module}/refcnt; echo \"module-users=$n\"
         read -r r </proc/sys/kernel/osrelease; d=/lib/modules/$r; f=missing
         [ -d $d ] || f=no-folder
         grep -qs '/{either}\\.ko' $d/modules.dep && f=loadable
         grep -qs '/{either}\\.ko' $d/modules.builtin && f=built-in
         echo \"module-file=$f\"
         n=; [ -r /sys/module/kvm/parameters/hpage ] && read -r n </sys/module/kvm/parameters/hpage; echo \"hpage=$n\"
         for d in /etc /run /usr/local/lib /usr/lib /lib; do
           [ -d $d/modprobe.d ] && [ ! -L $d ] && grep -Es '^[[:space:]]*options[[:space:]]+{either}[[:space:]]' \\
             $d/modprobe.d/*.conf /dev/null
         done | while read -r o; do echo \"option=$o\"; done
         read -r c </proc/cmdline; n=; m=; set -f
         for o in $c; do case $o in {either}.nested=*) n=${{o#*=}};; {mode}esac; done
         echo \"command-line-nested=$n\"; echo \"command-line-mode=$m\"
         q=$(command -v {qemu}) || q=/usr/libexec/qemu-kvm
         [ -x \"$q\" ] || q=; echo \"qemu=$q\"
         [ -z \"$q\" ] || echo \"qemu-version=$(\"$q\" --version 2>/dev/null | head -n 1)\"
         a=no; command -v apt-get >/dev/null 2>&1 && a=yes; echo \"apt=$a\"\n"
    ));
    for (what, folder) in folders {
        script.push_str(&format!(
            "echo \"disk.{what}=$(df -Pk {} 2>/dev/null | tail -n 1)\"\n",
            quote(&existing(folder).display().to_string())
        ));
    }
    script.push_str("true\n");
    script
}

/// The folder, or its nearest existing parent.
fn existing(folder: &Path) -> &Path {
    folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(folder)
}

impl Probe {
    /// Probes this machine.
    ///
    /// # Errors
    /// The shell could not run.
    pub async fn of_this_machine(profile: &ArchInfo, folders: &[(&str, PathBuf)]) -> Result<Self, HostError> {
        let output = run_here(&script(profile, folders)).await?;
        Ok(Self::parse(&String::from_utf8_lossy(&output.stdout)))
    }

    /// Reads the script's output.
    pub fn parse(output: &str) -> Self {
        let mut probe = Self { facts: Facts::parse(output), ..Self::default() };
        for line in output.lines() {
            if let Some((key, value)) = line.split_once('=') {
                probe.take(key, value.trim());
            }
        }
        probe
    }

    fn take(&mut self, key: &str, value: &str) {
        let number = || value.parse::<u64>().unwrap_or(0);
        let words = |separator: char| {
            value.split(separator).filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        match key {
            "machine" => self.machine = value.to_owned(),
            "processor" => self.processor = value.to_owned(),
            "processors" => self.processors = number(),
            "memory-kib" => self.memory_mib = number() >> 10,
            "available-kib" => self.available_memory_mib = number() >> 10,
            "huge-pages" => self.huge_pages = number(),
            "huge-page-kib" => self.huge_page_kib = number(),
            "kvm-opens" => self.kvm_opens = value.to_owned(),
            "kvm-mode" => self.kvm_mode = value.to_owned(),
            "kvm-group" => self.kvm_group = value.to_owned(),
            "kvm-members" => self.kvm_members = words(','),
            "uid" => self.uid = value.to_owned(),
            "user" => self.user = value.to_owned(),
            "groups" => self.groups = words(' '),
            "kvm-modules" => self.kvm_modules = words(' '),
            "unloadable" => self.unloadable = value == "yes",
            "module-users" => self.module_users = number(),
            "module-file" => self.module_file = ModuleFile::parse(value),
            "hpage" => self.hpage = value.to_owned(),
            "option" => {
                if let Some((file, line)) = value.split_once(':') {
                    self.options.push((file.to_owned(), line.trim().to_owned()));
                }
            }
            "command-line-nested" => self.command_line_nested = value.to_owned(),
            "command-line-mode" => self.command_line_mode = value.to_owned(),
            "qemu" => self.qemu = value.to_owned(),
            "qemu-version" => self.qemu_version = qemu_version(value),
            "apt" => self.apt = value == "yes",
            _ => {
                // What `df` did not print is unknown, not 0.
                if let (Some(what), Some(kib)) = (key.strip_prefix("disk."), free_kib(value)) {
                    self.disks.insert(what.to_owned(), kib >> 10);
                }
            }
        }
    }

    /// Whether the host is itself a guest. Only x86 processors report this.
    pub fn is_guest(&self) -> bool {
        self.has_flag("hypervisor")
    }

    /// Whether its processor has this flag.
    pub fn has_flag(&self, flag: &str) -> bool {
        self.facts.cpu_flags.iter().any(|known| known == flag)
    }

    /// Its instruction set, if it is in the table.
    pub fn isa(&self) -> Option<Isa> {
        Isa::of_machine(&self.machine)
    }

    /// The value that modprobe's configuration gives to the module's `nested`, and the file that sets it. Files are read in the
    /// order of their names, across folders, and the last option wins. Of two files with one name, only the one in the first
    /// folder is read (modprobe.d(5)).
    pub fn configured_nested(&self) -> Option<(&str, bool)> {
        let name = |file: &'_ str| file.rsplit('/').next().unwrap_or_default().to_owned();
        let hidden = |file: &str| {
            let first = self.options.iter().find(|(other, _)| name(other) == name(file));
            first.is_some_and(|(first, _)| first != file)
        };
        let mut set: Vec<(&str, bool)> = self
            .options
            .iter()
            .filter(|(file, _)| !hidden(file))
            .filter_map(|(file, line)| {
                let mut values =
                    line.split_ascii_whitespace().filter_map(|word| word.strip_prefix("nested="));
                Some((file.as_str(), is_on(values.next_back()?)))
            })
            .collect();
        set.sort_by_key(|(file, _)| name(file));
        set.pop()
    }

    /// Whether the module's `nested` is on; `None` if the parameter does not exist.
    pub fn nested(&self) -> Option<bool> {
        self.facts.nested.as_deref().map(is_on)
    }
}

impl ModuleFile {
    fn parse(word: &str) -> Self {
        match word {
            "loadable" => Self::Loadable,
            "built-in" => Self::BuiltIn,
            "missing" => Self::Missing,
            _ => Self::NoFolder,
        }
    }
}

/// Whether a parameter of a module is on: `1` and `Y` are.
pub(super) fn is_on(value: &str) -> bool {
    matches!(value, "1" | "Y" | "y")
}

/// The free space in a line of `df`. Device and mount point may contain spaces; the free space stands before the percentage.
fn free_kib(line: &str) -> Option<u64> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let is_part = |word: &&str| word.strip_suffix('%').is_some_and(|part| part.parse::<u64>().is_ok());
    let part = words.iter().position(is_part)?;
    words.get(part.checked_sub(1)?)?.parse().ok()
}

/// `10.0.2` of `QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)`.
fn qemu_version(line: &str) -> String {
    let after = line.split_once("version ").map_or(line, |(_, after)| after);
    after.split([' ', '(']).next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use nestmatrix_model::{Architecture, Word as _};
    use rstest::rstest;

    use super::*;

    #[test]
    fn the_script_runs_in_this_machines_shell_and_gives_every_key() {
        for architecture in Architecture::ALL.iter().copied() {
            let folder = std::env::temp_dir().join("not there yet").join("nor this");
            let script = script(ArchInfo::of(architecture), &[("cache", folder)]);
            let output = std::process::Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
            for key in KEYS.iter().copied().chain(["kernel", "flags", "disk.cache"]) {
                let times = said.lines().filter(|line| line.split('=').next() == Some(key)).count();
                assert_eq!(times, 1, "{key} in {said}");
            }
            let probe = Probe::parse(&said);
            assert_eq!(probe.isa(), Isa::of_this_machine());
            assert!(probe.memory_mib > 0 && probe.processors > 0 && probe.disks["cache"] > 0, "{probe:#?}");
            assert_eq!(probe.kvm_opens.is_empty(), !Path::new("/dev/kvm").exists(), "{probe:#?}");
        }
    }

    #[rstest]
    #[case::by_the_names_of_files(
        "/etc/modprobe.d/zz.conf:0 /usr/lib/modprobe.d/qemu.conf:1",
        "/etc/modprobe.d/zz.conf",
        false
    )]
    #[case::of_one_name_the_first_folder(
        "/etc/modprobe.d/kvm.conf:1 /usr/lib/modprobe.d/kvm.conf:0",
        "/etc/modprobe.d/kvm.conf",
        true
    )]
    #[case::of_one_file_the_last(
        "/etc/modprobe.d/kvm.conf:1 /etc/modprobe.d/kvm.conf:0",
        "/etc/modprobe.d/kvm.conf",
        false
    )]
    fn of_modprobes_files_the_one_counts_that_counts_for_modprobe(
        #[case] lines: &str,
        #[case] file: &str,
        #[case] on: bool,
    ) {
        let option = |line: &str| {
            let (file, value) = line.split_once(':').unwrap();
            format!("option={file}:options kvm_amd nested={value}\n")
        };
        let probe = Probe::parse(&lines.split(' ').map(option).collect::<String>());
        assert_eq!(probe.configured_nested(), Some((file, on)));
    }

    #[test]
    fn what_is_printed_is_read() {
        let probe = Probe::parse(
            "flags=: fpu svm npt hypervisor\nmachine=x86_64\nprocessor=AuthenticAMD\nmemory-kib=8388608\n\
             kvm-opens=Permission denied\nkvm-members=ann,ben\nkvm-modules=kvm kvm_amd\nunloadable=yes\nnested=0\n\
             option=/etc/modprobe.d/a.conf:options kvm_amd nested=0\n\
             option=/etc/modprobe.d/kvm.conf:options kvm-amd avic=1 nested=1\n\
             qemu-version=QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\ndisk.cache=/dev/a disk 9 7 2048 78% /mnt/my 5% disk\ndisk.snapshots=rootfs 0 0 0 - /\n",
        );
        assert_eq!((probe.isa(), probe.memory_mib, probe.nested()), (Some(Isa::Amd64), 8192, Some(false)));
        assert!(probe.is_guest() && probe.unloadable && probe.has_flag("npt"));
        assert_eq!(probe.kvm_members, ["ann", "ben"]);
        assert_eq!(probe.configured_nested(), Some(("/etc/modprobe.d/kvm.conf", true)));
        assert_eq!(probe.qemu_version, "10.0.2");
        assert_eq!(probe.disks, BTreeMap::from([("cache".to_owned(), 2)]));
    }
}
