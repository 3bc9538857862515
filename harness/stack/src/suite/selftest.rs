//! Runs a selftest of the kernel's KVM in a level, and reads its results.
//!
//! Such a test is a program. It opens `/dev/kvm`, makes its machine itself and exits with 0, with 4 if it skips itself, or otherwise.
//! Newer ones print TAP. A failed assertion is printed over several lines, the last of which is not what failed.

use nestmatrix_images::UnitTest;
use nestmatrix_model::{CaseOutcome, Step, StepTimeout, Suite};
use nestmatrix_vmm::shell::quote;

use super::cases::Case;
use crate::Stop;
use crate::exec::copy::Present;
use crate::exec::{CopiedFile, Then};
use crate::program::{ProgramEnd, UserProgram, read_program_cases};
use crate::stack::Stack;

/// The line before a failed assertion.
const ASSERTION: &str = "==== Test Assertion Failure ====";

impl Stack<'_> {
    /// Runs a test in the level of a step to its end, and reads its cases.
    pub(super) async fn run_selftest(
        &mut self,
        step: &Step,
        suite: &Suite,
        test: &UnitTest,
        present: &mut Present,
    ) -> Result<Vec<Case>, Stop> {
        let file = CopiedFile::new(&test.file, &test.name, Then::Stay);
        let file = file.map_err(|e| self.not_started(step, format!("{}: {e}", test.file.display())))?;
        let program = UserProgram {
            name: test.name.clone(),
            // The record has one of all the tests.
            sha256: String::new(),
            command: quote(&file.path_in_level()),
            files: vec![file],
            setup: String::new(),
        };
        let arguments = suite.append.as_deref().unwrap_or_default().split_whitespace();
        let arguments: Vec<String> = arguments.map(str::to_owned).collect();
        let seconds = (f64::from(test.timeout) * self.slowness(step.on)).ceil();
        // As for tests that are guests, the time of a test is by the level's clock.
        let timeout = match step.timeout {
            Some(StepTimeout::Real(seconds) | StepTimeout::Guest(seconds)) => StepTimeout::Guest(seconds),
            None => StepTimeout::Guest(seconds as u32),
        };
        let step = Step { timeout: Some(timeout), ..step.clone() };
        let ended = self.run_program(&step, &program, &arguments, present).await?;
        self.keep_output(&test.name, &[&ended.stdout[..], &ended.stderr[..]].concat());
        Ok(read(&test.name, &ended))
    }
}

/// The cases of a test.
fn read(name: &str, ended: &ProgramEnd) -> Vec<Case> {
    let mut cases = read_program_cases(name, ended);
    let output = String::from_utf8_lossy(&ended.stderr) + String::from_utf8_lossy(&ended.stdout);
    if let Some(failure) = assertion(&output)
        && let Some(case) =
            cases.iter_mut().find(|case| case.name == name && case.outcome == CaseOutcome::Fail)
    {
        *case = Case::new(name, CaseOutcome::Fail, Some(&failure));
    }
    cases
}

/// The place and the message of a failed assertion: the line after the heading, and those after the call stack.
///
/// Between them are a line with the process and its errno, and the call stack: lines that begin with a number.
fn assertion(output: &str) -> Option<String> {
    let mut lines = output.lines().map(str::trim).skip_while(|line| *line != ASSERTION).skip(1);
    let place = lines.next().filter(|place| !place.is_empty())?;
    let of_stack = |line: &&str| {
        line.starts_with(|c: char| c.is_ascii_digit())
            || line.starts_with("pid=")
            || line.starts_with("(stack trace")
            // Without binutils in the level, this is instead of the stack.
            || line.contains("addr2line: not found")
    };
    let message = lines.find(|line| !line.is_empty() && !of_stack(line));
    Some(match message {
        Some(message) => format!("{place}: {message}"),
        None => place.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::program::End;

    const FAILED: &str = "Random seed: 0x6b8b4567\n==== Test Assertion Failure ====\n  x86_64/svm_a.c:55: regs.rip == 4\n  \
                          pid=30 tid=30 errno=4 - Interrupted system call\nsh: addr2line: not found\n     1\t0x4027fd: main at svm_a.c:55\n     \
                          2\t0x410d30: ?? ??:0\n  Unexpected RIP, 0x3\n";

    #[rstest]
    #[case::success(0, "", &["pass t"])]
    #[case::skip(4, "1..0 # SKIP - Requirement not met: kvm_cpu_has(X86_FEATURE_SVM)\n", &[
        "skip t: Requirement not met: kvm_cpu_has(X86_FEATURE_SVM)"
    ])]
    #[case::assertion(254, FAILED, &["fail t: x86_64/svm_a.c:55: regs.rip == 4: Unexpected RIP, 0x3"])]
    #[case::no_message(254, "==== Test Assertion Failure ====\n  a.c:5: x\n", &["fail t: a.c:5: x"])]
    #[case::no_assertion(1, "==== Test\n", &["fail t: it exited with status 1; it printed \"==== Test\""])]
    #[case::an_assertion_of_another_end(139, FAILED, &["error t: signal 11 ended it; it printed \"Unexpected RIP, 0x3\""])]
    #[case::test_points(1, "TAP version 13\n1..2\nok 1 a\nnot ok 2 b\n", &["pass t: a", "fail t: b"])]
    fn status_and_output_become_cases(#[case] status: i64, #[case] stdout: &str, #[case] expected: &[&str]) {
        let ended =
            ProgramEnd { end: End::Exited(status), stdout: stdout.into(), stderr: Vec::new(), is_cut: false };
        let text = |case: &Case| match &case.said {
            Some(said) => format!("{} {}: {said}", case.outcome, case.name),
            None => format!("{} {}", case.outcome, case.name),
        };
        assert_eq!(read("t", &ended).iter().map(text).collect::<Vec<_>>(), expected);
    }
}
