//! Every claim is listed with what tries it, what it contradicts, or why nothing can try it.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

use std::fs;
use std::path::Path;

use nestmatrix::scenario::{ClaimListing, Coverage, Matrix};

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

#[test]
fn the_claims_read_as_the_documents_lay_them_out() {
    insta::assert_snapshot!(ClaimListing::new(&matrix()));
}

#[test]
fn a_claim_has_a_row_for_programs_with_all_its_cells() {
    let matrix = matrix();
    let listing = ClaimListing::new(&matrix);
    let rows: Vec<_> = listing.rows().collect();
    insta::assert_snapshot!(serde_json::to_string_pretty(&rows).unwrap());
}

#[test]
fn every_claim_of_the_five_documents_is_listed_once() {
    let matrix = Matrix::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")).unwrap();
    let listing = ClaimListing::new(&matrix);
    let of = |wanted| listing.rows().filter(|row| row.coverage == wanted).count();
    insta::assert_snapshot!(format!(
        "{} documents\n{} claims\n{} covered\n{} untestable\n{} not covered yet\n{} contradictions",
        matrix.documents().len(),
        listing.rows().count(),
        of(Coverage::Covered),
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
    let matrix = Matrix::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")).unwrap();
    let listing = ClaimListing::new(&matrix);
    for cell in matrix.cells() {
        let claims = listing.rows().filter(|row| row.cells.contains(&cell.name)).count();
        assert_eq!(claims, cell.claims.len(), "{}", cell.name);
    }
}
