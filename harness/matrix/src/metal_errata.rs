//! Runs tests of a suite on the emulator that plays a bare machine, without KVM, and compares the failures with the errata of that
//! emulator.

use std::ffi::OsString;
use std::io::{self, Read};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nestmatrix_images::{Emulator, UnitTest};
use nestmatrix_model::emulator_errata::{Erratum, of};
use nestmatrix_model::{Architecture, CaseOutcome, SuiteKind};
use nestmatrix_stack::{Case, TIMED_OUT, machine_arguments, read_cases};
use nestmatrix_vmm::guest::ExecOutput;

/// How often an emulator is polled for its end.
const POLL: Duration = Duration::from_millis(50);
/// The most output that is kept of a test, in bytes.
const KEPT_OUTPUT: u64 = 1 << 20;

/// How the tests are run.
#[derive(Debug)]
pub struct OnMetal<'a> {
    /// The emulator.
    pub emulator: &'a Emulator,
    /// Its program.
    pub program: &'a str,
    /// The words before its command line, which tie it to this process.
    pub wrapper: &'a [OsString],
    /// What each test gets after its own arguments.
    pub append: Option<&'a str>,
    /// The memory of each test's machine, in MiB, if it is not the suite's own.
    pub memory_mib: Option<u32>,
    /// How long each test may take.
    pub timeout: Duration,
}

impl OnMetal<'_> {
    /// Runs a test to its end.
    ///
    /// # Errors
    /// The emulator can't be started.
    pub fn run(&self, test: &UnitTest) -> io::Result<Vec<Case>> {
        let (program, before) = self.emulator.command(self.program);
        let mut words: Vec<OsString> = self.wrapper.to_vec();
        words.push(program.into());
        words.extend(before);
        words.extend(["-L".into(), self.emulator.data().into()]);
        let file = test.file.to_string_lossy();
        let arguments = machine_arguments(test, &file, "tcg", self.append, self.memory_mib);
        words.extend(arguments.into_iter().map(OsString::from));
        let mut words = words.into_iter();
        let first = words.next().unwrap_or_default();
        let mut command = Command::new(first);
        command.args(words).envs(self.emulator.environment());
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        Ok(read_cases(&test.name, &end_of(child, self.timeout)?))
    }
}

/// Waits for the end of a process, and kills it if that takes too long.
fn end_of(mut child: Child, timeout: Duration) -> io::Result<ExecOutput> {
    let (stdout, stderr) = (reader(child.stdout.take()), reader(child.stderr.take()));
    let began = Instant::now();
    let mut late = false;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if began.elapsed() > timeout && !late {
            late = true;
            child.kill()?;
        }
        thread::sleep(POLL);
    };
    let read = |thread: thread::JoinHandle<Vec<u8>>| thread.join().unwrap_or_default();
    let status = if late { Some(TIMED_OUT) } else { status.code().map(i64::from) };
    Ok(ExecOutput { status, signal: None, stdout: read(stdout), stderr: read(stderr) })
}

/// Reads a stream to its end, and keeps its beginning.
fn reader(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut kept = Vec::new();
        if let Some(mut stream) = stream {
            let _ = stream.by_ref().take(KEPT_OUTPUT).read_to_end(&mut kept);
            let _ = io::copy(&mut stream, &mut io::sink());
        }
        kept
    })
}

/// A difference between what a run showed and what the errata say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// A case failed, and no erratum has it.
    Unlisted(Case),
    /// The cases of an erratum passed.
    Passed {
        /// The case, or the pattern of several.
        case: String,
        /// The id of the erratum.
        erratum: String,
    },
    /// No case of an erratum ran, although their test did.
    Missing {
        /// The case, or the pattern of several.
        case: String,
        /// The id of the erratum.
        erratum: String,
    },
}

/// Compares the cases of these tests with the errata of an emulator.
pub fn compare(
    cases: &[Case],
    tests: &[UnitTest],
    (suite, program, architecture, version): (SuiteKind, &str, Architecture, Option<&str>),
) -> Vec<Difference> {
    let listed: Vec<(&'static Erratum, &'static String)> = of(program, architecture, version)
        .flat_map(|erratum| {
            let fails = erratum.fails.iter().filter(move |fails| fails.suite == suite);
            fails.flat_map(|fails| &fails.cases).map(move |case| (erratum, case))
        })
        .collect();
    let is_listed = |case: &Case| listed.iter().any(|(_, pattern)| case.is_meant_by(pattern));
    let failed = cases.iter().filter(|case| case.outcome.is_unexpected() && !is_listed(case));
    let mut found: Vec<Difference> = failed.cloned().map(Difference::Unlisted).collect();
    for (erratum, pattern) in &listed {
        let of_test = pattern.split(':').next().unwrap_or_default();
        if !tests.iter().any(|test| test.name == of_test) {
            continue;
        }
        let matching: Vec<&Case> = cases.iter().filter(|case| case.is_meant_by(pattern)).collect();
        let erratum = erratum.id.clone();
        let failed = matching.iter().any(|case| case.outcome.is_unexpected());
        let passed = matching.iter().any(|case| case.outcome == CaseOutcome::Pass);
        let case = (*pattern).clone();
        match (failed, passed) {
            (true, _) => {}
            (false, true) => found.push(Difference::Passed { case, erratum }),
            (false, false) => found.push(Difference::Missing { case, erratum }),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rstest::rstest;

    use super::*;

    fn case(name: &str, outcome: CaseOutcome) -> Case {
        Case { name: name.into(), outcome, said: None, known: None, erratum: None, did_not_start: false }
    }

    fn test(name: &str) -> UnitTest {
        UnitTest {
            name: name.into(),
            groups: Vec::new(),
            file: PathBuf::new(),
            cpus: 1,
            arguments: String::new(),
            qemu: Vec::new(),
            timeout: 1,
            needs: Vec::new(),
            unusable: None,
        }
    }

    /// The differences of a run in which every case of every erratum of SVM failed, except for a change.
    fn differences(change: impl Fn(&mut Vec<Case>)) -> Vec<String> {
        let about = (SuiteKind::KvmUnitTests, "qemu-system-x86_64", Architecture::Amd, Some("10.0"));
        let fails = of(about.1, about.2, about.3).flat_map(|erratum| &erratum.fails);
        let mut cases: Vec<Case> =
            fails.flat_map(|fails| &fails.cases).map(|name| case(name, CaseOutcome::Fail)).collect();
        cases.push(case("svm: fine", CaseOutcome::Pass));
        change(&mut cases);
        compare(&cases, &[test("svm")], about)
            .iter()
            .map(|difference| match difference {
                Difference::Unlisted(case) => format!("unlisted {}", case.name),
                Difference::Passed { case, erratum } => format!("passed {case} {erratum}"),
                Difference::Missing { case, erratum } => format!("missing {case} {erratum}"),
            })
            .collect()
    }

    #[rstest]
    #[case::same(|_: &mut Vec<Case>| {}, None)]
    #[case::another(|cases: &mut Vec<Case>| cases.push(case("svm: new", CaseOutcome::Error)), Some("unlisted svm: new"))]
    #[case::fixed(
        |cases: &mut Vec<Case>| cases[0].outcome = CaseOutcome::Pass,
        Some("passed svm: cr3 read intercept tcg-cr-read-intercept")
    )]
    #[case::gone(
        |cases: &mut Vec<Case>| drop(cases.remove(0)),
        Some("missing svm: cr3 read intercept tcg-cr-read-intercept")
    )]
    fn what_the_errata_do_not_say_is_a_difference(
        #[case] change: impl Fn(&mut Vec<Case>),
        #[case] expected: Option<&str>,
    ) {
        assert_eq!(differences(change), expected.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn errata_of_tests_that_did_not_run_are_no_differences() {
        let about = (SuiteKind::KvmUnitTests, "qemu-system-x86_64", Architecture::Amd, Some("10.0"));
        assert!(compare(&[], &[test("msr")], about).is_empty());
    }

    #[test]
    fn a_process_that_takes_too_long_is_killed_and_its_output_is_kept() {
        let sh = |script: &str| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped());
            end_of(command.spawn().unwrap(), Duration::from_millis(500)).unwrap()
        };
        let late = sh("echo a; exec sleep 60");
        assert_eq!((late.status, late.stdout), (Some(TIMED_OUT), b"a\n".to_vec()));
        let ended = sh("echo b >&2; exit 3");
        assert_eq!((ended.status, ended.stderr), (Some(3), b"b\n".to_vec()));
    }
}
