//! A host in a folder, with a `modprobe` that loads its modules.

use std::fs::{self, Permissions};
use std::mem;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::time::Duration;

use rstest::rstest;
use tempfile::TempDir;

use super::state::HostState;
use super::*;

pub(super) const MACHINE: &str = "0123456789abcdef0123456789abcdef";

/// Loads and unloads modules below `$root` as modprobe(8) does. The module kvm_amd has a parameter that can only be set when it is
/// loaded, one that can be written, and one that shows a value that it does not accept.
const MODPROBE: &str = r#"
if [ "$1" = -r ]; then
    [ ! -e "$root/busy" ] || { echo "modprobe: FATAL: Module $2 is in use." >&2; exit 1; }
    echo "unload $2" >> "$root/log"
    rm -r "$root/sys/module/$2" "$root/dev/kvm"
    exit
fi
echo "load $*" >> "$root/log"
name=$1
shift
[ "$name" = kvm_amd ] || exit 0
mkdir -p "$root/sys/module/kvm_amd/parameters"
cd "$root/sys/module/kvm_amd"
echo live > initstate
echo 0 > refcnt
for word in nested=1 avic=N l1tf="not required" $(sed -n 's/^options kvm_amd //p' "$root"/etc/modprobe.d/*.conf) "$@"; do
    echo "${word#*=}" > "parameters/${word%%=*}"
done
[ "$(cat parameters/l1tf)" = "not required" ] || { echo "l1tf: invalid" >&2; exit 1; }
chmod 444 parameters/nested parameters/l1tf
chmod 644 parameters/avic
: > "$root/dev/kvm"
chmod 600 "$root/dev/kvm"
"#;

pub(super) struct Fake {
    pub(super) folder: TempDir,
    pub(super) paths: HostPaths,
}

impl Fake {
    /// A host with KVM loaded and some files.
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        for path in
            ["dev", "etc/modprobe.d", "etc/nestmatrix", "proc/sys/vm", "sys/module", "sys/class/dmi/id"]
        {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        let modprobe = root.join("modprobe");
        fs::write(&modprobe, format!("#!/bin/sh\nset -e\nroot='{}'\n{MODPROBE}", root.display())).unwrap();
        fs::set_permissions(&modprobe, Permissions::from_mode(0o755)).unwrap();
        let paths = HostPaths { root, modprobe, pause: Duration::from_millis(1) };
        let fake = Self { folder, paths };
        fake.write("/etc/machine-id", &format!("{MACHINE}\n"));
        fake.write("/proc/cmdline", "quiet\n");
        fake.write("/etc/modprobe.d/other.conf", "options other x=1\n");
        fake.write("/etc/modprobe.d/kvm.conf", "options kvm_amd nested=0\n");
        fake.write("/proc/sys/vm/nr_hugepages", "4\n");
        fake.modprobe(&["kvm_amd"]);
        fake.set_mode("/dev/kvm", 0o660);
        fake
    }

    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.paths.at(path)
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        fs::write(self.at(path), text).unwrap();
    }

    fn text(&self, path: &str) -> Option<String> {
        Some(fs::read_to_string(self.at(path)).ok()?.trim().to_owned())
    }

    pub(super) fn set_mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.at(path), Permissions::from_mode(mode)).unwrap();
    }

    fn modprobe(&self, words: &[&str]) {
        assert!(std::process::Command::new(&self.paths.modprobe).args(words).status().unwrap().success());
    }

    fn state(&self) -> HostState {
        HostState::read(&self.paths).unwrap()
    }

    fn begin(&self) -> HostGuard {
        let purpose = Purpose {
            cell: "a/cell".into(),
            run: "/results/run".into(),
            began: "2026-03-01T20:15:09Z".into(),
        };
        HostGuard::begin(&self.paths, purpose).unwrap()
    }

    fn has_journal(&self) -> bool {
        Journal::exists(&self.paths)
    }

    /// What a scenario may do to its L0.
    fn change_everything(&self) {
        self.modprobe(&["-r", "kvm_amd"]);
        self.write("/etc/modprobe.d/kvm.conf", "options kvm_amd nested=1\n");
        self.write("/etc/modprobe.d/new.conf", "new\n");
        self.set_mode("/etc/modprobe.d", 0o700);
        fs::remove_file(self.at("/etc/modprobe.d/other.conf")).unwrap();
        symlink("/dev/null", self.at("/etc/modprobe.d/other.conf")).unwrap();
        fs::create_dir(self.at("/etc/modprobe.d/folder")).unwrap();
        self.write("/etc/modprobe.d/folder/file", "");
        self.write("/proc/sys/vm/nr_hugepages", "512\n");
        self.modprobe(&["kvm_amd", "avic=Y"]);
    }
}

#[test]
fn everything_that_a_cell_changed_is_restored_and_recorded() {
    let fake = Fake::new();
    let found = fake.state();
    let guard = fake.begin();
    assert!(fake.has_journal());
    fake.change_everything();
    let Restored { changes, problem } = guard.restore();
    assert_eq!(problem, None);
    assert_eq!(fake.state(), found);
    assert!(!fake.has_journal());
    let expected = [
        ("/sys/module/kvm_amd/parameters/avic", Some("N"), Some("Y")),
        ("/sys/module/kvm_amd/parameters/nested", Some("0"), Some("1")),
        ("/dev/kvm", None, None),
        ("/etc/modprobe.d", None, None),
        ("/etc/modprobe.d/folder", None, None),
        ("/etc/modprobe.d/folder/file", None, Some("")),
        ("/etc/modprobe.d/kvm.conf", Some("options kvm_amd nested=0\n"), Some("options kvm_amd nested=1\n")),
        ("/etc/modprobe.d/new.conf", None, Some("new\n")),
        ("/etc/modprobe.d/other.conf", Some("options other x=1\n"), Some("a link to /dev/null")),
        ("/proc/sys/vm/nr_hugepages", Some("4"), Some("512")),
    ];
    assert_eq!(changes.len(), expected.len(), "{changes:#?}");
    for (change, (what, found, left)) in changes.iter().zip(expected) {
        assert_eq!(change.what, what);
        assert!(change.restored, "{change:?}");
        // The rights of a file depend on the user who runs the test.
        if found.is_some() {
            assert_eq!((change.found.as_deref(), change.left.as_deref()), (found, left));
        }
    }
}

#[test]
fn a_host_that_was_not_changed_is_not_touched() {
    let fake = Fake::new();
    let log = fake.text("/log");
    let time = fs::metadata(fake.at("/etc/modprobe.d/kvm.conf")).unwrap().ctime_nsec();
    let restored = fake.begin().restore();
    assert_eq!((restored.changes, restored.problem), (Vec::new(), None));
    assert_eq!(fake.text("/log"), log, "no module is loaded");
    assert_eq!(fs::metadata(fake.at("/etc/modprobe.d/kvm.conf")).unwrap().ctime_nsec(), time);
}

#[test]
fn a_module_that_was_loaded_with_other_parameters_than_the_files_have_gets_those_again() {
    let fake = Fake::new();
    fake.modprobe(&["-r", "kvm_amd"]);
    fake.modprobe(&["kvm_amd", "nested=5"]);
    let found = fake.state();
    let guard = fake.begin();
    fake.modprobe(&["-r", "kvm_amd"]);
    assert_eq!(guard.restore().problem, None);
    assert_eq!(fake.state(), found);
    let log = fake.text("/log").unwrap();
    assert!(log.ends_with("load kvm_amd nested=5"), "only what differs from the files: {log}");
}

#[test]
fn a_module_that_was_not_loaded_is_unloaded_again() {
    let fake = Fake::new();
    fake.modprobe(&["-r", "kvm_amd"]);
    let found = fake.state();
    let guard = fake.begin();
    fake.modprobe(&["kvm_amd"]);
    assert_eq!(guard.restore().problem, None);
    assert_eq!(fake.state(), found);
}

#[test]
fn what_a_killed_run_changed_is_restored_by_the_next_command() {
    let fake = Fake::new();
    let found = fake.state();
    mem::forget(fake.begin());
    fake.change_everything();
    // Another run must not take this state for the one that it found.
    let purpose = Purpose { cell: String::new(), run: PathBuf::new(), began: String::new() };
    let refused = HostGuard::begin(&fake.paths, purpose).unwrap_err();
    assert_eq!(refused, "the state of this host is not restored");
    let (purpose, restored) = restore(&fake.paths).unwrap().unwrap();
    assert_eq!((purpose.cell.as_str(), restored.problem), ("a/cell", None));
    assert_eq!(fake.state(), found);
    assert!(restore(&fake.paths).unwrap().is_none());
}

#[test]
fn a_restoration_that_was_cut_off_is_completed() {
    let fake = Fake::new();
    let found = fake.state();
    mem::forget(fake.begin());
    fake.change_everything();
    // The files and the unloaded module are as far as it came.
    let journal = Journal::read(&fake.paths).unwrap().unwrap();
    assert_eq!(journal.found, found, "the journal has all of it");
    files::restore(&fake.paths, &files_of(&fake, &journal)).unwrap();
    fake.modprobe(&["-r", "kvm_amd"]);
    assert!(fake.has_journal());
    assert_eq!(restore(&fake.paths).unwrap().unwrap().1.problem, None);
    assert_eq!(fake.state(), found);
}

fn files_of(fake: &Fake, journal: &Journal) -> std::collections::BTreeMap<String, files::FileState> {
    let all = serde_json::to_value(journal).unwrap();
    assert_eq!(all["machine"], fake.text("/etc/machine-id").unwrap());
    serde_json::from_value(all["found"]["files"].clone()).unwrap()
}

#[test]
fn a_host_is_restored_if_the_cell_is_given_up() {
    let fake = Fake::new();
    let found = fake.state();
    let guard = fake.begin();
    fake.change_everything();
    drop(guard);
    assert_eq!(fake.state(), found);
    assert!(!fake.has_journal());
}

#[test]
fn what_can_not_be_restored_stays_in_the_journal() {
    let fake = Fake::new();
    let found = fake.state();
    let guard = fake.begin();
    fake.change_everything();
    fake.write("/busy", "");
    let Restored { changes, problem } = guard.restore();
    let problem = problem.unwrap();
    assert!(
        problem.starts_with("this host is not as it was found: /sys/module/kvm_amd/parameters/"),
        "{problem}"
    );
    assert!(problem.contains("/sys/module/kvm_amd/parameters/nested is \"1\" and was \"0\""), "{problem}");
    assert!(problem.contains("modprobe -r kvm_amd: modprobe: FATAL: Module kvm_amd is in use."), "{problem}");
    let is_restored = |what: &str| changes.iter().find(|change| change.what == what).unwrap().restored;
    assert!(!is_restored("/sys/module/kvm_amd/parameters/nested"));
    assert!(is_restored("/proc/sys/vm/nr_hugepages"), "the rest is restored");
    assert!(fake.has_journal());
    fs::remove_file(fake.at("/busy")).unwrap();
    assert_eq!(restore(&fake.paths).unwrap().unwrap().1.problem, None);
    assert_eq!(fake.state(), found);
}

#[test]
fn a_host_whose_kvm_is_in_use_is_not_changed() {
    let fake = Fake::new();
    fake.write("/sys/module/kvm_amd/refcnt", "2\n");
    let purpose = Purpose { cell: String::new(), run: PathBuf::new(), began: String::new() };
    let refused = HostGuard::begin(&fake.paths, purpose).unwrap_err();
    assert_eq!(refused, "the module kvm_amd is in use (2 users): stop the virtual machines of this host");
    assert!(!fake.has_journal());
}

#[test]
fn kernel_parameters_of_kvm_are_those_of_its_modules() {
    let fake = Fake::new();
    let guard = fake.begin();
    let parameters = ["kvm.nested=1", "kvm_amd.nested=1", "kvm_amd.avic=Y"].map(str::to_owned);
    guard.set_kernel_parameters(&parameters, "kvm_amd").unwrap();
    let parameter = |name| fake.text(&format!("/sys/module/kvm_amd/parameters/{name}"));
    assert_eq!((parameter("nested").as_deref(), parameter("avic").as_deref()), (Some("1"), Some("Y")));
    // What a step loads without parameters has them too.
    fake.modprobe(&["-r", "kvm_amd"]);
    fake.modprobe(&["kvm_amd"]);
    assert_eq!(parameter("nested").as_deref(), Some("1"), "they are stronger than kvm.conf");
    assert_eq!(guard.restore().problem, None);
    assert_eq!(fake.text(PARAMETERS_FILE), None);
    assert_eq!(parameter("nested").as_deref(), Some("0"));
}

#[test]
fn a_cell_begins_without_the_options_of_kvm_that_the_host_has() {
    let fake = Fake::new();
    fake.write("/etc/modprobe.d/lab.conf", "options kvm_amd nested=1\nalias a b\n");
    fake.write("/etc/lab.conf", "options kvm_amd avic=1\n");
    symlink(fake.at("/etc/lab.conf"), fake.at("/etc/modprobe.d/link.conf")).unwrap();
    fake.write("/etc/modprobe.d/ignored", "options kvm_amd avic=1\n");
    let before = fake.state();
    let guard = fake.begin();
    guard.set_options_aside().unwrap();
    let text = |name: &str| fake.text(&format!("/etc/modprobe.d/{name}"));
    assert_eq!(text("lab.conf").as_deref(), Some("alias a b"));
    assert_eq!(text("kvm.conf").as_deref(), Some(""));
    assert_eq!(text("link.conf"), None);
    assert_eq!(text("ignored").as_deref(), Some("options kvm_amd avic=1"), "modprobe does not read it");
    assert_eq!(text("other.conf").as_deref(), Some("options other x=1"));
    assert_eq!(guard.restore().problem, None);
    assert_eq!(fake.state(), before);
}

#[rstest]
#[case("quiet kvm_amd.nested=1", Some("kvm_amd.nested=1"))]
#[case("kvm-intel.nested=1", Some("kvm-intel.nested=1"))]
#[case("root=/dev/vda quiet\n", None)]
fn options_of_kvm_on_the_kernels_command_line_are_refused(#[case] line: &str, #[case] word: Option<&str>) {
    let fake = Fake::new();
    fake.write("/proc/cmdline", line);
    let guard = fake.begin();
    let refused = guard.set_options_aside().err();
    assert_eq!(refused.is_some(), word.is_some(), "{refused:?}");
    assert!(word.is_none_or(|word| refused.unwrap().contains(word)));
    assert_eq!(guard.restore().problem, None);
}

#[test]
fn parameters_of_a_kvm_that_is_built_in_are_refused() {
    let fake = Fake::new();
    fs::remove_file(fake.at("/sys/module/kvm_amd/initstate")).unwrap();
    let guard = fake.begin();
    let refused = guard.set_kernel_parameters(&["kvm_amd.nested=1".to_owned()], "kvm_amd").unwrap_err();
    assert_eq!(
        refused,
        "kvm_amd is built into this host's kernel, so its parameters can't be set without a reboot"
    );
    assert_eq!(guard.restore().problem, None);
}

#[rstest]
#[case("kvm_amd.nested=0", Some(("kvm_amd", "nested=0")))]
#[case("kvm.nested=0", Some(("kvm", "nested=0")))]
#[case("kvm-amd.nested=0", None)]
#[case("clearcpuid=svm", None)]
fn only_parameters_of_kvm_can_be_set_without_a_boot(
    #[case] word: &str,
    #[case] expected: Option<(&str, &str)>,
) {
    assert_eq!(kvm_parameter(word), expected);
}

#[test]
fn a_journal_that_is_not_of_this_machine_or_is_damaged_changes_nothing() {
    let fake = Fake::new();
    mem::forget(fake.begin());
    fake.write("/proc/sys/vm/nr_hugepages", "512\n");
    fake.write("/etc/machine-id", &MACHINE.replace('0', "1"));
    assert!(matches!(restore(&fake.paths), Err(JournalError::AnotherMachine(_))));
    fake.write("/etc/machine-id", MACHINE);
    fake.write(&format!("{FOLDER}/journal.json"), "{");
    assert!(matches!(restore(&fake.paths), Err(JournalError::Damaged { .. })));
    assert_eq!(fake.text("/proc/sys/vm/nr_hugepages").as_deref(), Some("512"));
    assert!(fake.has_journal());
}

#[test]
fn one_run_that_may_change_a_host_has_it_alone() {
    let fake = Fake::new();
    assert!(Lease::shared(&fake.paths).unwrap().is_none(), "it was never a disposable host");
    let alone = Lease::exclusive(&fake.paths).unwrap();
    let refused = Lease::exclusive(&fake.paths).unwrap_err().to_string();
    let process = std::process::id();
    let expected =
        format!("another run of nestmatrix is using this host (process {process}); wait until it has ended");
    assert_eq!(refused, expected);
    assert_eq!(Lease::shared(&fake.paths).unwrap_err().to_string(), expected);
    drop(alone);
    let one = Lease::shared(&fake.paths).unwrap();
    let another = Lease::shared(&fake.paths).unwrap();
    assert!(Lease::exclusive(&fake.paths).is_err());
    drop((one, another));
    let _alone = Lease::exclusive(&fake.paths).unwrap();
}

#[test]
fn the_current_one_of_several_values_is_in_brackets() {
    let fake = Fake::new();
    let path = "/sys/kernel/mm/transparent_hugepage";
    fs::create_dir_all(fake.at(path)).unwrap();
    fake.write(&format!("{path}/enabled"), "always [madvise] never\n");
    let settings = settings::read(&fake.paths);
    assert_eq!(settings[&format!("{path}/enabled")], "madvise");
}
