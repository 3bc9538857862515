//! What is shown while something goes on: a line for each cell that runs, bars for downloads and builds. On standard
//! error, and only where that is a terminal; a pipe gets one line for each thing that is done.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use nestmatrix::report::{Style, cell_line};
use nestmatrix::run::{RunEvent, RunListener};
use nestmatrix::scenario::CellName;
use nestmatrix_images::{Progress, ProgressEvent, Step};

/// How often a line's clock moves.
const TICK: Duration = Duration::from_millis(250);

/// Shows builds.
pub struct Builds {
    bars: MultiProgress,
    current: Mutex<BTreeMap<String, ProgressBar>>,
}

impl Builds {
    pub fn new() -> Self {
        Self { bars: MultiProgress::new(), current: Mutex::new(BTreeMap::new()) }
    }

    /// The lines that this shares the terminal with.
    pub fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Takes every bar away.
    pub fn finish(&self) {
        if let Ok(mut current) = self.current.lock() {
            current.values().for_each(ProgressBar::finish_and_clear);
            current.clear();
        }
    }

    fn bar(&self, recipe: &str, show: impl Fn(&ProgressBar)) {
        // A poisoned lock means that a build panicked; what is shown of it no longer matters.
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

    fn say(&self, line: &str) {
        say(&self.bars, line);
    }
}

impl Progress for Builds {
    fn event(&self, event: &ProgressEvent<'_>) {
        let recipe = event.recipe;
        match event.step {
            Step::Waiting => self.bar(recipe, |bar| bar.set_message("another process builds it; waiting")),
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
            Step::Verified { .. } => self.done(recipe),
            Step::Corrupted { product, reason } => {
                self.say(&format!("warning: image {recipe} {product} in the cache is damaged: {reason}"));
            }
            Step::Built { seconds } => {
                self.done(recipe);
                self.say(&format!("built image {recipe} in {seconds:.0} s"));
            }
            _ => {}
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants of this file; a wrong one falls back to the library's own look.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Shows a line above those that go on.
pub fn say(bars: &MultiProgress, line: &str) {
    if std::io::stderr().is_terminal() {
        // Fails only if the terminal is gone, and then nobody reads it.
        let _ = bars.println(line);
    } else {
        eprintln!("{line}");
    }
}

/// Shows the cells that run.
pub struct Cells {
    bars: MultiProgress,
    running: RefCell<BTreeMap<CellName, ProgressBar>>,
    style: Style,
    /// Verdicts go to standard output as JSON lines.
    json: bool,
    /// Verdicts are nobody's concern.
    silent: bool,
}

impl Cells {
    pub fn new(bars: MultiProgress, style: Style, json: bool) -> Self {
        Self { bars, running: RefCell::default(), style, json, silent: false }
    }

    /// Shows what runs, and no verdicts.
    pub fn silent(bars: MultiProgress, style: Style) -> Self {
        Self { silent: true, ..Self::new(bars, style, false) }
    }
}

impl RunListener for Cells {
    fn event(&self, event: &RunEvent<'_>) {
        let mut running = self.running.borrow_mut();
        match event {
            // The caller shows the reason with the verdict.
            RunEvent::Undelivered { .. } if self.silent => {}
            RunEvent::Undelivered { image, rerouted } => {
                say(&self.bars, &format!("no image {image}; {rerouted}"));
            }
            RunEvent::CellBegan { cell } => {
                let bar = self.bars.add(ProgressBar::new_spinner());
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
            RunEvent::CellEnded { record } => {
                if let Some(bar) = running.remove(&record.cell) {
                    bar.finish_and_clear();
                }
                if self.silent {
                } else if self.json {
                    if let Ok(line) = serde_json::to_string(record) {
                        crate::run_matrix::say(&format!("{line}\n"));
                    }
                } else if record.metal.is_some() {
                    // Skipped cells were named in the plan.
                    say(&self.bars, &cell_line(record, &self.style));
                }
            }
        }
    }
}
