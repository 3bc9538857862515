//! KVM's modules: whether they are loaded, and with which parameters.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Architecture, Word as _};
use serde::{Deserialize, Serialize};

use super::files::Rights;
use super::{HostPaths, failed};

/// The module that those of the architectures use.
const KVM: &str = "kvm";
/// The device of KVM, which comes and goes with its modules.
pub(super) const DEVICE: &str = "/dev/kvm";

/// How often a module is unloaded that is in use: a QEMU that was killed needs a moment to end.
const ATTEMPTS: usize = 20;

/// A module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ModuleState {
    /// Whether it is a part of the kernel, and can't be unloaded.
    pub(super) built_in: bool,
    /// Its parameters that can be read, with their values.
    pub(super) parameters: BTreeMap<String, String>,
}

/// The modules that are loaded, by name.
pub(super) type Modules = BTreeMap<String, ModuleState>;

/// Every module of KVM, in the order in which they are loaded.
fn names() -> Vec<&'static str> {
    let mut names = vec![KVM];
    for architecture in Architecture::ALL {
        let name = ArchInfo::of(*architecture).kvm_module;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The module and the parameter that a word of the kernel's command line sets, if it is a parameter of one of KVM's modules:
/// `kvm_amd` and `nested=0`.
pub fn kvm_parameter(word: &str) -> Option<(&str, &str)> {
    let (module, parameter) = word.split_once('.')?;
    names().contains(&module).then_some((module, parameter))
}

/// Reads the modules that are loaded or built in.
pub(super) fn read(paths: &HostPaths) -> Modules {
    let loaded = |name: &&str| paths.at(&format!("/sys/module/{name}")).is_dir();
    names().into_iter().filter(loaded).map(|name| (name.to_owned(), read_one(paths, name))).collect()
}

fn read_one(paths: &HostPaths, name: &str) -> ModuleState {
    // Only a module that was loaded has a state (Documentation/ABI/testing/sysfs-module).
    let built_in = !paths.at(&format!("/sys/module/{name}/initstate")).exists();
    let entries = fs::read_dir(paths.at(&format!("/sys/module/{name}/parameters")));
    let parameters = entries.into_iter().flatten().flatten().filter_map(|entry| {
        let value = fs::read_to_string(entry.path()).ok()?;
        Some((entry.file_name().into_string().ok()?, value.trim().to_owned()))
    });
    ModuleState { built_in, parameters: parameters.collect() }
}

/// Checks that no process uses KVM: its modules could not be unloaded, and a step that unloads them would blame the document.
pub(super) fn check_unused(paths: &HostPaths) -> Result<(), String> {
    let is_loaded = |name: &str| paths.at(&format!("/sys/module/{name}")).exists();
    // `kvm` is used by the other modules, if there are any.
    let is_used_by_others =
        |name: &str| name == KVM && names().into_iter().any(|other| other != KVM && is_loaded(other));
    let users = |name: &str| {
        let count = fs::read_to_string(paths.at(&format!("/sys/module/{name}/refcnt"))).ok()?;
        count.trim().parse::<u32>().ok().filter(|count| *count > 0 && !is_used_by_others(name))
    };
    for attempt in 1..=ATTEMPTS {
        let Some((name, users)) = names().into_iter().find_map(|name| Some((name, users(name)?))) else {
            return Ok(());
        };
        if attempt == ATTEMPTS {
            let uses = if users == 1 { "1 user".to_owned() } else { format!("{users} users") };
            return Err(format!(
                "the module {name} is in use ({uses}): stop the virtual machines of this host"
            ));
        }
        std::thread::sleep(paths.pause);
    }
    Ok(())
}

/// Loads KVM again, so that it has the parameters of /etc/modprobe.d.
pub(super) fn reload(paths: &HostPaths, kvm_module: &str) -> Result<(), String> {
    let loaded = read(paths);
    if let Some((name, _)) = loaded.iter().find(|(_, module)| module.built_in) {
        return Err(format!(
            "{name} is built into this host's kernel, so its parameters can't be set without a reboot"
        ));
    }
    unload(paths, &loaded)?;
    modprobe(paths, &[kvm_module])
}

/// Makes the modules what they were. The files of /etc/modprobe.d are already what they were.
pub(super) fn restore(paths: &HostPaths, found: &Modules) -> Result<(), String> {
    if write_parameters(paths, found) {
        return Ok(());
    }
    unload(paths, &read(paths))?;
    load(paths, found, |_, _| Vec::new())?;
    if write_parameters(paths, found) {
        return Ok(());
    }
    // Only those that differ: a kernel does not accept every value that it shows.
    let left = read(paths);
    unload(paths, &left)?;
    load(paths, found, |name, module| {
        let of_left = left.get(name).map(|left| &left.parameters);
        let differs =
            |(key, value): &(&String, &String)| of_left.and_then(|left| left.get(*key)) != Some(*value);
        module.parameters.iter().filter(differs).map(|(key, value)| format!("{key}={value}")).collect()
    })?;
    write_parameters(paths, found);
    Ok(())
}

/// Writes the parameters that differ and can be written. Returns whether the modules are then as they were found.
fn write_parameters(paths: &HostPaths, found: &Modules) -> bool {
    let left = read(paths);
    if left == *found {
        return true;
    }
    if !left.keys().eq(found.keys()) {
        return false;
    }
    for (name, module) in found {
        for (key, value) in &module.parameters {
            let path = paths.at(&format!("/sys/module/{name}/parameters/{key}"));
            let writable = fs::metadata(&path).is_ok_and(|metadata| metadata.mode() & 0o200 != 0);
            if writable && left[name].parameters.get(key) != Some(value) {
                // What is not accepted is seen by the comparison.
                let _ = fs::write(&path, value);
            }
        }
    }
    read(paths) == *found
}

/// Unloads the modules that can be unloaded, those that use others first.
fn unload(paths: &HostPaths, loaded: &Modules) -> Result<(), String> {
    let unloadable = |name: &&str| loaded.get(*name).is_some_and(|module| !module.built_in);
    for name in names().into_iter().rev().filter(unloadable) {
        let is_there = || paths.at(&format!("/sys/module/{name}")).exists();
        let mut result = Ok(());
        for attempt in 1..=ATTEMPTS {
            // Unloading another module may have unloaded this one.
            if !is_there() {
                result = Ok(());
                break;
            }
            result = modprobe(paths, &["-r", name]);
            if result.is_ok() || attempt == ATTEMPTS {
                break;
            }
            std::thread::sleep(paths.pause);
        }
        result?;
    }
    Ok(())
}

/// Loads the modules that were loaded, with the parameters that `with` gives.
fn load(
    paths: &HostPaths,
    found: &Modules,
    with: impl Fn(&str, &ModuleState) -> Vec<String>,
) -> Result<(), String> {
    for name in names() {
        let Some(module) = found.get(name).filter(|module| !module.built_in) else { continue };
        let parameters = with(name, module);
        let words = std::iter::once(name).chain(parameters.iter().map(String::as_str));
        modprobe(paths, &words.collect::<Vec<_>>())?;
    }
    Ok(())
}

fn modprobe(paths: &HostPaths, arguments: &[&str]) -> Result<(), String> {
    let what = || format!("modprobe {}", arguments.join(" "));
    // A user's PATH may not have the folders of such programs.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let output = Command::new(&paths.modprobe)
        .args(arguments)
        .env("PATH", path)
        .stdin(Stdio::null())
        // A signal from the terminal must not leave the host half restored.
        .process_group(0)
        .output()
        .map_err(|e| format!("failed to run {}: {e}", what()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}: {}", what(), said.trim().lines().last().unwrap_or("it failed and printed nothing")))
}

/// The rights of KVM's device, if it is there.
pub(super) fn device(paths: &HostPaths) -> Option<Rights> {
    fs::metadata(paths.at(DEVICE)).ok().map(|metadata| Rights::of(&metadata))
}

/// Gives KVM's device the rights that it had. A device that came with a module has those of udev's rules.
pub(super) fn restore_device(paths: &HostPaths, found: Option<Rights>) -> Result<(), String> {
    // Otherwise udev could change it later.
    let settle = Command::new("udevadm").args(["settle", "--timeout=10"]).stdin(Stdio::null()).output();
    if let Err(e) = settle
        && e.kind() != std::io::ErrorKind::NotFound
    {
        return Err(format!("failed to run udevadm settle: {e}"));
    }
    match found {
        Some(rights) if device(paths) != Some(rights) => rights.set(&paths.at(DEVICE)),
        _ => Ok(()),
    }
}

/// Checks that the kernel's command line sets no options of KVM's modules: they are stronger than those of files.
pub(super) fn check_command_line(paths: &HostPaths) -> Result<(), String> {
    let path = paths.at("/proc/cmdline");
    let line = fs::read_to_string(&path).map_err(failed("read", &path))?;
    // The kernel takes both spellings.
    let is_option = |word: &&str| kvm_parameter(&word.replacen('-', "_", 1)).is_some();
    match line.split_whitespace().find(is_option) {
        Some(word) => Err(format!(
            "its kernel's command line has {word}, which is stronger than what a cell sets: remove it, and reboot"
        )),
        None => Ok(()),
    }
}

/// A file of /etc/modprobe.d without the options of KVM's modules, if it has such options.
pub(super) fn without_options(text: &str) -> Option<String> {
    let mut kept = String::new();
    let mut lines = text.split_inclusive('\n');
    while let Some(first) = lines.next() {
        // A line that ends with a backslash goes on in the next one.
        let mut whole = first.to_owned();
        while whole.trim_end_matches('\n').ends_with('\\')
            && let Some(next) = lines.next()
        {
            whole.push_str(next);
        }
        let joined = whole.replace("\\\n", "");
        let mut words = joined.split_whitespace();
        let is_option = words.next() == Some("options")
            && words.next().is_some_and(|module| names().contains(&module.replace('-', "_").as_str()));
        if !is_option {
            kept.push_str(&whole);
        }
    }
    (kept != text).then_some(kept)
}

/// Writes the file that stands for parameters on the kernel's command line, which modprobe reads after all other files.
pub(super) fn write_options(paths: &HostPaths, file: &str, parameters: &[String]) -> Result<(), String> {
    let options = parameters.iter().filter_map(|word| kvm_parameter(word));
    let lines: String =
        options.map(|(module, parameter)| format!("options {module} {parameter}\n")).collect();
    let path = paths.at(file);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed("make", folder))?;
    }
    fs::write(&path, lines).map_err(failed("write", &path))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::alone("options kvm_amd nested=1\n", Some(""))]
    #[case::among_others(
        "# options kvm nested=1\noptions kvm x=1\noptions other x=1\n\toptions  kvm-intel y=1\nblacklist kvm",
        Some("# options kvm nested=1\noptions other x=1\nblacklist kvm")
    )]
    #[case::over_two_lines("options \\\nkvm_amd \\\n nested=1\nalias a b\n", Some("alias a b\n"))]
    #[case::another_module("options kvm_amd2 nested=1\n", None)]
    #[case::nothing("", None)]
    fn options_of_kvm_are_found_in_a_file(#[case] text: &str, #[case] without: Option<&str>) {
        assert_eq!(without_options(text).as_deref(), without);
    }
}
