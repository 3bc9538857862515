//! From a run's records to the events of a trace.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{LevelNumber, Stage, StageKind};
use nestmatrix_vmm::guest::printable;
use serde_json::{Map, Value, json};

use super::event::{Event, Trace, known, metadata};
use super::lanes::{Span, lanes};
use crate::contained;
use crate::records::{Attempt, CellRecord, PastRun};

/// The process of the run.
const RUN: u64 = 1;
/// The thread of a cell's attempts. The threads of the levels follow in their order.
const ATTEMPTS: u64 = 1;
const LEVELS: u64 = 2;

/// A cell that ran, and when.
struct Placed<'a> {
    record: &'a CellRecord,
    /// How long after the first run its own run began, in seconds.
    offset: f64,
    attempts: Vec<Span>,
    whole: Span,
}

impl Trace {
    /// The timeline of a run. Counters are read from the files in its folder, if they exist.
    pub fn new(past: &PastRun) -> Self {
        let offsets = offsets(past);
        let offset = |record: &CellRecord| {
            record.run.as_ref().and_then(|run| offsets.get(run.as_str())).copied().unwrap_or_default()
        };
        let mut cells: Vec<Placed<'_>> =
            past.cells.iter().filter_map(|record| place(record, offset(record))).collect();
        cells.sort_by_key(|placed| (placed.whole.start, placed.whole.end));
        let mut events = Vec::new();
        overview(&past.record.run, &cells, &mut events);
        for (index, placed) in (0_u64..).zip(&cells) {
            let pid = RUN + 1 + index;
            let name = format!("{} [{}]", placed.record.cell, placed.record.verdict);
            events.push(metadata("process_name", (pid, 0), name.into()));
            events.push(metadata("process_sort_index", (pid, 0), pid.into()));
            CellTracks { placed, pid, events: &mut events, folder: &past.folder }.draw();
        }
        let run = &past.record;
        let skipped = past.cells.len() - cells.len();
        let other_data = known(json!({
            "run": run.run, "began": run.began, "ended": run.ended, "nestmatrix": run.nestmatrix, "build": run.build,
            "machine": run.machine, "emulators": run.emulators, "cells": run.cells, "cells without an attempt": skipped,
        }));
        Self { trace_events: events, display_time_unit: "ms", other_data }
    }
}

/// When the parts of a merged run began, in seconds after the first of them.
fn offsets(past: &PastRun) -> BTreeMap<&str, f64> {
    let time = |text: &str| -> Option<SystemTime> { humantime::parse_rfc3339(text).ok() };
    let first = time(&past.record.began);
    let offset = |began: &str| {
        let after = time(began)?.duration_since(first?).ok()?;
        Some(after.as_secs_f64())
    };
    let merged = past.record.merged.iter();
    merged.map(|run| (run.run.as_str(), offset(&run.began).unwrap_or_default())).collect()
}

/// A cell's attempts, in order; `None` for a cell that did not run.
fn place(record: &CellRecord, offset: f64) -> Option<Placed<'_>> {
    let mut before = 0;
    let attempts: Vec<Span> = record
        .attempts
        .iter()
        .map(|attempt| {
            let span = Span::of_seconds(offset + attempt.start, offset + attempt.end).after(before);
            before = span.end;
            span
        })
        .collect();
    let whole = Span { start: attempts.first()?.start, end: attempts.last()?.end };
    Some(Placed { record, offset, attempts, whole })
}

/// The process of the run: which cells ran when.
fn overview(run: &str, cells: &[Placed<'_>], events: &mut Vec<Event>) {
    events.push(metadata("process_name", (RUN, 0), format!("run {}", printable(run)).into()));
    events.push(metadata("process_sort_index", (RUN, 0), 0.into()));
    let spans: Vec<Span> = cells.iter().map(|placed| placed.whole).collect();
    let lanes = lanes(&spans);
    let count = lanes.iter().max().map_or(0, |most| most + 1);
    for lane in 0..count {
        let tid = lane as u64 + 1;
        events.push(metadata("thread_name", (RUN, tid), format!("cells {tid}").into()));
        events.push(metadata("thread_sort_index", (RUN, tid), tid.into()));
    }
    for (placed, lane) in cells.iter().zip(lanes) {
        events.push(Event::Slice {
            name: placed.record.cell.to_string(),
            cat: "cell",
            ts: placed.whole.start,
            dur: placed.whole.lasts(),
            pid: RUN,
            tid: lane as u64 + 1,
            args: of_cell(placed.record),
        });
    }
}

fn of_cell(record: &CellRecord) -> Map<String, Value> {
    let expectation = record.expectation.to_string();
    known(json!({
        "verdict": record.verdict, "stage": record.stage, "level": record.level,
        "symptom": record.symptom.as_deref().map(printable), "expected": printable(&expectation),
        "document": record.document, "metal": record.metal, "attempts": record.attempts.len(),
        "restored from": record.restored.as_ref().map(|state| &state.key), "cold": record.cold, "run": record.run,
    }))
}

/// The threads of one cell.
struct CellTracks<'a> {
    placed: &'a Placed<'a>,
    pid: u64,
    events: &'a mut Vec<Event>,
    folder: &'a Path,
}

/// A stage, its time span, and the level whose thread shows it.
struct PlacedStage {
    stage: Stage,
    span: Span,
    level: LevelNumber,
    /// The name of its step.
    step: Option<String>,
}

impl CellTracks<'_> {
    fn draw(mut self) {
        let record = self.placed.record;
        self.name(ATTEMPTS, "attempts");
        let attempts = || record.attempts.iter().zip(&self.placed.attempts);
        for (number, (attempt, span)) in (1..).zip(attempts()) {
            self.attempt(number, attempt, *span);
        }
        let Some((described, within)) = record.described_index().and_then(|index| attempts().nth(index))
        else {
            return;
        };
        let stages = self.stages(described, *within);
        let (Some(first), Some(end)) = (stages.first(), stages.last()) else {
            return self.failure(ATTEMPTS, within.end);
        };
        let stack = Span { start: first.span.start, end: end.span.end };
        // Otherwise, it is unknown what was before and after the stack.
        if described.booted.is_some() {
            let before = Span { start: within.start, end: stack.start };
            self.slice("provision", "stage", (ATTEMPTS, before), Map::new());
            let after = Span { start: stack.end, end: within.end };
            self.slice("diagnostics", "stage", (ATTEMPTS, after), Map::new());
        }
        for level in LevelNumber::ALL {
            self.level(level, &stages, stack);
        }
        let failed = stages.iter().rfind(|stage| Some(stage.stage) == record.stage).unwrap_or(end);
        self.failure(thread(record.level.unwrap_or(failed.level)), failed.span.end);
        self.counters(&stages, stack);
    }

    fn name(&mut self, tid: u64, name: &str) {
        self.events.push(metadata("thread_name", (self.pid, tid), name.into()));
        self.events.push(metadata("thread_sort_index", (self.pid, tid), tid.into()));
    }

    fn slice(&mut self, name: &str, cat: &'static str, (tid, span): (u64, Span), args: Map<String, Value>) {
        let (ts, dur) = (span.start, span.lasts());
        self.events.push(Event::Slice { name: name.to_owned(), cat, ts, dur, pid: self.pid, tid, args });
    }

    fn instant(&mut self, name: String, (tid, ts): (u64, u64), args: Map<String, Value>) {
        self.events.push(Event::Instant { name, cat: "failure", ts, pid: self.pid, tid, s: "t", args });
    }

    fn attempt(&mut self, number: usize, attempt: &Attempt, span: Span) {
        let symptom = attempt.symptom.as_deref().map(printable);
        let args = known(json!({
            "verdict": attempt.verdict, "symptom": symptom, "restored from": attempt.from,
            "cpu_seconds": attempt.usage.cpu_seconds, "peak_memory_mib": attempt.usage.peak_memory_mib,
        }));
        self.slice(&format!("attempt {number}"), "attempt", (ATTEMPTS, span), args.clone());
        // The attempt that the record describes has its symptom on the thread of the level.
        if Some(number) != self.placed.record.described_index().map(|index| index + 1) {
            let more = if number < self.placed.attempts.len() { ", retried" } else { "" };
            self.instant(format!("{}{more}", attempt.verdict), (ATTEMPTS, span.end), args);
        }
    }

    /// The stages of the attempt that the record describes, in order.
    fn stages(&self, attempt: &Attempt, within: Span) -> Vec<PlacedStage> {
        let record = self.placed.record;
        let began = self.placed.offset + attempt.booted.unwrap_or(attempt.start);
        let outermost = record
            .stages
            .iter()
            .find_map(|time| time.stage.level())
            .or(record.levels.first().map(|level| level.level))
            .unwrap_or(LevelNumber::ALL[0]);
        let (mut before, mut steps) = (within.start, record.steps.iter());
        record
            .stages
            .iter()
            .map(|time| {
                let step = matches!(time.stage, Stage::Step(_)).then(|| steps.next()).flatten();
                let level = time.stage.level().or(step.map(|step| step.on)).unwrap_or(outermost);
                let span =
                    Span::of_seconds(began + time.start, began + time.end).within(within).after(before);
                before = span.end;
                PlacedStage { stage: time.stage, span, level, step: step.map(|step| printable(&step.name)) }
            })
            .collect()
    }

    /// A level from its launch, or from the beginning if a snapshot contains it, to the end of the stack, with its stages.
    fn level(&mut self, level: LevelNumber, stages: &[PlacedStage], stack: Span) {
        let record = self.placed.record;
        let saved = record.restored.as_ref().is_some_and(|state| level <= state.level);
        let first = stages.iter().find(|stage| stage.level == level).map(|stage| stage.span.start);
        let seen = record.levels.iter().find(|seen| seen.level == level);
        // A level that is this machine or the emulator is not booted.
        let start = match (saved && seen.is_some_and(|seen| seen.image.is_some()), first) {
            (true, _) => stack.start,
            (false, Some(first)) => first,
            (false, None) => return,
        };
        self.name(thread(level), &level.to_string());
        let args = seen.map(|seen| {
            known(json!({
                "required": seen.required, "system": seen.os, "fidelity": seen.fidelity, "kernel": seen.seen.kernel,
                "QEMU": seen.seen.qemu, "machine": seen.seen.machine, "cpu": seen.seen.cpu, "nested": seen.seen.nested,
                "image": seen.image.as_ref().map(|image| &image.digest),
            }))
        });
        let name = seen.map_or(level.to_string(), |seen| match &seen.seen.kernel {
            Some(kernel) => format!("{level}: {}, Linux {}", printable(&seen.os), printable(kernel)),
            None => format!("{level}: {}", printable(&seen.os)),
        });
        let whole = Span { start, end: stack.end };
        self.slice(&name, "level", (thread(level), whole), args.unwrap_or_default());
        for stage in stages.iter().filter(|stage| stage.level == level) {
            let stopped = Some(stage.stage) == record.stage;
            let args = known(json!({
                "step": stage.step, "verdict": stopped.then_some(record.verdict),
                "symptom": record.symptom.as_deref().filter(|_| stopped).map(printable),
            }));
            self.slice(&stage.stage.to_string(), "stage", (thread(level), stage.span), args);
        }
    }

    /// Where the stack stopped.
    fn failure(&mut self, tid: u64, ts: u64) {
        let record = self.placed.record;
        let Some(symptom) = &record.symptom else { return };
        let stage = record.stage.map_or(String::new(), |stage| format!(" at {stage}"));
        let args = known(json!({"symptom": printable(symptom)}));
        self.instant(format!("{}{stage}", record.verdict), (tid, ts), args);
    }

    /// KVM's counters of exits and of nested entries: before any guest ran, and at the end.
    fn counters(&mut self, stages: &[PlacedStage], stack: Span) {
        let record = self.placed.record;
        let profile = ArchInfo::of(record.architecture);
        let event = profile.nested_event.map(|event| event.name);
        let names = profile.exit_counters.iter().copied().chain(profile.nested_counter).chain(event);
        let names: Vec<&str> = names.collect();
        for level in LevelNumber::ALL {
            let kvm = Stage::Level(level, StageKind::Kvm);
            let read = stages.iter().find(|stage| stage.stage == kvm || stage.stage == Stage::Restore);
            let Some(read) = read.map(|stage| stage.span.end) else { continue };
            for (name, before, after) in self.read(level, &names) {
                for (ts, value) in [(read, before), (stack.end, after)] {
                    self.events.push(Event::Counter {
                        name: format!("{level} {name}"),
                        ts,
                        pid: self.pid,
                        args: Map::from_iter([(name.clone(), value.into())]),
                    });
                }
            }
        }
    }

    /// The counters of a level by name, before and after: from its file, or from the evidence if the file is missing.
    fn read(&self, level: LevelNumber, names: &[&str]) -> Vec<(String, u64, u64)> {
        let record = self.placed.record;
        let file = record.folder.as_ref().and_then(|folder| {
            let counters = folder.as_path().join(format!("{level}.kvm.json"));
            let text = contained::read(self.folder, &counters).ok()?;
            serde_json::from_slice::<Value>(&text).ok()
        });
        if let Some(file) = file {
            let counter = |name: &&str| {
                let (before, after) = (file["before"][name].as_u64()?, file["after"][name].as_u64()?);
                Some(((*name).to_owned(), before, after))
            };
            return names.iter().filter_map(counter).collect();
        }
        let growth = |kind: &&str| {
            let growth = &record.evidence.as_ref()?[kind][String::from(level)];
            let name = growth["counter"].as_str().filter(|name| names.contains(name))?;
            Some((name.to_owned(), growth["before"].as_u64()?, growth["after"].as_u64()?))
        };
        ["exits", "nested_runs"].iter().filter_map(growth).collect()
    }
}

fn thread(level: LevelNumber) -> u64 {
    LEVELS + u64::from(level.number())
}
