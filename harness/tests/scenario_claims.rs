//! Every claim is listed with what tries it, what it contradicts, or why nothing can try it.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

use std::fs;
use std::path::Path;

use nestmatrix::run::supply as supply_of;
use nestmatrix::scenario::{Architecture, AvailableImage, ClaimListing, Coverage, Matrix, Supply};

const SYSTEMS: &str = "[[system]]\nid = \"rhel\"\nname = \"RHEL\"\n";

/// A document with one claim of each coverage, one that only another document's scenario tries, and one that the cells
/// with one value of an axis try.
const DOCUMENT: &str = r#"
id = "limits"
title = "Limits"
product = "RHEL 9"
section = "22.2"
language = "en"

[[claim]]
id = "works"
section = "Supported environments"
tier = "supported"
text = "It works."

[[claim]]
id = "works-on-9-3"
section = "Supported environments"
tier = "technology-preview"
text = "It works on RHEL 9.3."

[[claim]]
id = "promised"
section = "Supported environments"
tier = "supported"
text = "It is supported."
untestable = "A promise is nothing that a machine does."

[[claim]]
id = "fails-at-l3"
section = "Limitations"
tier = "unsupported"
text = "L3 does not work."
"#;

const OTHER: &str = r#"
id = "primer"
title = "Primer"
product = "RHEL 9"
section = "3"
language = "en"

[[claim]]
id = "fails"
section = "3"
tier = "untested"
text = "It does not work."
"#;

const CONTRADICTIONS: &str = r#"
[[contradiction]]
claims = ["limits/works", "primer/fails"]
text = "The primer has not heard of what the limits support."
"#;

const SCENARIO: &str = r#"
name = "preview"
title = "Preview"
document = "limits"
claims = ["works", "primer/fails"]
tier = "technology-preview"

[axes]
architecture = ["amd", "intel"]
l0 = ["rhel 9"]
l1 = ["rhel 9.2", { system = "rhel 9.3", claims = ["works-on-9-3"] }]
l2 = ["rhel 9"]
"#;

fn matrix() -> Matrix {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    write("systems.toml", SYSTEMS);
    write("contradictions.toml", CONTRADICTIONS);
    write("documents/limits.toml", DOCUMENT);
    write("documents/primer.toml", OTHER);
    write("product/preview.toml", SCENARIO);
    Matrix::load(folder.path()).unwrap()
}

/// RHEL 9.2 and 9.4, of which AMD stacks can be booted.
fn supply() -> Supply {
    let image = |version: &str| AvailableImage {
        name: format!("rhel-{version}"),
        system: "rhel".into(),
        version: version.parse().unwrap(),
    };
    Supply::new(|architecture| match architecture {
        Architecture::Amd => vec![image("9.2"), image("9.4")],
        _ => Vec::new(),
    })
}

/// The project's own matrix.
fn real() -> Matrix {
    Matrix::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")).unwrap()
}

/// What there is for the project's own matrix.
fn real_supply() -> Supply {
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/recipes");
    supply_of(&nestmatrix_images::Catalog::load(&recipes).unwrap())
}

#[test]
fn the_claims_read_as_the_documents_lay_them_out() {
    insta::assert_snapshot!(ClaimListing::new(&matrix(), &supply(), false));
}

#[test]
fn a_claim_has_a_row_for_programs_with_all_its_cells() {
    let matrix = matrix();
    let listing = ClaimListing::new(&matrix, &supply(), false);
    let rows: Vec<_> = listing.rows().collect();
    insta::assert_snapshot!(serde_json::to_string_pretty(&rows).unwrap());
}

#[test]
fn every_claim_of_the_documents_is_listed_once() {
    let matrix = real();
    let listing = ClaimListing::new(&matrix, &real_supply(), false);
    let of = |wanted| listing.rows().filter(|row| row.coverage == wanted).count();
    insta::assert_snapshot!(format!(
        "{} documents\n{} claims\n{} covered\n{} by skipped cells alone\n{} untestable\n{} not covered yet\n{} contradictions",
        matrix.documents().len(),
        listing.rows().count(),
        of(Coverage::Covered),
        of(Coverage::Skipped),
        of(Coverage::Untestable),
        of(Coverage::NotCovered),
        matrix.contradictions().len(),
    ));
    let mut claims: Vec<_> = listing.rows().map(|row| &row.claim).collect();
    claims.sort();
    claims.dedup();
    assert_eq!(claims.len(), listing.rows().count());
}

#[test]
fn every_cell_of_the_matrix_stands_below_a_claim() {
    let matrix = real();
    let listing = ClaimListing::new(&matrix, &real_supply(), false);
    for cell in matrix.cells() {
        let claims = listing.rows().filter(|row| row.cells.contains(&cell.name)).count();
        assert_eq!(claims, cell.claims.len(), "{}", cell.name);
    }
}

#[test]
fn a_claim_is_covered_by_cells_that_can_be_booted_here() {
    let matrix = matrix();
    let coverage = |supply: &Supply, claim: &str| {
        let listing = ClaimListing::new(&matrix, supply, false);
        let row = listing.rows().find(|row| row.claim == claim).unwrap().clone();
        (row.coverage, row.cells.len(), row.bootable_cells.len())
    };
    assert_eq!(coverage(&supply(), "limits/works"), (Coverage::Covered, 4, 1));
    assert_eq!(coverage(&supply(), "limits/works-on-9-3"), (Coverage::Skipped, 2, 0));
    assert_eq!(coverage(&supply(), "limits/fails-at-l3"), (Coverage::NotCovered, 0, 0));
    assert_eq!(coverage(&supply(), "limits/promised"), (Coverage::Untestable, 0, 0));
    let nothing = Supply::new(|_| Vec::new());
    assert_eq!(coverage(&nothing, "limits/works"), (Coverage::Skipped, 4, 0));
}

#[test]
fn every_claim_of_the_documents_is_tried_or_says_why_nothing_can_try_it() {
    let matrix = real();
    let listing = ClaimListing::new(&matrix, &real_supply(), false);
    let of_neither = listing.rows().filter(|row| row.coverage == Coverage::NotCovered);
    let of_neither: Vec<&str> = of_neither.map(|row| row.claim.as_str()).collect();
    assert!(
        of_neither.is_empty(),
        "{} claims have neither cell nor reason:\n{}",
        of_neither.len(),
        of_neither.join("\n")
    );
}
