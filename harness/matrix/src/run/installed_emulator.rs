//! Finds emulators that are installed on this machine, for the bare machines whose emulators can't be built here.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nestmatrix_images::{Catalog, InstalledEmulator, is_program, programs};
use nestmatrix_model::architecture::{ArchInfo, BareMachine};
use nestmatrix_model::{Architecture, Isa, Word as _};
use nestmatrix_vmm::qemu::SWTPM;

use super::outermost::emulator_source;

/// Where RHEL has its QEMU, which is for the machine's own instruction set.
const LIBEXEC: &str = "/usr/libexec/qemu-kvm";

/// How long a QEMU may take to set up a machine without running it.
const PATIENCE: Duration = Duration::from_secs(20);

/// What an emulator must be able to set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Machine {
    machine_type: &'static str,
    cpu: &'static str,
}

/// Whether an installed `program` can be used instead of an image. Others than QEMU need files that only the image has in a known
/// place.
pub(crate) fn can_be_installed(program: &str) -> bool {
    program.starts_with("qemu-system-") || program == SWTPM
}

/// The installed programs that a user would start as `program`: those in `PATH`, and RHEL's QEMU if it has that instruction set.
pub fn installed_programs(program: &str) -> impl Iterator<Item = PathBuf> {
    let own = Architecture::ALL.iter().any(|architecture| {
        ArchInfo::of(*architecture).qemu == program && Some(architecture.isa()) == Isa::of_this_machine()
    });
    let libexec = Some(PathBuf::from(LIBEXEC)).filter(|path| own && is_program(path));
    programs(program).chain(libexec)
}

/// Looks for an installed emulator wherever a recipe's can't be used: none is started on a machine that can build all images. Returns
/// it by the name of the program that it replaces, or why it can't.
pub fn installed_emulators(catalog: &Catalog) -> BTreeMap<String, Result<InstalledEmulator, String>> {
    let missing = machines().into_iter().filter(|(program, _)| emulator_source(catalog, program).is_err());
    let found = missing.filter_map(|(program, machine)| Some((program.to_owned(), find(program, machine)?)));
    let swtpm = emulator_source(catalog, SWTPM).err().and_then(|_| Some((SWTPM.to_owned(), find_swtpm()?)));
    found.chain(swtpm).collect()
}

/// The user's build of Bochs at this path. It replaces the program of the image, whose firmware stays.
///
/// # Errors
/// Why it can't be used.
pub fn own_bochs(path: &Path) -> Result<InstalledEmulator, String> {
    let unusable = |why: &str| format!("{} {why}", path.display());
    let path = std::fs::canonicalize(path).map_err(|e| unusable(&format!("can't be read: {e}")))?;
    let prints = |arguments: &[&str]| {
        let ended = run(Command::new(&path).args(arguments), "");
        let ended = ended.map_err(|e| unusable(&format!("can't be run: {e}")))?;
        Ok::<_, String>(String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned())
    };
    let version = bochs_version(&prints(&["--help", "features"])?)
        .ok_or_else(|| unusable("is no Bochs that prints its version"))?;
    // Its usage has an option for a file of commands. With the debugger, it would wait for one.
    if prints(&["--help"])?.contains(" -rc ") {
        return Err(unusable("was built with the debugger; build it with --disable-debugger"));
    }
    Ok(InstalledEmulator { path, version })
}

/// `3.0` of a line `Bochs x86 Emulator 3.0`.
fn bochs_version(printed: &str) -> Option<String> {
    let version = printed.lines().find_map(|line| line.trim().strip_prefix("Bochs x86 Emulator "))?;
    version.starts_with(|c: char| c.is_ascii_digit()).then(|| version.to_owned())
}

/// The installed swtpm, or why it can't be used. Nothing if none is installed.
fn find_swtpm() -> Option<Result<InstalledEmulator, String>> {
    let path = programs(SWTPM).next()?;
    let unusable = |why: String| format!("{} {why}", path.display());
    let printed = run(Command::new(&path).arg("--version"), "");
    let printed = printed.map_err(|e| unusable(format!("can't be run: {e}")));
    Some(printed.and_then(|printed| {
        let version = swtpm_version(&String::from_utf8_lossy(&printed.stdout));
        let version = version.ok_or_else(|| unusable("is no swtpm that prints its version".to_owned()))?;
        Ok(InstalledEmulator { path: path.clone(), version })
    }))
}

/// `0.7.1` of `TPM emulator version 0.7.1, Copyright (c) 2014-2021 IBM Corp.`
fn swtpm_version(printed: &str) -> Option<String> {
    let (version, _) = printed.strip_prefix("TPM emulator version ")?.split_once(',')?;
    Some(version.to_owned())
}

/// Every QEMU that plays a bare machine or is itself L0, with the machine that it plays.
fn machines() -> BTreeMap<&'static str, Machine> {
    let mut machines = BTreeMap::new();
    for profile in Architecture::ALL.iter().map(|architecture| ArchInfo::of(*architecture)) {
        let machine = |machine_type| Machine { machine_type, cpu: profile.emulated_cpu };
        match profile.metal {
            BareMachine::Qemu(metal) => drop(machines.insert(profile.qemu, machine(metal.name))),
            BareMachine::Bochs(_) | BareMachine::Hercules(_) => {
                machines.entry(profile.qemu).or_insert(machine(profile.host.name));
            }
        }
    }
    machines
}

/// The first usable installed program, or why the first one is not usable. Nothing if no such program is installed.
fn find(program: &str, machine: Machine) -> Option<Result<InstalledEmulator, String>> {
    let mut why = None;
    for path in installed_programs(program) {
        match examine(&path, machine) {
            Ok(version) => return Some(Ok(InstalledEmulator { path, version })),
            Err(reason) => drop(why.get_or_insert(Err(format!("{} {reason}", path.display())))),
        }
    }
    why
}

/// The version of a QEMU that sets up this machine without KVM. Trying it shows more than its lists: emulation may be in a module
/// that is not installed, and so may the machine's firmware.
fn examine(program: &Path, machine: Machine) -> Result<String, String> {
    let failed = |e: io::Error| format!("can't be run: {e}");
    let printed = run(Command::new(program).arg("--version"), "").map_err(failed)?;
    let version = version(&String::from_utf8_lossy(&printed.stdout));
    let version = version.ok_or_else(|| "is no QEMU that prints its version".to_owned())?;
    let Machine { machine_type, cpu } = machine;
    let mut command = Command::new(program);
    command.args(["-S", "-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg"]);
    command.args(["-machine", machine_type, "-cpu", cpu, "-monitor", "stdio"]);
    let set_up = run(&mut command, "quit\n").map_err(failed)?;
    if set_up.status.success() {
        return Ok(version);
    }
    let said = String::from_utf8_lossy(&set_up.stderr);
    let said = said.lines().next_back().unwrap_or("no reason is given");
    Err(format!("can't play a bare {machine_type}: {}", without_program(said, program)))
}

/// Runs a command with this input, to its end or until it took too long.
fn run(command: &mut Command, input: &str) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // It may end before it reads anything. Its output is short, so it never waits for a reader.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    end(&mut child)?;
    child.wait_with_output()
}

fn end(child: &mut Child) -> io::Result<()> {
    let began = Instant::now();
    while child.try_wait()?.is_none() {
        if began.elapsed() > PATIENCE {
            return child.kill();
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// `10.0.2 (Debian 1:10.0.2+ds-2)` of `QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)`.
fn version(printed: &str) -> Option<String> {
    let version = printed.lines().next()?.split_once(" version ")?.1.trim();
    version.starts_with(|c: char| c.is_ascii_digit()).then(|| version.to_owned())
}

/// A message without the name of the program that QEMU puts before it.
fn without_program<'m>(message: &'m str, program: &Path) -> &'m str {
    let name = program.file_name().and_then(OsStr::to_str).unwrap_or_default();
    message.split_once(": ").filter(|(before, _)| before.ends_with(name)).map_or(message, |(_, said)| said)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use rstest::rstest;

    use super::*;

    /// A program that prints a version, and then does this if a machine is asked for.
    fn program(folder: &Path, does: &str) -> PathBuf {
        let path = folder.join("qemu-system-x86_64");
        let script = format!(
            "#!/bin/sh\ncase $* in --version) echo 'QEMU emulator version 9.2.3 (qemu-9.2.3-1.fc42)'; exit;; esac\n{does}\n"
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// A program that prints this for `--help features`, and this for `--help`.
    #[rstest]
    #[case::fast("Bochs x86 Emulator 3.0", " -q quick start", Ok("3.0"))]
    #[case::with_debugger("Bochs x86 Emulator 3.0", " -rc filename", Err("was built with the debugger"))]
    #[case::another_program("QEMU emulator", "", Err("is no Bochs"))]
    fn a_users_build_of_bochs_has_a_version_and_no_debugger(
        #[case] features: &str,
        #[case] usage: &str,
        #[case] expected: Result<&str, &str>,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bochs");
        let script =
            format!("#!/bin/sh\nif [ $# = 2 ]; then echo '{features}'; else echo ' {usage} '; fi >&2\n");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        match (own_bochs(&path), expected) {
            (Ok(found), Ok(version)) => assert_eq!(found.version, version),
            (Err(why), Err(expected)) => assert!(why.contains(expected), "{why}"),
            (found, _) => panic!("{found:?}"),
        }
        assert!(own_bochs(&folder.path().join("none")).unwrap_err().contains("can't be read"));
    }

    #[rstest]
    #[case::good("read -r word; test \"$word\" = quit", Ok("9.2.3 (qemu-9.2.3-1.fc42)"))]
    #[case::no_machine(
        "echo \"$0: unsupported machine type\" >&2; exit 1",
        Err("can't play a bare q35: unsupported machine type")
    )]
    #[case::silent("exit 3", Err("can't play a bare q35: no reason is given"))]
    fn a_qemu_is_used_if_it_sets_up_the_machine(#[case] does: &str, #[case] expected: Result<&str, &str>) {
        let folder = tempfile::tempdir().unwrap();
        let path = program(folder.path(), does);
        let found = examine(&path, machines()["qemu-system-x86_64"]);
        assert_eq!(found.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn what_prints_no_version_is_no_qemu() {
        let found = examine(Path::new("/bin/true"), machines()["qemu-system-x86_64"]);
        assert_eq!(found, Err("is no QEMU that prints its version".to_owned()));
        assert!(examine(Path::new("/nowhere/qemu"), machines()["qemu-system-x86_64"]).is_err());
    }

    #[test]
    fn each_qemu_plays_the_metal_of_its_architecture() {
        let machines = machines();
        let types: Vec<_> =
            machines.iter().map(|(program, machine)| (*program, machine.machine_type)).collect();
        assert!(types.contains(&("qemu-system-x86_64", "q35")), "{types:?}");
        assert!(types.contains(&("qemu-system-ppc64", "powernv9")), "{types:?}");
        assert!(machines.keys().all(|program| can_be_installed(program)));
    }
}
