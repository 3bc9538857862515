//! The results of a bisection: a table of versions, and the conclusion.

use crate::trials;
use crate::trials::{Finding, TriedVersion};

use super::style::{Role, Style};
use super::table::{Entry, Line, Table};
use super::text::{one_line, wrapped};

/// Every tested version, in version order, with its symptom. If the search is about a case, with the case's outcome too.
pub fn tried(versions: &[&TriedVersion], case: Option<&str>, style: &Style) -> String {
    let mut table = Table::default();
    let heading = |text: &str| Entry::new(text, Role::Heading);
    let number = Entry::right("seconds", Role::Heading);
    let mut headings = vec![heading("version"), heading("from")];
    headings.extend(case.map(|_| heading("case")));
    headings.extend([heading("verdict"), heading("stage"), number]);
    table.push(Line::Entries(headings));
    for tried in versions {
        let not_tested = || Entry::new("not tested", Role::Quiet);
        let verdict = match tried.verdict {
            // The verdict of the cell is not what is compared, so it is shown as it is.
            Some(verdict) if tried.not_tried.is_none() || case.is_some() => {
                Entry::new(verdict.to_string(), Role::Verdict(verdict))
            }
            _ => not_tested(),
        };
        let outcome = case.map(|_| match tried.behaviour() {
            Some(behaviour) => Entry::new(behaviour.to_string(), Role::Plain),
            None => not_tested(),
        });
        let stage = tried.stage.map_or(String::new(), |stage| stage.to_string());
        let mut entries = vec![
            Entry::new(one_line(&tried.version), Role::Plain),
            Entry::new(one_line(&tried.from), Role::Quiet),
        ];
        entries.extend(outcome);
        entries.extend([
            verdict,
            Entry::new(stage, Role::Plain),
            Entry::right(format!("{:.1}", tried.seconds), Role::Plain),
        ]);
        table.push(Line::Entries(entries));
        let of_case = tried.case.as_ref();
        let seen = match of_case {
            // The symptom may be about other cases.
            Some(of_case) => of_case.said.as_ref(),
            None => tried.symptom.as_ref(),
        };
        if let Some(seen) = tried.not_tried.as_ref().or(seen) {
            table.push(Line::Remark(one_line(seen)));
        }
    }
    table.render(0, style)
}

/// The conclusion about `versions`, including those that could not be tested; about their verdicts, or about the outcomes of a case.
pub fn finding(
    finding: &Finding,
    versions: &[(String, Option<TriedVersion>)],
    case: Option<&str>,
    style: &Style,
) -> String {
    let name = |at: usize| one_line(&versions[at].0);
    let verdict = |at: usize| {
        let behaviour = versions[at].1.as_ref().and_then(TriedVersion::behaviour);
        behaviour.map_or_else(|| "no verdict".to_owned(), |behaviour| behaviour.to_string())
    };
    let noun = if case.is_some() { "outcome" } else { "verdict" };
    let text = match finding {
        Finding::Changed { before, first, unknown } if unknown.is_empty() => format!(
            "first version with {}: {} (before: {}, {})",
            verdict(*first),
            name(*first),
            name(*before),
            verdict(*before)
        ),
        Finding::Changed { before, first, unknown } => format!(
            "changed between {} ({}) and {} ({}); {} could not be tested",
            name(*before),
            verdict(*before),
            name(*first),
            verdict(*first),
            unknown.iter().map(|at| name(*at)).collect::<Vec<_>>().join(", ")
        ),
        Finding::Same { lowest, highest } => format!(
            "no change found: {} and {}, the ends of the range that could be tested, both have {}. The {noun} may still \
             change and change back in between: --all tries every version, --from and --to select another range",
            name(*lowest),
            name(*highest),
            verdict(*lowest)
        ),
        Finding::TooFew => {
            let known = versions.iter().filter_map(|(_, tried)| tried.as_ref());
            let known = known.filter(|tried| tried.not_tried.is_none()).count();
            let of = versions.len();
            match case {
                Some(_) => format!(
                    "nothing found: the case has an outcome with {known} of {of} versions, but two are required"
                ),
                None => format!(
                    "nothing found: {known} of {of} versions have a verdict, but two are required. Use --boot-counts to count \
                     a failed boot of the level as a verdict"
                ),
            }
        }
    };
    format!("{}\n", wrapped(&about(text, case), 0, 2, style.width))
}

/// The text of a conclusion, with the case that it is about.
fn about(text: String, case: Option<&str>) -> String {
    match case {
        Some(case) => format!("{:?}: {text}", one_line(case)),
        None => text,
    }
}

/// Each change of the verdict from one version to the next, if all were tested; or of the outcome of a case.
pub fn changes(versions: &[(String, Option<TriedVersion>)], case: Option<&str>, style: &Style) -> String {
    let tried = || versions.iter().filter_map(|(_, tried)| tried.as_ref());
    let mut out = String::new();
    for (before, now) in trials::changes(tried()) {
        let text = format!(
            "{} since {} (before: {}, {})",
            word_of(now),
            one_line(&now.version),
            one_line(&before.version),
            word_of(before)
        );
        out.push_str(&format!("{}\n", wrapped(&about(text, case), 0, 2, style.width)));
    }
    if out.is_empty() {
        let text = match tried().find(|tried| tried.not_tried.is_none()) {
            Some(first) => format!("no change: every version that could be tested has {}", word_of(first)),
            None if case.is_some() => "it has no outcome with any version".to_owned(),
            None => "no version has a verdict".to_owned(),
        };
        out = format!("{}\n", wrapped(&about(text, case), 0, 2, style.width));
    }
    out
}

fn word_of(tried: &TriedVersion) -> String {
    tried.behaviour().map_or(String::new(), |behaviour| behaviour.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::VerdictWord;
    use crate::trials::TriedCase;
    use nestmatrix_model::CaseOutcome;

    fn version(name: &str, verdict: VerdictWord, not_tried: Option<&str>) -> (String, Option<TriedVersion>) {
        let tried = TriedVersion {
            version: name.into(),
            from: "trixie".into(),
            verdict: Some(verdict),
            case: None,
            not_tried: not_tried.map(str::to_owned),
            stage: Some("l1-launch".parse().unwrap()),
            symptom: Some("said \u{1b}[2J so".into()),
            seconds: 12.34,
            records: "results/x".into(),
        };
        (name.into(), Some(tried))
    }

    fn versions() -> Vec<(String, Option<TriedVersion>)> {
        vec![
            version("6.1-1", VerdictWord::Xfail, None),
            ("6.2-1".into(), None),
            version("6.3-1", VerdictWord::Error, Some("it does not boot")),
            version("6.4-1", VerdictWord::Xpass, None),
        ]
    }

    #[test]
    fn versions_are_listed_with_their_symptoms() {
        let versions = versions();
        let versions: Vec<&TriedVersion> = versions.iter().filter_map(|(_, tried)| tried.as_ref()).collect();
        insta::assert_snapshot!(tried(&versions, None, &Style::plain()), @r"
        version  from    verdict     stage      seconds
        6.1-1    trixie  xfail       l1-launch     12.3
                 said \u{1b}[2J so
        6.3-1    trixie  not tested  l1-launch     12.3
                 it does not boot
        6.4-1    trixie  xpass       l1-launch     12.3
                 said \u{1b}[2J so
        ");
    }

    #[test]
    fn a_conclusion_names_the_versions_that_could_not_be_tried() {
        let versions = versions();
        let say = |found: Finding| finding(&found, &versions, None, &Style::plain());
        let exact = say(Finding::Changed { before: 0, first: 3, unknown: vec![] });
        assert_eq!(exact, "first version with xpass: 6.4-1 (before: 6.1-1, xfail)\n");
        let interval = say(Finding::Changed { before: 0, first: 3, unknown: vec![1, 2] });
        assert_eq!(
            interval,
            "changed between 6.1-1 (xfail) and 6.4-1 (xpass); 6.2-1, 6.3-1 could not be tested\n"
        );
        assert!(say(Finding::Same { lowest: 0, highest: 0 }).starts_with("no change found: 6.1-1 and 6.1-1"));
        assert!(say(Finding::TooFew).starts_with("nothing found: 2 of 4 versions have a verdict"));
        assert_eq!(changes(&versions, None, &Style::plain()), "xpass since 6.4-1 (before: 6.1-1, xfail)\n");
        assert_eq!(
            changes(&versions[..1], None, &Style::plain()),
            "no change: every version that could be tested has xfail\n"
        );
        assert_eq!(changes(&versions[1..2], None, &Style::plain()), "no version has a verdict\n");
    }

    /// The same versions with a case: `fail`, untested, none, `pass`.
    fn versions_with_case() -> Vec<(String, Option<TriedVersion>)> {
        let outcomes = [Some(CaseOutcome::Fail), None, None, Some(CaseOutcome::Pass)];
        let with_case = |((name, tried), outcome): ((String, Option<TriedVersion>), Option<CaseOutcome>)| {
            let case = outcome.map(|outcome| TriedCase {
                name: "svm: a".into(),
                outcome,
                said: (outcome == CaseOutcome::Fail).then(|| "it is 3".to_owned()),
            });
            let not_tried = case.is_none().then(|| "the case has no outcome".to_owned());
            (name, tried.map(|tried| TriedVersion { case, not_tried, ..tried }))
        };
        versions().into_iter().zip(outcomes).map(with_case).collect()
    }

    #[test]
    fn a_search_about_a_case_shows_its_outcomes_and_not_the_symptom_of_others() {
        let versions = versions_with_case();
        let case = Some("svm: a");
        let listed: Vec<&TriedVersion> = versions.iter().filter_map(|(_, tried)| tried.as_ref()).collect();
        insta::assert_snapshot!(tried(&listed, case, &Style::plain()), @r"
        version  from    case        verdict  stage      seconds
        6.1-1    trixie  fail        xfail    l1-launch     12.3
                 it is 3
        6.3-1    trixie  not tested  error    l1-launch     12.3
                 the case has no outcome
        6.4-1    trixie  pass        xpass    l1-launch     12.3
        ");
        let style = Style { width: 200, ..Style::plain() };
        let say = |found: Finding| finding(&found, &versions, case, &style);
        let exact = say(Finding::Changed { before: 0, first: 3, unknown: vec![] });
        assert_eq!(exact, "\"svm: a\": first version with pass: 6.4-1 (before: 6.1-1, fail)\n");
        assert!(
            say(Finding::Same { lowest: 0, highest: 0 }).contains("both have fail. The outcome may still")
        );
        assert_eq!(
            say(Finding::TooFew),
            "\"svm: a\": nothing found: the case has an outcome with 2 of 4 versions, but two are required\n"
        );
        assert_eq!(changes(&versions, case, &style), "\"svm: a\": pass since 6.4-1 (before: 6.1-1, fail)\n");
        assert_eq!(
            changes(&versions[1..3], case, &style),
            "\"svm: a\": it has no outcome with any version\n"
        );
    }
}
