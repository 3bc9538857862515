//! Makes the repository in a folder, to look at it or to add it as a source by hand.

use nestmatrix_images::{Store, StoreOptions};
use nestmatrix_rpm_repository::Repository;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: make FOLDER")?;
    let store = Store::open(StoreOptions::default())?;
    let repository = Repository::make(&store, &folder)?;
    println!("{}", repository.folder().display());
    Ok(())
}
