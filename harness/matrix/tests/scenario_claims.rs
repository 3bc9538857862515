//! Every claim is listed with the cells that test it, with its contradictions, or with the reason why no cell can test it.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod matrix_folder;

use std::path::Path;

use nestmatrix::mutation::mutants_of;
use nestmatrix::records::{Original, VerdictWord};
use nestmatrix::report::ClaimListing;
use nestmatrix::run::supply as supply_of;
use nestmatrix::scenario::{
    Addition, AvailableImage, Cell, CellName, Coverage, Denied, Expectation, Fingerprint, Matrix, ShownBy,
    Supply,
};
use nestmatrix_model::{Architecture, BootKind, Word as _};

const SYSTEMS: &str = "[[system]]\nid = \"rhel\"\nname = \"RHEL\"\n";
const ALMA: &str = "[[system]]\nid = \"alma\"\nname = \"Alma\"\nrebuild-of = \"rhel\"\n";

/// A document with one claim of each coverage, one that only another document's scenario tests, and one that only the cells
/// with one value of an axis test.
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

[[outside-contradiction]]
claims = ["limits/works"]
outside = "the handbook"
source = "its section 4, 2026-01-02"
text = "The handbook excludes it."
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
    matrix_with(DOCUMENT, "")
}

/// The matrix with this document, and with this `decided.toml`.
fn matrix_with(document: &str, decided: &str) -> Matrix {
    matrix_of(document, decided, SCENARIO)
}

fn matrix_of(document: &str, decided: &str, scenario: &str) -> Matrix {
    let folder = matrix_folder::with_files([
        ("systems.toml", SYSTEMS),
        ("contradictions.toml", CONTRADICTIONS),
        ("documents/limits.toml", document),
        ("decided.toml", decided),
        ("documents/primer.toml", OTHER),
        ("product/preview.toml", scenario),
    ]);
    Matrix::load(folder.path()).unwrap()
}

/// RHEL 9.2 and 9.4, whose AMD stacks can be booted.
fn supply() -> Supply {
    let image = |version: &str| AvailableImage {
        name: format!("rhel-{version}"),
        system: "rhel".into(),
        version: version.parse().unwrap(),
        boots: BootKind::Kernel,
        additions: Addition::ALL.to_vec(),
        roles: Vec::new(),
        innermost_only: None,
    };
    Supply::new(|architecture| match architecture {
        Architecture::Amd => vec![image("9.2"), image("9.4")],
        _ => Vec::new(),
    })
}

/// The project's own matrix.
fn real() -> Matrix {
    Matrix::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios")).unwrap()
}

/// The images for the project's own matrix.
fn real_supply() -> Supply {
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/recipes");
    supply_of(&nestmatrix_images::Catalog::load(&recipes).unwrap())
}

#[test]
fn the_claims_read_as_the_documents_lay_them_out() {
    insta::assert_snapshot!(ClaimListing::new(&matrix(), &supply(), Denied::default()));
}

#[test]
fn a_claim_has_a_row_for_programs_with_all_its_cells() {
    let matrix = matrix();
    let listing = ClaimListing::new(&matrix, &supply(), Denied::default());
    let rows: Vec<_> = listing.rows().collect();
    insta::assert_snapshot!(serde_json::to_string_pretty(&rows).unwrap());
}

#[test]
fn every_claim_of_the_documents_is_listed_once() {
    let matrix = real();
    let listing = ClaimListing::new(&matrix, &real_supply(), Denied::default());
    let coverages: Vec<Coverage> = listing.rows().map(|row| row.coverage).collect();
    insta::assert_snapshot!(format!(
        "{} documents\n{} claims\n{}\n{} contradictions, {} with other documents",
        matrix.documents().len(),
        coverages.len(),
        Coverage::counted(&coverages, true).replace(", ", "\n"),
        matrix.contradictions().len(),
        matrix.outside_contradictions().len(),
    ));
    let mut claims: Vec<_> = listing.rows().map(|row| &row.claim).collect();
    claims.sort();
    claims.dedup();
    assert_eq!(claims.len(), listing.rows().count());
}

#[test]
fn every_cell_of_the_matrix_stands_below_a_claim() {
    let matrix = real();
    let listing = ClaimListing::new(&matrix, &real_supply(), Denied::default());
    for cell in matrix.cells() {
        let claims = listing.rows().filter(|row| row.cells.contains(&cell.name)).count();
        assert_eq!(claims, cell.claims.len(), "{}", cell.name);
    }
}

#[test]
fn a_claim_is_covered_by_cells_that_can_be_booted_here() {
    let matrix = matrix();
    let coverage = |supply: &Supply, claim: &str| {
        let listing = ClaimListing::new(&matrix, supply, Denied::default());
        let row = listing.rows().find(|row| row.claim == claim).unwrap().clone();
        (row.coverage, row.cells.len(), row.bootable_cells.len())
    };
    assert_eq!(coverage(&supply(), "limits/works"), (Coverage::Undecided, 4, 1));
    assert_eq!(coverage(&supply(), "limits/works-on-9-3"), (Coverage::Skipped, 2, 0));
    assert_eq!(coverage(&supply(), "limits/fails-at-l3"), (Coverage::NotCovered, 0, 0));
    assert_eq!(coverage(&supply(), "limits/promised"), (Coverage::Untestable, 0, 0));
    let nothing = Supply::new(|_| Vec::new());
    assert_eq!(coverage(&nothing, "limits/works"), (Coverage::Skipped, 4, 0));
}

#[test]
fn every_claim_of_the_documents_is_tried_or_says_why_nothing_can_try_it() {
    let matrix = real();
    let listing = ClaimListing::new(&matrix, &real_supply(), Denied::default());
    let of_neither = listing.rows().filter(|row| row.coverage == Coverage::NotCovered);
    let of_neither: Vec<&str> = of_neither.map(|row| row.claim.as_str()).collect();
    assert!(
        of_neither.is_empty(),
        "{} claims have neither cell nor reason:\n{}",
        of_neither.len(),
        of_neither.join("\n")
    );
}

/// The only cell of the test's matrix that can be booted.
const BOOTS: &str = "preview/amd/rhel-9/rhel-9.2/rhel-9";

/// An entry of a mutation run of this cell, with its present fingerprint or another one.
fn mutated(cell: &str, fingerprint: Option<&str>, outcome: &str) -> String {
    let of = |cell: &&Cell| cell.name.as_str() == BOOTS;
    let now = Fingerprint::of(matrix().cells().iter().find(of).unwrap()).to_string();
    let fingerprint = fingerprint.unwrap_or(&now);
    format!(
        "[[mutated]]\ncell = \"{cell}\"\nfingerprint = \"{fingerprint}\"\n{outcome}\nseen = \"2026-11-28\"\n\
         kernels = [\"6.1.0\"]\nqemus = [\"7.2\"]\nmetal = \"emulated\"\n"
    )
}

/// What is known about the claim that every cell tests, and the text of the list.
fn known(document: &str, decided: &str) -> (Coverage, String) {
    let matrix = matrix_with(document, decided);
    let listing = ClaimListing::new(&matrix, &supply(), Denied::default());
    let coverage = listing.rows().find(|row| row.claim == "limits/works").unwrap().coverage;
    (coverage, listing.to_string())
}

#[test]
fn a_claim_is_decided_by_damage_that_a_cell_that_boots_has_noticed() {
    let killed = "killed = [\"l0-nesting-off\", \"l2-on-tcg\"]";
    let (coverage, text) = known(DOCUMENT, &mutated(BOOTS, None, killed));
    assert_eq!(coverage, Coverage::Decided);
    assert!(text.contains(&format!("l0-nesting-off and 1 more killed, 2026-11-28: {BOOTS}")), "{text}");
    let survived = "killed = [\"l0-nesting-off\"]\nsurvived = [\"l2-on-tcg\"]";
    let (coverage, text) = known(DOCUMENT, &mutated(BOOTS, None, survived));
    assert_eq!(coverage, Coverage::Undecided, "damage was not noticed");
    assert!(text.contains("l2-on-tcg survived, 2026-11-28"), "{text}");
    // There is no image, so its behaviour is unknown here.
    let elsewhere = mutated("preview/intel/rhel-9/rhel-9.2/rhel-9", None, killed);
    assert_eq!(known(DOCUMENT, &elsewhere).0, Coverage::Undecided);
}

#[test]
fn what_was_shown_of_a_scenario_before_it_changed_decides_nothing() {
    let killed = "killed = [\"l0-nesting-off\"]";
    let (coverage, text) = known(DOCUMENT, &mutated(BOOTS, Some("00"), killed));
    assert_eq!(coverage, Coverage::Undecided);
    assert!(text.contains(&format!("scenario changed since 2026-11-28: {BOOTS}")), "{text}");
}

#[test]
fn a_claim_is_decided_if_both_verdicts_were_seen() {
    let killed = mutated(BOOTS, None, "killed = [\"x\"]");
    let fingerprint = killed.lines().find(|line| line.starts_with("fingerprint")).unwrap();
    let both = format!(
        "[[both-verdicts]]\ncell = \"{BOOTS}\"\n{fingerprint}\nworks = \"Linux 6.2\"\nstops = \"Linux 6.1\"\n\
         seen = \"2026-11-22\"\nnote = \"bisected\"\n"
    );
    let (coverage, text) = known(DOCUMENT, &both);
    assert_eq!(coverage, Coverage::Decided);
    assert!(text.contains("works with Linux 6.2, stops with Linux 6.1, 2026-11-22"), "{text}");
    // The cell with the other verdict asks for something else by now.
    let like = |fingerprint: &str| format!("{both}like = \"{BOOTS}\"\nlike-{fingerprint}\n");
    assert_eq!(known(DOCUMENT, &like(fingerprint)).0, Coverage::Decided);
    assert_eq!(known(DOCUMENT, &like("fingerprint = \"00\"")).0, Coverage::Undecided);
    // The version is not one of the two with different verdicts.
    let version = DOCUMENT.replacen("tier = \"supported\"", "tier = \"supported\"\nversion-of = \"l0\"", 1);
    assert_eq!(known(&version, &both).0, Coverage::Undecided);
}

/// A claim that is added to a scenario is not decided by earlier results, which were not about it.
#[test]
fn what_was_shown_of_a_cell_says_nothing_of_a_claim_that_is_added_to_it() {
    let fingerprint = |more: &str| {
        let scenario = SCENARIO.replace("\"primer/fails\"]", &format!("\"primer/fails\"{more}]"));
        let matrix = matrix_of(DOCUMENT, "", &scenario);
        Fingerprint::of(matrix.cells().iter().find(|cell| cell.name.as_str() == BOOTS).unwrap())
    };
    assert_ne!(fingerprint(""), fingerprint(", \"fails-at-l3\""));
    let other_order = SCENARIO.replace("[\"works\", \"primer/fails\"]", "[\"primer/fails\", \"works\"]");
    assert_ne!(other_order, SCENARIO);
    let of = |scenario: &str| Fingerprint::of(&matrix_of(DOCUMENT, "", scenario).cells()[0]);
    assert_eq!(of(&other_order), of(SCENARIO));
}

#[test]
fn a_claim_with_may_is_observed_whatever_was_shown() {
    let may = DOCUMENT.replacen("tier = \"supported\"", "tier = \"supported\"\nmay = true", 1);
    let killed = mutated(BOOTS, None, "killed = [\"l0-nesting-off\"]");
    assert_eq!(known(&may, "").0, Coverage::Observed);
    assert_eq!(known(&may, &killed).0, Coverage::Observed);
}

/// L0 boots an image of RHEL itself; a stand-in serves a whole major version.
#[test]
fn a_version_is_decided_by_an_image_of_that_version_alone() {
    let version = DOCUMENT.replacen("tier = \"supported\"", "tier = \"supported\"\nversion-of = \"l0\"", 1);
    let killed = mutated(BOOTS, None, "killed = [\"l0-nesting-off\"]");
    assert_eq!(known(&version, "").0, Coverage::Undecided);
    assert_eq!(known(&version, &killed).0, Coverage::Decided);
    // There was no image of the version at the time of that result, and now there is.
    let (coverage, text) = known(&version, &format!("{killed}stand-ins = [\"l0\", \"l1\"]\n"));
    assert_eq!(coverage, Coverage::Undecided);
    assert!(text.contains(&format!("not with the version itself, 2026-11-28: {BOOTS}")), "{text}");
    let other_level = format!("{killed}stand-ins = [\"l1\"]\n");
    assert_eq!(known(&version, &other_level).0, Coverage::Decided);
    let (coverage, text) = known(&version, &format!("{killed}rebuilds = [\"l0\", \"l1\"]\n"));
    assert_eq!(coverage, Coverage::Decided, "a rebuild has the versions of its original");
    assert!(text.contains("l0-nesting-off killed (~ L0, L1), 2026-11-28"), "{text}");
    let stand_in =
        format!("{SYSTEMS}{ALMA}[[stand-in]]\nfor = \"rhel 9\"\nimage = \"debian-12\"\nreason = \"r\"\n");
    let folder = matrix_folder::with_files([
        ("systems.toml", stand_in.as_str()),
        ("documents/limits.toml", &version),
        ("documents/primer.toml", OTHER),
        ("product/preview.toml", SCENARIO),
        ("decided.toml", &killed),
    ]);
    let matrix = Matrix::load(folder.path()).unwrap();
    let supply = Supply::new(|_| {
        let (name, system, version) = ("debian-12".into(), "debian".into(), "12".parse().unwrap());
        vec![AvailableImage {
            name,
            system,
            version,
            boots: BootKind::Kernel,
            additions: Addition::ALL.to_vec(),
            roles: Vec::new(),
            innermost_only: None,
        }]
    });
    let coverage = |supply: &Supply| {
        let listing = ClaimListing::new(&matrix, supply, Denied::default());
        listing.rows().find(|row| row.claim == "limits/works").unwrap().coverage
    };
    assert_eq!(coverage(&supply), Coverage::MajorVersionOnly);
    let rebuild = Supply::new(|_| {
        let image = |version: &str| AvailableImage {
            name: format!("alma-{version}"),
            system: "alma".into(),
            version: version.parse().unwrap(),
            boots: BootKind::Kernel,
            additions: Addition::ALL.to_vec(),
            roles: Vec::new(),
            innermost_only: None,
        };
        ["9.2", "9.4", "9.6"].map(image).into()
    });
    assert_eq!(coverage(&rebuild), Coverage::Decided);
}

/// A cell with `may-stop` is always green, so it decides nothing. A claim that says "may" needs no cell that could be red.
#[test]
fn only_claims_with_may_are_tried_by_cells_that_may_stop() {
    let matrix = real();
    let listing = ClaimListing::new(&matrix, &real_supply(), Denied::default());
    let may_stop = |cell: &&Cell| matches!(cell.expectation, Expectation::MayStop(_));
    for cell in matrix.cells().iter().filter(may_stop) {
        let charged = listing.rows().filter(|row| row.cells.contains(&cell.name));
        let promised: Vec<_> = charged.filter(|row| !row.may).map(|row| &row.claim).collect();
        assert!(promised.is_empty(), "{}: {promised:?}", cell.name);
    }
}

/// The text of a claim says "may" exactly if the key does.
#[test]
fn claims_with_may_say_so() {
    for document in real().documents() {
        for claim in document.claims.iter().filter(|claim| claim.may) {
            let says =
                ["may", "might"].iter().any(|word| claim.text.split_whitespace().any(|other| other == *word));
            assert!(says, "{}/{}: {}", document.id, claim.id, claim.text);
        }
    }
}

#[test]
fn what_the_ledger_says_was_killed_are_mutations_of_its_cells_and_stale_entries_are_known() {
    let matrix = real();
    let ledger = matrix.decided();
    let mut stale = Vec::new();
    for entry in &ledger.mutated {
        let cell = matrix.cells().iter().find(|cell| cell.name == entry.cell).unwrap();
        if Fingerprint::of(cell) != entry.fingerprint {
            stale.push(cell.name.to_string());
            continue;
        }
        let verdict = VerdictWord::Pass;
        let original = Original { verdict, stage: entry.stage, symptom: None, green: true };
        let mutants = mutants_of(cell, &original).unwrap();
        let names = mutants.mutants.iter().map(|mutant| mutant.mutation.name());
        let names: Vec<String> =
            names.chain(mutants.checks.iter().map(|check| format!("drop-step-{}", check.step))).collect();
        for name in entry.killed.iter().chain(&entry.survived) {
            // That one depends on the observed versions, which the entry does not have.
            assert!(names.contains(name) || name.contains("-not-required-"), "{}: {name}", cell.name);
        }
    }
    for entry in &ledger.both_verdicts {
        let cell = |name: &CellName| matrix.cells().iter().find(|cell| cell.name == *name).unwrap();
        let of_it = cell(&entry.cell);
        if Fingerprint::of(of_it) != entry.fingerprint {
            stale.push(of_it.name.to_string());
        }
        // The other cell's result counts for this one only if both ask for the same with different systems.
        if let Some(like) = entry.like.as_ref().map(cell) {
            if Some(Fingerprint::of(like)) != entry.like_fingerprint {
                stale.push(format!("{}, by {}", of_it.name, like.name));
            }
            let asks = |cell: &Cell| {
                let mut cell = Cell { claims: Vec::new(), ..cell.clone() };
                for level in &mut cell.levels {
                    level.system = of_it.levels[0].system.clone();
                }
                if let Expectation::Stops { known_stale, limitation } = &mut cell.expectation {
                    *known_stale = None;
                    limitation.no_symptom = None;
                }
                Fingerprint::of(&cell)
            };
            assert_eq!(asks(of_it), asks(like), "{} and {}", of_it.name, like.name);
        }
    }
    assert!(stale.is_empty(), "run `cargo xtask mutate --record` on what has changed: {stale:#?}");
    let listing = ClaimListing::new(&matrix, &real_supply(), Denied::default());
    for row in listing.rows().filter(|row| row.coverage == Coverage::Decided) {
        let by = row.shown.iter().find(|shown| shown.decides_of(row.version_of)).unwrap();
        let killed = matches!(&by.by, ShownBy::Mutations(mutated) if !mutated.killed.is_empty());
        assert!(killed || matches!(by.by, ShownBy::BothVerdicts(_)), "{}", row.claim);
    }
}

#[test]
fn the_ledger_is_written_as_it_is_read() {
    let entries = mutated(BOOTS, None, "stage = \"l1-launch\"\nkilled = [\"a\"]\nsurvived = [\"b\"]");
    let entries = format!("{entries}stand-ins = [\"l0\", \"l2\"]\nrebuilds = [\"l1\"]\n");
    let both = format!(
        "[[both-verdicts]]\ncell = \"{BOOTS}\"\nfingerprint = \"00\"\nworks = \"a \\\"quoted\\\" one\"\nstops = \"s\"\n\
         like = \"{BOOTS}\"\nlike-fingerprint = \"01\"\nseen = \"2026-11-22\"\nnote = \"n\"\n"
    );
    let ledger = matrix_with(DOCUMENT, &format!("{entries}{both}")).decided().clone();
    assert_eq!((ledger.mutated.len(), ledger.both_verdicts.len()), (1, 1));
    assert_eq!(matrix_with(DOCUMENT, &ledger.to_toml()).decided(), &ledger);
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios/decided.toml");
    assert_eq!(real().decided().to_toml(), std::fs::read_to_string(shipped).unwrap());
}

#[test]
fn a_bug_report_is_listed_with_its_address_and_what_became_of_it() {
    let report = "[claim.report]\naddresses = [\"https://bugs.invalid/1\"]\ndate = \"2024-09\"\nseen-with = \"QEMU 8.2\"\nstate = \"open\"\n";
    let document = DOCUMENT.replacen("text = \"It works.\"\n", &format!("text = \"It works.\"\n{report}"), 1);
    let matrix = matrix_with(&document, "");
    let listing = ClaimListing::new(&matrix, &supply(), Denied::default());
    let text = listing.to_string();
    let expected = "      reported: 2024-09, seen with QEMU 8.2; open\n      https://bugs.invalid/1\n";
    assert!(text.contains(expected), "{text}");
    assert_eq!(text.matches("reported: ").count(), 1, "{text}");
    let with_report: Vec<&str> =
        listing.rows().filter(|row| row.report.is_some()).map(|row| row.claim.as_str()).collect();
    assert_eq!(with_report, ["limits/works"]);
}
