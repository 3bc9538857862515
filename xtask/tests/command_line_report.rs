//! The page of a report in a real browser, used with the mouse and the keyboard as readers do. Boots nothing.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod browser;
mod common;
#[path = "../../harness/matrix/tests/report_fixtures/mod.rs"]
mod report_fixtures;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use browser::Browser;
use common::{Place, trials};
use nestmatrix::records::{Attempt, CellRecord, LevelRecord, RunFolder, RunRecord, VerdictWord};
use nestmatrix::scenario::{Expectation, Limitation, StopStage};
use nestmatrix_model::Stage;
use nestmatrix_stack::{LevelFacts, StageTime};
use report_fixtures::{attempt, from_disk, outcome, record, stopped};

/// What a guest could print to inject markup into the page, or to forge another line.
const HOSTILE: &str = "</script><script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\"> \
                       <!-- ]]> &lt;b&gt; \u{2028} \x1b[2J \u{202e}exe.gnp\u{200b} ${1} {{1}}";

fn stage(name: &str) -> Stage {
    name.parse().unwrap()
}

/// A booted cell, with 20 lines on every level's console.
fn cell(name: &str, verdict: VerdictWord) -> CellRecord {
    let mut cell = record("rhel-10-limitations", name, verdict, 35.0);
    if matches!(verdict, VerdictWord::Fail | VerdictWord::Xfail) {
        cell = stopped(cell, "l2-boot", "kernel panic: Attempted to kill init!");
    }
    if matches!(verdict, VerdictWord::Xfail | VerdictWord::Xpass) {
        let limitation = Limitation::new(StopStage::At(stage("l2-boot")), None);
        cell.expectation = Expectation::Stops { limitation, known_stale: None };
    }
    for LevelRecord { level, seen, .. } in &mut cell.levels {
        *seen = LevelFacts {
            kernel: Some("6.12.57+deb13-cloud-amd64".into()),
            qemu: Some("10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)".into()),
            machine: Some("pc-q35-10.0-machine".into()),
            cpu: Some("host-x86_64-cpu".into()),
            last_lines: (0..20)
                .map(|line| format!("[    {line}.412011] a line of {level}'s kernel that is about as long as such lines are"))
                .collect(),
            ..LevelFacts::default()
        };
    }
    let stages = ["l0-boot", "l0-kvm", "l1-launch", "l1-boot", "l1-kvm", "l2-launch", "l2-boot"];
    let times = stages.into_iter().zip(0u8..).map(|(name, place)| StageTime {
        stage: stage(name),
        start: f64::from(place) * 5.0,
        end: f64::from(place) * 5.0 + 5.0,
    });
    CellRecord {
        claims: vec!["preview-l0-rhel-10-0".into()],
        tiers: BTreeMap::new(),
        stages: times.collect(),
        attempts: vec![Attempt { booted: Some(0.0), ..attempt(0.0, 35.0, verdict) }],
        folder: None,
        ..cell
    }
}

/// Writes a run with these cells, and lets the command line make its page.
fn page(place: &Place, cells: &[CellRecord]) -> PathBuf {
    let mut folder = RunFolder::create(&place.results()).unwrap();
    for cell in cells {
        folder.append(cell).unwrap();
        if let Some(of_cell) = &cell.folder {
            let of_cell = folder.path().join(of_cell.as_path());
            std::fs::create_dir_all(&of_cell).unwrap();
            std::fs::write(of_cell.join("reproduce.sh"), "true\n").unwrap();
        }
    }
    let record = RunRecord { run: folder.name(), ..outcome(cells.to_vec(), 982, false).run };
    folder.write_run(&record).unwrap();
    let output = place
        .xtask()
        .args(["report", "--format", "html", "--results"])
        .arg(place.results())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder.path().join("report.html")
}

const PASS: &str = "rhel-10-preview/amd/rhel-10.0+/rhel-10.0+/rhel-10.0+";
const FAIL: &str = "rhel-10-preview/intel/rhel-10.0+/rhel-10.0+/rhel-10.0+";
const XFAIL: &str = "rhel-10-arm/arm/rhel-10.0+/rhel-10.0+/rhel-10.0+";
const XPASS: &str = "rhel-10-power9/power9/rhel-10.0+/rhel-10.0+/rhel-10.0+";

fn four_cells() -> Vec<CellRecord> {
    vec![
        cell(PASS, VerdictWord::Pass),
        cell(FAIL, VerdictWord::Fail),
        cell(XFAIL, VerdictWord::Xfail),
        cell(XPASS, VerdictWord::Xpass),
    ]
}

/// The names of the visible cells of the matrix.
fn seen(browser: &mut Browser) -> Vec<String> {
    let names = browser.evaluate(
        "[...document.querySelectorAll('#matrix .cell')].filter(cell => cell.checkVisibility()).map(cell => cell.title)",
    );
    let mut names: Vec<String> = serde_json::from_value(names).unwrap();
    names.sort();
    names
}

/// The name of the cell that is open, or null.
const OPEN: &str = "document.querySelector('dialog[open] h2')?.textContent ?? null";

fn a_report_goes_where_it_is_asked_to() {
    let place = Place::new();
    let page = page(&place, &four_cells());
    let report = |arguments: &[&str]| {
        let mut command = place.xtask();
        command.args(["report", "--results"]).arg(place.results()).args(arguments);
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let name = page.parent().unwrap().file_name().unwrap().to_str().unwrap();
    for (format, begins) in [
        ("markdown", "# nestmatrix: 1 fail, 1 xpass, 1 xfail, 1 pass\n"),
        ("tap", "TAP version 14\n1..4\n"),
        ("junit", "<?xml "),
        ("json", "{\n"),
    ] {
        for run in ["latest", name] {
            let (code, out, _) = report(&["--format", format, run]);
            assert_eq!(code, 0);
            assert!(out.starts_with(begins), "{out}");
        }
    }
    let (code, out, _) = report(&["--format", "html", "--output", "-"]);
    assert_eq!((code, out), (0, std::fs::read_to_string(&page).unwrap()));
    let file = place.path().join("here.md");
    let (code, out, told) = report(&["--output", file.to_str().unwrap()]);
    assert_eq!((code, out.as_str(), told), (0, "", format!("report: {}\n", file.display())));
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("# nestmatrix"));
    // Nothing remains of the file that could not be written.
    let before = std::fs::read_dir(place.path()).unwrap().count();
    let (code, _, told) = report(&["--output", place.path().join("none/here.md").to_str().unwrap()]);
    assert!(code == 3 && told.contains("failed to write"), "{code} {told}");
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), before);
    let (code, _, told) = report(&["never"]);
    assert!(code == 2 && told.contains("is not a run"), "{code} {told}");
    std::fs::write(page.with_file_name("verdicts.jsonl"), "{\n").unwrap();
    let (code, _, told) = report(&[]);
    assert!(code == 2 && told.contains("verdicts.jsonl, line 1"), "{code} {told}");
}

fn errata_are_written_for_each_document_or_for_one() {
    let place = Place::new();
    page(&place, &four_cells());
    let report = |arguments: &[&str]| {
        let mut command = place.xtask();
        command.args(["report", "--results"]).arg(place.results()).args(arguments);
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let (code, all, _) = report(&["--format", "errata", "latest"]);
    assert_eq!(code, 0);
    assert!(all.lines().filter(|line| line.starts_with("Errata: ")).count() >= 5, "{all}");
    let one = ["--format", "errata", "--document", "rhel-10-limitations"];
    let (code, text, _) = report(&one);
    assert_eq!(code, 0);
    assert!(text.starts_with("Errata: Support limitations for nested virtualization\n====="), "{text}");
    assert!(text.contains("These runs have 1 finding against statements of this document."), "{text}");
    assert!(text.contains("(*) Another system stood in for the documented one"), "{text}");
    let (code, ever, _) = report(&[&one[..], &["--with-history"]].concat());
    assert!(code == 0 && ever.contains("in all recorded runs"), "{code} {ever}");
    let file = place.path().join("errata.txt");
    let (code, out, _) = report(&[&one[..], &["--output", file.to_str().unwrap()]].concat());
    assert_eq!((code, out.as_str()), (0, ""));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    let (code, _, told) = report(&["--format", "errata", "--document", "none"]);
    assert!(code == 2 && told.contains("there is no document `none`"), "{code} {told}");
    let (code, _, told) = report(&["--document", "rhel-10-limitations"]);
    assert!(code == 2 && told.contains("require --format errata"), "{code} {told}");
}

fn what_failed_where_why_and_with_what_is_on_the_first_screen() {
    let place = Place::new();
    let page = page(&place, &four_cells());
    let mut browser = Browser::start(1280, 900);
    browser.open(&page);
    let first_screen = browser.evaluate(
        "[...document.querySelectorAll('.trouble h3, .trouble .versions, .trouble .name')]
         .filter(element => element.getBoundingClientRect().bottom < innerHeight).map(element => element.textContent).join('\\n')",
    );
    let text = first_screen.as_str().unwrap();
    for words in
        ["fail l2-boot kernel panic: Attempted to kill init!", "Linux 6.12.57", "QEMU 10.0.13", FAIL, XPASS]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(browser.complaints(), Vec::<serde_json::Value>::new());
    assert!(browser.evaluate("document.fonts.check('14px sans-serif')").as_bool().unwrap());
}

fn the_filter_leaves_what_was_asked_for() {
    let place = Place::new();
    let page = page(&place, &four_cells());
    let mut browser = Browser::start(1280, 900);
    browser.open(&page);
    assert_eq!(seen(&mut browser).len(), 4);
    browser.press("/");
    browser.type_text("PREVIEW intel");
    assert_eq!(seen(&mut browser), [FAIL]);
    assert_eq!(browser.evaluate("document.querySelector('#found').textContent"), "1 of 4 cells");
    // A scenario without visible cells is hidden, too.
    assert_eq!(
        browser.evaluate("[...document.querySelectorAll('.scenario')].filter(part => !part.hidden).length"),
        1
    );
    browser.press("Escape");
    assert_eq!(seen(&mut browser).len(), 4);
    browser.click(".count.xfail");
    assert_eq!(seen(&mut browser), [XPASS, PASS, FAIL]);
    browser.click(".count.xfail");
    browser.press("/");
    browser.type_text("attempted to kill");
    assert_eq!(seen(&mut browser), [XFAIL, FAIL]);
    assert_eq!(browser.complaints(), Vec::<serde_json::Value>::new());
}

fn a_cell_opens_by_click_and_by_keyboard_and_tells_all() {
    let place = Place::new();
    let mut cells = four_cells();
    cells[1].folder = Some(format!("cells/{FAIL}").parse().unwrap());
    let page = page(&place, &cells);
    let mut browser = Browser::start(1280, 900);
    browser.open(&page);
    browser.click(&format!("#matrix [title='{FAIL}']"));
    assert_eq!(browser.evaluate(OPEN), FAIL);
    let text = browser.evaluate("document.querySelector('dialog').innerText");
    let text = text.as_str().unwrap();
    for words in [
        "stopped at l2-boot (L2): kernel panic: Attempted to kill init!",
        "6.12.57+deb13-cloud-amd64",
        "10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)",
        "host-x86_64-cpu",
        "debian-13* same 6.12 kernel line",
        "[    19.412011] a line of L2's kernel",
        &format!("cargo xtask run-matrix '{FAIL}'"),
        &format!("/cells/{FAIL}/reproduce.sh"),
        "Some(R) Processor",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    // Stages are drawn to scale: seven of the same length, one after the other.
    let bars = "[...document.querySelectorAll('.time .track span')].map(bar => {
        const at = bar.getBoundingClientRect(), track = bar.parentElement.getBoundingClientRect();
        return [Math.round((at.left - track.left) / track.width * 70), Math.round(at.width / track.width * 70)] })";
    let expected: Vec<[u32; 2]> = (0..7).map(|place| [place * 10, 10]).collect();
    assert_eq!(browser.evaluate(bars), serde_json::json!(expected));

    browser.press("Escape");
    assert_eq!(browser.evaluate(OPEN), serde_json::Value::Null);
    // The cell has the focus again, as before, and Enter opens it again.
    assert_eq!(browser.evaluate("document.activeElement.title"), FAIL);
    browser.press("Enter");
    assert_eq!(browser.evaluate(OPEN), FAIL);
    browser.press("ArrowRight");
    let next = browser.evaluate(OPEN);
    assert_ne!(next, FAIL);
    browser.press("ArrowLeft");
    assert_eq!(browser.evaluate(OPEN), FAIL);
    // The address leads to the cell.
    let address = browser.evaluate("location.href");
    browser.open_url(address.as_str().unwrap());
    assert_eq!(browser.evaluate(OPEN), FAIL);
    assert_eq!(browser.complaints(), Vec::<serde_json::Value>::new());
}

fn what_a_level_from_a_disk_booted_is_shown() {
    let place = Place::new();
    let mut pass = from_disk(cell(PASS, VerdictWord::Pass));
    pass.folder = Some(format!("cells/{PASS}").parse().unwrap());
    let page = page(&place, &[pass]);
    let mut browser = Browser::start(1280, 900);
    browser.open(&page);
    browser.click(&format!("#matrix [title='{PASS}']"));
    browser.evaluate("document.querySelectorAll('dialog details').forEach(details => details.open = true)");
    let text = browser.evaluate("document.querySelector('dialog').innerText");
    let text = text.as_str().unwrap();
    for words in [
        "rhel 10.0",
        "medium rhel-10.0 (SHA-256 5ha5ha5ha5ha...), prepared with 2 changes",
        "ovmf 2025.02-8, with secure boot",
        &format!("SHA-256 of the medium: {}", "5ha".repeat(21) + "5"),
        "masked kdump.service",
        "wrote /etc/x \\u{1b}[2J<b>",
        "what was booted (it can't be run):",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(browser.complaints(), Vec::<serde_json::Value>::new());
}

fn what_a_guest_writes_stays_text() {
    let place = Place::new();
    let mut hostile = cell(FAIL, VerdictWord::Fail);
    hostile.symptom = Some(HOSTILE.into());
    for level in &mut hostile.levels {
        level.required = HOSTILE.into();
        level.os = HOSTILE.into();
        level.seen.kernel = Some(HOSTILE.into());
        level.seen.last_lines = vec![HOSTILE.into()];
    }
    let page = page(&place, &[hostile]);
    let mut browser = Browser::start(1280, 900);
    browser.open(&page);
    let elements = "document.querySelectorAll('img, script:not([type]), main b b').length";
    assert_eq!(browser.evaluate(elements), 1, "the page's own script alone");
    browser.click("#matrix .cell");
    assert_eq!(browser.evaluate(elements), 1);
    let console = browser.evaluate("document.querySelector('details pre').textContent");
    let console = console.as_str().unwrap();
    assert!(console.starts_with("</script><script>document.title = 'owned'</script><img"), "{console}");
    assert!(console.ends_with("\\u{2028} \\u{1b}[2J \\u{202e}exe.gnp\\u{200b} ${1} {{1}}"), "{console}");
    assert_ne!(browser.evaluate("document.title"), "owned");
    assert_eq!(browser.complaints(), Vec::<serde_json::Value>::new());
    // Even a script that got in would not run.
    let intruder =
        "const script = document.createElement('script'); script.textContent = 'window.owned = true';
                    document.body.append(script); window.owned ?? false";
    assert_eq!(browser.evaluate(intruder), false);
}

fn it_can_be_read_on_a_phone_and_in_both_lights() {
    let place = Place::new();
    let page = page(&place, &four_cells());
    let mut browser = Browser::start(360, 780);
    for dark in [false, true] {
        browser.dark(dark);
        browser.open(&page);
        let overflow = "document.documentElement.scrollWidth <= 360";
        assert_eq!(browser.evaluate(overflow), true);
        // The verdicts can be seen without scrolling sideways.
        let inside = "[...document.querySelectorAll('#matrix .cell')].every(cell => cell.getBoundingClientRect().right <= 360)";
        assert_eq!(browser.evaluate(inside), true);
        // Contrast of words, by WCAG 2 (1.4.3).
        let contrast = "(() => {
            const light = (text) => { const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map(value => value / 255)
                .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b };
            return [...document.querySelectorAll('.cell, .count, .word:not(.skip)')].map(element => {
                const style = getComputedStyle(element), pair = [light(style.color), light(style.backgroundColor)];
                return [(Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05), element.className] }).sort((a, b) => a[0] - b[0])[0] })()";
        let worst = browser.evaluate(contrast);
        assert!(worst[0].as_f64().unwrap() >= 4.5, "{worst}");
        browser.click("#matrix .cell");
        assert_eq!(browser.evaluate(overflow), true);
        assert_eq!(
            browser.evaluate("document.querySelector('dialog').getBoundingClientRect().width <= 360"),
            true
        );
    }
}

/// Milliseconds to the first paint with content, and to the end of loading: of three attempts, the one with the fastest paint.
fn times(browser: &mut Browser, page: &Path) -> (f64, f64) {
    let mut times = Vec::new();
    for _ in 0..3 {
        browser.open(page);
        let both = browser.evaluate(
            "new Promise(done => new PerformanceObserver(list => {
                const [paint] = list.getEntriesByName('first-contentful-paint');
                if (paint) done([paint.startTime, performance.getEntriesByType('navigation')[0].loadEventEnd]);
             }).observe({ type: 'paint', buffered: true }))",
        );
        times.push((both[0].as_f64().unwrap(), both[1].as_f64().unwrap()));
    }
    times.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
}

fn five_thousand_cells_are_painted_long_before_they_are_loaded_and_can_be_filtered() {
    let verdicts =
        [VerdictWord::Pass, VerdictWord::Xfail, VerdictWord::Pass, VerdictWord::Fail, VerdictWord::Pass];
    let name = |number: usize| {
        let (scenario, number) = (number / 100, number % 100);
        format!("made-{scenario}/amd/rhel-10.{}+/rhel-9.{}+/rhel-10.0+", number / 10, number % 10)
    };
    let cells: Vec<CellRecord> = (0..5000)
        .zip(verdicts.into_iter().cycle())
        .map(|(number, verdict)| cell(&name(number), verdict))
        .collect();
    let (small, large) = (Place::new(), Place::new());
    let (few, many) = (page(&small, &four_cells()), page(&large, &cells));
    let mut browser = Browser::start(1280, 900);
    let of_few = times(&mut browser, &few);
    let of_many = times(&mut browser, &many);
    let size = std::fs::metadata(&many).unwrap().len() / (1 << 20);
    println!("4 cells: first paint after {:.0} ms, loaded after {:.0} ms", of_few.0, of_few.1);
    println!(
        "5,000 cells, {size} MiB: first paint after {:.0} ms, loaded after {:.0} ms",
        of_many.0, of_many.1
    );
    assert!(of_many.0 < of_many.1, "painted only when all was loaded: {of_many:?}");
    assert_eq!(browser.evaluate("document.querySelectorAll('#matrix .cell').length"), 5000);
    browser.press("/");
    browser.type_text("made-49/ rhel-10.9 fail");
    assert_eq!(seen(&mut browser).len(), 2);
    browser.click("#matrix tr:not([hidden]) .cell:not([hidden])");
    assert!(browser.evaluate(OPEN).as_str().unwrap().starts_with("made-49/amd/rhel-10.9+"));
    assert_eq!(browser.complaints(), Vec::<serde_json::Value>::new());
}

trials! {
    a_report_goes_where_it_is_asked_to;
    errata_are_written_for_each_document_or_for_one;
    what_failed_where_why_and_with_what_is_on_the_first_screen;
    the_filter_leaves_what_was_asked_for;
    a_cell_opens_by_click_and_by_keyboard_and_tells_all;
    what_a_level_from_a_disk_booted_is_shown;
    what_a_guest_writes_stays_text;
    it_can_be_read_on_a_phone_and_in_both_lights;
    five_thousand_cells_are_painted_long_before_they_are_loaded_and_can_be_filtered;
}
