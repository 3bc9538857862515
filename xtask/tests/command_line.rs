//! The command line from outside: its messages, their streams, and its exit codes. Boots nothing.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Place, Run, checkout, copy_folder, of_cells, scenarios};
use nestmatrix::scenario::Matrix;
use nestmatrix_model::Architecture;
use rstest::rstest;
use serde_json::Value;

/// Longest wait for a command that boots nothing.
const SOON: Duration = Duration::from_secs(60);

/// A part of the matrix, of nine cells, that is small enough to be checked as a whole.
const SOME_CELLS: [&str; 3] = ["rhel-9-preview/amd/*", "rhel-10-preview/amd/*", "rhel-8-amd-custom-cpu/*"];

/// Runs `arguments` in a place with a copy of the project's scenarios and an empty cache.
fn run(arguments: &[&str]) -> Run {
    changed(|_| {}, arguments)
}

/// The same, with the copy of the scenarios changed by `change`.
fn changed(change: impl FnOnce(&Path), arguments: &[&str]) -> Run {
    let place = Place::new();
    copy_folder(&checkout().join("scenarios"), &place.path().join("scenarios"));
    change(&place.path().join("scenarios"));
    place.finish(command(&place, arguments), SOON)
}

fn command(place: &Place, arguments: &[&str]) -> Command {
    let mut command = place.xtask();
    command.env("NESTMATRIX_CACHE", place.path().join("cache")).args(arguments);
    command
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[rstest]
#[case("help", &["--help"])]
#[case("help_run_matrix", &["run-matrix", "--help"])]
#[case("help_list", &["list", "--help"])]
#[case("help_merge", &["merge", "--help"])]
#[case("help_history", &["history", "--help"])]
#[case("help_report", &["report", "--help"])]
#[case("help_doctor", &["doctor", "--help"])]
#[case("help_exec", &["exec", "--help"])]
#[case("help_repro", &["repro", "--help"])]
#[case("help_shell", &["shell", "--help"])]
#[case("help_qmp", &["qmp", "--help"])]
#[case("help_bisect", &["bisect", "--help"])]
#[case("help_mutate", &["mutate", "--help"])]
#[case("help_cpu_models", &["cpu-models", "--help"])]
#[case("help_media", &["media", "--help"])]
#[case("help_media_add", &["media", "add", "--help"])]
#[case("help_media_prepare", &["media", "prepare", "--help"])]
#[case("help_images", &["images", "--help"])]
#[case("help_images_build", &["images", "build", "--help"])]
fn help_reads_well(#[case] name: &str, #[case] arguments: &[&str]) {
    let run = run(arguments);
    assert_eq!(run.code, Some(0), "{run:#?}");
    insta::assert_snapshot!(name, run.stdout);
}

/// The scenario in which the mistakes are made.
const SCENARIO: &str = "rhel-9/rhel-9-preview.toml";

fn replace(root: &Path, from: &str, to: &str) {
    let file = root.join(SCENARIO);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{from:?} in {text}");
    fs::write(file, text.replacen(from, to, 1)).unwrap();
}

#[rstest]
#[case::unknown_key("title =", "titel =", "2:1", "unknown key `titel`", "did you mean `title`?")]
#[case::wrong_type(
    "tier = \"technology-preview\"",
    "tier = 9",
    "5:8",
    "`tier` holds a whole number",
    "`tier` takes a string"
)]
#[case::unknown_system(
    "l0 = [\"rhel",
    "l0 = [\"rehl",
    "13:7",
    "unknown system `rehl`",
    "did you mean `rhel`?"
)]
#[case::name_upwards("name = \"rhel-9-preview\"", "name = \"../rhel\"", "1:8", "../rhel", "without `..`")]
#[case::empty_axis("l0 = [\"rhel 9.2 and later\"]", "l0 = []", "13:6", "`l0` is empty", "give `l0` a value")]
#[case::no_toml("[axes]", "[axes", "7:6", "TOML", "")]
fn a_mistake_in_a_scenario_is_told_with_its_place_and_what_would_be_right(
    #[case] from: &str,
    #[case] to: &str,
    #[case] at: &str,
    #[case] wrong: &str,
    #[case] right: &str,
) {
    let mistaken = changed(|root| replace(root, from, to), &["run-matrix", "--scenarios", "scenarios"]);
    assert_bad_input(&mistaken, &[&format!("scenarios/{SCENARIO}:{at}: "), wrong, right]);
}

/// The images that the checks before a change require are those of the first example.
#[test]
fn the_checks_before_a_change_insist_on_the_images_of_the_default_cells_of_amd() {
    let scenarios = checkout().join("scenarios");
    let matrix = Matrix::load(&scenarios).unwrap();
    let profile = matrix.default_profile();
    let of_amd = |cell: &&nestmatrix::scenario::Cell| {
        cell.architecture == Architecture::Amd && profile.takes(&cell.name)
    };
    let cells: Vec<&str> = matrix.cells().iter().filter(of_amd).map(|cell| cell.name.as_str()).collect();
    let wanted: BTreeSet<String> =
        of_cells(&scenarios, &cells).into_iter().map(|(recipe, _)| recipe).collect();
    let checks = std::fs::read_to_string(checkout().join(".ci/run")).unwrap();
    let built = checks.lines().find_map(|line| line.strip_prefix("step cargo xtask images build ")).unwrap();
    assert_eq!(built.split(' ').map(str::to_owned).collect::<BTreeSet<_>>(), wanted);
}

#[test]
fn a_file_that_is_no_text_is_told_with_the_place_of_the_first_such_byte() {
    let spoil = |root: &Path| fs::write(root.join(SCENARIO), b"name = \"a\"\ntitle = \"\xff\"\n").unwrap();
    let mistaken = changed(spoil, &["list", "--scenarios", "scenarios"]);
    assert_bad_input(
        &mistaken,
        &[&format!("scenarios/{SCENARIO}:2:10: not UTF-8"), "save the file as UTF-8"],
    );
}

#[test]
fn a_file_of_a_hundred_megabytes_is_refused_and_not_read() {
    let swell = |root: &Path| File::create(root.join(SCENARIO)).unwrap().set_len(100 << 20).unwrap();
    let mistaken = changed(swell, &["run-matrix", "--scenarios", "scenarios"]);
    let over = format!("scenarios/{SCENARIO}: the file has 104857600 bytes, more than the limit of 1048576");
    assert_bad_input(&mistaken, &[&over, "check this file's content"]);
}

#[rstest]
#[case::filter_upwards(&["run-matrix", "rhel-9-preview/../*"], &["`..` in a glob", "rhel-9-preview/../*", "SCENARIO/ARCHITECTURE/L0/L1/L2"])]
#[case::no_glob(&["list", "rhel-[9"], &["not a glob: ", "rhel-[9"])]
#[case::no_folder(&["list", "--scenarios", "nowhere"], &["nowhere"])]
#[case::unknown_profile(&["run-matrix", "--profile", "ful"], &["\u{d7} unknown profile `ful`", "did you mean `full`?", "the known ones are `default`, `full`"])]
#[case::unknown_profile_of_a_list(&["list", "--profile", "default,full"], &["unknown profile `default,full`", "`default`, `full`"])]
#[case::profile_of_claims(&["list", "--claims", "--profile", "full"], &["'--claims' cannot be used with '--profile <NAME>'"])]
#[case::unknown_flag(&["run-matrix", "--frobnicate"], &["unexpected argument '--frobnicate'", "--help"])]
#[case::unknown_command(&["run-matirx"], &["unrecognized subcommand 'run-matirx'", "'run-matrix'"])]
#[case::no_jobs(&["run-matrix", "--jobs", "0"], &["'0' for '--jobs <N>'", "`auto` or a number from 1"])]
#[case::no_time(&["run-matrix", "--timeout-scale", "0"], &["'0' for '--timeout-scale <F>'", "from 0.01 to 1000"])]
#[case::no_shard(&["run-matrix", "--shard", "3/2"], &["'3/2' for '--shard <K/N>'", "K from 1 to N"])]
#[case::history_of_no_shard(&["run-matrix", "--history", "a"], &["--shard <K/N>", "not provided"])]
#[case::history_that_is_none(&["run-matrix", "--shard", "1/2", "--history", "nowhere"], &["--history: failed to read nowhere/run.json"])]
#[case::resume_of_other_cells(&["run-matrix", "--resume", "latest", "a/*"], &["cannot be used with", "--resume <RUN>"])]
#[case::resume_of_nothing(&["run-matrix", "--resume", "a", "--results", "b"], &["--resume: a is not a run: neither a folder nor a name in b"])]
#[case::merge_of_nothing(&["merge"], &["not provided", "<RUN>"])]
#[case::diff_of_no_run(&["diff", "nowhere", "latest", "--results", "b"], &["nowhere is not a run: neither a folder nor a name in b"])]
#[case::merge_of_no_run(&["merge", "nowhere"], &["failed to read nowhere/run.json"])]
#[case::models_of_several_cells(&["cpu-models", "rhel-10-preview/*"], &["a sweep of CPU models needs one cell, but ", " match:"])]
#[case::models_that_are_no_glob(&["cpu-models", "rhel-10-preview/amd/*", "--models", "["], &["--models: \"[\" is not a glob: "])]
#[case::models_of_windows(&["cpu-models", "field-hyper-v-wsl2/*"], &["field-hyper-v-wsl2/", ": Windows starts L2, which has the CPU that Hyper-V gives it"])]
#[case::models_of_no_guest(&["cpu-models", "rhel-10-ibm-z-huge-pages/*"], &["no level of it runs L0 with KVM"])]
#[case::resume_of_other_models(&["cpu-models", "--resume", "a", "--models", "EPYC*"], &["cannot be used with", "--models <GLOB>"])]
#[case::resume_of_no_sweep(&["cpu-models", "--resume", "a", "--results", "b"], &["--resume: a is not a run: neither a folder nor a name in b"])]
#[case::unknown_metal(&["run-matrix", "--metal", "scrap"], &["'scrap' for '--metal", "auto, native, emulated"])]
#[case::level_of_metal(&["doctor", "--level", "l0", "--metal", "native"], &["'--level <LEVEL>' cannot be used with '--metal <METAL>'"])]
#[case::no_such_level(&["doctor", "--level", "l2"], &["'l2' for '--level <LEVEL>'", "l0, l1"])]
#[case::show_unknown_recipe(&["images", "show", "debian-1"], &["there is no recipe \"debian-1\"", "debian-11-amd64"])]
#[case::build_unknown_recipe(&["images", "build", "debian-1"], &["there is no recipe \"debian-1\"", "debian-11-amd64"])]
fn bad_usage_is_told_with_what_would_be_right(#[case] arguments: &[&str], #[case] said: &[&str]) {
    assert_bad_input(&run(arguments), said);
}

#[test]
fn a_mistake_in_a_recipe_is_told_with_its_place() {
    let place = Place::new();
    fs::create_dir(place.path().join("recipes")).unwrap();
    fs::write(place.path().join("recipes/mine.toml"), "name = \"mine\"\narchitecture = 5\n").unwrap();
    let mistaken = place.finish(command(&place, &["images", "--recipes", "recipes", "list"]), SOON);
    let place = "recipes/mine.toml:2:16: `architecture` holds a whole number";
    let line = "2 architecture = 5";
    assert_bad_input(
        &mistaken,
        &["3 errors in the files of recipes", place, line, "`architecture` takes a string"],
    );
}

fn assert_bad_input(run: &Run, said: &[&str]) {
    assert_eq!(run.code, Some(2), "{run:#?}");
    assert_eq!(run.stdout, "", "what is wrong goes to standard error");
    let stderr = run.stderr_words();
    for part in said {
        assert!(stderr.contains(part), "{part:?} in {stderr}");
    }
}

#[rstest]
#[case(&["run-matrix", "rhel-99/*"])]
#[case(&["list", "rhel-99/*"])]
#[case(&["doctor", "rhel-99/*"])]
#[case(&["cpu-models", "rhel-99/*"])]
#[case(&["run-matrix", "--profile", "default", "rhel-8-l3/*"])]
#[case(&["list", "--profile", "default", "rhel-8-l3/*"])]
fn a_filter_that_nothing_matches_is_told_and_exits_with_4(#[case] arguments: &[&str]) {
    let run = run(arguments);
    assert_eq!(run.code, Some(4), "{run:#?}");
    assert_eq!(run.stdout, "");
    assert!(run.stderr.contains("no cell matches"), "{run:#?}");
}

#[test]
fn without_stand_ins_every_cell_is_skipped_for_the_image_that_it_wants() {
    let arguments = ["run-matrix", "--results", "results", "--metal", "emulated", "--deny-stand-ins"];
    let run = run(&[&arguments[..], &SOME_CELLS].concat());
    assert_eq!(run.code, Some(4), "{run:#?}");
    assert!(run.stdout.contains("9 cells: 9 skipped"), "{}", run.stdout);
    for wanted in [
        "RHEL 9.2 or a later RHEL 9: only the stand-in debian-12",
        "RHEL 10.0 or a later RHEL 10: only the stand-in debian-13",
    ] {
        assert!(
            run.stdout.contains(&format!("no image of {wanted}, which --deny-stand-ins forbids")),
            "{}",
            run.stdout
        );
    }
    assert!(run.stdout.contains("9 skip in "), "{}", run.stdout);
}

/// The members of a line of `verdicts.jsonl` according to docs/records.md, in alphabetical order.
fn documented_members() -> Vec<String> {
    let page = fs::read_to_string(checkout().join("docs/records.md")).unwrap();
    let (_, section) = page.split_once("## verdicts.jsonl").unwrap();
    let rows =
        section.lines().take_while(|line| !line.starts_with('#')).filter(|line| line.starts_with("| `"));
    let names = rows.flat_map(|row| row.split('|').nth(1).unwrap().split(','));
    let mut names: Vec<String> = names.map(|name| name.trim().trim_matches('`').to_owned()).collect();
    names.sort();
    names
}

#[test]
fn json_verdicts_are_all_that_is_on_standard_output() {
    let arguments =
        ["run-matrix", "--results", "results", "--metal", "emulated", "--deny-stand-ins", "--format", "json"];
    let run = run(&[&arguments[..], &SOME_CELLS].concat());
    assert_eq!(run.code, Some(4), "{run:#?}");
    let cells = json_lines(&run.stdout);
    assert_eq!(cells.len(), 9);
    for cell in &cells {
        let members: Vec<String> = cell.as_object().unwrap().keys().cloned().collect();
        assert_eq!(members, documented_members(), "as documented");
        assert_eq!(cell["verdict"], "skip");
        assert!(cell["symptom"].as_str().unwrap().starts_with("no image of RHEL "), "{cell:#}");
        assert!(cell["evidence"].is_null() && cell["folder"].is_null(), "{cell:#}");
    }
    assert!(run.stderr.contains("records: results/"), "{}", run.stderr);
}

#[test]
fn what_the_terminal_gets_is_what_the_records_hold() {
    let place = Place::new();
    let mut command = place.run_matrix();
    command.args(["--metal", "emulated", "--deny-stand-ins", "--format", "json"]).args(SOME_CELLS);
    let run = place.finish(command, SOON);
    let recorded: Vec<Value> = run.cells().into_iter().map(|cell| cell.record).collect();
    assert_eq!(json_lines(&run.stdout), recorded);
    assert_eq!(run.record()["verdicts"]["skip"], 9);
    assert!(run.record()["emulators"] == Value::Array(Vec::new()), "nothing was booted");
}

#[test]
fn offline_with_an_empty_cache_each_cell_names_the_image_that_is_missing() {
    let arguments =
        ["run-matrix", "--results", "results", "--metal", "emulated", "--offline", "--format", "json"];
    let run =
        run(&[&arguments[..], &["rhel-9-preview/amd/*/rhel-9.2+/rhel-9.2+", "rhel-10-preview/amd/*"]]
            .concat());
    assert_eq!(run.code, Some(3), "{run:#?}");
    let cells = json_lines(&run.stdout);
    assert_eq!(cells.len(), 5);
    for cell in cells {
        assert_eq!((&cell["verdict"], &cell["stage"]), (&"error".into(), &"provision".into()), "{cell:#}");
        let l0 = format!("{}-amd64", cell["levels"][0]["os"].as_str().unwrap());
        let symptom = cell["symptom"].as_str().unwrap();
        assert!(symptom.contains("offline") && symptom.contains(&format!("hypervisor of {l0}")), "{symptom}");
    }
}

#[test]
fn native_metal_that_is_insisted_on_is_used_or_said_to_be_missing() {
    let has_svm = fs::read_to_string("/proc/cpuinfo").unwrap().split_whitespace().any(|word| word == "svm");
    // Offline with an empty cache, so that KVM can't prove itself by booting a guest, even if it works.
    let arguments =
        ["run-matrix", "--results", "results", "--metal", "native", "--offline", "--format", "json"];
    let run = run(&[&arguments[..], &["rhel-10-preview/amd/*"]].concat());
    assert_eq!(run.code, Some(4), "{run:#?}");
    for cell in json_lines(&run.stdout) {
        let symptom = cell["symptom"].as_str().unwrap();
        assert_eq!(cell["verdict"], "skip", "{cell:#}");
        assert_eq!(symptom.contains("needs svm on L0"), !has_svm, "{symptom}");
        let kvm = symptom.contains("/dev/kvm") || symptom.contains("KVM can't be tested: offline");
        assert!(kvm || !has_svm, "{symptom}");
    }
}

#[rstest]
#[case::auto("auto")]
#[case::native("native")]
#[case::emulated("emulated")]
fn the_doctor_tells_what_is_missing_and_exits_by_it(#[case] metal: &str) {
    // The cache is empty and must stay so. There is nothing to boot, so KVM can't prove itself.
    let run = run(&["doctor", "--offline", "--format", "json", "--metal", metal]);
    let [checkup] = &json_lines(&run.stdout)[..] else { panic!("{run:#?}") };
    assert_eq!((run.code, &checkup["usable"]), (Some(1), &Value::Bool(false)), "{run:#?}");
    assert!(!checkup["why"].as_array().unwrap().is_empty(), "{checkup:#}");
    assert_eq!((&checkup["format"], &checkup["metal"]), (&1.into(), &metal.into()));
    let architectures = checkup["architectures"].as_array().unwrap();
    let names: Vec<&Value> = architectures.iter().map(|architecture| &architecture["architecture"]).collect();
    assert_eq!(names, ["amd", "intel", "power9", "arm", "ibm-z"]);
    for architecture in architectures {
        assert_eq!(architecture["native"]["usable"], false, "{architecture:#}");
        assert_eq!(architecture["emulated"]["usable"], false, "{architecture:#}");
        let lacking = |check: &str| {
            let findings = architecture["findings"].as_array().unwrap().iter();
            let found =
                findings.filter(|finding| finding["check"] == check).map(|finding| &finding["status"]);
            found.collect::<Vec<_>>() == ["lacking"]
        };
        assert!(lacking("emulator"), "{architecture:#}");
        // No cell is known to boot on native metal, so none is known to need an image for it.
        assert_eq!(lacking("images"), metal != "native", "{architecture:#}");
    }
    let cells: u64 =
        checkup["families"].as_array().unwrap().iter().map(|f| f["cells"].as_u64().unwrap()).sum();
    let of_architectures: u64 = architectures.iter().map(|a| a["cells"].as_u64().unwrap()).sum();
    assert_eq!(cells, of_architectures, "every cell is counted once in each");
}

#[test]
fn the_doctor_gives_each_command_a_line_of_its_own() {
    let run = run(&["doctor", "--offline", "--metal", "emulated", "rhel-10-preview/amd/*"]);
    assert_eq!(run.code, Some(1), "{run:#?}");
    let commands: Vec<&str> = run.stdout.lines().filter_map(|line| line.trim().strip_prefix("$ ")).collect();
    assert!(commands.contains(&"cargo xtask images build qemu-x86-amd64"), "{}", run.stdout);
    assert!(
        run.stdout.lines().all(|line| line.trim_start().starts_with('$') || line.len() <= 80),
        "{}",
        run.stdout
    );
}

#[rstest]
#[case::a_file_in_the_way("results")]
#[case::a_file_on_the_way("results/deeper")]
fn records_that_cannot_be_written_are_an_error_with_its_reason(#[case] results: &str) {
    let place = Place::new();
    fs::write(place.path().join("results"), "in the way").unwrap();
    let arguments = ["run-matrix", "--metal", "emulated", "--deny-stand-ins", "--results", results];
    let run = place.finish(command(&place, &arguments), SOON);
    assert_eq!(run.code, Some(3), "{run:#?}");
    let stderr = run.stderr_words();
    assert!(stderr.contains(&format!("failed to write the run's records in {results}: ")), "{stderr}");
    assert!(stderr.contains("os error"), "{stderr}");
    assert_eq!(fs::read_to_string(place.path().join("results")).unwrap(), "in the way");
}

#[test]
fn emulated_metal_needs_no_disposable_host() {
    let run = run(&["run-matrix", "rhel-8-enable-nesting/amd/*", "--metal", "emulated", "--disposable-host"]);
    assert_eq!(run.code, Some(2), "{run:#?}");
    assert!(run.stderr_words().contains("--disposable-host needs --metal native"), "{run:#?}");
}

#[test]
fn cells_that_change_l0_are_for_disposable_hosts() {
    let list = run(&[
        "list",
        "--machines",
        "--format",
        "json",
        "rhel-8-enable-nesting/amd/*",
        "rhel-8-preview/amd/*",
    ]);
    assert_eq!(list.code, Some(0), "{list:#?}");
    for row in json_lines(&list.stdout) {
        let changes = row["cell"].as_str().unwrap().starts_with("rhel-8-enable-nesting/");
        assert_eq!(row["disposable-host"], changes, "{row:#}");
        assert_eq!(row["metals"].as_array().unwrap().contains(&"native".into()), !changes, "{row:#}");
    }
    let disposable = "amd,bare-metal,debian-11,disposable-host";
    let jobs = run(&["ci-matrix", "rhel-8-enable-nesting/amd/*", "--runner", disposable]);
    assert!(jobs.stdout.contains("--metal native --deny-skip '*' --disposable-host"), "{jobs:#?}");
}

#[test]
fn the_list_shows_every_cell_with_what_would_boot() {
    let text = run(&[&["list"][..], &SOME_CELLS].concat());
    let json = run(&[&["list", "--format", "json"][..], &SOME_CELLS].concat());
    assert_eq!((text.code, json.code), (Some(0), Some(0)), "{text:#?} {json:#?}");
    let rows = json_lines(&json.stdout);
    assert_eq!(rows.len(), 9);
    for row in &rows {
        let members: Vec<&String> = row.as_object().unwrap().keys().collect();
        let expected = [
            "architecture",
            "cell",
            "claims",
            "deny-stand-ins",
            "document",
            "expectation",
            "fingerprint",
            "l0",
            "l1",
            "l2",
            "missing",
            "scenario",
            "tier",
            "tiers",
        ];
        assert_eq!(members, expected);
        let name = row["cell"].as_str().unwrap();
        assert!(text.stdout.contains(name), "{name} in {}", text.stdout);
        assert_eq!(row["l1"]["image"].is_null(), !row["l1"]["missing"].is_null(), "{row:#}");
    }
    assert!(text.stdout.contains("debian-13*"), "{}", text.stdout);
    assert!(text.stdout.contains("* stands in:\n  debian-11 for RHEL 8: "), "{}", text.stdout);
}

/// Writes a scenario of Acme Linux 13, of which Debian is a rebuild here.
fn acme(root: &Path) {
    let systems = "[[system]]\nid = \"acme\"\nname = \"Acme Linux\"\n\
                   [[system]]\nid = \"debian\"\nname = \"Debian\"\nrebuild-of = \"acme\"\n";
    let document = "id = \"d\"\ntitle = \"t\"\nproduct = \"p\"\nsection = \"1\"\nlanguage = \"en\"\n[[claim]]\nid = \"c\"\n\
                    section = \"1\"\ntier = \"supported\"\ntext = \"t\"\n";
    let scenario = "name = \"s\"\ntitle = \"t\"\ndocument = \"d\"\nclaims = [\"c\"]\ntier = \"supported\"\n[axes]\n\
                    architecture = [\"amd\"]\nl0 = [\"acme 13\"]\nl1 = [\"acme 13\"]\n";
    let files = [("systems.toml", systems), ("documents/d.toml", document), ("acme/s.toml", scenario)];
    for (path, content) in files {
        let path = root.join("acme").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

#[test]
fn rebuilds_are_marked_and_can_be_denied() {
    let acme = |arguments: &[&str]| changed(acme, &[arguments, &["--scenarios", "scenarios/acme"]].concat());
    let list = acme(&["list"]);
    assert!(list.stdout.contains("debian-13~     debian-13~"), "{list:#?}");
    assert!(list.stdout.contains("~ rebuild:\n  debian-13: a rebuild of Acme Linux 13\n"), "{list:#?}");
    let images = acme(&["list", "--images"]);
    let real = "debian-13~: 1 cell without a stand-in\n  s/amd/acme-13/acme-13\n";
    assert!(images.stdout.contains(real), "{images:#?}");
    let why = "only the rebuild debian-13, which --deny-rebuilds forbids";
    for arguments in [&["list"][..], &["list", "--skipped"]] {
        let denied = acme(&[arguments, &["--deny-rebuilds"]].concat());
        assert!(denied.stdout.contains(why) && !denied.stdout.contains('~'), "{denied:#?}");
    }
    let run = acme(&["run-matrix", "--metal", "emulated", "--deny-rebuilds", "--results", "results"]);
    assert_eq!(run.code, Some(4), "{run:#?}");
    assert!(run.stdout.contains(why), "{run:#?}");
    let jobs = acme(&["ci-matrix", "--deny-rebuilds", "--runner", "emulated"]);
    assert!(jobs.stdout.contains("--metal emulated --deny-rebuilds"), "{jobs:#?}");
    let resumed = acme(&["run-matrix", "--resume", "results/x", "--deny-rebuilds"]);
    assert_eq!(resumed.code, Some(2), "{resumed:#?}");
    assert!(resumed.stderr.contains("--deny-rebuilds"), "{resumed:#?}");
}

/// The names of the cells that `list` shows with these arguments.
fn listed(arguments: &[&str]) -> Vec<String> {
    let list = run(&[&["list", "--format", "json"][..], arguments].concat());
    assert_eq!(list.code, Some(0), "{list:#?}");
    json_lines(&list.stdout).iter().map(|row| row["cell"].as_str().unwrap().to_owned()).collect()
}

#[rstest]
#[case::nothing_said(&[], &["--profile", "default"], Some("default"))]
#[case::a_filter_alone(&["rhel-10-preview/*"], &["rhel-10-preview/*"], None)]
// Without those of bug reports, which boot even without stand-ins.
#[case::a_profile(&["--profile", "full", "rhel-*"], &["rhel-*"], Some("full"))]
#[case::both(
    &["--profile", "default", "rhel-10-preview/*"],
    &["--profile", "default", "rhel-10-preview/*"],
    Some("default")
)]
fn a_run_has_the_cells_of_its_profile_that_the_filter_takes(
    #[case] arguments: &[&str],
    #[case] same_as_listed: &[&str],
    #[case] profile: Option<&str>,
) {
    let place = Place::new();
    let mut command = place.run_matrix();
    command.args(["--metal", "emulated", "--deny-stand-ins", "--format", "json"]).args(arguments);
    let run = place.finish(command, SOON);
    assert_eq!(run.code, Some(4), "{run:#?}");
    let cells: Vec<String> = run.cells().iter().map(|cell| cell.text("cell").to_owned()).collect();
    assert_eq!(cells, listed(same_as_listed));
    assert_eq!(run.record()["profile"].as_str(), profile);
    let said = run.stderr.lines().find_map(|line| line.strip_prefix("profile ")?.split_once(':'));
    assert_eq!(said.map(|(name, _)| name), profile, "{run:#?}");
}

#[test]
fn a_run_of_the_default_profile_says_how_much_it_is_and_how_all_is_run() {
    let (all, some) = (listed(&[]).len(), listed(&["--profile", "default"]).len());
    assert!(some < all);
    let run = run(&["run-matrix", "--results", "results", "--metal", "emulated", "--deny-stand-ins"]);
    assert!(run.stdout.starts_with(&format!("{some} cells: {some} skipped\n")), "{}", run.stdout);
    let line = run.stdout.lines().find_map(|line| line.strip_prefix("  profile     default: "));
    let how_much = format!("; {some} of {all} cells; `--profile full` runs all");
    assert!(line.is_some_and(|line| line.ends_with(&how_much)), "{how_much} in {}", run.stdout);
}

#[test]
fn a_folder_without_profiles_is_run_whole() {
    // Bug reports are about Debian, whose cells boot even without stand-ins.
    let remove = |root: &Path| {
        fs::remove_file(root.join("profiles.toml")).unwrap();
        fs::remove_dir_all(root.join("field")).unwrap();
    };
    let all = changed(remove, &["list", "--scenarios", "scenarios", "--format", "json"]);
    let all = json_lines(&all.stdout).len();
    let arguments = ["run-matrix", "--scenarios", "scenarios", "--metal", "emulated", "--deny-stand-ins"];
    let run = changed(remove, &[&arguments[..], &["--results", "results"]].concat());
    assert_eq!(run.code, Some(4), "{run:#?}");
    let how_much = format!("  profile     full: all cells; {all} of {all} cells\n");
    assert!(run.stdout.contains(&how_much), "{how_much} in {}", run.stdout);
}

#[test]
fn a_profile_that_has_fallen_behind_the_scenarios_is_told() {
    let rename = |root: &Path| replace(root, "name = \"rhel-9-preview\"", "name = \"rhel-9-other\"");
    let run = changed(rename, &["list", "--scenarios", "scenarios"]);
    assert_bad_input(&run, &["scenarios/profiles.toml:", "`rhel-9-preview/", "matches no cell"]);
}

#[test]
fn an_empty_cache_is_listed_as_such() {
    let list = run(&["images", "list"]);
    assert_eq!(list.code, Some(0), "{list:#?}");
    let states = [
        "debian-11-amd64          hypervisor  not built",
        "debian-12-amd64          hypervisor  not built",
        "debian-13-amd64          minimal     not built",
        "qemu-x86-amd64           emulator    not built",
    ];
    for state in states {
        assert!(list.stdout.contains(state), "{}", list.stdout);
    }
    let show = run(&["images", "show", "debian-12-amd64"]);
    assert_eq!(show.code, Some(0), "{show:#?}");
    assert!(
        show.stdout.contains("not built yet; build it with `cargo xtask images build debian-12-amd64`"),
        "{}",
        show.stdout
    );
}

#[test]
fn images_that_are_to_be_built_offline_are_an_error_that_names_them() {
    let build = run(&["images", "--offline", "build", "debian-12-amd64"]);
    assert_eq!(build.code, Some(3), "{build:#?}");
    let stderr = build.stderr_words();
    assert!(
        stderr.contains("offline, and missing from the cache: hypervisor of debian-12-amd64"),
        "{stderr}"
    );
}

#[rstest]
#[case::current_words("NESTMATRIX_SNAPSHOTS", "snapshots")]
#[case::former_words("NESTMATRIX_STATES", "states")]
fn snapshots_are_in_the_folder_that_the_environment_names(#[case] variable: &str, #[case] word: &str) {
    let place = Place::new();
    let mut command = command(&place, &[word, "list"]);
    command.env_remove("NESTMATRIX_SNAPSHOTS").env(variable, place.path().join("mine"));
    let run = place.finish(command, SOON);
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "no snapshots\n"), "{run:#?}");
    assert!(place.path().join("mine").is_dir(), "{run:#?}");
}

/// The output to a terminal of a run in which every cell is skipped, with `NO_COLOR` set to this.
fn on_a_terminal(no_color: &str) -> String {
    let place = Place::new();
    let xtask = place.xtask();
    let mut script = Command::new("script");
    let typed = format!(
        "{} run-matrix --metal emulated --deny-stand-ins --results results '{}'",
        xtask.get_program().display(),
        SOME_CELLS.join("' '")
    );
    script.args(["--quiet", "--return", "--command", &typed, "/dev/null"]).current_dir(place.path());
    for (name, value) in xtask.get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    script.env("TERM", "xterm").env("NO_COLOR", no_color);
    let run = place.finish(script, SOON);
    assert_eq!(run.code, Some(4), "{run:#?}");
    assert!(run.stdout.contains("9 skip"), "{run:#?}");
    run.stdout
}

#[test]
fn colours_are_for_terminals_whose_user_wants_them() {
    assert!(on_a_terminal("").contains("\x1b["), "a terminal gets colours");
    assert!(!on_a_terminal("1").contains('\x1b'), "NO_COLOR turns them off");
    let piped = run(&["run-matrix", "--results", "results", "--metal", "emulated", "--deny-stand-ins"]);
    assert!(!piped.stdout.contains('\x1b') && !piped.stderr.contains('\x1b'), "a pipe gets none: {piped:#?}");
    let mistaken = run(&["run-matrix", "a/../b"]);
    assert!(!mistaken.stderr.contains('\x1b'), "nor do errors: {}", mistaken.stderr);
}

#[test]
fn a_log_in_a_pipe_has_no_colours() {
    let place = Place::new();
    // A reason for a log message: files of a killed harness.
    place.leave_behind("run-killed");
    let mut command =
        command(&place, &["run-matrix", "--results", "results", "--metal", "emulated", "--deny-stand-ins"]);
    command.env("NESTMATRIX_LOG", "info");
    let run = place.finish(command, SOON);
    assert!(run.stderr.contains("left by a harness that was killed"), "{}", run.stderr);
    assert!(!run.stderr.contains('\x1b'), "{}", run.stderr);
}

#[test]
fn a_matrix_with_many_skipped_cells_is_told_in_short() {
    let arguments = ["run-matrix", "--results", "results", "--metal", "emulated", "--deny-stand-ins"];
    let run = run(&[&arguments[..], &["--profile", "full", "rhel-*"]].concat());
    assert_eq!(run.code, Some(4), "{run:#?}");
    let reason = "cells: no image of RHEL 10.0 or a later RHEL 10: only the stand-in debian-13, which --deny-stand-ins forbids";
    assert!(run.stdout.contains(reason), "{}", run.stdout);
    assert!(run.stdout.contains("skipped cells are not shown"), "{}", run.stdout);
    assert!(run.stdout.contains("`cargo xtask list --skipped` shows all"), "{}", run.stdout);
}

#[test]
fn the_skipped_cells_of_this_machine_are_listed_by_cause() {
    let arguments = ["list", "--skipped", "--deny-stand-ins", "rhel-10-preview/amd/*"];
    let (text, json) = (run(&arguments), run(&[&arguments[..], &["--format", "json"]].concat()));
    assert_eq!((text.code, json.code), (Some(0), Some(0)), "{text:#?} {json:#?}");
    assert!(text.stdout.starts_with("4 of 4 cells are skipped on this machine\n"), "{}", text.stdout);
    let rows = json_lines(&json.stdout);
    assert_eq!(rows.len(), 4);
    for row in rows {
        let cell = format!("  {}  (L", row["cell"].as_str().unwrap());
        assert!(text.stdout.contains(&cell), "{cell} in {}", text.stdout);
        assert_eq!(row["reasons"][0]["kind"], "no-image", "{row:#}");
    }
    let cause =
        "no image of RHEL 9.6 or a later RHEL 9: only the stand-in debian-12, which --deny-stand-ins forbids";
    assert!(text.stdout.contains(&format!("\n3 cells: {cause}\n")), "{}", text.stdout);
    let none = run(&["list", "--skipped", "rhel-10-preview/amd/*"]);
    assert!(none.stdout.starts_with("0 of 4 cells are skipped on this machine\n"), "{none:#?}");
    assert!(!none.stdout.contains("rhel-10-preview/"), "{none:#?}");
}

#[test]
fn every_claim_is_listed_with_what_tries_it() {
    let text = run(&["list", "--claims"]);
    let json = run(&["list", "--claims", "--format", "json"]);
    assert_eq!((text.code, json.code), (Some(0), Some(0)), "{text:#?} {json:#?}");
    assert!(text.stdout.contains("not covered yet"), "{}", text.stdout);
    let claims = json_lines(&json.stdout);
    assert!(claims.len() > 250, "the documents have hundreds of claims");
    let with = |claims: &[Value], coverage: &str| {
        claims.iter().filter(|claim| claim["coverage"] == coverage).count()
    };
    for coverage in ["decided", "observed", "major-version-only", "undecided", "skipped", "untestable"] {
        assert!(with(&claims, coverage) > 0, "{coverage}: {}", text.stdout);
    }
    let denied = json_lines(&run(&["list", "--claims", "--deny-stand-ins", "--format", "json"]).stdout);
    assert!(with(&denied, "skipped") > with(&claims, "skipped"), "most images are stand-ins");
    assert_eq!(with(&denied, "major-version-only"), 0, "that is what stand-ins serve");
}

#[test]
fn a_reader_that_goes_away_does_not_end_the_run() {
    let place = Place::new();
    let mut command = place.run_matrix();
    command.args(["--metal", "emulated", "--deny-stand-ins"]).args(SOME_CELLS);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_folder_of_scenarios_may_be_the_current_one() {
    let place = Place::new();
    let mut command = place.xtask();
    command.current_dir(scenarios("deep")).args(["list", "--scenarios", "."]);
    let run = place.finish(command, SOON);
    assert_eq!(run.code, Some(0), "{run:#?}");
}

/// A run of some cells that boots nothing, with its records in the folder `results` of the place.
fn skipping(place: &Place, results: &str, arguments: &[&str]) -> Run {
    let mut command =
        command(place, &["run-matrix", "--metal", "emulated", "--deny-stand-ins", "--results", results]);
    command.args(SOME_CELLS).args(arguments);
    finish(place, command, results)
}

fn finish(place: &Place, command: Command, results: &str) -> Run {
    let output = place.finish(command, SOON);
    output.with_results(&place.path().join(results))
}

fn names(run: &Run) -> Vec<String> {
    let mut names: Vec<String> = run.cells().iter().map(|cell| cell.text("cell").to_owned()).collect();
    names.sort();
    names
}

#[test]
fn shards_have_each_cell_once_and_are_merged_into_all_of_them() {
    let place = Place::new();
    let whole = skipping(&place, "whole", &[]);
    // More shards than cells, so that some are empty.
    let shards: Vec<Run> = (1..=12)
        .map(|number| skipping(&place, &format!("shard-{number}"), &["--shard", &format!("{number}/12")]))
        .collect();
    for shard in &shards {
        assert_eq!(shard.code, Some(0), "a shard of which nothing ran fails no job: {shard:#?}");
        assert!(shard.stderr.contains(&format!("{} of 9 cells", shard.cells().len())), "{shard:#?}");
        assert!(!shard.stdout.contains("no cell matches"), "{shard:#?}");
    }
    assert!(shards.iter().any(|shard| shard.cells().is_empty()), "one is empty");
    let mut all: Vec<String> = shards.iter().flat_map(names).collect();
    all.sort();
    assert_eq!(all, names(&whole));

    let runs: Vec<String> = (1..=12).map(|number| format!("shard-{number}/latest")).collect();
    let merge = |runs: &[String], results: &str, format: &str| {
        let mut command = command(&place, &["merge", "--results", results, "--format", format]);
        command.args(runs);
        finish(&place, command, results)
    };
    let merged = merge(&runs, "merged", "json");
    assert_eq!(merged.code, Some(4), "all were skipped: {merged:#?}");
    assert_eq!(names(&merged), names(&whole));
    assert_eq!(json_lines(&merged.stdout).len(), 9);
    for member in ["cells", "verdicts"] {
        assert_eq!(merged.record()[member], whole.record()[member]);
    }
    for line in json_lines(&merged.stdout) {
        let members: Vec<String> = line.as_object().unwrap().keys().cloned().collect();
        assert_eq!(members, documented_members(), "as documented");
    }

    let partly = merge(&runs[1..], "partly", "text");
    assert_eq!(partly.code, Some(3), "{partly:#?}");
    assert!(partly.stdout.contains("missing\n  shard 1/12\n"), "{}", partly.stdout);
}

#[test]
fn what_changed_between_two_runs_is_told_and_fails_where_it_is_worse() {
    let place = Place::new();
    skipping(&place, "a", &[]);
    skipping(&place, "b", &[]);
    let diff = |format: &str| {
        let arguments = ["diff", "a/latest", "b/latest", "--format", format];
        finish(&place, command(&place, &arguments), "b")
    };
    let same = diff("text");
    assert_eq!((same.code, same.stdout.as_str()), (Some(0), "nothing changed\n"), "{same:#?}");
    let verdicts = place.path().join("b/latest/verdicts.jsonl");
    let text = fs::read_to_string(&verdicts).unwrap();
    fs::write(&verdicts, text.replacen(r#""verdict":"skip""#, r#""verdict":"fail""#, 1)).unwrap();
    let worse = diff("text");
    assert_eq!(worse.code, Some(1), "{worse:#?}");
    assert!(worse.stdout.starts_with("new\n  skip -> fail  "), "{}", worse.stdout);
    let lines = json_lines(&diff("json").stdout);
    assert_eq!((lines.len(), &lines[0]["change"], &lines[0]["now"]), (1, &"new".into(), &"fail".into()));
}

#[test]
fn a_glob_that_denies_skips_is_held_against_the_cells_of_all_shards() {
    let place = Place::new();
    let mut codes: Vec<Option<i32>> = (1..=4)
        .map(|number| {
            let arguments = ["--shard", &format!("{number}/4"), "--deny-skip", "rhel-8-amd-custom-cpu/*"];
            skipping(&place, "results", &arguments).code
        })
        .collect();
    codes.sort();
    assert_eq!(codes, [Some(0), Some(0), Some(0), Some(3)], "the shard with the cell can't run it");
    assert_eq!(skipping(&place, "results", &["--shard", "1/4", "--deny-skip", "no/*"]).code, Some(2));
}

/// The members of `run.json` and of `merged` that docs/records.md describes.
fn documented(heading: &str) -> Vec<String> {
    let page = fs::read_to_string(checkout().join("docs/records.md")).unwrap();
    let (_, section) = page.split_once(heading).unwrap();
    let rows =
        section.lines().take_while(|line| !line.starts_with('#')).filter(|line| line.starts_with("| `"));
    let names = rows.flat_map(|row| row.split('|').nth(1).unwrap().split(','));
    let mut names: Vec<String> =
        names.map(|name| name.trim().trim_matches('`').split('.').next().unwrap().to_owned()).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn a_run_and_a_merged_one_have_the_members_that_are_documented() {
    let place = Place::new();
    let run = skipping(&place, "a", &["--shard", "1/1"]);
    let merged = finish(&place, command(&place, &["merge", "a/latest", "--results", "b"]), "b");
    let members = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(members(&run.record()), documented("## run.json"));
    assert_eq!(members(&merged.record()), documented("## run.json"));
    assert_eq!(members(&merged.record()["merged"][0]), documented("## Merged runs"));
}

/// Changes a finished run into one that was killed after `lines` verdicts, while it wrote another.
fn kill(run: &Path, lines: usize) {
    let verdicts = fs::read_to_string(run.join("verdicts.jsonl")).unwrap();
    let kept: usize = verdicts.split_inclusive('\n').take(lines).map(str::len).sum();
    fs::write(run.join("verdicts.jsonl"), &verdicts[..kept + 100]).unwrap();
    let mut record: Value = serde_json::from_str(&fs::read_to_string(run.join("run.json")).unwrap()).unwrap();
    record["ended"] = Value::Null;
    fs::write(run.join("run.json"), record.to_string()).unwrap();
    fs::remove_file(run.join("junit.xml")).unwrap();
}

#[test]
fn a_run_that_was_cut_off_is_gone_on_with_by_its_own_arguments() {
    let place = Place::new();
    copy_folder(&checkout().join("scenarios"), &place.path().join("mine"));
    // Relative to the folder in which the command ran.
    let whole = skipping(&place, "results", &["--scenarios", "mine"]);
    let folder = place.path().join("results/latest").canonicalize().unwrap();
    kill(&folder, 4);
    let resume = |run: &str| {
        let elsewhere = place.path().join("elsewhere");
        fs::create_dir_all(&elsewhere).unwrap();
        let mut command = command(&place, &["run-matrix", "--results", "../results", "--resume", run]);
        command.args(["--jobs", "1", "--timeout-scale", "2"]);
        command.current_dir(elsewhere);
        finish(&place, command, "results")
    };
    let merged =
        finish(&place, command(&place, &["merge", "results/latest", "--results", "merged"]), "merged");
    assert_eq!((merged.code, merged.cells().len()), (Some(3), 4), "{merged:#?}");
    assert!(merged.stdout.contains("killed with 4 of 9 cells"), "{}", merged.stdout);

    let resumed = resume("latest");
    assert!(resumed.stderr.contains("resuming: 4 of 9 cells have a verdict"), "{resumed:#?}");
    assert_eq!((resumed.code, names(&resumed)), (whole.code, names(&whole)), "{resumed:#?}");
    assert_eq!(resumed.record()["verdicts"]["skip"], 9);
    assert_eq!(resumed.record()["resumed"][0]["verdicts"], 4);
    let arguments = resumed.record()["resumed"][0]["arguments"].to_string();
    assert!(arguments.ends_with(r#""--jobs","1","--timeout-scale","2"]"#), "{arguments}");
    assert!(folder.join("junit.xml").is_file());
    assert_eq!(
        fs::read_dir(place.path().join("results")).unwrap().count(),
        3,
        "one run, a link to it, the history"
    );
    assert!(resume(folder.to_str().unwrap()).stderr.contains("nothing to resume"));
    let of_merged = place.path().join("merged/latest");
    let refused = resume(of_merged.to_str().unwrap());
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr_words().contains("was merged from other runs"), "{refused:#?}");

    // New cells and cells that no longer exist are reported.
    kill(&folder, 4);
    let scenario = place.path().join("mine").join(SCENARIO);
    let text = fs::read_to_string(&scenario).unwrap();
    let (before, after) = text
        .split_once("    { system = \"rhel 8.8 and later\", claims = [\"preview-l1-rhel-8-8\"] },\n")
        .unwrap();
    fs::write(&scenario, format!("{before}{after}")).unwrap();
    // It names cells that no longer exist.
    fs::remove_file(place.path().join("mine/profiles.toml")).unwrap();
    let text = fs::read_to_string(folder.join("verdicts.jsonl")).unwrap();
    let had: Vec<Value> = text.lines().take(4).map(|line| serde_json::from_str(line).unwrap()).collect();
    let resumed = resume("latest");
    let said = "gone from the matrix since the run began: rhel-9-preview/amd/rhel-9.2+/rhel-8.8+/rhel-8.8+, ";
    assert!(resumed.stderr.contains(said), "{resumed:#?}");
    assert!(names(&resumed).iter().all(|name| names(&whole).contains(name)), "none is new");
    assert!(
        had.iter().all(|line| names(&resumed).contains(&line["cell"].as_str().unwrap().to_owned())),
        "no verdict is lost"
    );
    assert_eq!(resumed.record()["cells"], names(&resumed).len());
}

/// `echo` prints the arguments that cargo would get.
#[rstest]
#[case::options("bench", &["--only", "harness", "--rounds", "1"])]
#[case::its_own_help("bench", &["--help"])]
#[case::none("bench", &[])]
#[case::filter_of_chaos("chaos", &["--seed", "7", "rhel-10-preview/*"])]
#[case::help_of_chaos("chaos", &["--help"])]
fn a_program_for_development_gets_all_arguments(#[case] name: &str, #[case] arguments: &[&str]) {
    let place = Place::new();
    let mut program = command(&place, &[name]);
    program.args(arguments).env("CARGO", "echo");
    let run = place.finish(program, SOON);
    assert_eq!(run.code, Some(0), "{run:#?}");
    let words: Vec<&str> = run.stdout.split_whitespace().collect();
    let (of_cargo, of_program) = words.split_at(words.iter().position(|word| *word == "--").unwrap());
    let manifest = checkout().join("tests").join(name).join("Cargo.toml").canonicalize().unwrap();
    assert!(of_cargo.contains(&manifest.to_str().unwrap()), "{of_cargo:?}");
    assert_eq!(&of_program[1..], arguments);
}

#[rstest]
#[case::of_the_bench("false", 1, "")]
#[case::without_cargo("/no/cargo", 3, "failed to start /no/cargo to compile `bench`")]
fn bench_exits_with_the_code_of_the_bench(#[case] cargo: &str, #[case] code: i32, #[case] message: &str) {
    let place = Place::new();
    let mut bench = command(&place, &["bench"]);
    bench.env("CARGO", cargo);
    let run = place.finish(bench, SOON);
    assert_eq!(run.code, Some(code), "{run:#?}");
    assert!(run.stderr_words().contains(message), "{run:#?}");
}
