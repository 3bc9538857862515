//! Tests of the repository with dnf and RPM's own tools.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../xtask/tests/common/trials.rs"]
mod trials;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nestmatrix_images::{Store, StoreOptions};
use nestmatrix_rpm_repository::{Error, Flaw, Package, Part, Repository, needs, unavailable};
use trials::{ignore, trials};

fn store() -> Store {
    Store::open(StoreOptions::default()).unwrap()
}

/// The repository, or the end of a test that can't have it.
fn repository() -> Arc<Repository> {
    if let Some(reason) = unavailable() {
        ignore(&reason);
    }
    or_ignore(Repository::shared(&store()))
}

/// Ends the test as ignored if the archive does not deliver packages today.
fn or_ignore<T>(result: Result<T, Error>) -> T {
    result.unwrap_or_else(|error| match error {
        Error::Image(nestmatrix_images::Error::Undelivered(packages)) => ignore(&packages.to_string()),
        other => panic!("{other}"),
    })
}

/// What a command printed, and whether it succeeded.
fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

/// Lets dnf resolve and download packages into a folder, without root.
fn download(repository: &Repository, to: &Path, packages: &[&str]) -> (bool, String) {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("log")).unwrap();
    // The host's settings and plugins are not used: one of them writes to the host's cache.
    let settings = root.path().join("dnf.conf");
    fs::write(&settings, "").unwrap();
    let folder = |name: &str| root.path().join(name).display().to_string();
    let mut command = Command::new("dnf");
    command.args(["--quiet", "--disableplugin=*", "--enableplugin=download", "--config"]).arg(settings);
    command.arg(format!("--installroot={}", folder("root")));
    for (option, value) in [
        ("reposdir", folder("no-repositories")),
        ("cachedir", folder("cache")),
        ("logdir", folder("log")),
        ("persistdir", folder("lib")),
        ("install_weak_deps", "0".to_owned()),
    ] {
        command.arg(format!("--setopt={option}={value}"));
    }
    for part in Part::ALL {
        command.arg(format!("--repofrompath={0},{1}", part.folder(), repository.part(part).display()));
    }
    command.args(["--releasever=9.4", "--forcearch=x86_64", "download", "--resolve", "--alldeps"]);
    run(command.arg(format!("--destdir={}", to.display())).args(packages))
}

/// Verifies packages with the repository's key alone.
fn verify<'a>(repository: &Repository, packages: impl IntoIterator<Item = &'a Package>) -> (bool, String) {
    let database = tempfile::tempdir().unwrap();
    let rpmkeys = || {
        let mut command = Command::new("rpmkeys");
        command.arg("--dbpath").arg(database.path());
        command
    };
    let (imported, said) = run(rpmkeys().arg("--import").arg(repository.key()));
    assert!(imported, "{said}");
    let packages = packages.into_iter().map(|package| repository.folder().join(package.path()));
    run(rpmkeys().arg("--checksig").args(packages))
}

fn dnf_resolves_what_an_image_needs() {
    if let Some(reason) = needs(&[("dnf", "dnf dnf-plugins-core")]) {
        ignore(&reason);
    }
    let repository = repository();
    let to = tempfile::tempdir().unwrap();
    let (success, said) =
        download(&repository, to.path(), &["kernel-core", "qemu-guest-agent", "qemu-kvm-core"]);
    assert!(success, "{said}");
    let files: BTreeSet<String> = fs::read_dir(to.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let has = |name: &str| {
        let package = repository.package(name).unwrap_or_else(|| panic!("there is no package {name}"));
        files.contains(package.file.file_name().unwrap().to_str().unwrap())
    };
    for name in ["glibc", "kernel-modules-core", "pixman", "qemu-kvm-common", "seabios-bin", "zlib"] {
        assert!(has(name), "{name}, which is needed, is not in {files:?}");
    }
    for name in Repository::unneeded() {
        assert!(has(name), "dnf downloads {name}, unless it is hindered");
    }
    assert!(!has("kernel-modules"), "nothing needs it");
}

fn the_key_verifies_every_package() {
    let repository = repository();
    let (success, said) = verify(&repository, repository.packages());
    assert!(success, "{said}");
    let verified = said.lines().filter(|line| line.ends_with(": digests signatures OK")).count();
    assert_eq!(verified, repository.packages().len(), "{said}");
}

/// A package of a repository by its name.
fn package<'a>(repository: &'a Repository, name: &str) -> &'a Package {
    repository.package(name).unwrap_or_else(|| panic!("there is no package {name}"))
}

fn rpm_refuses(flaw: Flaw, complaint: &str) {
    let repository = repository();
    let folder = tempfile::tempdir().unwrap();
    let flawed = repository.with_flaw(flaw, "zlib", folder.path()).unwrap();
    let (success, said) = verify(&flawed, [package(&flawed, "zlib")]);
    assert!(!success && said.contains(complaint), "{said}");
    let (success, said) = verify(&flawed, [package(&flawed, "glibc")]);
    assert!(success, "the other packages are intact: {said}");
    // The original, to which the other packages are links.
    let (success, said) = verify(&repository, [package(&repository, "zlib")]);
    assert!(success, "{said}");
    if needs(&[("dnf", "dnf")]).is_none() {
        let to = tempfile::tempdir().unwrap();
        let (success, said) = download(&flawed, to.path(), &["qemu-kvm-core"]);
        assert_eq!(success, flaw != Flaw::Damaged, "dnf compares checksums, but no signatures: {said}");
    }
}

fn an_unsigned_package_has_no_good_signature() {
    let folder = tempfile::tempdir().unwrap();
    let flawed = repository().with_flaw(Flaw::Unsigned, "zlib", folder.path()).unwrap();
    let (_, said) = verify(&flawed, [package(&flawed, "zlib")]);
    // RPM 4 even says that all is well.
    assert!(!said.contains("signatures OK"), "{said}");
}

fn dnf_misses(flaw: Flaw, complaint: &str) {
    if let Some(reason) = needs(&[("dnf", "dnf dnf-plugins-core")]) {
        ignore(&reason);
    }
    let (folder, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let flawed = repository().with_flaw(flaw, "zlib", folder.path()).unwrap();
    let (success, said) = download(&flawed, to.path(), &["qemu-kvm-core"]);
    assert!(!success && said.contains(complaint), "{said}");
}

/// GnuPG's agents that still run although their folders are removed.
fn orphaned_agents() -> Vec<String> {
    let command = |process: &Path| fs::read_to_string(process.join("cmdline")).ok();
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let commands = processes.filter_map(|process| command(&process));
    let agents = commands.filter(|command| command.contains("gpg-agent") && command.contains("/gnupg-"));
    agents
        .filter(|agent| !agent.split('\0').any(|word| word.contains("/gnupg-") && Path::new(word).exists()))
        .collect()
}

fn no_agent_remains() {
    // Kept until the end, so that other tests need not make it again.
    let _repository = repository();
    let patience = Instant::now() + Duration::from_secs(10);
    while !orphaned_agents().is_empty() {
        assert!(Instant::now() < patience, "still running: {:?}", orphaned_agents());
        thread::sleep(Duration::from_millis(100));
    }
}

fn packages_are_compressed_in_three_ways() {
    let repository = repository();
    let mut found = BTreeSet::new();
    for name in ["glibc", "qemu-guest-agent", "qemu-kvm-common"] {
        let path = repository.folder().join(package(&repository, name).path());
        let mut command = Command::new("rpm");
        command.args(["--query", "--nosignature", "--queryformat=%{payloadcompressor}", "-p"]).arg(path);
        let (success, compressor) = run(&mut command);
        assert!(success, "{compressor}");
        found.insert(compressor);
    }
    assert_eq!(found, ["gzip", "xz", "zstd"].map(str::to_owned).into());
}

/// Unpacks packages into a folder.
fn unpack(repository: &Repository, packages: &[&str], to: &Path) {
    for name in packages {
        let package = repository.folder().join(repository.package(name).unwrap().path());
        let output = Command::new("rpm2cpio").arg(package).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut rest = &output.stdout[..];
        loop {
            let mut reader = cpio::newc::Reader::new(rest).unwrap();
            let entry = reader.entry();
            if entry.is_trailer() {
                break;
            }
            let (path, mode) = (to.join(entry.name().trim_start_matches("./")), entry.mode());
            let mut contents = Vec::new();
            reader.read_to_end(&mut contents).unwrap();
            rest = reader.finish().unwrap();
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if mode & 0o170_000 == 0o120_000 {
                symlink(String::from_utf8(contents).unwrap(), &path).unwrap();
            } else {
                fs::write(&path, contents).unwrap();
                fs::set_permissions(&path, Permissions::from_mode(mode & 0o777)).unwrap();
            }
        }
    }
}

fn qemu_and_the_loader_are_like_those_of_rhel() {
    if cfg!(not(target_arch = "x86_64")) {
        ignore("the programs are for x86-64");
    }
    let repository = repository();
    let root = tempfile::tempdir().unwrap();
    let names: Vec<&str> = repository.packages().iter().map(|package| package.name.as_str()).collect();
    unpack(&repository, &names, root.path());
    let loader = || Command::new(root.path().join("lib64/ld-linux-x86-64.so.2"));

    let (success, diagnostics) = run(loader().arg("--list-diagnostics"));
    assert!(success, "{diagnostics}");
    let folders: Vec<String> = diagnostics
        .lines()
        .filter(|line| line.starts_with("path.system_dirs"))
        .map(|line| line.split('"').nth(1).unwrap().split('/').collect::<Vec<_>>().join("/"))
        .map(|folder| folder.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/"))
        .collect();
    assert_eq!(
        folders,
        ["lib64", "usr/lib64", "lib", "usr/lib"],
        "where a level's programs find their libraries"
    );

    let libraries = root.path().join("usr/lib64");
    let qemu = |arguments: &[&str]| {
        let program = root.path().join("usr/libexec/qemu-kvm");
        run(loader().arg("--library-path").arg(&libraries).arg(program).args(arguments))
    };
    let (success, machines) = qemu(&["-M", "help"]);
    assert!(success, "{machines}");
    let names: Vec<&str> =
        machines.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["pc", "pc-i440fx-rhel7.6.0", "q35", "pc-q35-rhel9.4.0", "none"], "{machines}");
    assert!(machines.contains("(alias of pc-q35-rhel9.4.0)"), "{machines}");
    let (success, said) = qemu(&["-M", "microvm", "-display", "none"]);
    assert!(!success && said.contains("unsupported machine type"), "{said}");
    let (success, folders) = qemu(&["-L", "help"]);
    // QEMU's paths are relative to the folder of its program, for which it takes the loader's.
    let relative = |folder: &str| folder.rsplit_once("/..").map(|(_, folder)| folder.to_owned());
    let folders: Vec<String> = folders.lines().filter_map(relative).collect();
    assert!(success);
    assert_eq!(folders, ["/share", "/share/seabios", "/share/qemu-kvm"]);
    for (folder, rom) in
        [("qemu-kvm", "kvmvapic.bin"), ("qemu-kvm", "bios-256k.bin"), ("seabios", "bios-256k.bin")]
    {
        assert!(root.path().join("usr/share").join(folder).join(rom).is_file(), "{folder}/{rom}");
    }
}

fn the_tree_becomes_the_image_of_a_dvd() {
    let repository = repository();
    let folder = tempfile::tempdir().unwrap();
    let iso = folder.path().join("rhel.iso");
    or_ignore(repository.write_iso(&store(), &iso));
    let bytes = fs::read(&iso).unwrap();
    let descriptor = &bytes[16 * 2048..17 * 2048];
    assert_eq!(&descriptor[1..6], b"CD001", "ECMA-119, 8.4");
    assert_eq!(&descriptor[40..64], b"RHEL-9-4-0-BaseOS-x86_64");
    let name = package(&repository, "kernel-core").file.file_name().unwrap().to_str().unwrap().to_owned();
    assert!(bytes.windows(name.len()).any(|window| window == name.as_bytes()), "Rock Ridge has full names");
}

trials! {
    no_agent_remains;
    packages_are_compressed_in_three_ways;
    rpm_refuses {
        another_key(Flaw::OtherKey, "SIGNATURES NOT OK"),
        tampering(Flaw::Tampered, "DIGESTS"),
        damage(Flaw::Damaged, "DIGESTS"),
    };
    an_unsigned_package_has_no_good_signature;
    dnf_misses {
        a_dependency(Flaw::LeftOut, "nothing provides"),
        a_file(Flaw::Vanished, "zlib"),
    };
    the_tree_becomes_the_image_of_a_dvd;
    qemu_and_the_loader_are_like_those_of_rhel;
    dnf_resolves_what_an_image_needs;
    the_key_verifies_every_package;
}
