//! The script that boots a test in a level, and how QEMU is started for it.

use std::time::Duration;

use nestmatrix_images::UnitTest;
use nestmatrix_vmm::shell::quote;

use super::files::FOLDER;
use super::whole_seconds;

/// The exit status of a test that did not end in time. No QEMU that a test ends has it: theirs are odd.
pub const TIMED_OUT: i64 = 124;
/// The exit status of a test whose machine KVM stopped.
pub const STOPPED_BY_KVM: i64 = 122;
/// The exit status of a test that KVM stopped in the default firmware of its machine.
pub(super) const STOPPED_IN_FIRMWARE: i64 = 116;
/// The exit status of a test that printed more than is kept.
pub(super) const TOO_MUCH: i64 = 118;
/// The exit status of a test whose level has not what it needs.
pub(super) const NOT_HERE: i64 = 120;

/// The firmware of machines whose own one the emulated metal can't run.
const SMALL_FIRMWARE: &str = "qboot.rom";

/// The most output that is kept of a test, in bytes. What exceeds it is read, so that the test goes on, and dropped.
const KEPT_OUTPUT: usize = 1 << 20;
/// The most that is kept of what QEMU says, in bytes. The rest is read and dropped too, since the level has it in memory.
const KEPT_ERRORS: usize = 64 << 10;

/// A test to run, and how.
pub(super) struct Run<'a> {
    pub(super) qemu: &'a str,
    /// The path of its program in the level.
    pub(super) file: &'a str,
    pub(super) test: &'a UnitTest,
    pub(super) append: Option<&'a str>,
    pub(super) memory_mib: Option<u32>,
    pub(super) timeout: Duration,
    /// Whether the machine gets the small firmware instead of its own, if this QEMU has it.
    pub(super) small_firmware: bool,
}

/// The arguments of QEMU for a test whose program is `file`, with this accelerator. The device `isa-debug-exit` lets a test end QEMU
/// with its own status; `pc-testdev` and `pci-testdev` are devices that tests use.
pub fn machine_arguments(
    test: &UnitTest,
    file: &str,
    accelerator: &str,
    append: Option<&str>,
    memory_mib: Option<u32>,
) -> Vec<String> {
    let fixed = [
        "-nodefaults",
        "-no-reboot",
        "-display",
        "none",
        "-serial",
        "stdio",
        "-device",
        "pc-testdev",
        "-device",
        "isa-debug-exit,iobase=0xf4,iosize=0x4",
        "-device",
        "pci-testdev",
        "-accel",
        accelerator,
    ];
    let mut words: Vec<String> = fixed.map(str::to_owned).to_vec();
    words.extend(["-smp".to_owned(), test.cpus.to_string()]);
    words.extend(test.qemu.iter().cloned());
    // Of several, QEMU takes the last one.
    words.extend(memory_mib.into_iter().flat_map(|mib| ["-m".to_owned(), mib.to_string()]));
    words.extend(["-kernel".to_owned(), file.to_owned()]);
    let arguments = [test.arguments.as_str(), append.unwrap_or_default()].join(" ");
    if !arguments.trim().is_empty() {
        words.extend(["-append".to_owned(), arguments.trim().to_owned()]);
    }
    words
}

/// The script that runs a test to its end. It prints the test's output, and what QEMU said as standard error, and exits with QEMU's
/// status or with one of those above.
///
/// A machine that KVM can't run stays stopped, and its QEMU does not end. So both that and the time are polled. What QEMU says is
/// therefore copied byte by byte: `head` would write it only at the end.
pub(super) fn script(run: &Run<'_>) -> String {
    let arguments = machine_arguments(run.test, run.file, "kvm", run.append, run.memory_mib);
    let arguments: Vec<String> = arguments.iter().map(|word| quote(word)).collect();
    let needs = run.test.needs.iter().map(|needs| {
        let (path, value) = (quote(&needs.path), quote(&needs.value));
        let missing = quote(&format!("it needs {}={}", needs.path, needs.value));
        format!("v=; read -r v <{path}; [ \"$v\" = {value} ] || {{ echo {missing}; exit {NOT_HERE}; }}\n")
    });
    let needs: String = needs.collect();
    let firmware = if run.small_firmware {
        // QEMU prints the folders in which it looks for firmware.
        format!(
            "bios=\nfor folder in $({} -L help); do [ ! -e $folder/{SMALL_FIRMWARE} ] || bios='-bios {SMALL_FIRMWARE}'; done\n",
            quote(run.qemu)
        )
    } else {
        "bios=\n".to_owned()
    };
    let (qemu, arguments, seconds) = (quote(run.qemu), arguments.join(" "), whole_seconds(run.timeout));
    format!(
        "cd {FOLDER} || exit
rm -f out err pipe errors stopped
{needs}{firmware}mkfifo pipe errors || exit
{{ head -c {KEPT_OUTPUT} >out; cat >/dev/null; }} <pipe >/dev/null 2>&1 &
reader=$!
{{ dd bs=1 count={KEPT_ERRORS} of=err; cat >/dev/null; }} <errors >/dev/null 2>&1 &
errors=$!
{qemu} $bios {arguments} </dev/null >pipe 2>errors &
qemu=$!
{{
  read -r began _ </proc/uptime; began=${{began%%.*}}
  while [ ! -e stopped ]; do
    sleep 1
    read -r now _ </proc/uptime
    if grep -q 'KVM internal error\\|error: kvm run failed\\|KVM: entry failed' err; then echo {STOPPED_BY_KVM} >stopped
    elif [ $((${{now%%.*}} - began)) -ge {seconds} ]; then echo {TIMED_OUT} >stopped
    fi
  done
  kill -9 $qemu
}} >/dev/null 2>&1 &
watch=$!
wait $qemu 2>/dev/null
status=$?
kill $watch 2>/dev/null
wait $reader $errors
[ $(wc -c <out) -lt {KEPT_OUTPUT} ] || status={TOO_MUCH}
[ ! -e stopped ] || read -r status <stopped
[ $status != {STOPPED_BY_KVM} ] || [ -n \"$bios\" ] || [ -s out ] || status={STOPPED_IN_FIRMWARE}
cat out
head -c 4000 err >&2
rm -f out err pipe errors stopped
exit $status
"
    )
}

#[cfg(test)]
#[path = "script_tests.rs"]
mod tests;
