//! A cell's script, alone in an empty folder, has the same outcome as the run, and so does a bundle on a machine without a
//! cache. Any change shows. An interrupted or killed script leaves nothing behind. Boots stacks on emulated metal.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Duration;

use common::{Cell, Images, Place, Run, Running, boots, copy_folder, of_cells, scenarios, trials};
use nix::sys::signal::Signal;

/// Longest wait for a run of two stacks, or for one script.
const ALL: Duration = Duration::from_secs(20 * 60);
/// Longest wait for a command that boots nothing.
const SOON: Duration = Duration::from_secs(120);

/// The run of a cell that works.
fn works() -> &'static Run {
    static RUN: OnceLock<Run> = OnceLock::new();
    RUN.get_or_init(|| {
        // The limitation is gone, so the stack works, and this scenario does not expect a stop.
        let stale = scenario("stale-limitation");
        let (works, _) = stale.split_once("[expect]").unwrap();
        run_of("reproduce", &[("works", works.replace("\"stale-limitation\"", "\"works\""))])
    })
}

/// The run of a cell that stops as documented, and one that is broken on purpose.
fn stops() -> &'static Run {
    static RUN: OnceLock<Run> = OnceLock::new();
    RUN.get_or_init(|| {
        run_of("reproduce-stops", &["documented-limitation", "l2-panics"].map(|name| (name, scenario(name))))
    })
}

fn scenario(name: &str) -> String {
    fs::read_to_string(scenarios("sabotage").join(format!("faults/{name}.toml"))).unwrap()
}

/// A run over these scenarios.
fn run_of(name: &str, written: &[(&str, String)]) -> Run {
    let _guard = boots(&its_images());
    let place = Place::new();
    let sabotage = scenarios("sabotage");
    let folder = place.path().join("scenarios");
    copy_folder(&sabotage.join("documents"), &folder.join("documents"));
    fs::copy(sabotage.join("systems.toml"), folder.join("systems.toml")).unwrap();
    fs::create_dir(folder.join("cells")).unwrap();
    for (name, text) in written {
        fs::write(folder.join(format!("cells/{name}.toml")), text).unwrap();
    }
    let mut command = place.run_matrix();
    command.args(["--metal", "emulated", "--scenarios"]).arg(&folder);
    place.finish(command, ALL).keep(name)
}

/// The images of these cells, and the results of their scripts.
fn its_images() -> Images {
    of_cells(&scenarios("sabotage"), &["documented-limitation/*", "l2-panics/*", "stale-limitation/*"])
}

fn cell(scenario: &str) -> Cell {
    let run = if scenario == "works" { works() } else { stops() };
    run.cell(&format!("{scenario}/"))
}

/// The script as a user receives it: alone, in an empty folder.
fn alone(place: &Place, scenario: &str) -> PathBuf {
    fs::create_dir(place.results()).unwrap();
    let script = place.results().join("reproduce.sh");
    fs::copy(cell(scenario).file("reproduce.sh"), &script).unwrap();
    script
}

/// The script with this path, called from the place's folder of results.
fn command(place: &Place, script: &Path) -> Command {
    // Tests in the background ignore Ctrl-C, and a shell can't trap a signal that was ignored when it started.
    let mut command = Command::new("env");
    command
        .args(["--default-signal=INT", "sh"])
        .arg(script)
        .current_dir(place.results())
        .env("TMPDIR", place.path());
    for variable in ["QEMU", "L0_KERNEL", "L1_KERNEL", "L2_KERNEL"] {
        command.env_remove(variable);
    }
    // It shares its machine with other tests.
    command.env("TIMEOUT_SCALE", "4");
    command
}

/// Runs the script to its end; returns its exit code and its last line.
fn run(place: &Place, command: Command) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } =
        assert_cmd::Command::from_std(command).timeout(ALL).output().unwrap();
    place.assert_nothing_left();
    let folders = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> =
        folders.filter(|name| name.to_string_lossy().starts_with("nestmatrix-reproduce")).collect();
    assert!(left.is_empty(), "left in the temporary folder: {left:?}");
    let said = String::from_utf8([stdout, stderr].concat()).unwrap();
    if !status.success() {
        println!("{said}");
    }
    (status.code(), said.lines().last().unwrap_or_default().to_owned())
}

fn a_script_alone_sees_what_the_run_of_a_cell_saw(scenario: &str, verdict: &str, expected: &str) {
    assert_eq!(cell(scenario).text("verdict"), verdict);
    let _guard = boots(&its_images());
    let place = Place::new();
    let script = alone(&place, scenario);
    let (code, last) = run(&place, command(&place, &script));
    assert_eq!(code, Some(0), "{last}");
    let same = format!("; the same kind of outcome as recorded: {verdict}: ");
    assert!(last.starts_with(expected) && last.contains(&same), "{last}");
    let console = place.results().join("reproduced/l0.console.log");
    assert!(fs::read_to_string(console).unwrap().contains("nestmatrix: level up"));
}

fn another_outcome_is_told_from_the_one_that_was_recorded() {
    let text = fs::read_to_string(cell("works").file("reproduce.sh")).unwrap();
    let _guard = boots(&its_images());
    let place = Place::new();
    let script = alone(&place, "works");
    assert_eq!(text.matches(" nest.kvm=kvm_amd ").count(), 2, "L0's and L1's kernel command line\n{text}");
    fs::write(&script, text.replacen(" nest.kvm=kvm_amd ", " nest.kvm=kvm_amd kvm_amd.nested=0 ", 1))
        .unwrap();
    let (code, last) = run(&place, command(&place, &script));
    assert_eq!(code, Some(1), "{last}");
    assert!(last.starts_with("stopped at l1-launch: missing CPU feature: svm"), "{last}");
    assert!(last.ends_with("ANOTHER outcome than recorded: pass: it works"), "{last}");
}

/// Makes a bundle of the cell and unpacks it; returns its script.
fn unpacked(place: &Place, scenario: &str) -> PathBuf {
    let archive = place.path().join("bundle.tar.zst");
    // The bundle has the records of no other run.
    let cell = cell(scenario);
    let mut bundle = place.xtask();
    bundle.args(["repro", &format!("{scenario}/*"), "--bundle", "--output"]).arg(&archive);
    bundle.arg("--run").arg(cell.run_folder());
    let bundled = place.finish(bundle, SOON);
    assert_eq!(bundled.code, Some(0), "{bundled:#?}");
    let packed = fs::File::open(&archive).unwrap();
    tar::Archive::new(zstd::Decoder::new(packed).unwrap()).unpack(place.path()).unwrap();
    place.path().join(cell.text("cell").replace('/', "-")).join("reproduce.sh")
}

fn a_bundle_needs_nothing_else_and_a_damaged_image_in_it_is_not_booted() {
    let _ = stops();
    let _guard = boots(&its_images());
    let place = Place::new();
    let script = unpacked(&place, "l2-panics");
    fs::create_dir(place.results()).unwrap();
    let without_cache = || {
        let mut command = command(&place, &script);
        command.env("NESTMATRIX_CACHE", place.path().join("no-cache"));
        command
    };
    let (code, last) = run(&place, without_cache());
    assert_eq!(code, Some(0), "{last}");
    assert!(last.starts_with("stopped at l2-boot: l2: ") && last.contains("Kernel panic"), "{last}");

    let initramfs = script.with_file_name("images/debian-12-amd64-minimal/initramfs.cpio");
    let mut file = fs::File::options().write(true).open(&initramfs).unwrap();
    file.seek(SeekFrom::Start(1000)).unwrap();
    file.write_all(b"damaged").unwrap();
    let (code, last) = run(&place, without_cache());
    assert_eq!(code, Some(2), "{last}");
    assert!(last.contains("debian-12-amd64-minimal is damaged: initramfs.cpio"), "{last}");

    fs::remove_dir_all(script.with_file_name("images/debian-12-amd64-minimal")).unwrap();
    let (code, last) = run(&place, without_cache());
    assert_eq!((code, last.as_str()), (Some(2), "can't run: the image debian-12-amd64-minimal is missing"));
}

fn what_can_not_be_bundled_is_told_with_the_reason() {
    let place = Place::new();
    // Every cell is skipped.
    let mut command = place.run_matrix();
    command.args(["--metal", "emulated", "--deny-stand-ins", "rhel-10-preview/amd/*"]);
    assert_eq!(place.finish(command, SOON).code, Some(4));
    let refused = |arguments: &[&str]| {
        let mut repro = place.xtask();
        repro.arg("repro").args(arguments).arg("--results").arg(place.results());
        let refused = place.finish(repro, SOON);
        assert_eq!(refused.code, Some(2), "{refused:#?}");
        refused.stderr_words()
    };
    let first = first_cell_in(&place);
    let skipped = refused(&[&first, "--bundle"]);
    assert!(skipped.contains(&format!("{first} was not tested: ")), "{skipped}");
    let unknown = refused(&["no-such-cell", "--bundle"]);
    assert!(unknown.contains("has no cell \"no-such-cell\"; its cells are:"), "{unknown}");
    let no_run = refused(&[&first, "--bundle", "--run", "no-such-run"]);
    assert!(no_run.contains("no-such-run is not a run"), "{no_run}");
}

/// The first cell of the newest run.
fn first_cell_in(place: &Place) -> String {
    let verdicts = fs::read_to_string(place.results().join("latest/verdicts.jsonl")).unwrap();
    let first: serde_json::Value = serde_json::from_str(verdicts.lines().next().unwrap()).unwrap();
    first["cell"].as_str().unwrap().to_owned()
}

fn nothing_is_left_of_a_script_that_is_ended(signal: Signal, code: Option<i32>) {
    let _ = works();
    let _guard = boots(&its_images());
    let place = Place::new();
    let script = alone(&place, "works");
    let mut running = Running::start(&place, command(&place, &script));
    running.wait_for_a_boot();
    running.send(signal);
    let output = running.end();
    assert_eq!(output.status.code(), code);
    if code.is_none() {
        assert_eq!(output.status.signal(), Some(Signal::SIGKILL as i32));
    }
    place.assert_nothing_left();
    let left = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with("nestmatrix-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

trials! {
    a_script_alone_sees_what_the_run_of_a_cell_saw {
        that_works("works", "pass", "l2 reported kernel "),
    };
    #[ignore = "boots one more stack"]
    a_script_alone_sees_what_the_run_of_a_cell_saw {
        that_shows_a_limitation(
            "documented-limitation",
            "xfail",
            "stopped at l1-launch: missing CPU feature: svm (model host)"
        ),
    };
    #[ignore = "boots one more stack"]
    another_outcome_is_told_from_the_one_that_was_recorded;
    #[ignore = "boots one more stack from a bundle: one minute"]
    a_bundle_needs_nothing_else_and_a_damaged_image_in_it_is_not_booted;
    what_can_not_be_bundled_is_told_with_the_reason;
    #[ignore = "boots two more stacks"]
    nothing_is_left_of_a_script_that_is_ended {
        ctrl_c(Signal::SIGINT, Some(130)),
        terminated(Signal::SIGTERM, Some(143)),
    };
    nothing_is_left_of_a_script_that_is_ended {
        killed(Signal::SIGKILL, None),
    };
}
