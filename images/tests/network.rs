//! Downloads that go wrong: a server on this machine that stops answering, hangs up, or sends other bytes, at every part of a download
//! with the real apt. Nothing comes from another machine.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

#[allow(dead_code, reason = "this test has other stores")]
mod support;
#[path = "../../xtask/tests/common/trials.rs"]
mod trials;

use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nestmatrix_images::{Error, Image, Product, Silent, Store, StoreOptions, find_program};
use sha2::{Digest as _, Sha256};
use support::Toy;
use tempfile::TempDir;
use trials::{ignore, trials};

/// apt as it is, but for its patience.
const WRAPPER: &str = r#"
case "$*" in
"apt-config dump") printf '%s\n' 'Acquire::http::Timeout "1";' 'Acquire::Retries "1";' ;;
*) exec "$@" ;;
esac
"#;

/// What the server does from some byte of its files on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It ends every connection.
    HangsUp,
    /// It sends nothing more.
    FallsSilent,
    /// One bit of each file is another one.
    Damages,
    /// It has no other files.
    HasLost,
}

/// What the server has, and what it does.
struct Served {
    folder: PathBuf,
    fault: Mutex<Option<(Fault, u64)>>,
    /// How many bytes of files it has sent.
    sent: Mutex<u64>,
}

/// An archive on this machine. It ends with the test's process.
struct Archive {
    folder: TempDir,
    address: SocketAddr,
    served: Arc<Served>,
}

impl Archive {
    /// The packages of a toy archive, signed.
    fn of(toy: &Toy) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("archive");
        fs::create_dir_all(root.join("pool")).unwrap();
        let mut packages = String::new();
        for (name, version, depends) in [("kernel", "1.0", "Depends: qemu\n"), ("qemu", "1:1.0-1", "")] {
            let file = format!("pool/{name}_{}_all.deb", version.replace(':', "%3a"));
            let bytes = fs::read(toy.path("debs").join(&file["pool/".len()..])).unwrap();
            let digest = hex::encode(Sha256::digest(&bytes));
            write!(packages, "Package: {name}\nVersion: {version}\nArchitecture: all\n{depends}").unwrap();
            write!(packages, "Filename: {file}\nSize: {}\nSHA256: {digest}\n\n", bytes.len()).unwrap();
            fs::write(root.join(file), bytes).unwrap();
        }
        let architecture = toy.recipe().isa().info().debian;
        let index = format!("main/binary-{architecture}/Packages");
        let mut release = format!(
            "Origin: Toy\nSuite: main\nCodename: main\nArchitectures: {architecture}\nComponents: main\n\
             Date: Mon, 01 Jan 2024 00:00:00 UTC\nSHA256:\n"
        );
        let digest = hex::encode(Sha256::digest(packages.as_bytes()));
        writeln!(release, " {digest} {} {index}", packages.len()).unwrap();
        let at = root.join("dists/main").join(&index);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, packages).unwrap();
        sign(folder.path(), &release, &root.join("dists/main/InRelease"));

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let served = Arc::new(Served { folder: root, fault: Mutex::new(None), sent: Mutex::new(0) });
        let of_thread = Arc::clone(&served);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let served = Arc::clone(&of_thread);
                thread::spawn(move || served.answer(&connection));
            }
        });
        fs::write(folder.path().join("wrapper"), WRAPPER).unwrap();
        Self { folder, address, served }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// From now on, the server works; with a fault, until it has sent so many bytes.
    fn begin(&self, fault: Option<(Fault, u64)>) {
        *self.served.sent.lock().unwrap() = 0;
        *self.served.fault.lock().unwrap() = fault;
    }

    fn sent(&self) -> u64 {
        *self.served.sent.lock().unwrap()
    }

    fn build(&self, toy: &Toy, cache: &str) -> Result<Image, Error> {
        let store = Store::open(StoreOptions {
            cache: Some(self.path(cache)),
            shipped: None,
            offline: false,
            archive: Some(format!("http://{}/", self.address)),
            keyring: Some(self.path("keyring.gpg")),
            wrapper: vec!["/bin/sh".into(), self.path("wrapper").into()],
        });
        store.unwrap().ensure(&toy.recipe(), Product::Minimal, &Silent)
    }
}

/// Signs a text with a key that is made for that, and writes the key beside it.
fn sign(folder: &Path, text: &str, to: &Path) {
    let home = tempfile::tempdir().unwrap();
    let gpg = |arguments: &[&str]| {
        let mut gpg = Command::new("gpg");
        gpg.args(["--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]);
        let done = gpg.arg("--homedir").arg(home.path()).args(arguments).output().unwrap();
        assert!(done.status.success(), "{done:#?}");
        done.stdout
    };
    gpg(&["--quick-generate-key", "toy", "rsa2048", "sign", "never"]);
    fs::write(folder.join("keyring.gpg"), gpg(&["--export"])).unwrap();
    let release = folder.join("Release");
    fs::write(&release, text).unwrap();
    fs::write(to, gpg(&["--output", "-", "--clear-sign", release.to_str().unwrap()])).unwrap();
    let ended = Command::new("gpgconf").arg("--homedir").arg(home.path()).args(["--kill", "all"]).status();
    assert!(ended.unwrap().success());
}

impl Served {
    /// Answers the requests of a connection, until one of both sides ends it.
    fn answer(&self, connection: &TcpStream) {
        let mut lines = BufReader::new(connection).lines();
        while let Some(Ok(request)) = lines.next() {
            while lines.next().and_then(Result::ok).is_some_and(|line| !line.is_empty()) {}
            let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
            if self.send(path, connection).is_err() {
                break;
            }
        }
        // It may be closed already.
        let _ = connection.shutdown(Shutdown::Both);
    }

    /// # Errors
    /// The connection is closed, or is to be closed.
    fn send(&self, path: &str, mut connection: &TcpStream) -> io::Result<()> {
        // The names of files contain a percent sign, which apt writes as %25.
        let file = fs::read(self.folder.join(path.replace("%25", "%")));
        let is_lost = self.fault_now(1).is_some_and(|(fault, _)| fault == Fault::HasLost);
        let Some(mut bytes) = file.ok().filter(|_| !is_lost) else {
            return connection.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len());
        let fault = self.fault_now(bytes.len() as u64);
        *self.sent.lock().unwrap() += bytes.len() as u64;
        connection.write_all(head.as_bytes())?;
        let Some((fault, at)) = fault else { return connection.write_all(&bytes) };
        let at = usize::try_from(at).unwrap();
        match fault {
            Fault::HasLost => connection.write_all(&bytes),
            Fault::Damages => {
                bytes[at] ^= 1;
                connection.write_all(&bytes)
            }
            Fault::HangsUp => {
                connection.write_all(&bytes[..at])?;
                Err(io::ErrorKind::ConnectionAborted.into())
            }
            Fault::FallsSilent => {
                connection.write_all(&bytes[..at])?;
                // The connection stays until the test's process ends.
                thread::sleep(Duration::MAX);
                Ok(())
            }
        }
    }

    /// What goes wrong in the next bytes, if there are so many, and at which of them.
    fn fault_now(&self, size: u64) -> Option<(Fault, u64)> {
        let (fault, at) = (*self.fault.lock().unwrap())?;
        let at = at.saturating_sub(*self.sent.lock().unwrap());
        (at < size).then_some((fault, at))
    }
}

fn a_download_that_goes_wrong_is_an_error_and_leaves_no_image(fault: Fault) {
    if find_program("gpg").is_none() || find_program("gpg-agent").is_none() {
        ignore("gpg, which signs the archive, is not installed");
    }
    let toy = Toy::new();
    let archive = Archive::of(&toy);
    let whole = archive.build(&toy, "undisturbed").unwrap();
    let sizes = ["dists/main/InRelease", "pool/kernel_1.0_all.deb", "pool/qemu_1%3a1.0-1_all.deb"];
    let sizes = sizes.map(|file| fs::metadata(archive.served.folder.join(file)).unwrap().len());
    let all = archive.sent();
    assert!(all > sizes.iter().sum::<u64>(), "the index was fetched, too: {all} of {sizes:?}");
    let [signed, first, second] = sizes;
    let packages = all - first - second;
    let moments = match fault {
        // Before the signed file, before the index, and before each package.
        Fault::HasLost => vec![0, signed, packages, packages + 1],
        // In each file, and at the ends.
        _ => vec![0, signed / 2, signed + 1, packages + first / 2, all - second / 2, all - 1],
    };
    for at in moments {
        let cache = format!("at-{at}");
        archive.begin(Some((fault, at)));
        let error = archive.build(&toy, &cache).map(|image| image.digest().clone()).unwrap_err();
        let is_archives = matches!(error, Error::Undelivered(_));
        assert_eq!(is_archives, fault == Fault::HasLost && at >= packages, "{fault:?} at {at}: {error}");
        let names_server = error.to_string().contains(&archive.address.to_string());
        assert!(names_server || is_archives, "{fault:?} at {at}: {error}");
        for folder in ["images", "refs", "building/toy", "scratch"] {
            let left = fs::read_dir(archive.path(&cache).join(folder)).into_iter().flatten().count();
            assert_eq!(left, 0, "{folder} after {fault:?} at {at}");
        }
        archive.begin(None);
        assert_eq!(archive.build(&toy, &cache).unwrap().digest(), whole.digest(), "{fault:?} at {at}");
    }
}

trials! {
    a_download_that_goes_wrong_is_an_error_and_leaves_no_image {
        the_server_hangs_up(Fault::HangsUp),
        the_server_falls_silent(Fault::FallsSilent),
        a_bit_is_another_one(Fault::Damages),
        the_server_has_lost_its_files(Fault::HasLost),
    };
}
