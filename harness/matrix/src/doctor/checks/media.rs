//! Checks of the user's media. They restrict which images there are, and prevent no metal.

use crate::doctor::finding::{Check, Finding};
use crate::media::MediumRow;
use crate::scenario::NOT_YET_RUN;
use nestmatrix_model::PROGRAM;

/// A finding for each medium.
pub fn media_findings(media: &[MediumRow]) -> Vec<Finding> {
    media.iter().map(finding).collect()
}

fn finding(row: &MediumRow) -> Finding {
    let MediumRow { medium, architecture, recipe, unusable, touched, innermost_only, remedy, .. } = row;
    let check = Check::Media;
    let named = format!("medium {medium} ({architecture})");
    if let Some(why) = unusable {
        let finding = Finding::warning(check, format!("{named} is not used: {why}"));
        return match recipe {
            Some(_) => finding.fixed_by([
                format!("{PROGRAM} media add {medium} FILE"),
                format!("{PROGRAM} media remove {medium}"),
            ]),
            None => finding.advise("docs/media.md says which systems have a recipe, and how to add one"),
        };
    }
    let not_yet_run = if row.not_yet_run { format!("; {NOT_YET_RUN}") } else { String::new() };
    let state = format!("{named}: {}{not_yet_run}", row.state());
    if let Some(why) = innermost_only {
        return Finding::warning(check, format!("{state}; it can only be the innermost level: {why}"))
            .fixed_by(remedy.clone());
    }
    if *touched {
        return Finding::warning(check, format!("{state}; its file has another time than when it was added"))
            .advise("its next use compares its SHA-256")
            .fixed_by([format!("{PROGRAM} media check {medium}")]);
    }
    Finding::ok(check, state)
}

#[cfg(test)]
mod tests {
    use nestmatrix_model::Isa;

    use super::*;
    use crate::doctor::Status;

    fn row() -> MediumRow {
        MediumRow {
            medium: "rhel-9.4".into(),
            architecture: Isa::Amd64,
            image: "rhel-9.4-disk".into(),
            recipe: Some("rhel-9.4-disk-amd64".into()),
            file: "/media/rhel.qcow2".into(),
            unusable: None,
            touched: false,
            preparation: "not prepared",
            innermost_only: None,
            remedy: None,
            not_yet_run: false,
        }
    }

    #[test]
    fn each_medium_has_a_finding_with_the_commands_that_help() {
        let gone = MediumRow { unusable: Some("/media/rhel.qcow2: the file does not exist".into()), ..row() };
        let foreign = MediumRow { unusable: Some("no recipe".into()), recipe: None, ..row() };
        let remedy = Some("cargo xtask sources add rhel-9.4 --dvd FILE".to_owned());
        let small = MediumRow { innermost_only: Some("it has no QEMU".into()), remedy, ..row() };
        let touched = MediumRow { touched: true, ..row() };
        let findings = media_findings(&[row(), gone, foreign, small, touched]);
        let shown: Vec<_> =
            findings.iter().map(|one| (one.status, one.found.as_str(), one.fix.len())).collect();
        let named = "medium rhel-9.4 (amd64)";
        let expected = [
            (Status::Ok, format!("{named}: not prepared"), 0),
            (Status::Warning, format!("{named} is not used: /media/rhel.qcow2: the file does not exist"), 2),
            (Status::Warning, format!("{named} is not used: no recipe"), 0),
            (
                Status::Warning,
                format!("{named}: not prepared; it can only be the innermost level: it has no QEMU"),
                1,
            ),
            (
                Status::Warning,
                format!("{named}: not prepared; its file has another time than when it was added"),
                1,
            ),
        ];
        let expected: Vec<_> =
            expected.iter().map(|(status, found, fixes)| (*status, found.as_str(), *fixes)).collect();
        assert_eq!(shown, expected);
        assert!(findings.iter().all(|finding| finding.prevents.is_empty()));
    }
}
