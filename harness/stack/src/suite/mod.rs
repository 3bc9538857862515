//! Runs tests of a suite in a level: its files go to the level by the guest agent, and the results are read from each test's output and
//! its exit status. The tests are guests, which the level's QEMU boots with KVM, or programs ([`selftest`]).

mod cases;
mod files;
mod output;
mod script;
mod selftest;

use std::fs;
use std::rc::Rc;
use std::time::Duration;

use nestmatrix_images::{BuiltSuite, UnitTest};
use nestmatrix_model::emulator_errata::Erratum;
use nestmatrix_model::{
    CaseOutcome, LevelNumber, Step, StepTimeout, Suite, SuiteKind, Word as _, matches_pattern,
};
use nestmatrix_vmm::guest::{ExecOutput, printable};

pub(crate) use cases::KnownFailures;
pub use cases::{Case, SuiteRecord};
pub use output::read as read_cases;
pub use script::{TIMED_OUT, machine_arguments};

use super::stack::Stack;
use super::steps::{StepRecord, UNKNOWN_SLOWDOWN};
use super::{Limit, Metal, Stop, Symptom};
use crate::exec::copy::Present;
use crate::host::Host;

/// How much longer than the suite says a test may take on emulated metal, for each level around it.
const SLOWER: f64 = 10.0;

/// The most failures that a symptom names.
const NAMED: usize = 3;

impl Stack<'_> {
    /// Runs the tests of a step, and judges them together. `present` are the programs that earlier rounds have brought.
    pub(super) async fn run_suite(
        &mut self,
        record: &mut StepRecord,
        step: &Step,
        suite: &Suite,
        present: &mut Present,
    ) -> Result<(), Stop> {
        let level = step.on;
        let (built, tests) = self.tests_of(step, suite)?;
        let Some(host) = self.levels.host(level) else {
            return Err(self.not_started(step, "it has no guest agent, which brings the tests".to_owned()));
        };
        let digest = built.digest_of(&tests).map_err(|e| self.not_started(step, e.to_string()))?;
        let of_suite = record.suite.insert(SuiteRecord::new(suite.kind.word(), digest.as_str()));
        let known = KnownFailures::new(&suite.known_failures, Some(suite.kind), &self.errata());
        for test in &tests {
            let skipped = |why: &str| (vec![Case::new(&test.name, CaseOutcome::Skip, Some(why))], None);
            let (cases, cause) = match &test.unusable {
                Some(why) => skipped(why),
                None if !test.file.is_file() => skipped("it is not built"),
                None => match self.cases_of(step, suite, test, &host, present).await {
                    Ok(done) => done,
                    Err(stop) => {
                        let why = format!("the stack stopped: {}", stop.symptom);
                        of_suite.add(
                            vec![Case::new(&test.name, CaseOutcome::Error, Some(&why))],
                            &known,
                            None,
                        );
                        of_suite.close();
                        record.output = of_suite.summary();
                        return Err(stop);
                    }
                },
            };
            of_suite.add(cases, &known, cause);
        }
        of_suite.close();
        record.output = of_suite.summary();
        self.judge_suite(step, of_suite)
    }

    /// Runs the only test that a step names, and returns what it printed.
    pub(super) async fn run_single_test(&mut self, step: &Step, suite: &Suite) -> Result<ExecOutput, Stop> {
        let (_, tests) = self.tests_of(step, suite)?;
        let Some(host) = self.levels.host(step.on) else {
            return Err(self.not_started(step, "it has no guest agent, which brings the tests".to_owned()));
        };
        match tests.as_slice() {
            [test] if test.unusable.is_none() && test.file.is_file() => {
                self.run_test(step, suite, test, &host).await
            }
            tests => {
                let unusable = tests.first().and_then(|test| test.unusable.clone());
                Err(self.not_started(step, unusable.unwrap_or_else(|| "its test is not built".to_owned())))
            }
        }
    }

    /// The user's build of a suite, and its tests that the step names.
    fn tests_of(&self, step: &Step, suite: &Suite) -> Result<(Rc<BuiltSuite>, Vec<UnitTest>), Stop> {
        let kind = suite.kind;
        let built = self.request.suites.iter().find(|built| built.kind() == kind);
        let built = built.ok_or_else(|| self.not_started(step, format!("{kind} was not added")))?;
        let all = built.tests().map_err(|e| self.not_started(step, e.to_string()))?;
        let tests = select_tests(&all, &suite.tests).map_err(|pattern| {
            self.not_started(step, format!("{kind} has no test and no group {pattern:?}"))
        })?;
        Ok((Rc::new(BuiltSuite::clone(built)), tests))
    }

    /// Runs a test to its end, and reads its cases. Also the erratum of the emulated metal that is known to end a test as it ended.
    async fn cases_of(
        &mut self,
        step: &Step,
        suite: &Suite,
        test: &UnitTest,
        host: &Rc<dyn Host>,
        present: &mut Present,
    ) -> Result<(Vec<Case>, Option<&'static Erratum>), Stop> {
        match suite.kind {
            SuiteKind::KvmUnitTests => {
                let ended = self.run_test(step, suite, test, host).await?;
                self.keep_output(&test.name, &[&ended.stdout[..], &ended.stderr[..]].concat());
                Ok((read_cases(&test.name, &ended), self.cause_in_metal(step, &ended)))
            }
            SuiteKind::KvmSelftests => Ok((self.run_selftest(step, suite, test, present).await?, None)),
        }
    }

    /// Boots a test as a guest of a level, and waits for its end.
    async fn run_test(
        &mut self,
        step: &Step,
        suite: &Suite,
        test: &UnitTest,
        host: &Rc<dyn Host>,
    ) -> Result<ExecOutput, Stop> {
        let (level, limits) = (step.on, self.limits.run);
        let of_level = limits.of(level);
        let copying = files::bring(&**host, &test.file);
        let file = self.during_within(of_level, level.into(), copying).await?;
        let qemu = Rc::clone(host).machine_host().map_err(|e| self.harness(e.to_string()))?.qemu().program;
        let seconds = match step.timeout {
            Some(StepTimeout::Real(seconds) | StepTimeout::Guest(seconds)) => f64::from(seconds),
            None => f64::from(test.timeout) * self.slowness(level),
        };
        // The script counts by the level's clock, and must come to its end before this limit does.
        let slowdown = self.slowdown_now(level).await?.unwrap_or(UNKNOWN_SLOWDOWN).max(1.0);
        let script = script::script(&script::Run {
            qemu: &qemu.to_string_lossy(),
            file: &file,
            test,
            append: suite.append.as_deref(),
            memory_mib: suite.memory_mib,
            timeout: limits.scaled(seconds),
            // As every level from L2 on has it (docs/architecture.md): a test in L1 is such a level.
            small_firmware: level.below().is_some() && self.errata().of_default_firmware().is_some(),
        });
        let total = limits.scaled(seconds * slowdown) + of_level.total;
        let limit = Limit { silence: total, total };
        self.during_within(limit, level.into(), async { host.run(&script).await }).await
    }

    /// The erratum of the emulated metal that is known to end a test of a level in this way.
    fn cause_in_metal(&self, step: &Step, ended: &ExecOutput) -> Option<&'static Erratum> {
        let stderr = String::from_utf8_lossy(&ended.stderr);
        let end = output::end_of_machine(ended, &stderr)?;
        // A test is a guest of its level.
        self.errata().cause_of_end_of_test(&end, self.request.plan.kvms_under(step.on) + 1)
    }

    /// Writes what a test or a program printed to the cell's folder.
    pub(crate) fn keep_output(&self, name: &str, output: &[u8]) {
        // A name of the user's file becomes a part of a path.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let name: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
        let path = self.request.records.join(format!("{}.{name}.log", self.stage));
        let text: String =
            String::from_utf8_lossy(output).lines().map(|line| printable(line) + "\n").collect();
        // The results are in the record, so a full disk does not change the verdict.
        if let Err(e) = fs::write(&path, text) {
            tracing::warn!("failed to write {}: {e}", path.display());
        }
    }

    /// How much longer than on real metal a test may take.
    pub(crate) fn slowness(&self, level: LevelNumber) -> f64 {
        match self.request.plan.metal {
            Metal::Native => 1.0,
            Metal::Emulated => SLOWER * f64::from(level.number() + 1),
        }
    }

    /// Whether the tests did as expected; otherwise the symptom.
    pub(crate) fn judge_suite(&self, step: &Step, record: &SuiteRecord) -> Result<(), Stop> {
        let unexpected: Vec<&Case> =
            record.cases.iter().filter(|case| case.outcome.is_unexpected()).collect();
        if unexpected.is_empty() {
            // A test that did not run shows nothing.
            let ran = record.counts.keys().any(|outcome| *outcome != CaseOutcome::Skip);
            let why = || {
                let said = record.cases.iter().find_map(|case| case.said.clone()).unwrap_or_default();
                format!("no test ran: {said}")
            };
            return if ran { Ok(()) } else { Err(self.not_started(step, why())) };
        }
        if unexpected.iter().all(|case| case.did_not_start) {
            let said = unexpected.iter().find_map(|case| case.said.clone()).unwrap_or_default();
            return Err(
                self.not_started(step, format!("{} of the tests did not start: {said}", unexpected.len()))
            );
        }
        // What the emulated metal ended shows nothing, so the other cases of these tests are missing.
        if let Some(erratum) = unexpected.iter().find_map(|case| case.erratum.as_deref())
            && unexpected.iter().all(|case| case.did_not_start || case.erratum.is_some())
        {
            // The symptom itself names the erratum.
            let id = format!(" (emulator erratum {erratum})");
            let ended = unexpected.iter().filter(|case| case.erratum.is_some()).take(NAMED);
            let said = ended.map(|case| in_words(case).replace(&id, ""));
            let why = format!("{}: {}", step.name, said.collect::<Vec<_>>().join("\n"));
            let symptom = Symptom::Harness { level: Some(step.on), why, erratum: Some(erratum.to_owned()) };
            return Err(Stop::stack(self.stage, symptom).not_its_fault());
        }
        let symptom = Symptom::TestFailed {
            level: step.on,
            step: step.name.clone(),
            failed: record.unexpected(),
            of: record.counts.values().sum(),
            said: unexpected.iter().take(NAMED).map(in_words).collect::<Vec<_>>().join("\n"),
        };
        Err(Stop::stack(self.stage, symptom))
    }

    pub(crate) fn not_started(&self, step: &Step, why: String) -> Stop {
        let symptom = Symptom::NotStarted { level: step.on, why: format!("{}: {why}", step.name) };
        Stop::stack(self.stage, symptom).not_its_fault()
    }
}

/// The tests of a suite that `patterns` name, in the order of the list. A test that is only run on request must match by its name.
///
/// # Errors
/// The pattern that matches nothing.
pub fn select_tests(all: &[UnitTest], patterns: &[String]) -> Result<Vec<UnitTest>, String> {
    let by_name = |test: &UnitTest, pattern: &str| matches_pattern(pattern, &test.name);
    let by_group = |test: &UnitTest, pattern: &str| {
        !test.is_manual() && test.groups.iter().any(|group| group == pattern)
    };
    let matches = |test: &UnitTest, pattern: &String| by_name(test, pattern) || by_group(test, pattern);
    if let Some(pattern) = patterns.iter().find(|pattern| !all.iter().any(|test| matches(test, pattern))) {
        return Err(pattern.clone());
    }
    Ok(all.iter().filter(|test| patterns.iter().any(|pattern| matches(test, pattern))).cloned().collect())
}

/// A case and what was seen of it.
fn in_words(case: &&Case) -> String {
    match &case.said {
        Some(said) => format!("{} ({said})", case.name),
        None => case.name.clone(),
    }
}

/// A time in whole seconds, at least one.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs().max(1)
}
