//! Makes the disk as a file, to look at it or to boot it by hand.

use nestmatrix_debian_disk::{Contents, Disk, System};
use nestmatrix_model::Isa;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let path = arguments.next().map(PathBuf::from).ok_or("usage: make FILE.qcow2 [ARCHITECTURE]")?;
    let isa = match arguments.next() {
        Some(word) => word.to_string_lossy().parse()?,
        None => Isa::Amd64,
    };
    let folder = tempfile::tempdir()?;
    let system =
        System::install_with(Contents { isa, ..Contents::default() }, &folder.path().join("system.tar"))?;
    let disk = Disk::make(&system, None, &path)?;
    println!("{} with kernel {}", disk.path().display(), disk.kernel_release());
    Ok(())
}
