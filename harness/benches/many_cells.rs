//! How long 100,000 cells take to be read and expanded, filtered, and listed: `cargo bench -p nestmatrix --bench many_cells`.
//!
//! It prints seconds and judges none, since machines differ; on one of today a second altogether is plenty.
#![allow(clippy::unwrap_used, reason = "what cannot be done ends the measurement")]

use std::fs;
use std::path::Path;
use std::time::Instant;

use nestmatrix::scenario::{AvailableImage, ClaimListing, Filter, Listing, Matrix, Supply};

/// Scenarios, each of the 1024 cells that one may have at most.
const SCENARIOS: usize = 100;

const SYSTEMS: &str = r#"
[[system]]
id = "rhel"
name = "RHEL"

[[stand-in]]
for = "rhel 9"
image = "debian-12"
reason = "same for all"
"#;

/// A value of an axis for each of the first minor versions, with a claim of its own.
fn axis(name: &str, values: usize) -> String {
    let value = |minor| format!("{{ system = \"rhel 9.{minor} and later\", claims = [\"{name}-{minor}\"] }}");
    let values: Vec<String> = (0..values).map(value).collect();
    format!("{name} = [{}]\n", values.join(", "))
}

fn write(folder: &Path) {
    let write = |name: String, content: String| {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    write("systems.toml".into(), SYSTEMS.into());
    let claim = |id: String| {
        format!("[[claim]]\nid = \"{id}\"\nsection = \"1\"\ntier = \"supported\"\ntext = \"It works.\"\n")
    };
    let claims =
        ["l0", "l1", "l2"].iter().flat_map(|axis| (0..8).map(move |minor| format!("{axis}-{minor}")));
    let claims: String = claims.chain(["works".into()]).map(claim).collect();
    let head =
        "id = \"limits\"\ntitle = \"Limits\"\nproduct = \"RHEL 9\"\nsection = \"1\"\nlanguage = \"en\"\n";
    write("documents/limits.toml".into(), format!("{head}{claims}"));
    let axes = format!(
        "[axes]\narchitecture = [\"amd\", \"power9\"]\n{}{}{}",
        axis("l0", 8),
        axis("l1", 8),
        axis("l2", 8)
    );
    for number in 0..SCENARIOS {
        let head = format!(
            "name = \"scenario-{number}\"\ntitle = \"Scenario {number}\"\ndocument = \"limits\"\n\
             claims = [\"works\"]\ntier = \"supported\"\n"
        );
        write(format!("product/scenario-{number}.toml"), format!("{head}{axes}"));
    }
}

/// Does `work` and says how long it took.
fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let done = work();
    println!("{:6.3} s  {what}", began.elapsed().as_secs_f64());
    done
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let image =
        AvailableImage { name: "debian-12".into(), system: "debian".into(), version: "12".parse().unwrap() };
    let supply = Supply::new(|_| vec![image.clone()]);
    let began = Instant::now();
    let matrix = timed("read and expanded", || Matrix::load(folder.path()).unwrap());
    let filter = Filter::parse(&["*/amd/*".into(), "scenario-*/power9/*".into()]).unwrap();
    let taken = timed("filtered", || matrix.cells().iter().filter(|cell| filter.matches(&cell.name)).count());
    let listing =
        timed("filtered and matched with images", || Listing::new(&matrix, &filter, &supply, false));
    let text = timed("listed for people", || listing.to_string());
    let json = timed("listed for programs", || serde_json::to_string(listing.rows()).unwrap());
    println!("{:6.3} s  all of this", began.elapsed().as_secs_f64());
    let claims =
        timed("claims listed with their cells", || ClaimListing::new(&matrix, &supply, false).to_string());
    println!(
        "{taken} of {} cells; {} MB for people, {} MB for programs, {} kB of claims",
        matrix.cells().len(),
        text.len() / 1_000_000,
        json.len() / 1_000_000,
        claims.len() / 1000
    );
}
