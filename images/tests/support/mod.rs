//! A toy archive without a network: generated packages, and a script instead of apt, which records every call. The script is the
//! wrapper of `StoreOptions`, like the harness's own wrapper.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use nestmatrix_images::{Catalog, Progress, ProgressEvent, Recipe, Step, Store, StoreOptions};
use nestmatrix_model::Isa;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

const APT: &str = r#"
here=${0%/*}
echo "$*" >> "$here/calls"
case "$*" in
*qemu-img*) exec "$@" ;;
"apt-config dump") echo 'Acquire::http::Proxy "http://proxy.example";' ;;
"apt-get update "*) if [ -e "$here/slow" ]; then sleep 0.5; fi ;;
*--print-uris*) cat "$here/uris" ;;
*--download-only*)
    if [ -e "$here/absent" ]; then cat "$here/absent" >&2; exit 100; fi
    if [ -e "$here/down" ]; then echo "E: the archive is down" >&2; exit 100; fi
    echo "dlstatus:1:50.0:half of it"
    cp "$here"/debs/*.deb "$(sed -n 's/^Dir::Cache::archives "\(.*\)";/\1/p' "$APT_CONFIG")"
    ;;
esac
"#;

const RECIPE: &str = r#"
name = "toy"
architecture = "ARCHITECTURE"
os = { id = "toy", version = "1" }

[packages]
origin = "Toy"
keyring = "toy.gpg"
suites = ["main"]
components = ["main"]
install = ["kernel"]

[kernel]
image = "boot/vmlinuz-{release}"

[hypervisor]
init = "init.sh"
compression = "zstd"
applets = "hypervisor.applets"
qemu = "usr/bin/qemu"
kernel-modules = ["virtio_pci"]

[minimal]
init = "init.sh"
compression = "none"
applets = "minimal.applets"

[emulator]
program = "usr/bin/qemu"
files = ["usr/share/qemu/bios.bin"]
"#;

/// The archive, a recipe for it, and an empty cache.
pub struct Toy {
    folder: TempDir,
}

/// A recipe for a disk of this system, with packages of the archive.
#[allow(dead_code, reason = "not every test prepares a disk")]
pub const DISK: &str = r#"
name = "toy-disk"
architecture = "ARCHITECTURE"

[template]
systems = ["toy"]
major = 1

[packages]
origin = "Toy"
keyring = "toy.gpg"
suites = ["main"]
components = ["main"]
install = ["kernel"]

[disk]
firmware = "default"
memory-mib = 512
cpus = 1
bus = "virtio"
command-channel = "console"
qemu = "/usr/bin/qemu"

[disk.prepare]
script = "prepare.sh"
user-data = "user-data"
meta-data = "meta-data"
shell = "shell.sh"
packages = ["kernel", "qemu"]
"#;

impl Toy {
    /// Adds a recipe, with the word ARCHITECTURE replaced by that of this machine, and the files that it names.
    #[allow(dead_code, reason = "not every test prepares a disk")]
    pub fn add_recipe(&self, name: &str, text: &str) {
        for file in ["prepare.sh", "user-data", "meta-data", "shell.sh"] {
            fs::write(self.path("recipes").join(file), format!("the file {file}\n")).unwrap();
        }
        let text = text.replace("ARCHITECTURE", isa().info().debian);
        fs::write(self.path("recipes").join(format!("{name}.toml")), text).unwrap();
    }

    pub fn new() -> Self {
        let toy = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(toy.path("apt"), APT).unwrap();
        fs::create_dir(toy.path("debs")).unwrap();
        fs::create_dir(toy.path("recipes")).unwrap();
        fs::write(toy.path("keyring"), "").unwrap();
        for (file, text) in [
            ("init.sh", "#!/bin/sh\n"),
            ("hypervisor.applets", "sh\nmount"),
            ("minimal.applets", "sh"),
            ("bad.applets", "sh fly"),
        ] {
            fs::write(toy.path("recipes").join(file), text).unwrap();
        }
        fs::write(toy.path("recipes/toy.toml"), RECIPE.replace("ARCHITECTURE", isa().info().debian)).unwrap();
        toy.release("1.0");
        toy
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts the packages into the archive, with a kernel of this release. The programs are this machine's shell.
    pub fn release(&self, release: &str) {
        let kernel = [
            (format!("boot/vmlinuz-{release}"), format!("kernel {release}").into_bytes()),
            (
                format!("lib/modules/{release}/modules.builtin"),
                b"kernel/drivers/virtio/virtio_pci.ko\n".to_vec(),
            ),
        ];
        let mut qemu = vec![
            ("bin/busybox".to_owned(), b"\0mount\0sh\0".to_vec()),
            ("usr/share/qemu/bios.bin".to_owned(), b"bios".to_vec()),
            ("usr/share/qemu/uefi.fd".to_owned(), vec![1; 1024]),
            ("usr/bin/qemu".to_owned(), fs::read("/bin/sh").unwrap()),
        ];
        let libraries = std::process::Command::new("ldd").arg("/bin/sh").output().unwrap().stdout;
        for line in String::from_utf8(libraries).unwrap().lines() {
            // NAME => PATH (ADDRESS), PATH (ADDRESS) for the loader, or NAME (ADDRESS) for the kernel's.
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                [name, "=>", path, _] => {
                    qemu.push((format!("usr/lib/{}/{name}", multiarch()), fs::read(path).unwrap()))
                }
                [path, _] if path.starts_with('/') => {
                    qemu.push((path[1..].to_owned(), fs::read(path).unwrap()))
                }
                _ => {}
            }
        }
        let (all, one) = (release, "1:1.0-1");
        let mut uris = String::from("Reading package lists...\n");
        for (name, version, files) in [("kernel", all, &kernel[..]), ("qemu", one, &qemu)] {
            let file = format!("{name}_{}_all.deb", version.replace(':', "%3a"));
            let bytes = deb(files);
            let digest = hex::encode(Sha256::digest(&bytes));
            writeln!(uris, "'http://toy.example/{file}' {file} {} SHA256:{digest}", bytes.len()).unwrap();
            fs::write(self.path("debs").join(file), bytes).unwrap();
        }
        fs::write(self.path("uris"), uris).unwrap();
    }

    /// Opens the cache of this name.
    pub fn store(&self, cache: &str, offline: bool) -> Store {
        self.store_with(cache, None, offline)
    }

    /// Opens the cache of this name, with images that came with the program.
    pub fn store_with(&self, cache: &str, shipped: Option<&str>, offline: bool) -> Store {
        Store::open(StoreOptions {
            cache: Some(self.path(cache)),
            shipped: shipped.map(|folder| self.path(folder)),
            offline,
            archive: Some("http://toy.example/".into()),
            keyring: Some(self.path("keyring")),
            // Started by the shell: a script that was just written is "busy" while another test's thread forks.
            wrapper: vec!["/bin/sh".into(), self.path("apt").into()],
        })
        .unwrap()
    }

    #[allow(dead_code, reason = "not every test builds it")]
    pub fn recipe(&self) -> Recipe {
        Catalog::load(&self.path("recipes")).unwrap().get("toy").unwrap().clone()
    }

    /// The number of calls of apt so far that contain this text.
    pub fn calls(&self, text: &str) -> usize {
        fs::read_to_string(self.path("calls"))
            .unwrap_or_default()
            .lines()
            .filter(|line| line.contains(text))
            .count()
    }
}

/// That of this machine, since its own shell plays QEMU.
fn isa() -> Isa {
    Isa::of_this_machine().expect("this machine's instruction set is in the table")
}

fn multiarch() -> &'static str {
    isa().info().multiarch
}

fn deb(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        tar.append_data(&mut header, Path::new("./").join(path), &bytes[..]).unwrap();
    }
    let data = tar.into_inner().unwrap();
    let mut ar = ar::Builder::new(Vec::new());
    ar.append(&ar::Header::new(b"data.tar".to_vec(), data.len() as u64), &data[..]).unwrap();
    ar.into_inner().unwrap()
}

/// Collects the events of a build as text.
#[derive(Default)]
pub struct Heard(Mutex<Vec<String>>);

impl Heard {
    pub fn events(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Progress for Heard {
    fn event(&self, event: &ProgressEvent<'_>) {
        let words = match event.step {
            Step::Built { .. } => "Built".to_owned(),
            step => format!("{step:?}"),
        };
        self.0.lock().unwrap().push(words);
    }
}
