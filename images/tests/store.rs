//! The store's public interface, with a toy archive: what is built once, what is built again, and what is never returned.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nestmatrix_images::{
    Catalog, Emulator, Error, Image, LocalGuest, LocalKernel, Product, Replacement, Silent, Suites,
};
use nestmatrix_model::Isa;
use support::{Heard, Toy};

fn initramfs(image: &Image) -> Vec<u8> {
    fs::read(image.initramfs().unwrap()).unwrap()
}

fn flip_last_byte(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().all(|entry| is_empty(&entry.unwrap().path()))
}

#[test]
fn all_products_are_built_at_once_and_then_only_looked_up() {
    let toy = Toy::new();
    let heard = Heard::default();
    let image = toy.store("cache", false).ensure(&toy.recipe(), Product::Hypervisor, &heard).unwrap();
    assert_eq!(image.kernel_version().unwrap().release, "1.0");
    assert_eq!(image.qemu_version().unwrap().upstream, "1.0");
    assert_eq!(image.os().unwrap().id, "toy");
    assert_eq!(fs::read(image.kernel().unwrap()).unwrap(), b"kernel 1.0");
    assert_eq!(
        image.packages().iter().map(|package| package.name.as_str()).collect::<Vec<_>>(),
        ["kernel", "qemu"]
    );
    assert!(fs::read_to_string(image.provenance()).unwrap().contains(image.packages()[0].sha256.as_str()));
    let events = heard.events();
    assert!(
        events.contains(&r#"Downloading { percent: 50.0, detail: "half of it" }"#.to_owned()),
        "{events:?}"
    );
    assert_eq!(events[0], "Resolving");
    assert_eq!(events[events.len() - 2..], ["Built", "Verified { product: Hypervisor }"]);

    let calls = toy.calls("");
    let heard = Heard::default();
    let store = toy.store("cache", true);
    assert_eq!(store.ensure(&toy.recipe(), Product::Hypervisor, &heard).unwrap().digest(), image.digest());
    let minimal = store.ensure(&toy.recipe(), Product::Minimal, &heard).unwrap();
    assert!(minimal.qemu_version().is_none());
    assert_eq!(heard.events(), ["Verified { product: Hypervisor }", "Verified { product: Minimal }"]);
    assert_eq!(toy.calls(""), calls, "the second run needs no apt");
}

#[test]
fn the_same_packages_give_the_same_bytes() {
    let toy = Toy::new();
    let [one, two] = ["one", "two"].map(|cache| {
        let store = toy.store(cache, false);
        [Product::Hypervisor, Product::Minimal]
            .map(|product| store.ensure(&toy.recipe(), product, &Silent).unwrap())
    });
    for (one, two) in one.iter().zip(&two) {
        assert_eq!(one.digest(), two.digest());
        assert_eq!(initramfs(one), initramfs(two));
    }
    assert_ne!(one[0].digest(), one[1].digest());
}

#[test]
fn a_damaged_image_is_reported_and_built_again_but_never_returned() {
    let toy = Toy::new();
    let store = toy.store("cache", false);
    let image = store.ensure(&toy.recipe(), Product::Minimal, &Silent).unwrap();
    let good = initramfs(&image);
    for file in [image.initramfs().unwrap(), image.kernel().unwrap(), image.provenance()] {
        flip_last_byte(&file);
        let error = toy
            .store("cache", true)
            .ensure(&toy.recipe(), Product::Minimal, &Silent)
            .unwrap_err()
            .to_string();
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(error.contains("minimal of toy (damaged: ") && error.contains(name), "{error}");

        let heard = Heard::default();
        let again = store.ensure(&toy.recipe(), Product::Minimal, &heard).unwrap();
        // A program that another test is just starting may hold this one's lock for a moment (fork, then exec).
        let first = heard.events().into_iter().find(|event| event != "Waiting").unwrap();
        assert!(first.starts_with("Corrupted { product: Minimal"), "{first}");
        assert_eq!(initramfs(&again), good);
    }
    fs::remove_file(image.kernel().unwrap()).unwrap();
    assert_eq!(initramfs(&store.ensure(&toy.recipe(), Product::Minimal, &Silent).unwrap()), good);
}

#[test]
fn a_damaged_download_is_fetched_again_and_a_wrong_one_refused() {
    let toy = Toy::new();
    let store = toy.store("cache", false);
    store.ensure(&toy.recipe(), Product::Minimal, &Silent).unwrap();
    flip_last_byte(&toy.path("cache/packages/kernel_1.0_all.deb"));
    store.rebuild(&toy.recipe(), &Silent).unwrap();
    assert_eq!(toy.calls("--download-only"), 2);
    store.rebuild(&toy.recipe(), &Silent).unwrap();
    assert_eq!(toy.calls("--download-only"), 2, "what is there and right is not downloaded again");

    flip_last_byte(&toy.path("debs/kernel_1.0_all.deb"));
    let error = toy.store("other", false).ensure(&toy.recipe(), Product::Minimal, &Silent).unwrap_err();
    assert!(matches!(error, Error::PackageDigest { .. }), "{error}");
}

#[test]
fn two_builders_at_once_build_once() {
    let toy = Toy::new();
    fs::write(toy.path("slow"), "").unwrap();
    let digests: Vec<_> = std::thread::scope(|scope| {
        let builders = [(); 2].map(|()| {
            scope
                .spawn(|| toy.store("cache", false).ensure(&toy.recipe(), Product::Minimal, &Silent).unwrap())
        });
        builders.map(|builder| builder.join().unwrap().digest().clone()).to_vec()
    });
    assert_eq!(digests[0], digests[1]);
    assert_eq!(toy.calls("apt-get update"), 1);
}

#[test]
fn packages_that_the_archive_lists_but_does_not_have_are_named() {
    let toy = Toy::new();
    let store = toy.store("cache", false);
    let absent = "E: Failed to fetch http://toy.example/kernel_1.0_all.deb  404  Not Found [IP: 192.0.2.1 80]\n\
                  E: Failed to fetch http://toy.example/qemu_1%3a1.0-1_all.deb  404  Not Found [IP: 192.0.2.1 80]\n\
                  E: Some files failed to download\n";
    fs::write(toy.path("absent"), absent).unwrap();
    let error = store.ensure(&toy.recipe(), Product::Minimal, &Silent).unwrap_err();
    let said = error.to_string();
    let Error::Undelivered(undelivered) = error else { panic!("{error:?}") };
    assert_eq!(undelivered.packages, ["kernel 1.0", "qemu 1:1.0-1"]);
    assert_eq!(undelivered.suites, ["main"]);
    assert_eq!(undelivered.output, absent.trim_end());
    assert!(
        said.starts_with(
            "the archive lists 2 packages of main that it cannot deliver, such as kernel 1.0; try"
        ),
        "{said}"
    );
    assert!(store.list().unwrap().is_empty());

    fs::write(
        toy.path("absent"),
        format!("{absent}E: Failed to fetch http://toy.example/x  Connection failed\n"),
    )
    .unwrap();
    let error = store.ensure(&toy.recipe(), Product::Minimal, &Silent).unwrap_err();
    assert!(
        matches!(error, Error::PackageTool { .. }),
        "a broken network is not the archive's fault: {error}"
    );

    fs::remove_file(toy.path("absent")).unwrap();
    store.ensure(&toy.recipe(), Product::Minimal, &Silent).unwrap();
}

#[test]
fn what_an_interrupted_build_left_is_removed_by_the_next() {
    let toy = Toy::new();
    let store = toy.store("cache", false);
    fs::write(toy.path("down"), "").unwrap();
    let error = store.ensure(&toy.recipe(), Product::Minimal, &Silent).unwrap_err();
    assert!(
        matches!(error, Error::PackageTool { .. }) && error.to_string().contains("the archive is down"),
        "{error}"
    );
    assert!(store.list().unwrap().is_empty());
    fs::remove_file(toy.path("down")).unwrap();

    let left = toy.path("cache/building/toy/killed/minimal");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("initramfs.cpio"), "half of it").unwrap();
    store.ensure(&toy.recipe(), Product::Minimal, &Silent).unwrap();
    assert!(!left.exists() && is_empty(&toy.path("cache/building/toy")));
}

#[test]
fn offline_all_missing_images_are_named_at_once() {
    let toy = Toy::new();
    let recipe = toy.recipe();
    let wanted = [(&recipe, Product::Hypervisor), (&recipe, Product::Minimal)];
    let error = toy.store("cache", true).ensure_all(&wanted, &Silent).unwrap_err().to_string();
    assert!(error.contains("hypervisor of toy, minimal of toy"), "{error}");
    assert_eq!(toy.calls(""), 0);
}

#[test]
fn a_changed_recipe_is_another_image() {
    let toy = Toy::new();
    let store = toy.store("cache", false);
    let before = store.ensure(&toy.recipe(), Product::Minimal, &Silent).unwrap();
    fs::write(toy.path("recipes/init.sh"), "#!/bin/sh\nexit\n").unwrap();
    let after = store.ensure(&toy.recipe(), Product::Minimal, &Silent).unwrap();
    assert_ne!(before.digest(), after.digest());
    assert_ne!(initramfs(&before), initramfs(&after));
}

#[test]
fn refreshing_takes_newer_packages_and_pruning_removes_the_older() {
    let toy = Toy::new();
    let store = toy.store("cache", false);
    let before = store.ensure(&toy.recipe(), Product::Minimal, &Silent).unwrap();
    fs::remove_file(toy.path("debs/kernel_1.0_all.deb")).unwrap();
    toy.release("2.0");
    assert_eq!(store.ensure(&toy.recipe(), Product::Minimal, &Silent).unwrap().digest(), before.digest());
    let after = store.refresh(&toy.recipe(), &Silent).unwrap();
    assert!(after.iter().all(|image| image.kernel_version().is_none_or(|kernel| kernel.release == "2.0")));
    assert_eq!((store.list().unwrap().len(), before.initramfs().unwrap().exists()), (6, true));

    let other = toy.store("cache", true);
    assert!(matches!(store.prune(&[&toy.recipe()]), Err(Error::InUse(_))));
    drop(other);
    assert!(store.prune(&[&toy.recipe()]).unwrap() > before.size());
    assert!(!before.folder().exists());
    let kept = store.list().unwrap();
    assert!(kept.len() == 3 && kept.iter().all(|cached| cached.referenced));
    toy.store("cache", true).ensure(&toy.recipe(), Product::Minimal, &Silent).unwrap();
    assert!(!toy.path("cache/packages/kernel_1.0_all.deb").exists());
    assert!(toy.path("cache/packages/kernel_2.0_all.deb").exists());
}

#[test]
fn an_emulator_runs_by_its_own_loader_on_its_own_libraries() {
    let toy = Toy::new();
    let store = toy.store("cache", false);
    assert!(Emulator::new(store.ensure(&toy.recipe(), Product::Minimal, &Silent).unwrap()).is_none());
    let emulator = Emulator::new(store.ensure(&toy.recipe(), Product::Emulator, &Silent).unwrap()).unwrap();
    let (program, arguments) = emulator.command("qemu");
    // ld.so(8): with this variable the loader lists what it would load, and starts nothing.
    let output =
        Command::new(&program).args(&arguments).env("LD_TRACE_LOADED_OBJECTS", "1").output().unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    let libraries: Vec<&str> =
        listed.lines().filter_map(|line| line.split(" => ").nth(1)?.split(" (").next()).collect();
    let folder = program.parent().unwrap();
    assert!(!libraries.is_empty(), "{listed}");
    assert!(libraries.iter().all(|path| Path::new(path).starts_with(folder)), "{listed}");
    assert_eq!(fs::read(emulator.data().join("bios.bin")).unwrap(), b"bios");
    assert!(emulator.modules().is_none(), "it has none");
    assert_eq!(emulator.environment(), []);
}

#[test]
fn an_emulator_that_levels_run_too_is_packed_for_their_disks() {
    let toy = Toy::new();
    let store = toy.store("cache", false);
    assert_eq!(store.ensure(&toy.recipe(), Product::Emulator, &Silent).unwrap().packed_tree(), None);
    let recipe = toy.path("recipes/toy.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    fs::write(&recipe, text.replace("[emulator]\n", "[emulator]\npacked = true\n")).unwrap();
    let packed = store.ensure(&toy.recipe(), Product::Emulator, &Silent).unwrap().packed_tree().unwrap();
    let packed = fs::read(packed).unwrap();
    assert!(packed.len().is_multiple_of(512), "a disk has whole sectors");
    let mut names = Vec::new();
    let mut rest = &packed[..];
    loop {
        let entry = cpio::newc::Reader::new(rest).unwrap();
        if entry.entry().is_trailer() {
            break;
        }
        names.push(entry.entry().name().to_owned());
        rest = entry.finish().unwrap();
    }
    assert!(
        ["ld.so", "libraries", "programs/qemu"].iter().all(|name| names.iter().any(|own| own == name)),
        "{names:?}"
    );
}

#[test]
fn what_only_some_versions_of_an_emulator_have_is_taken_if_it_is_there() {
    let toy = Toy::new();
    let recipe = toy.path("recipes/toy.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    let files = "files = [\"usr/share/qemu/bios.bin\"]";
    let optional = [
        "optional-files = [\"usr/share/qemu/bios.bin\", \"usr/share/qemu/absent.bin\"]\n",
        "optional-modules = [\"usr/bin/qemu\", \"usr/lib/absent.so\"]",
    ];
    assert!(text.contains(files));
    fs::write(&recipe, text.replace(files, &optional.concat())).unwrap();
    let image = toy.store("cache", false).ensure(&toy.recipe(), Product::Emulator, &Silent).unwrap();
    let emulator = Emulator::new(image).unwrap();
    let names = |folder: &Path| -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert_eq!(names(&emulator.data()), ["bios.bin"]);
    let modules = emulator.modules().unwrap();
    assert_eq!(names(&modules), ["qemu"]);
    assert_eq!(emulator.environment(), [("QEMU_MODULE_DIR".into(), modules.into())]);
}

#[test]
fn what_is_missing_from_the_packages_is_named_with_the_recipe() {
    let toy = Toy::new();
    let text = fs::read_to_string(toy.path("recipes/toy.toml")).unwrap();
    let firmware = [
        "[firmware]\norigin = \"Toy\"\nkeyring = \"toy.gpg\"\nsuites = [\"main\"]\ncomponents = [\"main\"]\n",
        "install = [\"qemu\"]\nfiles = [\"usr/share/qemu/absent.rom\"]\nfolder = \"usr/share/toy\"\n[kernel]\n",
    ]
    .concat();
    for (there, absent, complaint) in [
        (
            "usr/share/qemu/bios.bin",
            "usr/share/qemu/absent.bin",
            "no package holds usr/share/qemu/absent.bin",
        ),
        ("hypervisor.applets", "bad.applets", "busybox has no applet fly"),
        ("virtio_pci", "virtio_none", "kernel 1.0 has no module virtio_none"),
        ("vmlinuz-", "vmlinux-", "no package holds a kernel image boot/vmlinux-{release}"),
        ("[kernel]\n", &firmware, "no package holds usr/share/qemu/absent.rom"),
    ] {
        fs::write(toy.path("recipes/toy.toml"), text.replace(there, absent)).unwrap();
        let error =
            toy.store("cache", false).ensure(&toy.recipe(), Product::Hypervisor, &Silent).unwrap_err();
        assert_eq!(error.to_string(), format!("recipe toy: {complaint}"));
    }
}

/// A file that looks like a kernel of this machine's architecture.
fn kernel_file(toy: &Toy, release: &str) -> PathBuf {
    let machine = Isa::of_this_machine().unwrap().info().elf_machine;
    let mut file = vec![0; 64];
    file[..5].copy_from_slice(b"\x7fELF\x02");
    file[0x12..0x14].copy_from_slice(&machine);
    file.extend(format!("Linux version {release} (me@here) #1").bytes());
    let path = toy.path(&format!("vmlinux-{release}"));
    fs::write(&path, file).unwrap();
    path
}

#[test]
fn a_derived_image_differs_in_its_kernel_alone() {
    let toy = Toy::new();
    let catalog = Catalog::load(&toy.path("recipes")).unwrap();
    let base = toy.store("cache", false).ensure(&toy.recipe(), Product::Hypervisor, &Silent).unwrap();
    // All inputs are in the cache.
    let store = toy.store("cache", true);
    let calls = toy.calls("");
    let path = kernel_file(&toy, "7.0.1-mine+");
    let kernel = LocalKernel::read(std::slice::from_ref(&path), &catalog).unwrap();
    assert_eq!((kernel.release(), kernel.has_modules()), ("7.0.1-mine+", false));
    let replacement = Replacement::LocalKernel(kernel);
    let recipe = store.derive(&toy.recipe(), replacement.clone(), &catalog, &Silent).unwrap();
    assert!(recipe.name().starts_with("toy+local-kernel-7.0.1-mine+-"), "{}", recipe.name());
    let image = store.ensure(&recipe, Product::Hypervisor, &Silent).unwrap();
    assert_eq!(image.kernel_version().unwrap().release, "7.0.1-mine+");
    assert_eq!(fs::read(image.kernel().unwrap()).unwrap(), fs::read(&path).unwrap());
    assert_eq!(image.left_out(), ["virtio_pci"], "its modules did not come with it");
    assert_eq!(image.qemu_version(), base.qemu_version());
    assert_ne!(image.digest(), base.digest());
    assert_eq!(toy.calls(""), calls, "apt is not needed");
    let again = store.derive(&toy.recipe(), replacement.clone(), &catalog, &Silent).unwrap();
    assert_eq!(again.digest(), recipe.digest());

    // Another build of the same release is another image.
    fs::write(&path, [fs::read(&path).unwrap(), b"!".to_vec()].concat()).unwrap();
    let changed = LocalKernel::read(std::slice::from_ref(&path), &catalog).unwrap();
    let other = store.derive(&toy.recipe(), Replacement::LocalKernel(changed), &catalog, &Silent).unwrap();
    assert_ne!((other.name(), other.digest()), (recipe.name(), recipe.digest()));

    // Images of derived recipes are removed, those of other recipes stay, and so do images that another process may be booting.
    let neighbour = toy.store("cache", true);
    store.discard(&recipe).unwrap();
    assert!(image.folder().exists());
    drop(neighbour);
    // Interrupted builds left something, of this recipe and of another one; one build is still running.
    let left = |folder: &str, name: &str| toy.path("cache").join(folder).join(name);
    let running = "toy+local-kernel-1.0-running";
    for name in [recipe.name(), other.name(), "toy+local-kernel-1.0-interrupted", running] {
        fs::create_dir_all(left("building", name).join("x/y")).unwrap();
    }
    let lock = fs::File::create(left("locks", &format!("recipe-{running}"))).unwrap();
    lock.lock().unwrap();
    store.discard(&other).unwrap();
    assert!(!left("building", other.name()).exists() && image.folder().exists());
    store.discard(&recipe).unwrap();
    store.discard(&toy.recipe()).unwrap();
    assert!(left("building", running).join("x/y").exists());
    // Not by dropping it: a process that another test is just starting may hold it open for a moment.
    lock.unlock().unwrap();
    store.discard(&recipe).unwrap();
    assert!(!image.folder().exists() && base.folder().exists());
    for folder in ["building", "locks", "refs"] {
        let left =
            fs::read_dir(toy.path("cache").join(folder)).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = left.filter(|name| name.to_string_lossy().contains("local-kernel")).collect();
        assert!(left.is_empty(), "{folder}: {left:?}");
    }

    // It cannot be built again, since the kernel has changed.
    let error = store.ensure(&recipe, Product::Hypervisor, &Silent).unwrap_err().to_string();
    assert!(error.contains("vmlinux-7.0.1-mine+: it has changed since it was read"), "{error}");
    fs::remove_dir_all(toy.path("cache/packages")).unwrap();
    let error = store.ensure(&other, Product::Hypervisor, &Silent).unwrap_err();
    assert!(matches!(&error, Error::PackagesGone { recipe, .. } if recipe == "toy"), "{error}");
}

#[test]
fn an_image_of_a_guest_has_its_files_and_needs_no_packages() {
    let toy = Toy::new();
    let catalog = Catalog::load(&toy.path("recipes")).unwrap();
    let base = toy.store("cache", false).ensure(&toy.recipe(), Product::Minimal, &Silent).unwrap();
    let store = toy.store("cache", true);
    fs::remove_dir_all(toy.path("cache/packages")).unwrap();
    fs::create_dir(toy.path("cache/packages")).unwrap();
    let (kernel, initramfs) = (kernel_file(&toy, "7.0.1-mine+"), toy.path("guest.cpio"));
    fs::write(&initramfs, "070701, as far as it is read").unwrap();
    let mut suites = Suites::open(Some(toy.path("payloads"))).unwrap();
    let build = |kernel: Option<&Path>, initramfs: Option<&Path>, suites: &mut Suites| {
        let added = suites.add_guest("my-guest", kernel, initramfs).unwrap();
        let local = LocalGuest::read(&added, &catalog).unwrap();
        let recipe = local.recipe(&toy.recipe(), &base, &catalog).unwrap();
        assert!(recipe.name().starts_with("toy+guest-my-guest-"), "{}", recipe.name());
        assert_eq!((recipe.guest(), recipe.products()), (Some(&local), vec![Product::Minimal]));
        let image = store.ensure(&recipe, Product::Minimal, &Silent).unwrap();
        (
            image.clone(),
            fs::read(image.kernel().unwrap()).unwrap(),
            fs::read(image.initramfs().unwrap()).unwrap(),
        )
    };
    let (both, its_kernel, its_initramfs) = build(Some(&kernel), Some(&initramfs), &mut suites);
    assert_eq!(its_kernel, fs::read(&kernel).unwrap());
    assert!(its_initramfs.ends_with(b"070701, as far as it is read"));
    assert_eq!(both.kernel_version().unwrap().release, "7.0.1-mine+");
    let recorded = both.packages().iter().find(|package| package.name == "guest.cpio");
    let local = LocalGuest::read(suites.guests().next().unwrap(), &catalog).unwrap();
    assert_eq!(&recorded.unwrap().sha256, local.initramfs().unwrap().1);

    let (one, its_kernel, _) = build(None, Some(&initramfs), &mut suites);
    assert_eq!(its_kernel, fs::read(base.kernel().unwrap()).unwrap());
    assert_eq!(one.kernel_version(), base.kernel_version());
    let (other, ..) = build(Some(&kernel), None, &mut suites);
    let digests = [both.digest(), one.digest(), other.digest(), base.digest()];
    assert_eq!(digests.iter().collect::<std::collections::BTreeSet<_>>().len(), 4, "{digests:?}");
    // Its record says all of it.
    assert_eq!(Suites::open(Some(toy.path("payloads"))).unwrap().guests().count(), 1);
    assert!(suites.remove_program("my-guest").unwrap() && !suites.remove_program("my-guest").unwrap());
}

#[test]
fn files_that_are_not_kernels_are_refused() {
    let toy = Toy::new();
    let catalog = Catalog::load(&toy.path("recipes")).unwrap();
    let refused = |paths: &[PathBuf]| LocalKernel::read(paths, &catalog).unwrap_err().to_string();
    assert!(refused(&[toy.path("not/there")]).contains("not/there"));
    assert!(refused(&[toy.path("init.sh"), toy.path("keyring")]).contains("cannot find"));
    assert!(refused(&[toy.path("keyring")]).contains("it is not a kernel"));
    let package = toy.path("debs").join("qemu_1%3a1.0-1_all.deb");
    assert!(refused(std::slice::from_ref(&package)).contains("it holds no kernel image"));
    let two = [kernel_file(&toy, "6.1.0"), kernel_file(&toy, "6.2.0")];
    assert!(refused(&two).contains("it holds several kernels: 6.1.0, 6.2.0"));
    // A kernel from one file, and modules or nothing from another.
    let mixed = LocalKernel::read(&[kernel_file(&toy, "6.1.0"), package], &catalog).unwrap();
    assert_eq!(mixed.release(), "6.1.0");
}

#[test]
fn the_cache_has_the_images_of_a_recipe_once_all_are_built() {
    let toy = Toy::new();
    let store = toy.store("cache", false);
    assert!(!store.has_images_of(&toy.recipe()));
    let image = store.ensure(&toy.recipe(), Product::Minimal, &Silent).unwrap();
    assert!(store.has_images_of(&toy.recipe()));
    assert!(!toy.store("other", false).has_images_of(&toy.recipe()));
    flip_last_byte(&image.provenance());
    assert!(!store.has_images_of(&toy.recipe()));
}

/// Copies a file, or a folder with what is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    let status = Command::new("cp").arg("-r").args([from, to]).status().unwrap();
    assert!(status.success());
}

#[test]
fn images_that_came_with_the_program_are_used_where_they_are() {
    let toy = Toy::new();
    let store = toy.store("cache", false);
    store.ensure(&toy.recipe(), Product::Minimal, &Silent).unwrap();
    for path in store.to_ship(&toy.recipe()) {
        copy(&store.cache().join(&path), &toy.path("shipped").join(&path));
    }
    let calls = toy.calls("");
    let store = toy.store_with("other", Some("shipped"), true);
    assert!(store.has_images_of(&toy.recipe()));
    let image = store.ensure(&toy.recipe(), Product::Minimal, &Silent).unwrap();
    assert!(image.folder().starts_with(toy.path("shipped")), "{}", image.folder().display());
    assert_eq!(store.find(image.digest().as_str()).unwrap().unwrap().folder(), image.folder());
    let listed = store.list().unwrap();
    assert!(listed.len() == 3 && listed.iter().all(|cached| cached.referenced), "{listed:?}");
    assert_eq!((toy.calls(""), is_empty(&toy.path("other/images"))), (calls, true));
    assert_eq!(store.prune(&[]).unwrap(), 0);

    // A damaged one is built again, in the cache.
    flip_last_byte(&image.kernel().unwrap().to_owned());
    let refused = store.ensure(&toy.recipe(), Product::Minimal, &Silent).unwrap_err().to_string();
    assert!(refused.contains("(damaged: "), "{refused}");
    drop(store);
    let store = toy.store_with("other", Some("shipped"), false);
    let again = store.ensure(&toy.recipe(), Product::Minimal, &Silent).unwrap();
    assert!(again.folder().starts_with(toy.path("other")), "{}", again.folder().display());
}
