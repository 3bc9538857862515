//! Windows as a medium: which installation images are accepted, and what an installation gets. Its volume is read by mtools, and the
//! answer file by libxml2. No machine is started, and no Windows is needed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "these tests use a part of it")]
mod support;
#[path = "../../xtask/tests/common/trials.rs"]
mod trials;

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nestmatrix_images::{
    Begun, Catalog, DiskFormat, DiskGuest, Error, InnermostOnly, Media, MediumState, NewMedium, Preparation,
    PreparationReport, QemuImg, Recipe, ReportReader, RoleCommand, RoleValues, Silent, Store, StoreOptions,
    WslRoot,
};
use nestmatrix_model::Isa;
use support::Toy;
use trials::{ignore, trials};

/// A recipe that needs no firmware, so that nothing is downloaded.
const RECIPE: &str = r#"
name = "toy-windows"
architecture = "ARCHITECTURE"

[template]
systems = ["windows-server"]

[disk]
guest = "windows"
firmware = "default"
memory-mib = 512
cpus = 1
bus = "sata"
command-channel = "agent"
enlightenments = ["hv-relaxed"]
nesting-enlightenments = ["hv-emsr-bitmap"]
nesting-enlightenments-intel = ["hv-evmcs"]

[disk.install]
answers = "windows/autounattend.xml"
script = "windows/prepare.ps1"
image-index = 2
language = "en-US"
product-key = "AAAAA-BBBBB"
disk-gib = 3
"#;

const NAME: &str = "windows-server-2022";
const SECTOR: u64 = 2048;

struct User {
    toy: Toy,
    tool: QemuImg,
}

/// An ISO 9660 image that UEFI can start, with this byte somewhere.
fn iso(path: &Path, byte: u8) {
    let file = File::create(path).unwrap();
    file.set_len(100 * SECTOR).unwrap();
    let put =
        |sector: u64, offset: u64, bytes: &[u8]| file.write_all_at(bytes, sector * SECTOR + offset).unwrap();
    put(16, 0, b"\x01CD001\x01");
    put(16, 80, &100_u32.to_le_bytes());
    put(17, 0, b"\x00CD001\x01EL TORITO SPECIFICATION");
    put(17, 0x47, &20_u32.to_le_bytes());
    put(18, 0, b"\xffCD001\x01");
    // A validation entry for UEFI, whose sum is 0, and a bootable one.
    put(20, 0, &[1, 0xef]);
    put(20, 0x1c, &0_u16.wrapping_sub(1 + 0xef00_u16.wrapping_add(0xaa55)).to_le_bytes());
    put(20, 0x1e, &[0x55, 0xaa]);
    put(20, 32, &[0x88]);
    put(20, 40, &30_u32.to_le_bytes());
    put(40, 0, &[byte]);
}

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/windows")
}

impl User {
    fn new() -> Self {
        let Some(tool) = QemuImg::installed(&[]) else { ignore("this machine has no qemu-img") };
        let toy = Toy::new();
        toy.add_recipe("toy-windows", RECIPE);
        fs::create_dir(toy.path("recipes/windows")).unwrap();
        for entry in fs::read_dir(checkout()).unwrap() {
            let from = entry.unwrap().path();
            fs::copy(&from, toy.path("recipes/windows").join(from.file_name().unwrap())).unwrap();
        }
        let user = Self { toy, tool };
        for name in ["windows.iso", "drivers.iso"] {
            iso(&user.toy.path(name), 1);
        }
        fs::write(user.toy.path("wsl.2.4.x64.msi"), "an installer").unwrap();
        user
    }

    fn new_medium(&self, file: &str) -> NewMedium {
        NewMedium {
            name: NAME.to_owned(),
            file: self.toy.path(file),
            isa: Isa::of_this_machine(),
            installs: true,
            drivers: Some(self.toy.path("drivers.iso")),
            ..NewMedium::default()
        }
    }

    fn media(&self) -> Media {
        Media::open(Some(self.toy.path("media"))).unwrap()
    }

    fn add(&self, new: &NewMedium) -> Result<(), Error> {
        self.media().add(new, &self.tool, &Silent).map(drop)
    }

    /// Why a medium is refused. Nothing is recorded then.
    fn refused(&self, new: &NewMedium) -> String {
        let why = self.add(new).unwrap_err().to_string();
        assert_eq!(self.media().iter().count(), 0);
        why
    }

    fn catalog(&self) -> Catalog {
        Catalog::load(&self.toy.path("recipes")).unwrap().with_media(&self.media())
    }

    fn recipe(&self, role: Option<&str>) -> Recipe {
        let catalog = self.catalog();
        let base = catalog.of_medium(self.media().iter().next().unwrap()).unwrap();
        let recipe = role.map_or(Some(base), |role| catalog.with_addition(base.name(), role));
        recipe.unwrap().clone()
    }

    fn preparation(&self, store: &Store, role: Option<&str>) -> Result<Box<Preparation>, Error> {
        match store.begin_preparation(&self.recipe(role), &self.catalog(), &Silent)? {
            Begun::Preparation(preparation) => Ok(preparation),
            Begun::Ready(image) => panic!("{image:?}"),
        }
    }

    fn store(&self) -> Store {
        let cache = Some(self.toy.path("cache"));
        Store::open(StoreOptions { cache, ..StoreOptions::default() }).unwrap()
    }
}

fn report(lines: &str) -> PreparationReport {
    let mut reader = ReportReader::new();
    lines.lines().for_each(|line| drop(reader.line(line.as_bytes())));
    reader.report()
}

const GOOD: &str = "nestmatrix-prepare-begin\nsystem=windows-server\nversion=2022\nkernel=10.0.20348.1\n\
                    change=installed the guest agent\nnestmatrix-prepare-end 0\n";

/// What a program of this machine prints.
fn printed(program: &str, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(arguments).output() else {
        ignore(&format!("this machine has no {program}"))
    };
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn an_installation_image_is_accepted_where_a_recipe_installs_it() {
    let user = User::new();
    let good = user.new_medium("windows.iso");
    let catalog = user.catalog();
    let isa = Isa::of_this_machine().unwrap();
    assert!(catalog.installs(NAME, isa) && !catalog.installs("rhel-9.4", isa) && !catalog.installs("x", isa));
    let of_rhel = NewMedium { installs: false, drivers: None, ..good.clone() };
    assert!(user.refused(&of_rhel).contains("it is an installation image (ISO 9660)"));
    let with_drivers = NewMedium { installs: false, ..good.clone() };
    assert!(user.refused(&with_drivers).contains("it takes no --drivers"));
    assert!(user.refused(&NewMedium { drivers: None, ..good.clone() }).contains("--drivers virtio-win.iso"));
    let no_cd = NewMedium { drivers: Some(user.toy.path("wsl.2.4.x64.msi")), ..good.clone() };
    assert!(user.refused(&no_cd).ends_with("it is not a CD image (ISO 9660)"));
    for name in ["../x", "", "a b", ".x"] {
        let files = vec![(name.to_owned(), user.toy.path("wsl.2.4.x64.msi"))];
        assert!(user.refused(&NewMedium { files, ..good.clone() }).contains("--file NAME=PATH"), "{name}");
    }
    let file = File::options().write(true).open(user.toy.path("windows.iso")).unwrap();
    file.write_all_at(&[7], 20 * SECTOR + 5).unwrap();
    assert!(user.refused(&good).contains("UEFI cannot start it: its boot catalog is damaged"));
    file.write_all_at(&[0], 20 * SECTOR + 5).unwrap();
    file.set_len(99 * SECTOR).unwrap();
    assert!(user.refused(&good).contains("it is truncated: its volume has 204800 bytes, the file 202752"));
    file.set_len(100 * SECTOR).unwrap();
    user.add(&good).unwrap();
    let media = user.media();
    let medium = media.iter().next().unwrap();
    assert_eq!((medium.name(), medium.format()), (NAME.to_owned(), DiskFormat::Iso));
    assert_eq!(medium.drivers(), Some(user.toy.path("drivers.iso").canonicalize().unwrap().as_path()));
    // Other drivers are noticed like another image.
    medium.ensure_unchanged(&Silent).unwrap();
    iso(&user.toy.path("drivers.iso"), 2);
    let changed = medium.ensure_unchanged(&Silent).unwrap_err().to_string();
    assert!(changed.contains("drivers.iso: it has changed since it was added"), "{changed}");
}

fn the_state_of_a_medium_follows_from_the_files_beside_it_too() {
    let user = User::new();
    let (drivers, installer) = (user.toy.path("drivers.iso"), user.toy.path("wsl.2.4.x64.msi"));
    let files = vec![("wsl.msi".to_owned(), installer.clone())];
    user.add(&NewMedium { files, ..user.new_medium("windows.iso") }).unwrap();
    let medium = || Arc::clone(user.media().iter().next().unwrap());
    assert!(matches!(medium().state(), MediumState::Unchanged));
    for file in [&drivers, &installer] {
        let later = SystemTime::now() + Duration::from_secs(5);
        File::options().write(true).open(file).unwrap().set_modified(later).unwrap();
        assert!(matches!(medium().state(), MediumState::Touched), "{}", file.display());
        medium().ensure_unchanged(&Silent).unwrap();
        assert!(matches!(medium().state(), MediumState::Unchanged), "the time is recorded");
    }
    let unusable = || user.catalog().uses_of_media()[0].unusable().unwrap_or_default();
    assert_eq!(unusable(), "");
    fs::write(&installer, "another installer").unwrap();
    assert!(unusable().contains("wsl.2.4.x64.msi: it has changed since it was added"), "{}", unusable());
    fs::remove_file(&installer).unwrap();
    assert!(unusable().contains("wsl.2.4.x64.msi: the file does not exist"), "{}", unusable());
    // What can be read does not hide what can't.
    iso(&user.toy.path("windows.iso"), 2);
    assert!(unusable().contains("wsl.2.4.x64.msi: the file does not exist"), "{}", unusable());
}

fn a_windows_has_a_recipe_for_each_role() {
    let user = User::new();
    user.add(&user.new_medium("windows.iso")).unwrap();
    let (guest, hyper_v, wsl2) = (user.recipe(None), user.recipe(Some("hyper-v")), user.recipe(Some("wsl2")));
    let isa = Isa::of_this_machine().unwrap();
    assert_eq!(guest.name(), format!("{NAME}-disk-{isa}"));
    assert_eq!(hyper_v.name(), format!("{NAME}-disk-{isa}+hyper-v"));
    assert_eq!(hyper_v.addition(), Some("hyper-v"));
    let digests = [&guest, &hyper_v, &wsl2].map(|recipe| recipe.digest().clone());
    assert!(digests[0] != digests[1] && digests[1] != digests[2]);
    assert_eq!(guest.innermost_only(None), Some(InnermostOnly::NoRole));
    assert_eq!(hyper_v.innermost_only(None), None);
    let disk = hyper_v.disk().unwrap();
    assert_eq!((disk.guest(), disk.role().unwrap().name()), (Some(DiskGuest::Windows), "hyper-v"));
    assert!(disk.needs_kvm() && disk.needs_preparation());
    let features = &disk.hardware().enlightenments;
    assert_eq!(features.of(false, true), ["hv-relaxed"]);
    assert_eq!(features.of(true, false), ["hv-relaxed", "hv-emsr-bitmap"]);
    assert_eq!(features.of(true, true), ["hv-relaxed", "hv-emsr-bitmap", "hv-evmcs"]);
    let catalog = user.catalog();
    assert_eq!(catalog.roles_of(NAME, isa).collect::<Vec<_>>(), ["hyper-v", "wsl2"]);
    assert_eq!(
        catalog.without_media().recipes_and_extended().filter(|recipe| recipe.disk().is_some()).count(),
        0
    );
    // A changed command of a role makes another disk.
    let role = user.toy.path("recipes/windows/hyper-v.toml");
    fs::write(&role, fs::read_to_string(&role).unwrap().replace("/quiet", "")).unwrap();
    assert_ne!(user.recipe(Some("hyper-v")).digest(), &digests[1]);
    assert_eq!(user.recipe(None).digest(), &digests[0]);
}

fn an_installation_gets_an_empty_disk_and_its_cds() {
    let user = User::new();
    user.add(&user.new_medium("windows.iso")).unwrap();
    let store = user.store();
    let preparation = user.preparation(&store, None).unwrap();
    let path = |name: &str| user.toy.path(name).canonicalize().unwrap();
    assert_eq!(preparation.cds(), [path("windows.iso"), path("drivers.iso")]);
    assert!(preparation.boots_cd());
    let overlay = preparation.overlay();
    let info = printed("qemu-img", &["info", "--output=json", overlay.to_str().unwrap()]);
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!((info["virtual-size"].as_u64(), info["backing-filename"].as_str()), (Some(3 << 30), None));
    let image = preparation.finish(report(GOOD)).unwrap();
    let disk = image.disk_image().unwrap();
    assert_eq!(disk.role.as_deref(), Some("guest"));
    assert_eq!(disk.kernel_release.as_deref(), Some("10.0.20348.1"));
    assert_eq!(disk.changes, ["installed the guest agent"]);
}

fn a_report_of_another_windows_is_refused() {
    let user = User::new();
    user.add(&user.new_medium("windows.iso")).unwrap();
    let store = user.store();
    for (lines, expected) in [
        (GOOD.replace("2022", "2019"), "holds windows-server 2019"),
        (GOOD.replace("version=2022", "version=build-25398"), "holds windows-server build-25398"),
        (GOOD.replace("kernel=10.0.20348.1\n", ""), "did not report its kernel"),
        (GOOD.replace("end 0", "end 1").replace("change", "error"), "installed the guest agent"),
        (String::new(), "reported no end"),
    ] {
        let why = user.preparation(&store, None).unwrap().finish(report(&lines)).unwrap_err().to_string();
        assert!(why.contains(expected), "{expected}: {why}");
    }
}

fn a_disk_that_is_installed_already_gets_an_overlay() {
    let user = User::new();
    let disk = user.toy.path("windows.vhdx");
    printed("qemu-img", &["create", "-q", "-f", "vhdx", disk.to_str().unwrap(), "10M"]);
    user.add(&user.new_medium("windows.vhdx")).unwrap();
    let preparation = user.preparation(&user.store(), None).unwrap();
    assert!(!preparation.boots_cd());
    assert_eq!(preparation.cds(), [user.toy.path("drivers.iso").canonicalize().unwrap()]);
    let overlay = preparation.overlay();
    let info = printed("qemu-img", &["info", "--output=json", overlay.to_str().unwrap()]);
    assert!(info.contains("windows.vhdx"), "{info}");
}

/// The files of a seed, as mtools lists them, and the text of one.
fn listed(seed: &Path) -> Vec<String> {
    let files = printed("mdir", &["-i", seed.to_str().unwrap(), "-b", "-/", "::"]);
    let mut files: Vec<String> =
        files.lines().map(|line| line.trim_start_matches("::/").to_owned()).collect();
    files.retain(|file| !file.ends_with('/'));
    files.sort();
    files
}

fn text_of(seed: &Path, file: &str) -> String {
    printed("mtype", &["-i", seed.to_str().unwrap(), &format!("::/{file}")])
}

fn the_seed_has_what_windows_setup_and_the_role_need() {
    let user = User::new();
    user.add(&user.new_medium("windows.iso")).unwrap();
    let why = user.preparation(&user.store(), Some("wsl2")).unwrap_err().to_string();
    assert!(why.contains("the role wsl2 of windows-server-2022 needs the file wsl.msi"), "{why}");
    let files = vec![("wsl.msi".to_owned(), user.toy.path("wsl.2.4.x64.msi"))];
    user.add(&NewMedium { files, ..user.new_medium("windows.iso") }).unwrap();
    let preparation = user.preparation(&user.store(), Some("wsl2")).unwrap();
    let seed = preparation.seed();
    assert_eq!(
        listed(&seed),
        [
            "Autounattend.xml",
            "Unattend.xml",
            "nestmatrix/files/wsl.msi",
            "nestmatrix/functions.ps1",
            "nestmatrix/prepare.ps1",
            "nestmatrix/steps.txt",
            "nestmatrix/steps/01.ps1",
            "nestmatrix/steps/02.ps1",
            "nestmatrix/steps/03.ps1",
            "nestmatrix/steps/04.ps1",
        ]
    );
    assert_eq!(text_of(&seed, "nestmatrix/files/wsl.msi"), "an installer");
    let steps = text_of(&seed, "nestmatrix/steps.txt");
    let steps: Vec<&str> = steps.split("\r\n").collect();
    assert!(steps[0].starts_with("01 0,3010 continue the feature that starts WSL"), "{steps:?}");
    assert!(steps[3].starts_with("04 0,3010,1641 restart WSL itself"), "{steps:?}");
    let step = text_of(&seed, "nestmatrix/steps/02.ps1");
    assert!(step.contains("VirtualMachinePlatform") && step.lines().count() > 3, "{step}");
}

/// The components of each pass, as Microsoft's reference of the answer file names them ("Windows Setup Configuration Passes").
const COMPONENTS: [(&str, &str); 5] = [
    ("windowsPE", "Microsoft-Windows-International-Core-WinPE"),
    ("windowsPE", "Microsoft-Windows-Setup"),
    ("specialize", "Microsoft-Windows-Shell-Setup"),
    ("oobeSystem", "Microsoft-Windows-International-Core"),
    ("oobeSystem", "Microsoft-Windows-Shell-Setup"),
];

fn the_answer_file_is_xml_with_the_values_of_the_recipe() {
    let user = User::new();
    user.add(&user.new_medium("windows.iso")).unwrap();
    let preparation = user.preparation(&user.store(), None).unwrap();
    let answers = user.toy.path("answers.xml");
    fs::write(&answers, text_of(&preparation.seed(), "Autounattend.xml")).unwrap();
    assert_eq!(fs::read_to_string(&answers).unwrap(), text_of(&preparation.seed(), "Unattend.xml"));
    let answers = answers.to_str().unwrap();
    printed("xmllint", &["--noout", answers]);
    let value = |path: &str| {
        let path = path.split('/').map(|name| format!("/*[local-name()='{name}']")).collect::<String>();
        printed("xmllint", &["--xpath", &format!("string(//*[local-name()='unattend']/{path})"), answers])
            .trim()
            .to_owned()
    };
    let setup = "settings/component/";
    assert_eq!(value(&format!("{setup}ImageInstall/OSImage/InstallFrom/MetaData/Value")), "2");
    assert_eq!(value(&format!("{setup}UserData/ProductKey/Key")), "AAAAA-BBBBB");
    assert_eq!(value(&format!("{setup}SetupUILanguage/UILanguage")), "en-US");
    assert_eq!(value(&format!("{setup}AutoLogon/Username")), "nest");
    let command = value(&format!("{setup}FirstLogonCommands/SynchronousCommand/CommandLine"));
    assert!(command.contains(r"%d:\nestmatrix\prepare.ps1"), "{command}");
    let mut found = Vec::new();
    let text = fs::read_to_string(answers).unwrap();
    let (mut pass, mut rest) = ("", text.as_str());
    while let Some(at) = rest.find('<') {
        rest = &rest[at..];
        let attribute = |name: &str| {
            let tag = &rest[..rest.find('>').unwrap()];
            let (_, after) = tag.split_once(&format!("{name}=\"")).unwrap();
            after.split_once('"').unwrap().0
        };
        if rest.starts_with("<settings ") {
            pass = attribute("pass");
        } else if rest.starts_with("<component ") {
            assert_eq!(attribute("publicKeyToken"), "31bf3856ad364e35");
            assert_eq!(attribute("processorArchitecture"), "amd64");
            found.push((pass, attribute("name")));
        }
        rest = &rest[1..];
    }
    assert_eq!(found, COMPONENTS);
}

fn an_answer_file_with_an_unknown_placeholder_is_refused() {
    let user = User::new();
    let file = user.toy.path("recipes/windows/autounattend.xml");
    let answers = fs::read_to_string(&file).unwrap();
    fs::write(&file, answers.replace("<Value>@IMAGE_INDEX@", "<Value>@IMAGE@")).unwrap();
    let errors = Catalog::load(&user.toy.path("recipes")).unwrap_err();
    let found = format!("{errors:?}");
    assert!(found.contains("UnknownInAnswers(\"@IMAGE@\")"), "{found}");
}

/// The texts of all elements of this name.
fn texts<'t>(xml: &'t str, name: &str) -> Vec<&'t str> {
    let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
    xml.split(&begin).skip(1).map(|rest| rest.split_once(&end).unwrap().0.trim()).collect()
}

/// Rules of Windows: an isolated name of an account that is also the computer's is taken for the computer (LookupAccountName), and a
/// password has three kinds of characters and no name of its account (MS-SAMR 3.1.1.7.2).
fn the_accounts_have_names_and_passwords_that_windows_accepts() {
    let answers = fs::read_to_string(checkout().join("autounattend.xml")).unwrap();
    let computer = texts(&answers, "ComputerName");
    let accounts = texts(texts(&answers, "LocalAccounts")[0], "Name");
    let [computer] = computer[..] else { panic!("{computer:?}") };
    assert!(computer.len() <= 15, "{computer} is too long for NetBIOS");
    let mut names = texts(&answers, "DisplayName");
    names.extend(&accounts);
    assert!(names.iter().all(|name| !name.eq_ignore_ascii_case(computer)), "{names:?}");
    names.push("Administrator");
    assert_eq!(texts(texts(&answers, "AutoLogon")[0], "Username"), accounts);
    let mut passwords: Vec<&str> =
        ["AdministratorPassword", "Password"].into_iter().flat_map(|name| texts(&answers, name)).collect();
    passwords.iter_mut().for_each(|password| *password = texts(password, "Value")[0]);
    assert_eq!(passwords.len(), 3);
    for password in passwords {
        assert!(
            names.iter().all(|name| !password.to_lowercase().contains(&name.to_lowercase())),
            "{password}: {names:?}"
        );
        let kinds: [fn(char) -> bool; 4] = [
            |c| c.is_ascii_uppercase(),
            |c| c.is_ascii_lowercase(),
            |c| c.is_ascii_digit(),
            |c| c.is_ascii_punctuation(),
        ];
        assert!(kinds.iter().filter(|kind| password.contains(**kind)).count() >= 3, "{password}");
        let page = fs::read_to_string(checkout().join("../../../docs/windows.md")).unwrap();
        assert!(page.contains(&format!("password `{password}`")), "docs/windows.md names another password");
    }
}

/// The members of SYSTEM_HYPERVISOR_DETAIL_INFORMATION, and the CPUID leaf (from 0x40000000) that each holds.
const HYPERVISOR_DETAILS: [(&str, u32); 7] = [
    ("HvVendorAndMaxFunction", 0),
    ("HypervisorInterface", 1),
    ("HypervisorVersion", 2),
    ("HvFeatures", 3),
    ("HwFeatures", 6),
    ("EnlightenmentInfo", 4),
    ("ImplementationLimits", 5),
];

fn the_leaves_of_the_hypervisor_are_read_in_the_order_of_the_kernel() {
    let functions = fs::read_to_string(checkout().join("functions.ps1")).unwrap();
    let order = functions.lines().find_map(|line| line.trim().strip_prefix("$order = ")).unwrap();
    let order: Vec<u32> = order.split(", ").map(|leaf| leaf.parse().unwrap()).collect();
    assert_eq!(order, HYPERVISOR_DETAILS.map(|(_, leaf)| leaf));
    // Every read names its leaf and register, so no offset is written by hand.
    let reads: Vec<&str> = functions.lines().filter(|line| line.contains("ToUInt32($leaves")).collect();
    assert_eq!(reads.len(), 2, "{reads:?}");
    for (read, expected) in reads.iter().zip(["(& $at 3 1)) -band 1)", "(& $at 4 0)) -band 0x1000)"]) {
        assert!(read.ends_with(expected), "{read}");
    }
}

fn wsl_starts_the_reporter_that_is_in_its_root() {
    let user = User::new();
    let catalog = user.catalog();
    let values = RoleValues::new("L2", 1, 512, "", "NESTGUEST").unwrap();
    let script = catalog.windows_role("wsl2").unwrap().script(RoleCommand::Start, &values).unwrap();
    assert!(script.contains(&format!(" --exec {} ", WslRoot::REPORTER)), "{script}");
    // Without the computer, the name of an account could stand for something else.
    assert!(script.contains(r#"-UserId "$env:COMPUTERNAME\nest""#), "{script}");
}

trials! {
    an_answer_file_with_an_unknown_placeholder_is_refused;
    the_accounts_have_names_and_passwords_that_windows_accepts;
    the_leaves_of_the_hypervisor_are_read_in_the_order_of_the_kernel;
    wsl_starts_the_reporter_that_is_in_its_root;
    an_installation_image_is_accepted_where_a_recipe_installs_it;
    the_state_of_a_medium_follows_from_the_files_beside_it_too;
    a_windows_has_a_recipe_for_each_role;
    an_installation_gets_an_empty_disk_and_its_cds;
    a_report_of_another_windows_is_refused;
    a_disk_that_is_installed_already_gets_an_overlay;
    the_seed_has_what_windows_setup_and_the_role_need;
    the_answer_file_is_xml_with_the_values_of_the_recipe;
}
