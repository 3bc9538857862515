//! The main function of test programs whose tests can find only while they run that they can't: the archive may not deliver an
//! image today. libtest would count such a test as passed or failed; libtest-mimic counts it as ignored, with the reason.
//!
//! A program that uses this has `harness = false` in its manifest, and lists its tests in [`trials!`]. The compiler warns of a
//! test that is not listed, since nothing calls it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// What a test unwinds with to be counted as ignored.
struct Ignored(String);

/// A test of a program.
pub struct Listed {
    pub name: String,
    /// Why it only runs when it is asked for (`--ignored`).
    pub ignored: Option<&'static str>,
    pub body: Box<dyn FnOnce() + Send>,
}

/// Ends the test. It is counted as ignored.
#[allow(dead_code, reason = "some programs leave that to other modules")]
pub fn ignore(reason: &str) -> ! {
    // No panic, of which a message would be printed.
    resume_unwind(Box::new(Ignored(reason.to_owned())))
}

pub fn run(tests: Vec<Listed>) -> ExitCode {
    let arguments = Arguments::from_args();
    // These look at the mark; otherwise the reason is better than the mark, beside which none can be given.
    let marks = arguments.list || arguments.ignored || arguments.include_ignored;
    let trials = tests.into_iter().map(|Listed { name, ignored, body }| match ignored {
        Some(_) if marks => trial(name, body).with_ignored_flag(true),
        Some(reason) => trial(name, move || ignore(reason)),
        None => trial(name, body),
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn trial(name: String, body: impl FnOnce() + Send + 'static) -> Trial {
    Trial::ignorable_test(name, || {
        let Err(end) = catch_unwind(AssertUnwindSafe(body)) else { return Ok(Completion::Completed) };
        match end.downcast::<Ignored>() {
            // nextest runs one test a process and knows but success and failure of that.
            Ok(ignored) if std::env::var_os("NEXTEST").is_some() => {
                Err(Failed::from(format!("it can't run, and nextest has no way to ignore it: {}", ignored.0)))
            }
            Ok(ignored) => Ok(Completion::ignored_with(ignored.0)),
            Err(panic) => resume_unwind(panic),
        }
    })
}

/// Lists the tests of a program, and makes its main function. A test with arguments has its cases behind it:
/// `test { case(argument, argument), another_case(argument, argument) };`.
#[allow(unused_macros, reason = "the programs with libtest's harness list no tests")]
macro_rules! trials {
    ($($(#[ignore = $why:literal])? $test:ident $({ $($case:ident($($argument:expr),+ $(,)?)),+ $(,)? })?;)+) => {
        fn main() -> ::std::process::ExitCode {
            let mut tests: Vec<trials::Listed> = Vec::new();
            $(
                #[allow(unused_mut, unused_assignments, reason = "few tests have such a reason")]
                let mut ignored: Option<&'static str> = None;
                $( ignored = Some($why); )?
                trials!(@listed tests, ignored, $test $({ $($case($($argument),+)),+ })?);
            )+
            trials::run(tests)
        }
    };
    (@listed $tests:ident, $ignored:ident, $test:ident) => {
        $tests.push(trials::Listed { name: stringify!($test).to_owned(), ignored: $ignored, body: Box::new($test) });
    };
    (@listed $tests:ident, $ignored:ident, $test:ident { $($case:ident($($argument:expr),+)),+ }) => {
        $( $tests.push(trials::Listed {
            name: concat!(stringify!($test), "::", stringify!($case)).to_owned(),
            ignored: $ignored,
            body: Box::new(|| $test($($argument),+)),
        }); )+
    };
}
pub(crate) use trials;
