//! `cargo xtask states`: what is saved of stacks, and its removal.

use std::path::PathBuf;
use std::process::ExitCode;

use nestmatrix_images::{Store, StoreOptions};
use nestmatrix_stack::SnapshotCache;

use crate::cli::StatesCommand;
use crate::exit::Failure;
use crate::run_matrix::say;

/// Disk that saved states may take where nothing else is said, in GiB.
pub const USUAL_LIMIT_GIB: u64 = 10;

/// The saved states of the user, which may take `limit` GiB of disk.
pub fn open(store: &Store, limit: u64) -> Result<SnapshotCache, Failure> {
    let place = place(store);
    let opened = SnapshotCache::open(place.clone(), limit.saturating_mul(1 << 30));
    opened
        .map_err(|e| Failure::error(std::io::Error::other(format!("{} can't be used: {e}", place.display()))))
}

/// Where they are.
pub fn place(store: &Store) -> PathBuf {
    let place = std::env::var_os("NESTMATRIX_STATES").filter(|place| !place.is_empty());
    place.map_or_else(|| store.cache().join("states"), PathBuf::from)
}

pub fn run(command: StatesCommand) -> Result<ExitCode, Failure> {
    let store =
        Store::open(StoreOptions { offline: true, ..StoreOptions::default() }).map_err(Failure::error)?;
    // Nothing is saved here, so the limit does not matter.
    let states = open(&store, 0)?;
    match command {
        StatesCommand::List => {
            let listed = states.list().map_err(Failure::error)?;
            let mut text = format!("{:<13} {:<5} {:>5}  {:<20}  made of\n", "key", "up to", "MiB", "saved");
            for state in &listed {
                let description = &state.description;
                let images = description.inputs.iter().filter(|(name, _)| name.ends_with("image"));
                // The recipe; behind it stands the digest.
                let recipe = |image: &str| image.split(' ').next().unwrap_or_default().to_owned();
                let images: Vec<String> = images.map(|(_, image)| recipe(image)).collect();
                text.push_str(&format!(
                    "{:<13} {:<5} {:>5}  {:<20}  {}; {}\n",
                    &description.key.as_str()[..12],
                    description.level.to_string(),
                    state.bytes >> 20,
                    description.saved,
                    images.join(" > "),
                    description.inputs.get("emulator").map_or("", String::as_str),
                ));
            }
            say(if listed.is_empty() { "no state is saved\n" } else { &text });
        }
        StatesCommand::Clear => {
            let freed = states.clear().map_err(Failure::error)?;
            say(&format!("freed {} MiB\n", freed >> 20));
        }
    }
    Ok(ExitCode::SUCCESS)
}
