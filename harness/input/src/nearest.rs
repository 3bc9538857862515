//! Finds the known words that are nearest to an unknown one.

/// Up to this many known words are all listed. If there are more, only the nearest are.
const NAMED: usize = 20;

/// The known words: all of them, or only the nearest of many.
pub(crate) fn known_words(given: &str, known: &[String]) -> String {
    let meant = did_you_mean(given, known);
    if known.len() <= NAMED {
        return format!("{meant}the known ones are {}", list(known));
    }
    let mut nearest: Vec<_> = known.iter().map(|word| (distance(given, word), word)).collect();
    nearest.sort();
    let nearest: Vec<_> = nearest.iter().take(3).map(|(_, word)| word).collect();
    format!("{meant}the nearest of the {} known ones are {}", known.len(), list(&nearest))
}

/// Words as a list: each in backticks, with commas between them.
pub fn list(words: &[impl AsRef<str>]) -> String {
    words.iter().map(|word| format!("`{}`", word.as_ref())).collect::<Vec<_>>().join(", ")
}

/// "did you mean ...? " if one of the known words is only a typing error away; otherwise nothing.
pub(crate) fn did_you_mean(given: &str, known: &[impl AsRef<str>]) -> String {
    meant(given, known).map_or_else(String::new, |word| format!("did you mean `{word}`? "))
}

/// The known word that is only a typing error away.
pub(crate) fn meant<'k>(given: &str, known: &'k [impl AsRef<str>]) -> Option<&'k str> {
    // A different number means a different thing, and is no typing error: `l3-boot` does not mean `l0-boot`.
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    known
        .iter()
        .map(AsRef::as_ref)
        .filter(|word| digits(word) == digits(given))
        .map(|word| (distance(given, word), word))
        .filter(|(distance, word)| *distance <= given.len().min(word.len()).div_ceil(3))
        .min()
        .map(|(_, word)| word)
}

/// The `count` known texts that are most like `given`, the most similar first; `*` stands for any text. A known text that is longer is
/// also compared by its beginning.
pub fn nearest<'k>(given: &str, known: &[&'k str], count: usize) -> Vec<&'k str> {
    let given = given.replace('*', "").to_lowercase();
    let length = given.chars().count();
    let far = |text: &&'k str| {
        let text = text.to_lowercase();
        let beginning: String = text.chars().take(length).collect();
        // Of two with the same beginning, the one that is nearer as a whole comes first.
        let distance = strsim::osa_distance(&given, &text);
        (distance.min(strsim::osa_distance(&given, &beginning)), distance)
    };
    let mut known = known.to_vec();
    known.sort_by_cached_key(far);
    known.truncate(count);
    known
}

/// How many characters must be inserted, deleted, replaced, or swapped with their neighbour to turn one text into the other
/// (optimal string alignment). Texts that are too long for a typing error count as far apart.
fn distance(left: &str, right: &str) -> usize {
    if left.chars().count().max(right.chars().count()) > 64 {
        return usize::MAX;
    }
    strsim::osa_distance(left, right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_texts_come_first() {
        let known =
            ["svm: VMRUN: CR3", "svm: cr3 read intercept emulate", "svm: cr3 read intercept", "other"];
        assert_eq!(nearest("svm: CR3 reed intercept", &known, 2), [known[2], known[1]]);
        assert_eq!(nearest("svm: vmrun*", &known, 1), [known[0]]);
        assert!(nearest("x", &[], 3).is_empty());
    }
}
