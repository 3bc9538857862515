//! Preparation of disks in the store, with a toy archive and the real qemu-img: what a preparation gets, what becomes of it, and what
//! is never returned. No machine is started.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;
#[path = "../../xtask/tests/common/trials.rs"]
mod trials;

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Command;

use nestmatrix_images::{
    Begun, Catalog, DiskImage, DiskPackages, Error, HostTool, HostTools, Image, InnermostOnly, Media,
    NewMedium, Preparation, PreparationReport, Product, QemuImg, Recipe, ReportReader, Silent, Sources,
    Store,
};
use nestmatrix_model::CommandChannel;
use support::{DISK, Heard, Toy};
use trials::{ignore, trials};

const RECIPE: &str = "toy-1.2-disk-";

/// What the system reports if all goes well.
const GOOD: &str = "nestmatrix-prepare-begin\nsystem=toy\nversion=1.2\nkernel=6.1.0-toy\nqemu=QEMU emulator version 9.9\n\
                    change=installed qemu 1.0\nnestmatrix-prepare-end 0\n";

struct User {
    toy: Toy,
    medium: PathBuf,
}

impl User {
    fn new() -> Self {
        Self::with(DISK)
    }

    fn with(recipe: &str) -> Self {
        let toy = Toy::new();
        toy.add_recipe("toy-disk", recipe);
        let medium = toy.path("medium.img");
        let user = Self { toy, medium };
        user.write_medium(1);
        user.add();
        user
    }

    /// Writes a disk with an MBR and this byte.
    fn write_medium(&self, byte: u8) {
        let file = File::create(&self.medium).unwrap();
        file.set_len(4 << 20).unwrap();
        file.write_all_at(&[0x55, 0xaa], 510).unwrap();
        file.write_all_at(&[byte; 512], 1 << 20).unwrap();
    }

    fn add(&self) {
        let Some(tool) = QemuImg::installed(&[]) else { ignore("this machine has no qemu-img") };
        let new = NewMedium {
            name: "toy-1.2".to_owned(),
            file: self.medium.clone(),
            sha256: None,
            isa: None,
            ..NewMedium::default()
        };
        self.media().add(&new, &tool, &Silent).unwrap();
    }

    fn media(&self) -> Media {
        Media::open(Some(self.toy.path("media"))).unwrap()
    }

    fn catalog(&self) -> Catalog {
        Catalog::load(&self.toy.path("recipes")).unwrap().with_media(&self.media())
    }

    fn recipe(&self) -> Recipe {
        self.catalog().recipes().find(|recipe| recipe.name().starts_with(RECIPE)).unwrap().clone()
    }

    fn begin(&self, store: &Store) -> Result<Begun, Error> {
        store.begin_preparation(&self.recipe(), &self.catalog(), &Silent)
    }

    fn preparation(&self, store: &Store) -> Box<Preparation> {
        match self.begin(store).unwrap() {
            Begun::Preparation(preparation) => preparation,
            Begun::Ready(image) => panic!("{image:?}"),
        }
    }

    fn ready(&self, store: &Store) -> Box<Image> {
        match self.begin(store).unwrap() {
            Begun::Ready(image) => image,
            Begun::Preparation(preparation) => panic!("{preparation:?}"),
        }
    }

    /// Files below the folder of drafts.
    fn drafts(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.toy.path("cache/building")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { found.push(path) }
            }
        }
        found
    }
}

fn report(text: &str) -> PreparationReport {
    let mut reader = ReportReader::new();
    for line in text.lines() {
        reader.line(line.as_bytes());
    }
    reader.report()
}

fn contents(volume: &PathBuf) -> Vec<(String, Vec<u8>)> {
    use std::io::Read as _;
    let file = File::options().read(true).write(true).open(volume).unwrap();
    let volume = fatfs::FileSystem::new(file, fatfs::FsOptions::new()).unwrap();
    let root = volume.root_dir();
    let files = root.iter().map(|entry| {
        let entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.to_file().read_to_end(&mut bytes).unwrap();
        (entry.file_name(), bytes)
    });
    files.collect()
}

fn text(files: &[(String, Vec<u8>)], name: &str) -> String {
    let found = files.iter().find(|(file, _)| file == name).unwrap_or_else(|| panic!("no {name}"));
    String::from_utf8(found.1.clone()).unwrap()
}

fn a_draft_has_the_overlay_the_seed_and_the_packages() {
    let user = User::new();
    let store = user.toy.store("cache", false);
    let recipe = user.recipe();
    let disk = recipe.disk().unwrap();
    assert_eq!((disk.packages(), disk.needs_preparation()), (DiskPackages::Archive, true));
    let preparation = user.preparation(&store);
    assert_eq!(preparation.command_channel(), CommandChannel::Console);
    assert_eq!((preparation.hardware().memory_mib, preparation.uefi()), (512, None));
    let info = Command::new("qemu-img").args(["info", "-U"]).arg(preparation.overlay()).output().unwrap();
    let info = String::from_utf8(info.stdout).unwrap();
    assert!(info.contains(&format!("backing file: file:{}", user.medium.display())), "{info}");
    assert!(info.contains("backing file format: raw"), "{info}");
    let seed = contents(&preparation.seed());
    for name in ["user-data", "meta-data", "prepare.sh", "shell.sh"] {
        assert_eq!(text(&seed, name), format!("the file {name}\n"));
    }
    let settings = text(&seed, "prepare.env");
    for line in
        ["NEST_COMMAND_CHANNEL='console'\n", "NEST_PACKAGES='kernel qemu'\n", "NEST_QEMU='/usr/bin/qemu'\n"]
    {
        assert!(settings.contains(line), "{settings}");
    }
    let packages = contents(&preparation.packages().unwrap());
    for name in ["kernel_1.0_all.deb", "qemu_1%3a1.0-1_all.deb"] {
        let file = packages.iter().find(|(file, _)| file == name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(file.1, fs::read(user.toy.path("debs").join(name)).unwrap());
    }
}

fn a_finished_preparation_is_an_image_and_not_repeated() {
    let user = User::new();
    let store = user.toy.store("cache", false);
    let preparation = user.preparation(&store);
    fs::write(preparation.folder().join("console.log"), "of the caller").unwrap();
    let image = preparation.finish(report(GOOD)).unwrap();
    let disk = image.disk_image().unwrap();
    assert_eq!(disk.medium, user.medium);
    assert_eq!(disk.kernel_release.as_deref(), Some("6.1.0-toy"));
    assert_eq!(disk.changes, ["installed qemu 1.0"]);
    let os = disk.os_release.unwrap();
    assert_eq!((os.id.as_str(), os.version.as_str()), ("toy", "1.2"));
    assert_eq!(disk.qemu.unwrap().version, "QEMU emulator version 9.9");
    assert_eq!(image.os().unwrap().variant.as_deref(), Some("disk"));
    assert_eq!(image.packages().len(), 2);
    let names = |folder| {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(image.folder()), ["disk.qcow2", "image.toml"]);
    assert!(user.drafts().is_empty(), "{:?}", user.drafts());

    let calls = user.toy.calls("apt-get");
    let offline = user.toy.store("cache", true);
    assert_eq!(user.ready(&offline).digest(), image.digest());
    let found = offline.ensure(&user.recipe(), Product::Disk, &Silent).unwrap();
    assert_eq!(found.disk_image(), image.disk_image());
    assert_eq!(offline.find(image.digest().as_str()).unwrap().unwrap().digest(), image.digest());
    assert!(offline.has_images_of(&user.recipe()));
    assert_eq!(user.toy.calls("apt-get"), calls);
    assert!(
        offline
            .list()
            .unwrap()
            .iter()
            .any(|cached| cached.referenced && cached.image.product() == Product::Disk)
    );
}

fn a_disk_that_is_not_prepared_says_how() {
    let user = User::new();
    let store = user.toy.store("cache", false);
    let recipe = user.recipe();
    let said =
        format!("{} is not prepared; prepare it with `cargo xtask media prepare toy-1.2`", recipe.name());
    assert_eq!(store.ensure(&recipe, Product::Disk, &Silent).unwrap_err().to_string(), said);
    assert_eq!(store.refresh(&recipe, &Silent).unwrap_err().to_string(), said);
    assert_eq!(store.rebuild(&recipe, &Silent).unwrap_err().to_string(), said);
}

fn a_failed_preparation_leaves_nothing(text: &str, reason: &str) {
    let user = User::new();
    let store = user.toy.store("cache", false);
    let error = user.preparation(&store).finish(report(text)).unwrap_err().to_string();
    assert!(error.contains(reason), "{error}");
    assert!(user.drafts().is_empty(), "{:?}", user.drafts());
    assert!(store.list().unwrap().is_empty());
}

fn a_dropped_or_killed_preparation_is_removed() {
    let user = User::new();
    let store = user.toy.store("cache", false);
    drop(user.preparation(&store));
    assert!(user.drafts().is_empty(), "{:?}", user.drafts());
    let left = user.toy.path("cache/building").join(user.recipe().name()).join("killed");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("disk.qcow2"), "half of it").unwrap();
    let preparation = user.preparation(&store);
    assert!(!left.exists());
    preparation.finish(report(GOOD)).unwrap();
}

fn a_damaged_image_is_reported_and_prepared_again() {
    let user = User::new();
    let store = user.toy.store("cache", false);
    let image = user.preparation(&store).finish(report(GOOD)).unwrap();
    let overlay = image.disk_image().unwrap().overlay;
    File::options().write(true).open(&overlay).unwrap().write_all_at(b"x", 300).unwrap();
    let heard = Heard::default();
    let recipe = user.recipe();
    let error = store.ensure(&recipe, Product::Disk, &heard).unwrap_err();
    assert!(matches!(error, Error::NotPrepared { .. }), "{error}");
    assert!(
        heard.events()[0].contains("disk.qcow2 does not match its recorded SHA-256"),
        "{:?}",
        heard.events()
    );
    assert!(store.find(image.digest().as_str()).is_err());
    let again = user.preparation(&store).finish(report(GOOD)).unwrap();
    assert_eq!(again.digest(), image.digest());
    user.ready(&store);
}

fn a_medium_that_changes_is_never_booted() {
    let user = User::new();
    let store = user.toy.store("cache", false);
    let preparation = user.preparation(&store);
    user.write_medium(2);
    let error = preparation.finish(report(GOOD)).unwrap_err().to_string();
    assert!(error.contains("it has changed since it was added"), "{error}");
    user.write_medium(1);
    let image = user.preparation(&store).finish(report(GOOD)).unwrap();
    image.check_medium().unwrap();
    user.write_medium(2);
    for error in [
        image.check_medium().unwrap_err(),
        store.ensure(&user.recipe(), Product::Disk, &Silent).unwrap_err(),
        user.begin(&store).unwrap_err(),
        store.find(image.digest().as_str()).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Medium(_)), "{error}");
    }
}

fn every_input_changes_the_image(change: fn(&User)) {
    let user = User::new();
    let store = user.toy.store("cache", false);
    let first = user.preparation(&store).finish(report(GOOD)).unwrap();
    change(&user);
    let second = user.preparation(&store).finish(report(GOOD)).unwrap();
    assert_ne!(second.digest(), first.digest());
}

fn other_medium(user: &User) {
    user.write_medium(2);
    user.add();
}

fn moved_medium(user: &User) {
    let moved = user.toy.path("moved.img");
    fs::rename(&user.medium, &moved).unwrap();
    let tool = QemuImg::installed(&[]).unwrap();
    let new = NewMedium {
        name: "toy-1.2".to_owned(),
        file: moved,
        sha256: None,
        isa: None,
        ..NewMedium::default()
    };
    user.media().add(&new, &tool, &Silent).unwrap();
}

fn other_script(user: &User) {
    fs::write(user.toy.path("recipes/prepare.sh"), "another\n").unwrap();
}

fn other_hardware(user: &User) {
    user.toy.add_recipe("toy-disk", &DISK.replace("512", "1024"));
}

fn other_packages(user: &User) {
    user.toy.add_recipe("toy-disk", &DISK.replace("\"toy\"]", "\"toy\", \"other\"]"));
    user.toy.release("2.0");
}

fn a_disk_that_needs_no_preparation_is_ready_at_once() {
    let prepared = DISK.split("[disk.prepare]").next().unwrap().replace("qemu =", "prepared = true\nqemu =");
    let without_packages = prepared.split_once("[packages]").unwrap();
    let disk = without_packages.1.split_once("[disk]").unwrap().1;
    let user = User::with(&format!("{}[disk]{disk}", without_packages.0));
    let store = user.toy.store("cache", false);
    let image = user.ready(&store).disk_image().unwrap();
    assert_eq!((image.kernel_release, image.qemu, image.changes.len()), (None, None, 0));
    assert_eq!(user.toy.calls("apt-get"), 0);
}

fn packages_of_a_disk_need_a_source_only_to_be_installed() {
    let user = User::with(&rpm_disk());
    let recipe = user.recipe();
    let disk = recipe.disk().unwrap();
    assert_eq!((disk.packages(), disk.installs_qemu()), (DiskPackages::NoSource, false));
    let store = user.toy.store("cache", true);
    let preparation = user.preparation(&store);
    assert_eq!(preparation.packages(), None);
    let settings = text(&contents(&preparation.seed()), "prepare.env");
    assert!(
        settings.contains("NEST_PACKAGES=''\n") && settings.contains("NEST_QEMU_OPTIONAL='yes'\n"),
        "{settings}"
    );
    // Without QEMU, it is only good as the innermost level.
    let image = preparation.finish(report(&GOOD.replace("qemu=QEMU emulator version 9.9", "qemu="))).unwrap();
    assert_eq!(image.disk_image().unwrap().qemu, None);

    let sources = Sources::open(Some(user.toy.path("sources"))).unwrap();
    let catalog = Catalog::load(&user.toy.path("recipes")).unwrap();
    let with_both = catalog.with_media(&user.media()).with_sources(&with_source(&user, sources));
    let recipe = with_both.recipes().find(|recipe| recipe.name().starts_with(RECIPE)).unwrap();
    assert_eq!(recipe.disk().unwrap().packages(), DiskPackages::Source);
    assert_ne!(recipe.digest(), user.recipe().digest());
}

fn a_disk_without_its_medium_is_of_no_use() {
    let user = User::new();
    let store = user.toy.store("cache", false);
    user.preparation(&store).finish(report(GOOD)).unwrap();
    let recipe = user.recipe();
    let tools = HostTools::from_iter(HostTool::ALL);
    assert!(recipe.unbuildable(&tools).is_none() && store.has_images_of(&recipe));
    fs::remove_file(&user.medium).unwrap();
    let why = recipe.unbuildable(&tools).unwrap();
    assert!(!why.is_about_build() && why.missing().is_empty(), "{why:?}");
    let file = user.medium.display();
    let said = format!("needs the medium toy-1.2, which can't be used: {file}: the file does not exist");
    assert!(why.to_string().starts_with(&said), "{why}");
    assert!(user.catalog().unbuildable_with(&tools).contains_key(recipe.name()));
}

/// A recipe of RPM packages for a disk whose agent runs commands.
fn rpm_disk() -> String {
    let apt = "origin = \"Toy\"\nkeyring = \"toy.gpg\"\nsuites = [\"main\"]\ncomponents = [\"main\"]\n";
    DISK.replace(apt, "").replace("[packages]", "[rpm]").replace("\"console\"", "\"agent\"")
}

/// The disk of a recipe, as its record describes it.
fn recorded(store: &Store, recipe: &Recipe) -> Option<DiskImage> {
    store.recorded(recipe, Product::Disk)?.disk_image()
}

fn a_disk_without_qemu_can_only_be_the_innermost_level() {
    let user = User::with(&rpm_disk());
    let store = user.toy.store("cache", true);
    let recipe = user.recipe();
    let source = || "toy-1.2".to_owned();
    let unknown = recipe.innermost_only(None).unwrap();
    assert_eq!(unknown, InnermostOnly::NoSource { source: source(), prepared: false });
    assert_eq!(unknown.remedy().as_deref(), Some("cargo xtask sources add toy-1.2 --dvd FILE"));
    assert_eq!(recorded(&store, &recipe), None);

    let without = GOOD.replace("qemu=QEMU emulator version 9.9", "qemu=");
    user.preparation(&store).finish(report(&without)).unwrap();
    let prepared = recorded(&store, &recipe).unwrap();
    let known = recipe.innermost_only(Some(&prepared)).unwrap();
    assert_eq!(known, InnermostOnly::NoSource { source: source(), prepared: true });

    // A source of the same name makes it another image, which will have QEMU.
    let sources = Sources::open(Some(user.toy.path("sources"))).unwrap();
    let sources = with_source(&user, sources);
    let prepared = [(recipe.name().to_owned(), prepared)].into();
    let catalog = user.catalog().with_sources(&sources).with_prepared(prepared);
    let with_source = catalog.get(recipe.name()).unwrap();
    assert_eq!(with_source.innermost_only(None), None);
    let without = catalog.without_sources();
    assert_eq!(without.get(recipe.name()).unwrap().digest(), recipe.digest());
    assert_eq!(without.prepared(recipe.name()), None);
    assert!(catalog.prepared(recipe.name()).is_some());
    let without = catalog.without_media();
    assert_eq!((without.get(recipe.name()).map(Recipe::name), without.media().count()), (None, 0));
}

fn a_disk_with_qemu_can_host_if_an_agent_starts_it() {
    let user = User::with(&rpm_disk());
    let store = user.toy.store("cache", true);
    user.preparation(&store).finish(report(GOOD)).unwrap();
    let recipe = user.recipe();
    assert_eq!(recipe.innermost_only(recorded(&store, &recipe).as_ref()), None);
    let on_console = User::new().recipe();
    assert_eq!(on_console.innermost_only(None), Some(InnermostOnly::Console));
}

fn with_source(user: &User, mut sources: Sources) -> Sources {
    let key = user.toy.path("key");
    fs::write(&key, "-----BEGIN PGP PUBLIC KEY BLOCK-----\n").unwrap();
    let origin = nestmatrix_images::Origin::Urls(vec!["http://a.example".to_owned()]);
    let new = nestmatrix_images::NewSource { name: "toy-1.2".to_owned(), isa: None, origin, key: Some(key) };
    sources.add(&new, &[]).unwrap();
    sources
}

fn pruning_keeps_the_disk_of_a_recipe_that_is_kept() {
    let user = User::new();
    let store = user.toy.store("cache", false);
    let image = user.preparation(&store).finish(report(GOOD)).unwrap();
    let recipe = user.recipe();
    store.prune(&[&recipe]).unwrap();
    assert_eq!(user.ready(&store).digest(), image.digest());
    assert!(user.toy.path("cache/packages/kernel_1.0_all.deb").exists());
    assert!(store.prune(&[]).unwrap() > 0);
    assert!(store.list().unwrap().is_empty());
    assert!(user.medium.exists());
}

fn only_one_process_prepares_a_disk() {
    let user = User::new();
    let store = user.toy.store("cache", false);
    let preparation = user.preparation(&store);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let store = user.toy.store("cache", false);
            user.ready(&store).digest().clone()
        });
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(!other.is_finished());
        let image = preparation.finish(report(GOOD)).unwrap();
        assert_eq!(other.join().unwrap(), *image.digest());
    });
}

/// A recipe of UEFI firmware whose files have no whole sectors.
const UEFI: &str = r#"name = "toy-uefi"
architecture = "ARCHITECTURE"

[packages]
origin = "Toy"
keyring = "toy.gpg"
suites = ["main"]
components = ["main"]
install = ["kernel"]

[uefi]
code = "usr/share/qemu/bios.bin"
vars = "usr/share/qemu/bios.bin"
"#;

fn firmware_that_no_recipe_makes_is_an_error() {
    let user = User::with(&DISK.replace("\"default\"", "\"uefi\""));
    let store = user.toy.store("cache", false);
    let error = user.begin(&store).unwrap_err().to_string();
    assert!(error.contains("boots with the firmware uefi, and no recipe makes that"), "{error}");
    user.toy.add_recipe("toy-uefi", UEFI);
    let error = user.begin(&store).unwrap_err().to_string();
    assert!(error.contains("usr/share/qemu/bios.bin has 4 bytes, which is no multiple of 512"), "{error}");
}

fn the_firmware_of_a_disk_is_recorded_with_the_image_that_it_comes_from() {
    let user = User::with(&DISK.replace("\"default\"", "\"uefi\""));
    user.toy.add_recipe(
        "toy-uefi",
        &UEFI.replace("bios.bin", "uefi.fd").replace("\"kernel\"", "\"kernel\", \"qemu\""),
    );
    let store = user.toy.store("cache", false);
    let image = user.preparation(&store).finish(report(GOOD)).unwrap();
    let disk = image.disk_image().unwrap();
    assert_eq!(fs::read(disk.uefi.unwrap().code).unwrap(), [1; 1024]);
    let firmware = disk.firmware.unwrap();
    let of_recipe = user
        .catalog()
        .get("toy-uefi")
        .map(|recipe| store.ensure(recipe, Product::Firmware, &Silent))
        .unwrap();
    let of_recipe = of_recipe.unwrap();
    assert_eq!((firmware.recipe.as_str(), &firmware.digest), ("toy-uefi", of_recipe.digest()));
    assert!(firmware.version.contains("qemu "), "{}", firmware.version);
}

trials! {
    the_firmware_of_a_disk_is_recorded_with_the_image_that_it_comes_from;
    firmware_that_no_recipe_makes_is_an_error;
    a_draft_has_the_overlay_the_seed_and_the_packages;
    a_finished_preparation_is_an_image_and_not_repeated;
    a_disk_that_is_not_prepared_says_how;
    a_failed_preparation_leaves_nothing {
        no_end("nestmatrix-prepare-begin\nsystem=toy\n", "the medium toy-1.2 could not be prepared: the system reported no end"),
        error("nestmatrix-prepare-begin\nerror=no space left on device\nerror=x\nnestmatrix-prepare-end 1\n", "no space left on device; x"),
        no_reason("nestmatrix-prepare-begin\nnestmatrix-prepare-end 7\n", "ended with status 7"),
        no_system("nestmatrix-prepare-begin\nnestmatrix-prepare-end 0\n", "did not report its name and version"),
        other_system(&GOOD.replace("system=toy", "system=debian"), "the medium toy-1.2 holds debian 1.2"),
        other_version(&GOOD.replace("version=1.2", "version=1.20"), "the medium toy-1.2 holds toy 1.20, as that system itself says"),
        no_kernel(&GOOD.replace("kernel=", "x="), "did not report its kernel"),
        no_qemu(&GOOD.replace("qemu=QEMU", "x="), "its QEMU reported no version"),
    };
    a_dropped_or_killed_preparation_is_removed;
    a_damaged_image_is_reported_and_prepared_again;
    a_medium_that_changes_is_never_booted;
    every_input_changes_the_image {
        medium(other_medium),
        place(moved_medium),
        script(other_script),
        hardware(other_hardware),
        packages(other_packages),
    };
    a_disk_that_needs_no_preparation_is_ready_at_once;
    packages_of_a_disk_need_a_source_only_to_be_installed;
    a_disk_without_its_medium_is_of_no_use;
    a_disk_without_qemu_can_only_be_the_innermost_level;
    a_disk_with_qemu_can_host_if_an_agent_starts_it;
    pruning_keeps_the_disk_of_a_recipe_that_is_kept;
    only_one_process_prepares_a_disk;
}
