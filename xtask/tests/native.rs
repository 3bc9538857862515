//! Native metal, tested without such a machine: an emulated machine with its own userspace runs this project's program as an
//! ordinary user, with its own KVM as L0's. Boots.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use common::{Place, boots, images, of_recipes, scenarios, trials};
use cpio::newc::{Builder, ModeFileType, trailer};
use nestmatrix_images::{Emulator, Image, Product, Recipe, Store, StoreOptions};
use nestmatrix_model::Architecture;
use nestmatrix_model::architecture::ArchInfo;
use serde_json::Value;

/// Longest time for the machine to do everything.
const ALL: Duration = Duration::from_secs(30 * 60);

/// The recipe of the images of the machine's stacks: the system that the machine runs itself.
const OF_STACKS: &str = "debian-13-amd64";

/// What takes long on the machine, and is tried at night only.
const AT_NIGHT: [&str; 3] = ["guest", "hangs", "reboots"];

/// The tests that ran on the machine, by name.
struct Machine(BTreeMap<String, Tried>);

/// What the doctor and a run reported about the machine, and what they left behind.
#[derive(Debug, Default)]
struct Tried {
    doctor: Option<Value>,
    doctor_code: i32,
    verdicts: Vec<Value>,
    run_code: i32,
    said: String,
    left: Vec<String>,
    files: String,
    /// What can be changed on the machine, each time that it was asked.
    states: Vec<String>,
}

impl Machine {
    /// Boots the machine in the first test that needs it.
    fn get() -> &'static Self {
        static MACHINE: OnceLock<Machine> = OnceLock::new();
        MACHINE.get_or_init(|| Self::boot("usual"))
    }

    /// What was tried under this name.
    fn tries(name: &str) -> &'static Tried {
        static ALL: OnceLock<Machine> = OnceLock::new();
        let machine =
            if AT_NIGHT.contains(&name) { ALL.get_or_init(|| Self::boot("all")) } else { Self::get() };
        machine.tried(name)
    }

    fn boot(cases: &str) -> Self {
        let _guard = boots(&of_recipes(&[OF_STACKS, "qemu-x86-amd64"]));
        let place = Place::new();
        let store = Store::open(StoreOptions::default()).unwrap();
        let catalog = images::catalog();
        let userspace = Recipe::load(&folder().join("debian-13-userspace.toml")).unwrap();
        let userspace = images::image(&userspace, Product::Hypervisor);
        let emulator = images::image(catalog.get("qemu-x86-amd64").unwrap(), Product::Emulator);
        let emulator = Emulator::new(emulator).unwrap();
        let of_stacks = catalog.get(OF_STACKS).unwrap();
        let images = [Product::Hypervisor, Product::Minimal].map(|product| images::image(of_stacks, product));

        let initramfs = place.path().join("initramfs");
        let mut archive = File::create(&initramfs).unwrap();
        io::copy(&mut File::open(userspace.initramfs().unwrap()).unwrap(), &mut archive).unwrap();
        append(&mut archive, &given(store.cache(), of_stacks, &images));

        // Ends with this process, however that ends.
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(["exec-with-parent-death-signal", &std::process::id().to_string()]);
        let (program, arguments) = emulator.command("qemu-system-x86_64");
        command.arg(program).args(arguments).arg("-L").arg(emulator.data());
        // The machine that plays the metal of AMD's L0.
        let ArchInfo { emulated_cpu, emulated_cpu_without, kernel_parameters, boot_shortcuts, .. } =
            ArchInfo::of(Architecture::Amd);
        let without: String = emulated_cpu_without.iter().map(|feature| format!(",{feature}=off")).collect();
        command.arg("-cpu").arg(format!("{emulated_cpu},svm=on{without}"));
        command.args("-machine q35,accel=tcg -smp 1 -m 4096M".split(' '));
        command.args("-display none -nodefaults -no-user-config -no-reboot -serial stdio".split(' '));
        // As a virtual machine of AWS shows itself, except for the hypervisor's signature, which is the emulator's.
        command.args(["-smbios", "type=1,manufacturer=Amazon EC2,product=m8i.large"]);
        command.arg("-kernel").arg(userspace.kernel().unwrap()).arg("-initrd").arg(initramfs);
        command.arg("-append").arg(
            [*kernel_parameters, boot_shortcuts.slow_clock, boot_shortcuts.host, &format!("cases={cases}")]
                .join(" "),
        );
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut output = child.stdout.take().unwrap();
        let watch = std::thread::spawn(move || {
            let began = Instant::now();
            while child.try_wait().unwrap().is_none() {
                if began.elapsed() > ALL {
                    child.kill().unwrap();
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let mut text = Vec::new();
        output.read_to_end(&mut text).unwrap();
        watch.join().unwrap();
        let text = String::from_utf8_lossy(&text).replace('\r', "");
        let machine = Self::read(&text);
        assert!(machine.0.contains_key("end"), "the machine did not come to its end: {text}");
        place.assert_nothing_left();
        machine
    }

    fn read(text: &str) -> Self {
        let mut tried: BTreeMap<String, Tried> = BTreeMap::new();
        let mut name = String::new();
        let mut json: Vec<Value> = Vec::new();
        for line in text.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            let now = tried.entry(name.clone()).or_default();
            match word {
                "@@case" => {
                    rest.clone_into(&mut name);
                    tried.entry(name.clone()).or_default();
                }
                "@@doctor" => {
                    now.doctor_code = rest.parse().unwrap();
                    now.doctor = json.pop();
                }
                "@@run" => {
                    now.run_code = rest.parse().unwrap();
                    now.verdicts = std::mem::take(&mut json);
                }
                "@@said" => now.said = format!("{}{rest}\n", now.said),
                "@@left" => now.left.push(rest.to_owned()),
                "@@state" => now.states.push(rest.to_owned()),
                "@@files" => rest.clone_into(&mut now.files),
                _ => json.extend(serde_json::from_str::<Value>(line)),
            }
        }
        Self(tried)
    }

    fn tried(&self, name: &str) -> &Tried {
        &self.0[name]
    }
}

fn folder() -> PathBuf {
    scenarios("native")
}

impl Tried {
    /// Whether these words were printed. Errors are wrapped, also inside paths.
    fn has_said(&self, words: &str) -> bool {
        let squeezed = |text: &str| text.replace(|c: char| c.is_whitespace() || matches!(c, '│' | '×'), "");
        squeezed(&self.said).contains(&squeezed(words))
    }
}

/// A file for the machine.
struct Given {
    to: String,
    from: PathBuf,
    /// Only this many of its first bytes.
    size: u64,
}

impl Given {
    fn new(to: String, from: PathBuf) -> Self {
        let size = fs::metadata(&from).unwrap().len();
        Self { to, from, size }
    }
}

/// Every file of the folder `from`, for the folder `to`.
fn all_of(from: &Path, to: &str) -> Vec<Given> {
    let entries = fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| Given::new(format!("{to}/{}", name_of(&path)), path)).collect()
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// The files that the machine needs: the program, its scenarios and recipe, the cache of images.
fn given(cache: &Path, recipe: &Recipe, images: &[Image]) -> Vec<Given> {
    let one = |to: &str, from: PathBuf| Given::new(to.to_owned(), from);
    let mut given = vec![
        one("nest/xtask", env!("CARGO_BIN_EXE_xtask").into()),
        one("nest/procedure", folder().join("procedure")),
        one(&format!("nest/recipes/{}.toml", recipe.name()), recipe.path().to_owned()),
    ];
    given.extend(all_of(&recipe.path().with_file_name("init"), "nest/recipes/init"));
    let scenarios =
        ["stack", "guest", "enable-nesting", "waits", "persist"].map(|name| format!("native/{name}.toml"));
    let others = ["systems.toml", "documents/nestmatrix.toml"].map(str::to_owned);
    for file in scenarios.into_iter().chain(others) {
        given.push(one(&format!("nest/scenarios/{file}"), folder().join("scenarios").join(&file)));
    }
    let refs = all_of(&cache.join("refs"), "nest/cache/refs").into_iter();
    given.extend(refs.filter(|file| name_of(&file.from).starts_with(recipe.name())));
    for image in images {
        given.extend(all_of(image.folder(), &format!("nest/cache/images/{}", name_of(image.folder()))));
        // The rest of its disk is empty.
        let disk = given.iter_mut().find(|file| file.from == image.folder().join("disk")).unwrap();
        disk.size = image.disk().unwrap().initramfs.end;
    }
    given
}

/// Appends an archive to the existing initramfs.
fn append(archive: &mut File, given: &[Given]) {
    let mut folders = BTreeSet::new();
    for file in given {
        let parents = Path::new(&file.to).ancestors().skip(1);
        folders.extend(
            parents.filter(|folder| *folder != Path::new("")).map(|folder| folder.display().to_string()),
        );
    }
    for folder in folders {
        let entry = Builder::new(&folder).mode(0o755).set_mode_file_type(ModeFileType::Directory);
        entry.write(&mut *archive, 0).finish().unwrap();
    }
    for Given { to, from, size } in given {
        let entry = Builder::new(to).mode(0o755).set_mode_file_type(ModeFileType::Regular);
        let mut written = entry.write(&mut *archive, u32::try_from(*size).unwrap());
        io::copy(&mut File::open(from).unwrap().take(*size), &mut written).unwrap();
        written.finish().unwrap();
    }
    trailer(archive).unwrap();
}

fn an_ordinary_user_of_a_machine_that_can_nest_gets_a_verdict_with_evidence() {
    let works = Machine::tries("works");
    assert_eq!(works.run_code, 0, "{works:#?}");
    let [cell] = works.verdicts.as_slice() else { panic!("{works:#?}") };
    assert_eq!((&cell["verdict"], &cell["metal"]), (&"pass".into(), &"native".into()), "{cell:#}");
    assert_eq!(cell["levels"][0]["os"], "debian-13");
    assert!(cell["levels"][0]["image"].is_null(), "L0 is the machine itself: {cell:#}");
    let step = &cell["steps"][0];
    assert_eq!(
        (&step["on"], &step["status"], &step["output"]),
        (&"l0".into(), &0.into(), &"1".into()),
        "{step:#}"
    );
    // Only root can read KVM's counters in debugfs.
    assert_eq!(cell["evidence"]["l0_counters_unreadable"], true, "{cell:#}");
    for file in ["L1.console.log", "L2.console.log"] {
        assert!(works.files.contains(file), "{}", works.files);
    }
    assert_eq!(works.left, Vec::<String>::new());
}

fn a_machine_below_which_a_hypervisor_shows_itself_is_l0_and_its_record_says_that() {
    let [cell] = Machine::tries("works").verdicts.as_slice() else { panic!("one cell") };
    let guest_of = &cell["guest_of"];
    assert_eq!((&guest_of["level"], &guest_of["system"]), (&"l0".into(), &"aws".into()), "{cell:#}");
    assert!(cell["evidence"]["this_machine"].is_null(), "{cell:#}");
}

fn a_machine_that_shows_a_cells_l0_around_itself_is_l1() {
    let guest = Machine::tries("guest");
    assert_eq!(guest.run_code, 0, "{guest:#?}");
    // What is skipped comes first.
    let [gcp, aws] = guest.verdicts.as_slice() else { panic!("{guest:#?}") };
    assert_eq!((&aws["verdict"], &aws["metal"]), (&"pass".into(), &"native".into()), "{aws:#}");
    let guest_of = &aws["guest_of"];
    assert_eq!((&guest_of["level"], &guest_of["system"]), (&"l1".into(), &"aws".into()), "{aws:#}");
    let shows = &guest_of["shows"];
    assert_eq!(shows["/sys/class/dmi/id/sys_vendor"], "Amazon EC2", "{aws:#}");
    assert_eq!(shows["/proc/cpuinfo"], "hypervisor", "{aws:#}");
    let levels = [0, 1, 2].map(|level| &aws["levels"][level]["os"]);
    assert_eq!(levels, ["aws", "debian-13", "debian-13"], "{aws:#}");
    let images = [0, 1, 2].map(|level| aws["levels"][level]["image"].is_null());
    assert_eq!(images, [true, true, false], "{aws:#}");
    assert_eq!((&aws["steps"][0]["on"], &aws["steps"][0]["output"]), (&"l1".into(), &"1".into()), "{aws:#}");
    let evidence = &aws["evidence"];
    assert_eq!((&evidence["this_machine"], &evidence["report"]["hypervisor"]), (&"l1".into(), &"KVM".into()));
    // Of L0, nothing was measured.
    let kvm: Vec<&String> = evidence["kvm"].as_object().unwrap().keys().collect();
    assert_eq!(kvm, ["l2"], "{aws:#}");
    let why =
        "needs a virtual machine of Google Cloud with nested virtualization: this machine is a guest of AWS";
    assert_eq!((&gcp["verdict"], &gcp["symptom"]), (&"skip".into(), &why.into()), "{gcp:#}");
    let host = &guest.doctor.as_ref().unwrap()["host"];
    assert_eq!((&host["guest-of"]["name"], &host["l0-of-cells"]), (&"AWS".into(), &1.into()), "{host:#}");
    assert_eq!(guest.left, Vec::<String>::new());
}

fn what_keeps_a_machine_from_being_l0_is_told_as_the_reason_of_a_skip(name: &str, why: &str) {
    let tried = Machine::tries(name);
    assert_eq!(tried.run_code, 4, "{tried:#?}");
    let [cell] = tried.verdicts.as_slice() else { panic!("{tried:#?}") };
    assert_eq!(cell["verdict"], "skip", "{cell:#}");
    assert!(cell["symptom"].as_str().unwrap().starts_with(why), "{cell:#}");
    assert_eq!(tried.left, Vec::<String>::new());
}

fn the_doctor_names_what_the_machine_lacks(name: &str, lacking: &[&str], mend: &[&str]) {
    let tried = Machine::tries(name);
    let checkup = tried.doctor.as_ref().unwrap_or_else(|| panic!("{tried:#?}"));
    assert_eq!(checkup["usable"], lacking.is_empty(), "{checkup:#}");
    assert_eq!(tried.doctor_code, i32::from(!lacking.is_empty()), "{checkup:#}");
    let native = &checkup["architectures"][0]["native"];
    assert_eq!(
        (native["usable"] == true, &native["why"]),
        (lacking.is_empty(), &lacking.into()),
        "{checkup:#}"
    );
    let findings = checkup["architectures"][0]["findings"].as_array().unwrap();
    let commands: Vec<&str> = findings
        .iter()
        .filter(|finding| lacking.iter().any(|check| finding["check"] == *check))
        .flat_map(|finding| {
            finding["mend"].as_array().unwrap().iter().map(|command| command.as_str().unwrap())
        })
        .collect();
    assert!(mend.iter().all(|command| commands.contains(command)), "{findings:#?}");
}

fn a_machine_is_changed_only_with_its_administrators_permission(name: &str, why: &str) {
    let tried = Machine::tries(name);
    assert_eq!((tried.run_code, tried.verdicts.len()), (2, 0), "{tried:#?}");
    assert!(tried.has_said(why), "{}", tried.said);
}

fn a_disposable_host_is_changed_by_a_cell_and_restored() {
    let tried = Machine::tries("disposable");
    assert_eq!(tried.doctor.as_ref().unwrap()["host"]["disposable-host"]["permitted"], true, "{tried:#?}");
    assert_eq!(tried.run_code, 0, "{tried:#?}");
    let [cell] = tried.verdicts.as_slice() else { panic!("{tried:#?}") };
    assert_eq!((&cell["verdict"], &cell["metal"]), (&"pass".into(), &"native".into()), "{cell:#}");
    assert_eq!(cell["steps"].as_array().unwrap().len(), 6, "{cell:#}");
    let [before, after] = tried.states.as_slice() else { panic!("{tried:#?}") };
    assert_eq!(before, after);
    assert!(before.starts_with("1 640:104 0 "), "{before}");
    assert_eq!(tried.left, Vec::<String>::new(), "the journal is removed");
    let changes = cell["host_changes"].as_array().unwrap();
    let change = |what: &str| {
        let change = changes.iter().find(|change| change["what"] == what);
        change.unwrap_or_else(|| panic!("{what}: {changes:#?}"))
    };
    assert!(changes.iter().all(|change| change["restored"] == true), "{changes:#?}");
    let pages = change("/proc/sys/vm/nr_hugepages");
    assert_eq!((&pages["found"], &pages["left"]), (&"0".into(), &"4".into()));
    let gone = change("/etc/modprobe.d/other.conf");
    assert_eq!((&gone["found"], &gone["left"]), (&"options other x=1\n".into(), &Value::Null));
    let parameters = change("/etc/modprobe.d/zz-nestmatrix.conf");
    assert_eq!(parameters["left"], "options kvm nested=0\noptions kvm_amd nested=0\n");
    change("/dev/kvm");
    change("/etc/modprobe.d");
}

fn an_interrupted_run_restores_the_machine_first() {
    let tried = Machine::tries("interrupted");
    assert_eq!(tried.run_code, 130, "{tried:#?}");
    let [before, meanwhile, after] = tried.states.as_slice() else { panic!("{tried:#?}") };
    assert_eq!(before, after);
    assert!(meanwhile.starts_with("0 600:0 4 "), "{meanwhile}");
}

fn what_a_killed_run_changed_is_restored_by_the_next_command() {
    let machine = Machine::get();
    let before = &machine.tried("interrupted").states[0];
    let killed = machine.tried("killed");
    assert!(killed.has_said("another run of nestmatrix is using this host (process "), "{killed:#?}");
    assert!(killed.states[0].starts_with("0 600:0 4 "), "{killed:#?}");
    assert_eq!(killed.left, Vec::<String>::new(), "its processes ended with it");

    let user = machine.tried("killed-and-a-user");
    assert_eq!((user.run_code, user.verdicts.len()), (3, 0), "{user:#?}");
    assert!(user.has_said("restore it first: sudo cargo xtask host restore"), "{user:#?}");

    let said = "a run that has not ended has changed this host for waits/amd/debian-13/debian-13";
    let another = machine.tried("killed-and-another-run");
    assert!(another.said.starts_with(said), "{another:#?}");
    let change = "/etc/modprobe.d/kvm.conf: found \"options kvm_amd nested=1\\n\", left \"options kvm_amd nested=0\\n\", restored";
    assert!(another.has_said(change), "{another:#?}");
    assert_eq!(another.states, std::slice::from_ref(before));

    let restored = machine.tried("killed-and-restored");
    assert!(restored.said.starts_with(said), "{restored:#?}");
    assert!(restored.has_said("this host is as it was found; there is nothing to restore"), "{restored:#?}");
    assert!(restored.has_said("`host restore` changes this machine, which needs root"), "{restored:#?}");
    assert_eq!(restored.states, std::slice::from_ref(before));
}

fn a_cell_continues_after_it_has_rebooted_the_machine() {
    let tried = Machine::tries("reboots");
    assert_eq!(tried.run_code, 0, "{tried:#?}");
    let [cell] = tried.verdicts.as_slice() else { panic!("{tried:#?}") };
    assert_eq!((&cell["verdict"], &cell["metal"]), (&"pass".into(), &"native".into()), "{cell:#}");
    let steps: Vec<(&str, &str)> = cell["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (step["name"].as_str().unwrap(), step["output"].as_str().unwrap()))
        .collect();
    let expected = [
        ("make off the default", ""),
        ("reboot with the default", "L0 is up again; nested=0"),
        ("parameter says off", "0"),
        ("add a line", ""),
        ("reboot", "L0 is up again; nested=1"),
        ("parameter says on", "1"),
    ];
    assert_eq!(steps, expected);
    let [before, first, second, after] = tried.states.as_slice() else { panic!("{tried:#?}") };
    assert_eq!(before, after);
    assert!(
        first.starts_with("0 600:0 0 ") && first.ends_with("options kvm_amd nested=0;options other x=1;"),
        "{first}"
    );
    assert!(second.starts_with("1 600:0 0 "), "{second}");
    let file = &cell["host_changes"].as_array().unwrap()[1];
    assert_eq!(
        (&file["what"], &file["restored"]),
        (&"/etc/modprobe.d/kvm.conf".into(), &true.into()),
        "{cell:#}"
    );
    assert!(
        tried.said.contains("persist/amd/debian-13/debian-13 reboots this machine now; afterwards: "),
        "{tried:#?}"
    );
    assert!(tried.said.contains("resuming: 0 of 1 cells have a verdict"), "{tried:#?}");
}

trials! {
    an_ordinary_user_of_a_machine_that_can_nest_gets_a_verdict_with_evidence;
    a_machine_below_which_a_hypervisor_shows_itself_is_l0_and_its_record_says_that;
    #[ignore = "boots the machine for everything that is tried on it: seven minutes"]
    a_machine_that_shows_a_cells_l0_around_itself_is_l1;
    what_keeps_a_machine_from_being_l0_is_told_as_the_reason_of_a_skip {
        nesting_off(
            "nesting-off",
            "needs nesting switched on in L0's KVM: kvm_amd of this machine has nested=0"
        ),
        no_permission(
            "no-permission",
            "needs a usable /dev/kvm, with kvm_amd loaded: this machine has none that this user may open"
        ),
        no_module(
            "no-module",
            "needs a usable /dev/kvm, with kvm_amd loaded: this machine has none that this user may open"
        ),
    };
    #[ignore = "boots the machine for everything that is tried on it: seven minutes"]
    what_keeps_a_machine_from_being_l0_is_told_as_the_reason_of_a_skip {
        hangs(
            "hangs",
            "needs a KVM that runs stock guests: /dev/kvm opens here, but a trial guest failed (l1-boot: "
        ),
    };
    a_machine_is_changed_only_with_its_administrators_permission {
        without_a_file("no-permission-file", "there is no /etc/nestmatrix/disposable-host"),
        of_another_machine("permission-of-another", "does not have this machine's own machine-id"),
        writable_by_others("permission-writable", "can be written by others: run chmod go-w on it"),
        without_root("permission-without-root", "needs root: run it with sudo"),
        of_emulated_metal("permission-of-emulated-metal", "--disposable-host needs --metal native"),
    };
    a_disposable_host_is_changed_by_a_cell_and_restored;
    an_interrupted_run_restores_the_machine_first;
    what_a_killed_run_changed_is_restored_by_the_next_command;
    #[ignore = "boots the machine for everything that is tried on it: seven minutes"]
    a_cell_continues_after_it_has_rebooted_the_machine;
    the_doctor_names_what_the_machine_lacks {
        works("works", &[], &[]),
        nesting_off("nesting-off", &["nested-parameter"], &["sudo modprobe -r kvm_amd", "sudo modprobe kvm_amd nested=1"]),
        no_permission("no-permission", &["kvm-permission", "nested-parameter"], &["sudo chmod 660 /dev/kvm"]),
        no_module("no-module", &["kvm-module", "kvm-device"], &["sudo modprobe kvm_amd"]),
    };
    #[ignore = "boots the machine for everything that is tried on it: seven minutes"]
    the_doctor_names_what_the_machine_lacks {
        hangs("hangs", &["kvm-proof"], &[]),
    };
}
