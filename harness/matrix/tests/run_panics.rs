//! A panic in the harness during a run is the error of one cell, and no other cell loses its verdict. Boots nothing.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use nestmatrix::records::{Outcome, PastRun, Purpose, VerdictWord};
use nestmatrix::run::{
    MetalChoice, NativeMetals, PlanOptions, RunEvent, RunListener, RunPlan, Setting, execute,
};
use nestmatrix::scenario::{Cell, Denied, Matrix};
use nestmatrix_images::{Catalog, Progress, ProgressEvent, Store, StoreOptions};
use nestmatrix_stack::Cancellation;
use nestmatrix_vmm::qemu::ExecWrapper;

struct Silent;

impl Progress for Silent {
    fn event(&self, _event: &ProgressEvent<'_>) {}
}

/// Panics when the build of an image begins, before anything is downloaded.
struct BuildPanics;

impl Progress for BuildPanics {
    fn event(&self, event: &ProgressEvent<'_>) {
        panic!("no build of {}", event.recipe);
    }
}

/// Panics when this cell begins, in the middle of that cell's own work.
struct Panics {
    at: usize,
    began: RefCell<Vec<String>>,
    /// The number of ended cells and of all cells, each time that the run reported its progress.
    progress: RefCell<Vec<(usize, usize)>>,
}

impl Panics {
    fn at(place: usize) -> Rc<Self> {
        Rc::new(Self { at: place, began: RefCell::default(), progress: RefCell::default() })
    }
}

impl RunListener for Panics {
    fn event(&self, event: &RunEvent<'_>) {
        if let RunEvent::Progress(now) = event {
            self.progress.borrow_mut().push((now.done, now.cells));
        } else if let RunEvent::CellBegan { cell } = event {
            self.began.borrow_mut().push(cell.to_string());
            let place = self.began.borrow().len() - 1;
            assert!(place != self.at, "cell number {place} can't begin");
        }
    }
}

fn checkout(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder)
}

/// Runs four cells without images, in their own place.
fn run(place: &Path, jobs: usize, progress: Option<BuildPanics>, listener: Rc<dyn RunListener>) -> Outcome {
    let matrix = Matrix::load(&checkout("scenarios")).unwrap();
    let catalog = Catalog::load(&checkout("images/recipes")).unwrap();
    let wanted = |cell: &&Cell| cell.name.as_str().starts_with("rhel-9-preview/amd/");
    let cells: Vec<Cell> = matrix.cells().iter().filter(wanted).take(4).cloned().collect();
    let options = PlanOptions {
        metal: MetalChoice::Emulated,
        denied: Denied::default(),
        deny_skips: None,
        profile: None,
        replaces_l0: false,
        suppose_images: false,
        disposable_host: false,
    };
    let plan = RunPlan::new(cells, &matrix, &catalog, &NativeMetals::new(), &options);
    let store = StoreOptions {
        cache: Some(place.join("cache")),
        offline: progress.is_none(),
        ..StoreOptions::default()
    };
    let setting = Setting {
        catalog,
        store: Arc::new(Store::open(store).unwrap()),
        progress: progress.map_or_else(|| Arc::new(Silent) as _, |panics| Arc::new(panics) as _),
        native_qemu: None,
        wrapper: ExecWrapper::new([] as [&str; 0]),
        results: place.join("results"),
        jobs: Some(jobs),
        snapshots: None,
        timeout_scale: 1.0,
        repeat: 1,
        arguments: vec!["run-matrix".into()],
        part: None,
        resumed: None,
        purpose: Purpose::Matrix,
        inspector: None,
    };
    let (_signal, cancellation) = Cancellation::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    let done = async { execute(&plan, setting, listener, cancellation).await };
    local.block_on(&runtime, done).unwrap()
}

#[test]
fn a_panic_is_the_error_of_its_cell_and_the_others_go_on() {
    for (at, jobs) in [(0, 1), (1, 2), (3, 4)] {
        let place = tempfile::tempdir().unwrap();
        let listener = Panics::at(at);
        let outcome = run(place.path(), jobs, None, Rc::clone(&listener) as Rc<dyn RunListener>);
        assert_eq!(listener.began.borrow().len(), 4, "every cell was begun");
        assert_eq!(*listener.progress.borrow(), [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]);
        let panicked = listener.began.borrow()[at].clone();
        assert_eq!(outcome.records.len(), 4);
        for record in &outcome.records {
            let symptom = record.symptom.as_deref().unwrap();
            assert_eq!(record.verdict, VerdictWord::Error, "{symptom}");
            let expected = format!("the harness panicked: cell number {at} can't begin");
            assert_eq!(record.cell.as_str() == panicked, symptom == expected, "{}: {symptom}", record.cell);
            assert_eq!(record.attempts.len(), 1);
        }
        assert_eq!(outcome.run.exit_code(), 3);
        assert!(outcome.run.ended.is_some() && !outcome.run.interrupted);
        assert_eq!(PastRun::read(&outcome.folder).unwrap().cells.len(), 4, "all is recorded");
    }
}

#[test]
fn a_panic_while_images_are_made_ready_is_named_by_the_cells_that_need_them() {
    let place = tempfile::tempdir().unwrap();
    let listener = Panics::at(usize::MAX);
    let outcome = run(place.path(), 4, Some(BuildPanics), Rc::clone(&listener) as Rc<dyn RunListener>);
    assert_eq!((outcome.records.len(), outcome.run.exit_code()), (4, 3));
    // One cell needs fewer images than the others, and does not wait for theirs.
    assert_eq!(*listener.progress.borrow(), [(0, 4), (1, 4), (1, 4), (2, 4), (3, 4), (4, 4)]);
    for record in outcome.records {
        let symptom = record.symptom.unwrap();
        assert!(symptom.contains("the harness panicked: no build of debian-12-amd64"), "{symptom}");
    }
}
