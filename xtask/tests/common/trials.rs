//! The main function of test programs whose tests may find out only at run time that they can't run: the archive may not
//! deliver an image today. libtest would count such a test as passed or failed; libtest-mimic counts it as ignored, with the
//! reason.
//!
//! A program that uses this has `harness = false` in its manifest, and lists its tests in [`trials!`]. The compiler warns about
//! a test that is not listed, since nothing calls it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// The payload with which a test unwinds to be counted as ignored.
struct Ignored(String);

/// A test of a program.
pub struct Listed {
    pub name: String,
    /// Why it only runs on request (`--ignored`).
    pub ignored: Option<&'static str>,
    pub body: Box<dyn FnOnce() + Send>,
}

/// Ends the test. It is counted as ignored.
#[allow(dead_code, reason = "some programs leave that to other modules")]
pub fn ignore(reason: &str) -> ! {
    // Not a panic, which would print a message.
    resume_unwind(Box::new(Ignored(reason.to_owned())))
}

pub fn run(tests: Vec<Listed>) -> ExitCode {
    let arguments = Arguments::from_args();
    // These arguments depend on the mark. Otherwise the test is ignored with its reason, which a marked test can't show.
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
            // nextest runs one test per process, and knows only its success or failure.
            Ok(ignored) if std::env::var_os("NEXTEST").is_some() => {
                Err(Failed::from(format!("it can't run, and nextest has no way to ignore it: {}", ignored.0)))
            }
            Ok(ignored) => Ok(Completion::ignored_with(ignored.0)),
            Err(panic) => resume_unwind(panic),
        }
    })
}

/// Lists the tests of a program, and defines its main function. The cases of a test with arguments follow its name:
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
