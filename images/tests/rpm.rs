//! Tests with the real dnf, rpmkeys and bsdtar: images from a repository like RHEL's, and what a bad repository or key does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/shared_packages.rs"]
mod shared_packages;
#[path = "../../xtask/tests/common/trials.rs"]
mod trials;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use nestmatrix_images::{
    Catalog, Component, Digest, Error, Image, NewSource, Origin, Product, Recipe, Replacement, Silent,
    Source, Sources, Store, StoreOptions,
};
use nestmatrix_model::Isa;
use nestmatrix_rpm_repository::{Flaw, Part, Repository, unavailable};
use shared_packages::share_packages;
use tempfile::TempDir;
use trials::{ignore, trials};

/// A recipe for one small package, so that nothing else has to be downloaded.
const SMALL: &str = r#"name = "small"
architecture = "amd64"

[template]
systems = ["rhel"]
major = 9

[rpm]
install = ["qemu-guest-agent"]
leave-out = ["systemd", "bash", "coreutils"]

[emulator]
program = "usr/bin/qemu-ga"
"#;

/// The store that other tests use, for Debian's packages.
fn shared_store() -> Store {
    Store::open(StoreOptions::default()).unwrap()
}

/// The repository, or the end of a test that can't have it.
fn repository() -> Arc<Repository> {
    if let Some(reason) = unavailable() {
        ignore(&reason);
    }
    Repository::shared(&shared_store()).unwrap_or_else(undelivered)
}

fn undelivered<T>(error: nestmatrix_rpm_repository::Error) -> T {
    match error {
        nestmatrix_rpm_repository::Error::Image(Error::Undelivered(packages)) => {
            ignore(&packages.to_string())
        }
        other => panic!("{other}"),
    }
}

/// A user with a private cache, so that no other test finds images of such names; with sources and a small recipe.
struct User {
    folder: TempDir,
    store: Store,
}

impl User {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("recipes")).unwrap();
        fs::write(folder.path().join("recipes/small.toml"), SMALL).unwrap();
        let cache = folder.path().join("the cache");
        let cache = Some(cache);
        let store = Store::open(StoreOptions { cache, ..StoreOptions::default() }).unwrap();
        Self { folder, store }
    }

    /// The same, with the Debian packages that the default cache has, so that they are downloaded once.
    fn with_debian_packages() -> Self {
        let user = Self::new();
        share_packages(shared_store().cache(), &user.path("the cache"));
        user
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn sources(&self) -> Sources {
        Sources::open(Some(self.path("sources"))).unwrap()
    }

    fn add(&self, origin: Origin, key: Option<PathBuf>) -> Result<Arc<Source>, Error> {
        let new = NewSource { name: "rhel-9.4".to_owned(), isa: Some(Isa::Amd64), origin, key };
        self.sources().add(&new, &[])
    }

    /// The recipe for the source that was added, among those of a folder.
    fn recipe(&self, recipes: &Path) -> Recipe {
        let catalog = Catalog::load(recipes).unwrap().with_sources(&self.sources());
        catalog.get("rhel-9.4-amd64").unwrap().clone()
    }

    fn small(&self) -> Recipe {
        self.recipe(&self.path("recipes"))
    }

    fn build(&self) -> Result<Image, Error> {
        self.store.ensure(&self.small(), Product::Emulator, &Silent)
    }

    /// Names in the folder of the source that was used.
    fn kept(&self) -> Vec<String> {
        let rpm = fs::read_dir(self.path("the cache/rpm")).unwrap().next().unwrap().unwrap().path();
        fs::read_dir(rpm).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// What fails when the small recipe is built from a repository.
    fn failure(&self, repository: &Repository) -> Error {
        self.add(urls(repository), Some(repository.key())).unwrap();
        self.build().unwrap_err()
    }
}

fn urls(repository: &Repository) -> Origin {
    let url = |part: Part| format!("file://{}", repository.part(part).display());
    Origin::Urls([Part::BaseOS, Part::AppStream].map(url).to_vec())
}

fn recipes_of_this_project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes")
}

fn an_installation_image_makes_images_of_its_system() {
    let repository = repository();
    let user = User::with_debian_packages();
    let dvd = user.path("dvd.iso");
    repository.write_iso(&shared_store(), &dvd).unwrap_or_else(undelivered);
    let source = user.add(Origin::Dvd(dvd), None).unwrap();
    assert_eq!(source.fingerprints(&[]).unwrap().len(), 1, "the key on the image");
    let recipe = user.recipe(&recipes_of_this_project());
    let store = &user.store;
    let check = store.check_source(&recipe, &Silent).unwrap().unwrap();
    assert!(check.wanted > 30 && check.listed > check.wanted, "{check:?}");

    let hypervisor = store.ensure(&recipe, Product::Hypervisor, &Silent).unwrap();
    let os = hypervisor.os().unwrap();
    assert_eq!((os.id.as_str(), os.version.as_str()), ("rhel", "9.4"));
    let kernel = hypervisor.kernel_version().unwrap();
    assert_eq!(
        (kernel.package.as_str(), kernel.release.as_str()),
        ("kernel-core", repository.kernel_release())
    );
    assert_eq!(hypervisor.qemu_version().unwrap().package, "qemu-kvm-core");
    let names: Vec<&str> = hypervisor.packages().iter().map(|package| package.name.as_str()).collect();
    for name in ["kernel-modules-core", "seabios-bin", "glib2", "qemu-guest-agent", "busybox-static"] {
        assert!(names.contains(&name), "{name} is missing from {names:?}");
    }
    assert!(has_qboot(&hypervisor));
    for name in Repository::unneeded() {
        assert!(!names.contains(&name), "{name} was downloaded, which is large in RHEL");
    }
    // The packages are in the cache, each as the image's record says.
    let cached = |package: &nestmatrix_images::Package| {
        let digits = &package.sha256.as_str()[..12];
        let file = format!(
            "{}-{}.{}.{digits}.rpm",
            package.name,
            package.version.replace(':', "%3a"),
            package.architecture
        );
        store.cache().join("packages").join(file)
    };
    let core = hypervisor.packages().iter().find(|package| package.name == "kernel-core").unwrap();
    assert!(cached(core).is_file(), "{}", cached(core).display());
}

/// Whether an image has qboot where its QEMU looks for firmware. Its initramfs, an archive with the names of files, is not
/// compressed.
fn has_qboot(image: &Image) -> bool {
    let initramfs = fs::read(image.initramfs().unwrap()).unwrap();
    let path = b"usr/share/qemu-kvm/qboot.rom\0";
    initramfs.windows(path.len()).any(|bytes| bytes == path)
}

fn other_versions_of_a_source_replace_a_component(component: Component, package: &str) {
    let repository = repository();
    let user = User::with_debian_packages();
    user.add(urls(&repository), Some(repository.key())).unwrap();
    let catalog = Catalog::load(&recipes_of_this_project()).unwrap().with_sources(&user.sources());
    let recipe = catalog.get("rhel-9.4-amd64").unwrap();
    let store = &user.store;
    let offers = store.offers(recipe, component, &catalog, &Silent).unwrap();
    assert_eq!((offers.suites.as_slice(), offers.unreachable.len()), (["rhel-9.4".to_owned()].as_slice(), 0));
    let [offered] = &offers.offered[..] else { panic!("{:?}", offers.offered) };
    assert_eq!((offered.package.as_str(), offered.place().as_str()), (package, "rhel-9.4"));

    let replacement = match component {
        Component::Kernel => Replacement::Kernel(offered.clone()),
        Component::Qemu => Replacement::Qemu(offered.clone()),
    };
    let derived = store.derive(recipe, replacement, &catalog, &Silent).unwrap();
    let image = store.ensure(&derived, Product::Hypervisor, &Silent).unwrap();
    let base = store.ensure(recipe, Product::Hypervisor, &Silent).unwrap();
    assert_eq!(image.kernel_version(), base.kernel_version());
    assert_eq!(image.qemu_version(), base.qemu_version());
    assert!(has_qboot(&image), "it is not of the QEMU that was replaced");
    store.discard(&derived).unwrap();
}

fn a_second_build_needs_no_source() {
    let repository = repository();
    let user = User::new();
    user.add(urls(&repository), Some(repository.key())).unwrap();
    let first = user.build().unwrap();
    let offline =
        StoreOptions { cache: Some(user.path("the cache")), offline: true, ..StoreOptions::default() };
    let again = Store::open(offline).unwrap().ensure(&user.small(), Product::Emulator, &Silent).unwrap();
    assert_eq!(again.digest(), first.digest());
    assert_eq!(user.kept(), ["dnf.conf"]);
}

fn two_builds_at_once_make_one_image() {
    let repository = repository();
    let user = User::new();
    user.add(urls(&repository), Some(repository.key())).unwrap();
    let build = || {
        let cache = Some(user.path("the cache"));
        let store = Store::open(StoreOptions { cache, ..StoreOptions::default() }).unwrap();
        store.ensure(&user.small(), Product::Emulator, &Silent).unwrap().digest().clone()
    };
    let digests: Vec<Digest> = thread::scope(|scope| {
        let builds = [scope.spawn(build), scope.spawn(build)];
        builds.into_iter().map(|build| build.join().unwrap()).collect()
    });
    assert_eq!(digests[0], digests[1]);
}

fn a_damaged_package_in_the_cache_is_fetched_again() {
    let repository = repository();
    let user = User::new();
    user.add(urls(&repository), Some(repository.key())).unwrap();
    let image = user.build().unwrap();
    let packages = user.path("the cache/packages");
    for entry in fs::read_dir(&packages).unwrap() {
        fs::write(entry.unwrap().path(), "damaged").unwrap();
    }
    let again = user.store.rebuild(&user.small(), &Silent).unwrap();
    assert_eq!(again[0].digest(), image.digest());
}

fn only_packages_with_the_signature_of_the_key_are_used(flaw: Flaw) {
    let repository = repository();
    let user = User::new();
    let flawed = repository.with_flaw(flaw, "qemu-guest-agent", &user.path("repository")).unwrap();
    match user.failure(&flawed) {
        Error::Signature { key, packages } => {
            assert_eq!(key, user.path("sources/rhel-9.4-amd64.key"));
            assert!(packages.len() == 1 && packages[0].starts_with("qemu-guest-agent-"), "{packages:?}");
        }
        other => panic!("{other}"),
    }
    // The same with the right package: nothing of the bad one is left in the way.
    user.add(urls(&repository), Some(repository.key())).unwrap();
    user.build().unwrap();
}

fn a_package_that_is_not_as_listed_is_refused() {
    let user = User::new();
    let flawed = repository().with_flaw(Flaw::Damaged, "qemu-guest-agent", &user.path("repository")).unwrap();
    let error = user.failure(&flawed);
    assert!(matches!(error, Error::PackageTool { .. } | Error::PackageDigest { .. }), "{error}");
    assert!(error.to_string().contains("checksum"), "{error}");
}

fn a_missing_dependency_is_named() {
    let user = User::new();
    let flawed = repository().with_flaw(Flaw::LeftOut, "glib2", &user.path("repository")).unwrap();
    let error = user.failure(&flawed).to_string();
    assert!(error.contains("dnf could not resolve the packages of rhel-9.4"), "{error}");
    assert!(error.contains("nothing provides libglib-2.0.so.0"), "{error}");
    assert_eq!(user.kept(), ["dnf.conf"], "the metadata is large");
}

fn a_package_that_vanished_is_the_sources_fault() {
    let user = User::new();
    let flawed =
        repository().with_flaw(Flaw::Vanished, "qemu-guest-agent", &user.path("repository")).unwrap();
    match user.failure(&flawed) {
        Error::Undelivered(found) => {
            assert_eq!(found.suites, ["rhel-9.4"]);
            assert!(
                found.packages.len() == 1 && found.packages[0].starts_with("qemu-guest-agent "),
                "{found:?}"
            );
        }
        other => panic!("{other}"),
    }
}

fn a_repository_that_is_gone_is_named() {
    let repository = repository();
    let user = User::new();
    let gone = Origin::Urls(vec![format!("file://{}", user.path("gone").display())]);
    user.add(gone, Some(repository.key())).unwrap();
    let error = user.build().unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, Error::SourceFailed { .. }), "{said}");
    assert!(said.contains("source rhel-9.4 cannot be read") && said.contains("/gone"), "{said}");
}

fn a_wrong_key_is_noticed_by_the_check() {
    let repository = repository();
    let user = User::new();
    let flawed = repository.with_flaw(Flaw::OtherKey, "qemu-guest-agent", &user.path("repository")).unwrap();
    user.add(urls(&flawed), Some(repository.key())).unwrap();
    // The check verifies the smallest package, so here there is only one.
    let alone = SMALL.replace("install =", "without-dependencies =");
    fs::write(user.path("recipes/small.toml"), alone).unwrap();
    let error = user.store.check_source(&user.small(), &Silent).unwrap_err();
    assert!(matches!(error, Error::Signature { .. }), "{error}");
}

fn an_image_without_keys_needs_one_and_must_stay_the_same() {
    if let Some(reason) = unavailable() {
        ignore(&reason);
    }
    let user = User::new();
    let (tree, dvd) = (user.path("tree"), user.path("dvd.iso"));
    fs::create_dir_all(tree.join("repodata")).unwrap();
    let write = |version: &str| {
        let info = format!("[general]\nfamily = RHEL\nversion = {version}\narch = x86_64\n");
        fs::write(tree.join(".treeinfo"), info).unwrap();
        let mut make = Command::new("bsdtar");
        make.arg("--format=iso9660")
            .arg("-cf")
            .arg(&dvd)
            .arg("-C")
            .arg(&tree)
            .args([".treeinfo", "repodata"]);
        assert!(make.status().unwrap().success());
    };
    write("9.4");
    let error = user.add(Origin::Dvd(dvd.clone()), None).unwrap_err().to_string();
    assert!(error.contains("there is no public key") && error.contains("--key FILE"), "{error}");
    user.add(Origin::Dvd(dvd.clone()), Some(repository().key())).unwrap();

    let failure = || user.store.check_source(&user.small(), &Silent).unwrap_err().to_string();
    symlink("/etc/hostname", tree.join("repodata/repomd.xml")).unwrap();
    write("9.4");
    let error = failure();
    assert!(error.contains("\"repomd.xml\" on it is neither a file nor a folder"), "{error}");
    write("9.5");
    let error = failure();
    assert!(error.contains("the image holds RHEL 9.5, not version 9.4"), "{error}");
    fs::remove_file(&dvd).unwrap();
    let error = failure();
    assert!(error.contains("source rhel-9.4 cannot be read") && error.contains("No such file"), "{error}");
}

fn a_file_that_is_no_installation_image_is_refused() {
    if let Some(reason) = unavailable() {
        ignore(&reason);
    }
    let user = User::new();
    let file = user.path("not.iso");
    for content in [b"not an image".to_vec(), Vec::new(), vec![0; 1 << 20]] {
        fs::write(&file, content).unwrap();
        let error = user.add(Origin::Dvd(file.clone()), None).unwrap_err();
        assert!(matches!(error, Error::NotADvd { .. }), "{error}");
    }
    assert!(user.add(Origin::Dvd(user.path("missing.iso")), None).is_err());
    assert_eq!(user.sources().iter().count(), 0);
}

fn the_repositories_of_this_machine_are_those_of_a_folder() {
    let repository = repository();
    let user = User::new();
    let folder = user.path("yum.repos.d");
    fs::create_dir(&folder).unwrap();
    let mut text = String::new();
    for part in [Part::BaseOS, Part::AppStream] {
        let (id, url) = (part.folder(), repository.part(part));
        text.push_str(&format!(
            "[{id}]\nname={id}\nbaseurl=file://{}\nenabled=1\ngpgcheck=1\n\n",
            url.display()
        ));
    }
    text.push_str("[off]\nname=off\nbaseurl=file:///nonexistent\nenabled=0\n");
    fs::write(folder.join("test.repo"), text).unwrap();
    user.add(Origin::HostRepositories(folder), Some(repository.key())).unwrap();
    user.build().unwrap();
}

trials! {
    an_installation_image_makes_images_of_its_system;
    other_versions_of_a_source_replace_a_component {
        kernel(Component::Kernel, "kernel-core"),
        qemu(Component::Qemu, "qemu-kvm-core"),
    };
    a_second_build_needs_no_source;
    two_builds_at_once_make_one_image;
    a_damaged_package_in_the_cache_is_fetched_again;
    only_packages_with_the_signature_of_the_key_are_used {
        other_key(Flaw::OtherKey),
        unsigned(Flaw::Unsigned),
        tampered(Flaw::Tampered),
    };
    a_package_that_is_not_as_listed_is_refused;
    a_missing_dependency_is_named;
    a_package_that_vanished_is_the_sources_fault;
    a_repository_that_is_gone_is_named;
    a_wrong_key_is_noticed_by_the_check;
    an_image_without_keys_needs_one_and_must_stay_the_same;
    a_file_that_is_no_installation_image_is_refused;
    the_repositories_of_this_machine_are_those_of_a_folder;
}
