//! Shows progress on standard error: bars for downloads and builds, a line for each running cell. Only a terminal gets bars and
//! running cells; a pipe gets one line for each result.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use nestmatrix::report::{Style, cell_line, progress};
use nestmatrix::run::{RunEvent, RunListener};
use nestmatrix::scenario::CellName;
use nestmatrix_images::{Progress, ProgressEvent, Step};
use nestmatrix_model::PROGRAM;

use crate::terminal::{note, print};

/// How often a line is drawn.
const TICK: Duration = Duration::from_millis(250);

/// Shows the progress of image builds.
#[derive(Default)]
pub struct BuildProgress {
    bars: MultiProgress,
    current: Mutex<BTreeMap<String, ProgressBar>>,
}

impl BuildProgress {
    /// Shows nothing until a build begins.
    pub fn new() -> Self {
        Self::default()
    }

    /// The bars and lines that share the terminal.
    pub fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Removes all bars.
    pub fn finish(&self) {
        if let Ok(mut current) = self.current.lock() {
            current.values().for_each(ProgressBar::finish_and_clear);
            current.clear();
        }
    }

    fn bar(&self, recipe: &str, show: impl Fn(&ProgressBar)) {
        // A poisoned lock means that a build panicked, so its progress no longer matters.
        let Ok(mut current) = self.current.lock() else { return };
        let bar = current.entry(recipe.to_owned()).or_insert_with(|| {
            let bar = self.bars.add(ProgressBar::new(100));
            bar.set_style(style("{spinner} {prefix}  {bar:24} {msg}"));
            bar.set_prefix(recipe.to_owned());
            bar.enable_steady_tick(TICK);
            bar
        });
        show(bar);
    }

    fn done(&self, recipe: &str) {
        if let Ok(mut current) = self.current.lock()
            && let Some(bar) = current.remove(recipe)
        {
            bar.finish_and_clear();
        }
    }

    fn print(&self, line: &str) {
        print_above(&self.bars, line);
    }
}

impl Progress for BuildProgress {
    fn event(&self, event: &ProgressEvent<'_>) {
        let recipe = event.recipe;
        match event.step {
            Step::Waiting => {
                self.bar(recipe, |bar| bar.set_message("waiting for another process that builds it"))
            }
            Step::Resolving => self.bar(recipe, |bar| bar.set_message("looking up packages")),
            Step::Downloading { percent, detail } => self.bar(recipe, |bar| {
                bar.set_position(percent.clamp(0.0, 100.0) as u64);
                bar.set_message(format!("downloading: {detail}"));
            }),
            Step::Unpacking { package, number, of } => self.bar(recipe, |bar| {
                bar.set_position((number * 100 / of.max(1)) as u64);
                bar.set_message(format!("unpacking {package}"));
            }),
            Step::Packing { product } => {
                self.bar(recipe, |bar| bar.set_message(format!("packing {product}")))
            }
            Step::Hashing { done, of } => self.bar(recipe, |bar| {
                bar.set_position(done.saturating_mul(100).checked_div(of).unwrap_or(100));
                bar.set_message(format!("reading {} MiB", of.div_ceil(1 << 20)));
            }),
            Step::Checking => self.bar(recipe, |bar| bar.set_message("checking its metadata")),
            Step::Preparing { what } => self.bar(recipe, |bar| bar.set_message(format!("preparing: {what}"))),
            Step::Verified { .. } => self.done(recipe),
            Step::Corrupted { product, reason } => {
                self.print(&format!("warning: image {recipe} {product} in the cache is damaged: {reason}"));
            }
            Step::Built { seconds } => {
                self.done(recipe);
                self.print(&format!("built image {recipe} in {seconds:.0} s"));
            }
            _ => {}
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    // All templates are constants of this file; a wrong one falls back to the default style.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Prints a line above the bars.
pub fn print_above(bars: &MultiProgress, line: &str) {
    if std::io::stderr().is_terminal() {
        // Fails only if the terminal is gone.
        let _ = bars.println(line);
    } else {
        note!("{line}");
    }
}

/// What to do if a disposable host is not restored.
pub fn not_restored_hint() -> String {
    format!(
        "no run uses this host until that is done: stop what uses KVM, then run `sudo {PROGRAM} host restore`"
    )
}

/// Shows running cells and their verdicts.
pub struct CellProgress {
    bars: MultiProgress,
    running: RefCell<BTreeMap<CellName, ProgressBar>>,
    /// How far the run is, below the cells that run.
    overall: ProgressBar,
    style: Style,
    /// Print verdicts to standard output, as JSON lines.
    json: bool,
    /// Print no verdicts.
    hide_verdicts: bool,
}

impl CellProgress {
    /// Shows running cells with `bars`, and verdicts as text or as JSON lines.
    pub fn new(bars: MultiProgress, style: Style, json: bool) -> Self {
        let overall = bars.add(ProgressBar::new_spinner());
        overall.set_style(self::style("{msg}"));
        Self { bars, running: RefCell::default(), overall, style, json, hide_verdicts: false }
    }

    /// Shows running cells, but no verdicts.
    pub fn without_verdicts(bars: MultiProgress, style: Style) -> Self {
        Self { hide_verdicts: true, ..Self::new(bars, style, false) }
    }
}

impl RunListener for CellProgress {
    fn event(&self, event: &RunEvent<'_>) {
        let mut running = self.running.borrow_mut();
        match event {
            // The caller shows the reason with the verdict.
            RunEvent::Undelivered { .. } if self.hide_verdicts => {}
            RunEvent::Undelivered { image, rerouted } => {
                print_above(&self.bars, &format!("no image {image}; {rerouted}"));
            }
            RunEvent::CellBegan { cell } => {
                let bar = self.bars.insert_before(&self.overall, ProgressBar::new_spinner());
                bar.set_style(style("{spinner} {elapsed:>4}  {prefix}  {msg}"));
                bar.set_prefix(cell.to_string());
                bar.enable_steady_tick(TICK);
                running.insert((*cell).clone(), bar);
            }
            RunEvent::StageBegan { cell, stage } => {
                if let Some(bar) = running.get(*cell) {
                    bar.set_message(stage.to_string());
                }
            }
            RunEvent::HostNotRestored { problem } => {
                print_above(&self.bars, &format!("{problem}\n{}", not_restored_hint()))
            }
            RunEvent::Progress(_) if self.hide_verdicts => {}
            RunEvent::Progress(now) if now.done == now.cells => self.overall.finish_and_clear(),
            RunEvent::Progress(now) => self.overall.set_message(progress(now)),
            RunEvent::CellEnded { record } => {
                if let Some(bar) = running.remove(&record.cell) {
                    bar.finish_and_clear();
                }
                if self.hide_verdicts {
                } else if self.json {
                    if let Ok(line) = serde_json::to_string(record) {
                        print(&format!("{line}\n"));
                    }
                } else if record.metal.is_some() {
                    // The plan listed the skipped cells.
                    print_above(&self.bars, &cell_line(record, &self.style));
                }
            }
        }
    }
}
