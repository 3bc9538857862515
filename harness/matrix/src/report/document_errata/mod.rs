//! What runs show about the documents, as a text for their authors. They do not know this project, so the text uses none of its
//! words.

mod disputes;
mod entries;
mod page;
mod words;

use nestmatrix_model::Fidelity;

use crate::document_errata::{
    DocumentErrata, Earlier, Entry, ErrataOfDocument, OtherSystemUsed, SeenInRuns, Standing,
};
use crate::records::Purpose;

use page::Page;
use words::statements;

/// The errata of each document, one after the other, wrapped for plain text.
pub fn document_errata(errata: &DocumentErrata) -> String {
    let parts: Vec<String> = errata.documents.iter().map(|document| of_document(errata, document)).collect();
    if parts.is_empty() { "There are no documents.\n".to_owned() } else { parts.join("\n\n\n") }
}

fn of_document(errata: &DocumentErrata, part: &ErrataOfDocument) -> String {
    let mut page = Page::default();
    match &part.document {
        Some(document) => {
            page.heading(&format!("Errata: {}", document.title), '=');
            page.labelled(0, "Document", 12, &format!("{}, section {}", document.product, document.section));
            page.labelled(0, "Language", 12, &document.language);
        }
        None => {
            page.heading(&format!("Errata: {}", part.id), '=');
            page.paragraph(
                0,
                "The statements of this document are no longer recorded. This page is based on the records of these runs alone.",
            );
        }
    }
    runs(&mut page, errata);
    summary(&mut page, part);
    let (doubtful, clear): (Vec<&Entry>, Vec<&Entry>) = part.entries.iter().partition(|entry| entry.in_doubt);
    let mut number = 1;
    let mut section = |page: &mut Page, title: &str| {
        page.heading(&format!("{number}. {title}"), '-');
        number += 1;
        number - 1
    };
    let at = section(&mut page, "Statements that did not hold");
    if clear.is_empty() {
        page.paragraph(0, "None was seen in these runs.");
    }
    entries::entries(&mut page, at, &clear);
    if !doubtful.is_empty() {
        let at = section(&mut page, "Statements that may not hold");
        page.paragraph(
            0,
            "These stacks crashed or timed out on emulated hardware, and no program printed a reason. A fault of the emulator may \
             be the cause. Please treat these as questions.",
        );
        entries::entries(&mut page, at, &doubtful);
    }
    let at = section(&mut page, "Statements that contradict each other");
    disputes::disputes(&mut page, at, part);
    if !part.earlier.is_empty() {
        let at = section(&mut page, "Known from earlier runs, not seen in these");
        part.earlier.iter().enumerate().for_each(|(index, known)| earlier(&mut page, (at, index + 1), known));
    }
    section(&mut page, "What was tested");
    standings(&mut page, part);
    section(&mut page, "How this was tested");
    method(&mut page, part);
    page.finish()
}

fn runs(page: &mut Page, errata: &DocumentErrata) {
    let runs = errata.runs.iter().map(|run| {
        let on = [run.processor.as_str(), run.kernel.as_str()].join(", Linux ");
        (run.began.get(..10).unwrap_or_default().to_owned(), format!("{} ({on})", run.name))
    });
    for (index, (_, run)) in runs.enumerate() {
        page.labelled(0, if index == 0 { "Runs" } else { "" }, 12, &run);
    }
    for (run, purpose) in &errata.left_out {
        let why = match purpose {
            Purpose::Mutation => "its stacks were damaged on purpose",
            Purpose::Bisect => "it searched for a version, with software that the document is not about",
            Purpose::CpuModels => "its innermost levels had CPU models that the document is not about",
            Purpose::Repro => "it was a debug session",
            Purpose::Matrix => "it was left out",
        };
        page.labelled(0, "Not used", 12, &format!("{run}: {why}"));
    }
    if errata.runs.is_empty() {
        page.labelled(0, "Runs", 12, "none");
    }
}

fn summary(page: &mut Page, part: &ErrataOfDocument) {
    page.gap();
    let count = |doubt: bool| part.entries.iter().filter(|entry| entry.in_doubt == doubt).count();
    let findings = |number: usize| format!("{number} {}", if number == 1 { "finding" } else { "findings" });
    let mut text = match (part.standings.held + part.standings.deviated, count(false)) {
        (0, 0) => "No statement of this document has a result in these runs.".to_owned(),
        (_, 0) => "These runs have no finding against a statement of this document.".to_owned(),
        (_, number) => format!("These runs have {} against statements of this document.", findings(number)),
    };
    if count(true) > 0 {
        text.push_str(&format!(" {} may be due to a fault of the emulator.", findings(count(true))));
    }
    match part.disputes.len() + part.outside.len() {
        0 => text.push_str(" No contradiction is recorded."),
        number => {
            let within = part.disputes.iter().filter(|dispute| dispute.other.document.id == part.id).count();
            text.push_str(&format!(
                " {number} {} recorded, {within} of them within the document.",
                if number == 1 { "contradiction is" } else { "contradictions are" }
            ));
        }
    }
    page.paragraph(0, &text);
}

fn earlier(page: &mut Page, (section, index): (usize, usize), known: &Earlier) {
    page.gap();
    page.labelled(0, &format!("{section}.{index}"), 5, &format!("Tested by: {}", known.title));
    for claim in &known.claims {
        page.paragraph(5, &format!("Section \"{}\", in our words:", claim.section));
        page.paragraph(7, &claim.text);
    }
    let what = if known.limitation_gone { "the limitation was gone" } else { "it did not work" };
    let since = known.since.as_ref().map_or(String::new(), |since| format!(" since {since}"));
    page.paragraph(5, &format!("Known{since}, seen on {}: {what}. {}", known.seen, known.note));
    page.paragraph(
        5,
        match known.now {
            SeenInRuns::Held => "Not seen in these runs: the result was as documented.",
            SeenInRuns::NoResult => "Not seen in these runs: the test had no result.",
            SeenInRuns::Skipped => "Not seen in these runs: the test was not possible.",
            SeenInRuns::NotThere => "Not seen in these runs: they did not include the test.",
        },
    );
}

fn standings(page: &mut Page, part: &ErrataOfDocument) {
    let standings = &part.standings;
    if let Some(document) = &part.document {
        page.paragraph(0, &format!("Of the {} of this document:", statements(document.claims.len())));
        for (standing, text) in [
            (Standing::Held, "held whenever they were tested"),
            (Standing::DidNotHold, "were tested in a stack whose result was not as documented"),
            (Standing::NoResult, "were tested without a result (the test or its machine failed)"),
            (Standing::NotTried, "were not tested in these runs"),
            (Standing::Untestable, "cannot be tested by booting (support, advice, definitions)"),
        ] {
            page.labelled(0, &format!("{:>5}", standings.count(standing)), 7, text);
        }
        page.gap();
    }
    page.paragraph(
        0,
        &format!(
            "Stacks: {} with a result ({} as documented, {} not), {} without a result, {} not tested. A stack without a result \
             counts neither for nor against the document.",
            standings.held + standings.deviated,
            standings.held,
            standings.deviated,
            standings.no_result,
            standings.skipped
        ),
    );
}

fn method(page: &mut Page, part: &ErrataOfDocument) {
    page.paragraph(
        0,
        "Each try boots a stack of real kernels: L0 is the host, L1 a VM on it, L2 a VM in L1, and L3 a VM in L2. Each level \
         runs the next one with its own KVM and QEMU. The levels are small: one or two CPUs, kernel, QEMU and a minimal \
         userspace, without libvirt. So these results are about KVM and QEMU, not about the product as its installer sets it \
         up. The statements are in our words, not in the document's.",
    );
    if part.from_disks {
        page.gap();
        page.paragraph(
            0,
            "Systems \"installed on a disk\" are not small: they booted from the vendor's own disk, with its boot loader and its \
             userspace. Before that, they were started once, so that commands can be run in them. What this changed is in \
             the records of the runs.",
        );
    }
    if part.emulated {
        page.gap();
        page.paragraph(
            0,
            "Emulated hardware: an emulator was the bare machine. L0's kernel and its KVM are real and ran on it. What the \
             kernel and QEMU decide is the same as on a real machine; what the processor does may differ.",
        );
    }
    let of = |fidelity: Fidelity| part.other_systems.iter().filter(move |other| other.fidelity == fidelity);
    if of(Fidelity::Rebuild).next().is_some() {
        page.gap();
        page.paragraph(
            0,
            "(~) A rebuild of the documented system ran, which is not available to us without a subscription: the same version, built \
             from the same sources by another vendor. It is not the product itself, which may have another result:",
        );
    }
    of(Fidelity::Rebuild).for_each(|other| used_instead(page, other, "was used for"));
    if of(Fidelity::StandIn).next().is_some() {
        page.gap();
        page.paragraph(
            0,
            "(*) Another system stood in for the documented one, which is not available to us without a subscription. Its \
             kernel and QEMU are not the vendor's, so the same test on the documented system may have another result:",
        );
    }
    of(Fidelity::StandIn).for_each(|other| used_instead(page, other, "stood in for"));
}

fn used_instead(page: &mut Page, other: &OtherSystemUsed, verb: &str) {
    let OtherSystemUsed { system, reason, required, .. } = other;
    let required: Vec<&str> = required.iter().map(String::as_str).collect();
    let reason = reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
    page.labelled(2, "-", 4, &format!("{system} {verb} {}{reason}", required.join(", ")));
}
