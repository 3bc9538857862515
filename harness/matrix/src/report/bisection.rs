//! The results of a bisection: a table of versions, and the conclusion.

use crate::trials;
use crate::trials::{Finding, TriedVersion};

use super::style::{Role, Style};
use super::table::{Entry, Line, Table};
use super::text::{one_line, wrapped};

/// Every tested version, in version order, with its symptom.
pub fn tried(versions: &[&TriedVersion], style: &Style) -> String {
    let mut table = Table::default();
    let heading = |text: &str| Entry::new(text, Role::Heading);
    let number = Entry::right("seconds", Role::Heading);
    table.push(Line::Entries(vec![
        heading("version"),
        heading("from"),
        heading("verdict"),
        heading("stage"),
        number,
    ]));
    for tried in versions {
        let verdict = match (tried.verdict, &tried.not_tried) {
            (Some(verdict), None) => Entry::new(verdict.to_string(), Role::Verdict(verdict)),
            _ => Entry::new("not tested", Role::Quiet),
        };
        let stage = tried.stage.map_or(String::new(), |stage| stage.to_string());
        table.push(Line::Entries(vec![
            Entry::new(one_line(&tried.version), Role::Plain),
            Entry::new(one_line(&tried.from), Role::Quiet),
            verdict,
            Entry::new(stage, Role::Plain),
            Entry::right(format!("{:.1}", tried.seconds), Role::Plain),
        ]));
        if let Some(seen) = tried.not_tried.as_ref().or(tried.symptom.as_ref()) {
            table.push(Line::Remark(one_line(seen)));
        }
    }
    table.render(0, style)
}

/// The conclusion about `versions`, including those that could not be tested.
pub fn finding(finding: &Finding, versions: &[(String, Option<TriedVersion>)], style: &Style) -> String {
    let name = |at: usize| one_line(&versions[at].0);
    let verdict = |at: usize| {
        let verdict = versions[at].1.as_ref().and_then(|tried| tried.verdict);
        verdict.map_or_else(|| "no verdict".to_owned(), |verdict| verdict.to_string())
    };
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
            "no change found: {} and {}, the ends of the range that could be tested, both have {}. The verdict may still \
             change and change back in between: --all tries every version, --from and --to select another range",
            name(*lowest),
            name(*highest),
            verdict(*lowest)
        ),
        Finding::TooFew => {
            let known = versions.iter().filter_map(|(_, tried)| tried.as_ref());
            let known = known.filter(|tried| tried.not_tried.is_none()).count();
            format!(
                "nothing found: {known} of {} versions have a verdict, but two are required. Use --boot-counts to count a \
                 failed boot of the level as a verdict",
                versions.len()
            )
        }
    };
    format!("{}\n", wrapped(&text, 0, 2, style.width))
}

/// Each change of the verdict from one version to the next, if all were tested.
pub fn changes(versions: &[(String, Option<TriedVersion>)], style: &Style) -> String {
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
        out.push_str(&format!("{}\n", wrapped(&text, 0, 2, style.width)));
    }
    if out.is_empty() {
        out = match tried().find(|tried| tried.not_tried.is_none()) {
            Some(first) => format!("no change: every version that could be tested has {}\n", word_of(first)),
            None => "no version has a verdict\n".to_owned(),
        };
    }
    out
}

fn word_of(tried: &TriedVersion) -> String {
    tried.verdict.map_or(String::new(), |verdict| verdict.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::VerdictWord;

    fn version(name: &str, verdict: VerdictWord, not_tried: Option<&str>) -> (String, Option<TriedVersion>) {
        let tried = TriedVersion {
            version: name.into(),
            from: "trixie".into(),
            verdict: Some(verdict),
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
        insta::assert_snapshot!(tried(&versions, &Style::plain()), @r"
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
        let say = |found: Finding| finding(&found, &versions, &Style::plain());
        let exact = say(Finding::Changed { before: 0, first: 3, unknown: vec![] });
        assert_eq!(exact, "first version with xpass: 6.4-1 (before: 6.1-1, xfail)\n");
        let interval = say(Finding::Changed { before: 0, first: 3, unknown: vec![1, 2] });
        assert_eq!(
            interval,
            "changed between 6.1-1 (xfail) and 6.4-1 (xpass); 6.2-1, 6.3-1 could not be tested\n"
        );
        assert!(say(Finding::Same { lowest: 0, highest: 0 }).starts_with("no change found: 6.1-1 and 6.1-1"));
        assert!(say(Finding::TooFew).starts_with("nothing found: 2 of 4 versions have a verdict"));
        assert_eq!(changes(&versions, &Style::plain()), "xpass since 6.4-1 (before: 6.1-1, xfail)\n");
        assert_eq!(
            changes(&versions[..1], &Style::plain()),
            "no change: every version that could be tested has xfail\n"
        );
        assert_eq!(changes(&versions[1..2], &Style::plain()), "no version has a verdict\n");
    }
}
