//! How long it takes to read, expand, filter and list 100,000 cells: `cargo bench -p nestmatrix --bench many_cells`.
//!
//! It prints seconds but does not judge them, since machines differ. One second in total is plenty on a machine of today.
#![allow(clippy::unwrap_used, reason = "what cannot be done ends the measurement")]

mod generated;

use std::time::Instant;

use nestmatrix::report::{self, ClaimListing, Listing, Style};
use nestmatrix::scenario::{AvailableImage, Denied, Filter, Matrix, Supply};
use nestmatrix_model::BootKind;

/// Does `work` and prints how long it took.
fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let done = work();
    println!("{:6.3} s  {what}", began.elapsed().as_secs_f64());
    done
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    generated::write(folder.path()).unwrap();
    let image = AvailableImage {
        name: "debian-12".into(),
        system: "debian".into(),
        version: "12".parse().unwrap(),
        boots: BootKind::Kernel,
        additions: Vec::new(),
        roles: Vec::new(),
        innermost_only: None,
    };
    let supply = Supply::new(|_| vec![image.clone()]);
    let began = Instant::now();
    let matrix = timed("read and expanded", || Matrix::load(folder.path()).unwrap());
    let filter = Filter::parse(&["*/amd/*".into(), "scenario-*/power9/*".into()]).unwrap();
    let taken = timed("filtered", || matrix.cells().iter().filter(|cell| filter.matches(&cell.name)).count());
    let listing = timed("filtered and matched with images", || {
        Listing::new(&matrix, &filter, &supply, Denied::default())
    });
    let text = timed("listed for people", || report::listing(&listing, &Style::plain()));
    let json = timed("listed for programs", || serde_json::to_string(listing.rows()).unwrap());
    println!("{:6.3} s  all of this", began.elapsed().as_secs_f64());
    let claims = timed("claims listed with their cells", || {
        ClaimListing::new(&matrix, &supply, Denied::default()).to_string()
    });
    println!(
        "{taken} of {} cells; {} MB for people, {} MB for programs, {} kB of claims",
        matrix.cells().len(),
        text.len() / 1_000_000,
        json.len() / 1_000_000,
        claims.len() / 1000
    );
}
