//! The check of the sandbox in which emulators of bare machines run. Whatever is missing, stacks run without it.

use nestmatrix_vmm::sandbox::Enforced;

use crate::doctor::SandboxTrial;
use crate::doctor::finding::{Check, Finding};

pub(super) fn sandbox(trial: &SandboxTrial) -> Finding {
    let check = Check::Sandbox;
    let (enforced, seccomp) = match trial {
        SandboxTrial::Off => {
            return Finding::warning(
                check,
                "emulators run without a sandbox, because NESTMATRIX_SANDBOX is off",
            );
        }
        SandboxTrial::Failed(why) => {
            return Finding::warning(check, format!("the sandbox of emulators can't be entered: {why}"))
                .advise(
                    "emulated metal does not start; NESTMATRIX_SANDBOX=off runs emulators without a sandbox",
                );
        }
        SandboxTrial::Entered { enforced, seccomp } => (enforced, *seccomp),
    };
    let missing = missing(enforced, seccomp);
    let offered = offered(enforced, seccomp);
    if missing.is_empty() {
        return Finding::ok(check, format!("sandbox of emulators: {offered}"));
    }
    let offered = if offered.is_empty() { "nothing".to_owned() } else { offered };
    Finding::warning(
        check,
        format!("the sandbox of emulators has {offered}; missing: {}", missing.join("; ")),
    )
    .advise("stacks run all the same; a newer kernel or other settings of this machine offer more")
}

/// What is in force, on one line.
fn offered(enforced: &Enforced, seccomp: bool) -> String {
    let parts = [
        enforced.landlock.map(|abi| format!("Landlock ABI {abi}")),
        enforced.user_namespace.then(|| "user namespace".to_owned()),
        enforced.network_namespace.then(|| "network namespace".to_owned()),
        seccomp.then(|| "seccomp".to_owned()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// What is not in force, with what it means.
fn missing(enforced: &Enforced, seccomp: bool) -> Vec<String> {
    let mut missing = Vec::new();
    if enforced.landlock.is_none() {
        missing.push("Landlock (Linux 5.13 and later), so emulators can use your files".to_owned());
    }
    if let Some(why) = &enforced.namespace_refused {
        let left = match enforced.denies_tcp {
            true => "so only TCP is denied (by Landlock)",
            false => "so emulators can use the network",
        };
        missing.push(format!("a network namespace ({why}), {left}"));
    }
    if enforced.landlock.is_some() && !enforced.scopes {
        let what = "Landlock ABI 6 (Linux 6.12), so emulators can signal your processes";
        missing.push(format!("{what} and use their abstract sockets"));
    }
    if !seccomp {
        missing.push("seccomp, so emulators can start processes".to_owned());
    }
    missing
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::doctor::checks::tests::all_enforced as all;
    use crate::doctor::finding::Status;

    fn found(enforced: Enforced, seccomp: bool) -> Finding {
        sandbox(&SandboxTrial::Entered { enforced, seccomp })
    }

    #[test]
    fn what_is_in_force_is_shown() {
        let finding = found(all(), true);
        assert_eq!(finding.status, Status::Ok);
        let shown = "sandbox of emulators: Landlock ABI 7, user namespace, network namespace, seccomp";
        assert_eq!(finding.found, shown);
    }

    #[rstest]
    #[case::no_landlock(Enforced { landlock: None, denies_tcp: false, scopes: false, ..all() }, true, &["can use your files"])]
    #[case::old_landlock(Enforced { landlock: Some(4), scopes: false, ..all() }, true, &["can signal your processes"])]
    #[case::no_namespace(
        Enforced { user_namespace: false, network_namespace: false, namespace_refused: Some("no".into()), ..all() },
        true,
        &["network namespace (no)", "only TCP is denied"]
    )]
    #[case::nothing(
        Enforced { namespace_refused: Some("no".into()), ..Enforced::default() },
        false,
        &["has nothing;", "can use your files", "can use the network", "can start processes"]
    )]
    fn what_is_missing_is_a_warning_that_says_what_it_means(
        #[case] enforced: Enforced,
        #[case] seccomp: bool,
        #[case] shown: &[&str],
    ) {
        let finding = found(enforced, seccomp);
        assert_eq!((finding.status, finding.prevents.len()), (Status::Warning, 0));
        for part in shown {
            assert!(finding.found.contains(part), "{part} in {}", finding.found);
        }
    }

    #[test]
    fn a_sandbox_that_is_off_or_fails_is_a_warning() {
        assert_eq!(sandbox(&SandboxTrial::Off).status, Status::Warning);
        let failed = sandbox(&SandboxTrial::Failed("no memory".to_owned()));
        assert!(failed.found.ends_with("can't be entered: no memory") && failed.advice.is_some());
    }
}
