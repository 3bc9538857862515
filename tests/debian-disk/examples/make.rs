//! Makes the disk as a file, to look at it or to boot it by hand.

use nestmatrix_debian_disk::{Disk, System};
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: make FILE.qcow2")?;
    let folder = tempfile::tempdir()?;
    let system = System::install(&folder.path().join("system.tar"))?;
    let disk = Disk::make(&system, None, &path)?;
    println!("{} with kernel {}", disk.path().display(), disk.kernel_release());
    Ok(())
}
