//! What a host reports about itself: one shell script and one reader, for this machine and for every level.

use std::collections::BTreeMap;

use nestmatrix_model::Version;
use nestmatrix_model::architecture::{ArchInfo, TraceEvent};
use nestmatrix_vmm::guest::excerpt;
use serde::{Deserialize, Serialize};

use super::HyperVReport;

/// KVM's counters by name, from its debugfs folder (Linux, Documentation/virt/kvm, `kvm_stats_debugfs`), and the trace events
/// that are counted if KVM has no such counter.
pub type Counters = BTreeMap<String, u64>;

/// The most CPU flags that are kept; x86 has about 150.
const MOST_FLAGS: usize = 1000;
/// The most counters of KVM that are kept. Linux has about 100, and two for each machine.
const MOST_COUNTERS: usize = 1000;
/// The most parameters of KVM that are kept. Linux has about 50.
const MOST_PARAMETERS: usize = 1000;

/// What a host reports about itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Kernel release.
    pub kernel: String,
    /// `ID` of its os-release, if it has one; `centos-stream` for CentOS Stream, which has the id of CentOS Linux.
    pub os: String,
    /// `VERSION_ID` of its os-release. That of CentOS Linux has no minor version, which comes from its own file.
    pub os_version: String,
    /// Serial number of the disk with its root file system; absent if that is in memory or on a logical volume.
    #[serde(default)]
    pub root_disk: Option<String>,
    /// CPU flags of /proc/cpuinfo.
    pub cpu_flags: Vec<String>,
    /// /dev/kvm exists and may be opened for reading and writing.
    pub kvm_device: bool,
    /// KVM's module for the architecture is loaded, or part of the kernel. /dev/kvm can exist without it.
    pub kvm_module: bool,
    /// The kernel's last message about KVM, if /dev/kvm does not exist.
    pub kvm_says: Option<String>,
    /// The `nested` parameter of KVM's module: `Y`, `1`, `N`, `0`; absent if the module is.
    pub nested: Option<String>,
    /// Requested parameters of KVM's module, by name.
    #[serde(default)]
    pub kvm_parameters: BTreeMap<String, String>,
    /// KVM's counters; empty if they can't be read.
    pub counters: Counters,
    /// What it reports about its Hyper-V, if it is a Windows that does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hyper_v: Option<HyperVReport>,
    /// Its uptime by its own clock, in seconds (Linux, `/proc/uptime`).
    #[serde(default)]
    pub uptime: Option<f64>,
    /// How many CPUs its kernel uses (Linux, `/sys/devices/system/cpu/online`).
    #[serde(default)]
    pub cpus: Option<u32>,
}

/// The number of CPUs in a list of the kernel such as `0-1,3` (Linux, Documentation/admin-guide/cputopology.rst).
pub(crate) fn cpus_in(list: &str) -> Option<u32> {
    let mut count: u32 = 0;
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        // Nothing in it is trusted: it may come from a guest.
        count = last.checked_sub(first)?.checked_add(1)?.checked_add(count)?;
    }
    Some(count)
}

/// The script whose output [`Facts::parse`] reads. POSIX shell with as few processes as possible: under two hypervisors and an
/// emulator, each costs milliseconds.
pub fn script(kvm_module: &str) -> String {
    format!(
        "read -r r </proc/sys/kernel/osrelease; echo \"kernel=$r\"
         read -r u _ </proc/uptime; echo \"uptime=$u\"
         if [ -r /sys/devices/system/cpu/online ]; then read -r c </sys/devices/system/cpu/online; echo \"cpus-online=$c\"; fi
         if [ -r /etc/os-release ]; then . /etc/os-release; echo \"os=$ID\"; echo \"os-version=$VERSION_ID\"; fi
         r=; while read -r _ _ m _ p _; do [ \"$p\" = / ] && r=/sys/dev/block/$m; done </proc/self/mountinfo
         for f in $r/serial $r/../serial; do if [ -r $f ]; then s=; read -r s <$f; echo \"root-disk=$s\"; break; fi; done
         if [ \"$ID\" = centos ]; then
           echo \"os-name=$NAME\"
           if [ -r /etc/centos-release ]; then read -r r </etc/centos-release; echo \"centos-release=$r\"; fi
         fi
         while read -r k v; do case \"$k\" in flags|Features|features) echo \"flags=$v\"; break;; esac; done </proc/cpuinfo
         if [ -c /dev/kvm ] && [ -r /dev/kvm ] && [ -w /dev/kvm ]; then echo kvm-device; fi
         if [ ! -c /dev/kvm ] || [ ! -d /sys/module/{kvm_module} ]; then echo \"kvm-says=$(dmesg 2>/dev/null | grep -i kvm | grep -v nest.kvm= | tail -n 1)\"; fi
         if [ -d /sys/module/{kvm_module} ]; then echo kvm-module; fi
         if [ -r /sys/module/{kvm_module}/parameters/nested ]; then
           read -r n </sys/module/{kvm_module}/parameters/nested; echo \"nested=$n\"
         fi\n"
    )
}

/// The same with KVM's counters.
pub(super) fn script_with_counters(kvm_module: &str) -> String {
    script(kvm_module) + &counters_script(INSTANCES)
}

/// The script that prints a parameter of KVM's module, if the module has it; see [`Facts::parse`].
pub fn parameter_script(kvm_module: &str, name: &str) -> String {
    let file = format!("/sys/module/{kvm_module}/parameters/{name}");
    format!("if [ -r {file} ]; then read -r p <{file}; echo \"kvm-parameter={name}:$p\"; fi\n")
}

/// Where tracing counts in a kernel whose KVM has no such counter. A tracing instance has its own events and its own buffer, so
/// nothing else is counted in it, and no other process empties it.
const INSTANCES: &str = "/sys/kernel/tracing/instances";

/// The script that makes tracing count nested entries, in an instance with the event's name, if KVM is loaded and does not
/// count them. The count is exact however small the buffer is: overwritten events stay counted.
pub fn count_nested_script(profile: &ArchInfo) -> String {
    let Some(TraceEvent { system, name, filter }) = profile.nested_event else { return String::new() };
    let counter = profile.nested_counter.unwrap_or("none");
    format!(
        "if [ -d /sys/kernel/debug/kvm ] && [ ! -e /sys/kernel/debug/kvm/{counter} ]; then
           [ -d {INSTANCES} ] || mount -t tracefs tracefs /sys/kernel/tracing
           mkdir -p {INSTANCES}/{name} && cd {INSTANCES}/{name} && echo 1 >buffer_size_kb &&
           cd events/{system}/{name} && echo '{filter}' >filter && echo 1 >enable
         fi\n"
    )
}

/// The script that prints each counter as `NAME:VALUE` after the line `counters`; it prints nothing if they can't be read.
fn counters_script(instances: &str) -> String {
    format!(
        "cd /sys/kernel/debug/kvm 2>/dev/null && echo counters && grep -s . * || :
         for i in {instances}/kvm_*; do
           [ -d $i ] || continue
           n=0
           for f in $i/per_cpu/cpu*/stats; do
             while IFS=': ' read -r k v; do case $k in entries|overrun) n=$((n + v));; esac; done <$f
           done
           echo \"${{i##*/}}:$n\"
         done"
    )
}

/// The last answers of a host, when its stack has ended or stopped.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClosingReport {
    /// KVM's counters.
    pub counters: Counters,
    /// The kernel's messages.
    pub messages: String,
    /// How long it has run by its own clock, in seconds.
    pub uptime: Option<f64>,
}

/// The line before the uptime in the output of [`closing_script`].
const UPTIME: &str = "nestmatrix-uptime=";

/// The script that prints the uptime and the kernel's messages, or only the last ones; see [`ClosingReport::parse`].
pub(super) fn messages_script(last: Option<usize>) -> String {
    let last = last.map_or(String::new(), |last| format!(" | tail -n {last}"));
    format!("read -r u _ </proc/uptime; echo {UPTIME}$u; dmesg 2>/dev/null{last}")
}

/// The same, and then the counters.
pub(super) fn closing_script(last: Option<usize>) -> String {
    format!("{}; {}", messages_script(last), counters_script(INSTANCES))
}

impl ClosingReport {
    /// Reads the output of [`closing_script`].
    pub(super) fn parse(output: &str) -> Self {
        let before_counters = output.lines().take_while(|line| *line != "counters");
        let (uptime, messages): (Vec<&str>, Vec<&str>) =
            before_counters.partition(|line| line.starts_with(UPTIME));
        let uptime = uptime.first().and_then(|line| line.strip_prefix(UPTIME)?.trim().parse().ok());
        Self { counters: read_counters(output), messages: messages.join("\n"), uptime }
    }
}

/// Reads the counters after a line `counters` of a script's output.
fn read_counters(output: &str) -> Counters {
    let lines = output.lines().skip_while(|line| *line != "counters").skip(1);
    lines
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((excerpt(name), value.trim().parse().ok()?))
        })
        .take(MOST_COUNTERS)
        .collect()
}

/// A line of the kernel's messages without the time in front of it.
fn without_time(line: &str) -> String {
    let text = line.strip_prefix('[').and_then(|line| line.split_once("] ")).map_or(line, |(_, text)| text);
    text.to_owned()
}

/// The id of a system that has this `ID` and this `NAME` in its os-release.
pub fn system_id<'t>(id: &'t str, name: &str) -> &'t str {
    if id == "centos" && name.starts_with("CentOS Stream") { "centos-stream" } else { id }
}

impl Facts {
    /// Takes the minor version from a line such as `CentOS Linux release 7.9.2009 (Core)`, if its major version is the known one.
    fn add_minor_version(&mut self, release: &str) {
        let version = release.split(' ').find_map(Version::at_start_of);
        let same =
            |version: &Version| version.minor.is_some() && self.os_version == version.major.to_string();
        if let Some(version) = version.filter(same) {
            self.os_version = version.to_string();
        }
    }

    /// The CPU flags of this host that `other` does not have.
    pub fn flags_missing_in(&self, other: &Self) -> Vec<String> {
        self.cpu_flags.iter().filter(|flag| !other.cpu_flags.contains(flag)).cloned().collect()
    }

    /// Reads the script's output. Missing values stay empty: absence is a fact too. No value is longer than an [`excerpt`].
    pub fn parse(output: &str) -> Self {
        let mut facts = Self { counters: read_counters(output), ..Self::default() };
        for line in output.lines().take_while(|line| *line != "counters") {
            match line.split_once('=') {
                Some(("kernel", value)) => facts.kernel = excerpt(value),
                Some(("os", value)) => facts.os = excerpt(value),
                Some(("root-disk", value)) => facts.root_disk = Some(excerpt(value)),
                Some(("os-version", value)) => facts.os_version = excerpt(value),
                Some(("os-name", value)) => facts.os = system_id(&facts.os, value).to_owned(),
                Some(("centos-release", value)) => facts.add_minor_version(value),
                Some(("flags", value)) => {
                    let flags = value.trim_start_matches(':').split_ascii_whitespace();
                    facts.cpu_flags = flags.take(MOST_FLAGS).map(excerpt).collect();
                }
                Some(("cpus-online", value)) => facts.cpus = cpus_in(value),
                Some(("uptime", value)) => facts.uptime = value.parse().ok(),
                Some(("nested", value)) => facts.nested = Some(excerpt(value)),
                Some(("kvm-parameter", value)) if facts.kvm_parameters.len() < MOST_PARAMETERS => {
                    let parameter = value.split_once(':');
                    facts
                        .kvm_parameters
                        .extend(parameter.map(|(name, value)| (excerpt(name), excerpt(value))));
                }
                Some(("kvm-says", value)) if !value.is_empty() => {
                    facts.kvm_says = Some(without_time(&excerpt(value)))
                }
                None if line == "kvm-device" => facts.kvm_device = true,
                None if line == "kvm-module" => facts.kvm_module = true,
                _ => {}
            }
        }
        facts
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn facts_are_read_from_what_the_script_prints() {
        let facts = Facts::parse(
            "kernel=6.12.1\nos=debian\nos-version=13\nflags=: fpu svm npt\nkvm-device\nkvm-module\nnested=1\ncounters\n\
             exits:80475\nnested_run:6479\nvm-1:not a number\n",
        );
        assert_eq!((facts.kernel.as_str(), facts.os_version.as_str()), ("6.12.1", "13"));
        assert_eq!(facts.cpu_flags, ["fpu", "svm", "npt"]);
        assert!(facts.kvm_device && facts.kvm_module && facts.kvm_says.is_none());
        assert_eq!(facts.nested.as_deref(), Some("1"));
        assert_eq!(facts.counters, Counters::from([("exits".into(), 80475), ("nested_run".into(), 6479)]));
    }

    #[rstest]
    #[case::almalinux("os=almalinux\nos-version=9.4\n", "almalinux 9.4")]
    #[case::rocky("os=rocky\nos-version=8.10\n", "rocky 8.10")]
    #[case::rhel("os=rhel\nos-version=9.4\n", "rhel 9.4")]
    #[case::fedora("os=fedora\nos-version=43\n", "fedora 43")]
    #[case::stream(
        "os=centos\nos-version=9\nos-name=CentOS Stream\ncentos-release=CentOS Stream release 9\n",
        "centos-stream 9"
    )]
    #[case::centos_7(
        "os=centos\nos-version=7\nos-name=CentOS Linux\ncentos-release=CentOS Linux release 7.9.2009 (Core)\n",
        "centos 7.9"
    )]
    #[case::centos_8(
        "os=centos\nos-version=8\nos-name=CentOS Linux\ncentos-release=CentOS Linux release 8.4.2105\n",
        "centos 8.4"
    )]
    #[case::without_its_file("os=centos\nos-version=7\nos-name=CentOS Linux\n", "centos 7")]
    #[case::another_release(
        "os=centos\nos-version=7\nos-name=CentOS Linux\ncentos-release=release 8.4\n",
        "centos 7"
    )]
    fn a_system_is_named_by_its_id_and_version(#[case] output: &str, #[case] system: &str) {
        let facts = Facts::parse(output);
        assert_eq!(format!("{} {}", facts.os, facts.os_version), system);
    }

    #[test]
    fn the_script_runs_in_this_machines_shell_and_prints_its_kernel() {
        let output = std::process::Command::new("/bin/sh").args(["-c", &script("kvm_amd")]).output().unwrap();
        let facts = Facts::parse(&String::from_utf8_lossy(&output.stdout));
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert_eq!(facts.kernel, kernel.trim());
        assert!(!facts.cpu_flags.is_empty() && facts.cpus.is_some_and(|cpus| cpus > 0));
    }

    #[rstest]
    #[case::stream(
        "NAME=\"CentOS Stream\"\nID=\"centos\"\nVERSION_ID=\"9\"\n",
        Some("CentOS Stream release 9\n"),
        "centos-stream 9"
    )]
    #[case::centos(
        "NAME=\"CentOS Linux\"\nID=\"centos\"\nVERSION_ID=\"7\"\n",
        Some("CentOS Linux release 7.9.2009 (Core)\n"),
        "centos 7.9"
    )]
    #[case::without_its_file("NAME=\"CentOS Linux\"\nID=\"centos\"\nVERSION_ID=\"7\"\n", None, "centos 7")]
    #[case::almalinux("NAME=\"AlmaLinux\"\nID=\"almalinux\"\nVERSION_ID=\"9.4\"\n", None, "almalinux 9.4")]
    fn the_script_names_this_system(#[case] os: &str, #[case] centos: Option<&str>, #[case] system: &str) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("os-release"), os).unwrap();
        if let Some(release) = centos {
            std::fs::write(dir.path().join("centos-release"), release).unwrap();
        }
        let script = script("kvm_amd").replace("/etc/", &format!("{}/", dir.path().display()));
        let output = std::process::Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
        let facts = Facts::parse(&String::from_utf8_lossy(&output.stdout));
        assert_eq!(format!("{} {}", facts.os, facts.os_version), system, "{output:?}");
    }

    #[test]
    fn what_is_traced_is_counted_on_every_cpu_and_also_if_it_was_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        for (cpu, entries, overrun) in [(0, 119, 7251), (1, 2, 0)] {
            let folder = dir.path().join(format!("kvm_nested_vmexit/per_cpu/cpu{cpu}"));
            std::fs::create_dir_all(&folder).unwrap();
            let stats = format!(
                "entries: {entries}\noverrun: {overrun}\ncommit overrun: 5\nbytes: 6212\noldest event ts:   140.933283\n\
                 now ts:   141.901340\ndropped events: 3\nread events: 0\n"
            );
            std::fs::write(folder.join("stats"), stats).unwrap();
        }
        std::fs::create_dir(dir.path().join("somebody_elses")).unwrap();
        let script = counters_script(dir.path().to_str().unwrap());
        let output = std::process::Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert_eq!(printed.lines().last(), Some("kvm_nested_vmexit:7372"), "{output:?}");
    }

    #[rstest]
    #[case("0", Some(1))]
    #[case("0-3", Some(4))]
    #[case("0-1,3,8-9\n", Some(5))]
    #[case("3-1", None)]
    #[case("0-4294967295", None)]
    #[case("0-4294967294,0-4294967294", None)]
    #[case("", None)]
    fn the_cpus_of_a_list_are_counted(#[case] list: &str, #[case] count: Option<u32>) {
        assert_eq!(cpus_in(list), count);
    }

    #[test]
    fn what_is_missing_in_another_host_is_named() {
        let flags = |flags: &str| Facts::parse(&format!("flags=: {flags}\n"));
        assert_eq!(flags("fpu svm npt vgif").flags_missing_in(&flags("fpu svm hypervisor npt")), ["vgif"]);
    }

    #[test]
    fn a_host_without_kvm_says_so_by_silence_and_its_kernel_may_say_why() {
        let facts = Facts::parse("kernel=6.12.1\nkvm-says=[    0.55] kvm [1]: HYP mode not available\n");
        assert!(
            !facts.kvm_device && !facts.kvm_module && facts.nested.is_none() && facts.counters.is_empty()
        );
        assert_eq!(facts.kvm_says.as_deref(), Some("kvm [1]: HYP mode not available"));
        assert_eq!(Facts::parse("kvm-says=\n").kvm_says, None);
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_level_says_of_itself_is_short_and_has_no_control_characters(
            output in "((kernel|os|os-name|os-version|centos-release|flags|cpus-online|uptime|nested|kvm-parameter|kvm-says)=|counters\n|[a-z]:[0-9]|:|\n|[\\x00-\\x1f]|\\PC){0,60}",
        ) {
            let facts = Facts::parse(&output);
            let mut said = vec![&facts.kernel, &facts.os, &facts.os_version];
            said.extend(facts.root_disk.iter().chain(&facts.nested).chain(&facts.kvm_says));
            said.extend(facts.cpu_flags.iter().chain(facts.counters.keys()));
            said.extend(facts.kvm_parameters.iter().flat_map(|(name, value)| [name, value]));
            for text in said {
                proptest::prop_assert!(!text.contains(|c: char| c.is_control() && c != '\t'), "{text:?}");
            }
        }
    }

    #[test]
    fn a_level_can_not_fill_a_record_with_counters() {
        let output: String = (0..100_000).map(|number| format!("vm-{number}:1\n")).collect();
        assert_eq!(Facts::parse(&format!("counters\n{output}")).counters.len(), MOST_COUNTERS);
    }
}
