//! Everything in a scenario reaches its cells, and a cell read back from the record of a run is unchanged.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod matrix_folder;

use std::path::Path;

use nestmatrix::report::Listing;
use nestmatrix::report::{Style, listing};
use nestmatrix::scenario::{Cell, Denied, Filter, Matrix, RunProfile, Supply};

const SYSTEMS: &str = r#"
[[system]]
id = "rhel"
name = "RHEL"

[[system]]
id = "windows-server"
name = "Windows Server"
"#;

const DOCUMENT: &str = r#"
id = "limits"
title = "Limits"
product = "RHEL 9"
section = "22.2"
language = "en"

[[claim]]
id = "deeper"
section = "22.2"
tier = "untested"
text = "Nobody has tried L3."
"#;

const SCENARIO: &str = r#"
name = "everything_1.0+x"
title = "Everything that a scenario can say"
document = "limits"
claims = ["deeper"]
tier = "untested"
note = "a note"
ids = { polarion-testcase-id = "NEST-7" }

[axes]
architecture = ["intel", "ibm-z"]
l0 = ["rhel 9.2 and later"]
l1 = ["rhel 8", "rhel 9.2"]
l2 = ["windows-server 2019 with hyper-v"]
l3 = ["rhel 9"]

[levels.l0]
kernel-parameters = ["kvm_intel.nested=0", "quiet"]
accelerator = "tcg"

[levels.l1]
cpu = { mode = "custom", model = "Haswell-noTSX", require = ["vmx"] }
memory-mib = 1024

[levels.l2]
cpu = { mode = "host-passthrough", require = ["ept"] }
machine-type = "pc-q35-7.2"

[levels.l3]
accelerator = "kvm:tcg"

[expect]
outcome = "stops"
from = "step-2"
symptom = "no KVM"

[expect.known-stale]
since = "Linux 5.8"
seen = "2024-02-29"
note = "Works since then."

[[step]]
name = "unload while a guest runs"
after = "l1-kvm"
on = "l0"
run = "modprobe -r kvm_amd"
fails = true
output = "unavailable"

[[step]]
name = "look"
after = "l3-check"
on = "l2"
run = "true"

[[fault]]
at = "l2-kvm"
do = "close-qmp"
level = "l2"

[[fault]]
at = "l3-check"
do = "kill-qemu"
level = "l0"
"#;

const PROFILES: &str = r#"
[[profile]]
name = "everything"
title = "All cells"
cells = ["*"]

[[profile]]
name = "some"
title = "Those of any of these globs and of none of those"
default = true
cells = ["*/intel/*", "*/rhel-9.2+/rhel-9.2/*"]
except = ["everything*/intel/*/rhel-8/*"]
"#;

fn matrix() -> Matrix {
    let folder = matrix_folder::with_files([
        ("systems.toml", SYSTEMS),
        ("documents/limits.toml", DOCUMENT),
        ("product/everything.toml", SCENARIO),
        ("profiles.toml", PROFILES),
    ]);
    Matrix::load(folder.path()).unwrap()
}

fn cells() -> Vec<Cell> {
    let matrix = matrix();
    assert_eq!(matrix.scenarios()[0].note.as_deref(), Some("a note"));
    assert_eq!(matrix.documents()[0].claims[0].text, "Nobody has tried L3.");
    matrix.cells().to_vec()
}

#[test]
fn all_that_a_scenario_says_reaches_its_cells() {
    insta::assert_snapshot!(serde_json::to_string_pretty(&cells()[0]).unwrap());
}

#[test]
fn the_listing_says_what_is_expected_and_known() {
    let matrix = matrix();
    let listed =
        Listing::new(&matrix, &Filter::parse(&[]).unwrap(), &Supply::new(|_| Vec::new()), Denied::default());
    let text = listing(&listed, &Style::plain());
    let expected = "    untested, expected: stops at step-2 or later (no KVM)
    known stale since Linux 5.8, seen 2024-02-29: Works since then.
    claims: deeper\n    note: a note\n";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn a_profile_takes_what_any_of_its_globs_matches_and_no_exception() {
    let matrix = matrix();
    let taken = |profile: &RunProfile| {
        let of_profile = matrix.cells().iter().filter(|cell| profile.takes(&cell.name));
        of_profile.map(|cell| cell.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        taken(matrix.default_profile()),
        [
            "everything_1.0+x/intel/rhel-9.2+/rhel-9.2/windows-server-2019_hyper-v/rhel-9",
            "everything_1.0+x/ibm-z/rhel-9.2+/rhel-9.2/windows-server-2019_hyper-v/rhel-9",
        ]
    );
    assert_eq!(taken(matrix.profile("everything").unwrap()).len(), 4);
    let names: Vec<&str> = matrix.profiles().map(|profile| profile.name.as_str()).collect();
    assert_eq!(names, ["some", "everything"], "the default one is the first");
}

#[test]
fn the_first_axis_changes_slowest() {
    let names: Vec<String> = cells().iter().map(|cell| cell.name.to_string()).collect();
    assert_eq!(
        names,
        [
            "everything_1.0+x/intel/rhel-9.2+/rhel-8/windows-server-2019_hyper-v/rhel-9",
            "everything_1.0+x/intel/rhel-9.2+/rhel-9.2/windows-server-2019_hyper-v/rhel-9",
            "everything_1.0+x/ibm-z/rhel-9.2+/rhel-8/windows-server-2019_hyper-v/rhel-9",
            "everything_1.0+x/ibm-z/rhel-9.2+/rhel-9.2/windows-server-2019_hyper-v/rhel-9",
        ]
    );
}

#[test]
fn a_cell_survives_json() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios");
    let real = Matrix::load(&root).unwrap();
    for cell in real.cells().iter().chain(&cells()) {
        let json = serde_json::to_string(cell).unwrap();
        assert_eq!(&serde_json::from_str::<Cell>(&json).unwrap(), cell);
    }
}
