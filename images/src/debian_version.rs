//! The order of Debian's version numbers (deb-version(7)).

use std::cmp::Ordering;

/// Compares two versions as `dpkg --compare-versions` does.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    let (a, b) = (split(a), split(b));
    a.0.cmp(&b.0).then_with(|| part(a.1, b.1)).then_with(|| part(a.2, b.2))
}

/// Epoch, upstream version and revision. What is missing counts as zero.
fn split(version: &str) -> (u64, &str, &str) {
    let (epoch, rest) = version.split_once(':').unwrap_or(("0", version));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, "0"));
    (epoch.parse().unwrap_or(0), upstream, revision)
}

/// Compares non-digits and numbers in turn.
fn part(mut a: &str, mut b: &str) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (words, rest) = (take(a, |c| !c.is_ascii_digit()), take(b, |c| !c.is_ascii_digit()));
        let numbers = (take(words.1, |c| c.is_ascii_digit()), take(rest.1, |c| c.is_ascii_digit()));
        let order = text(words.0, rest.0).then_with(|| number(numbers.0.0, numbers.1.0));
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (numbers.0.1, numbers.1.1);
    }
    Ordering::Equal
}

fn take(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

/// A tilde sorts before everything, even the end; letters sort before other characters.
fn text(a: &str, b: &str) -> Ordering {
    let rank = |c: Option<u8>| match c {
        Some(b'~') => -1,
        None => 0,
        Some(c) if c.is_ascii_alphabetic() => i32::from(c),
        Some(c) => i32::from(c) + 256,
    };
    let longer = a.len().max(b.len());
    (0..longer)
        .map(|at| rank(a.as_bytes().get(at).copied()).cmp(&rank(b.as_bytes().get(at).copied())))
        .find(|order| *order != Ordering::Equal)
        .unwrap_or(Ordering::Equal)
}

/// Numbers of any length.
fn number(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
#[path = "../tests/ordered_versions/mod.rs"]
mod ordered_versions;

#[cfg(test)]
mod tests {
    use super::ordered_versions::ORDER;
    use super::*;

    #[test]
    fn versions_are_in_debians_order() {
        for (index, a) in ORDER.iter().enumerate() {
            for (other, b) in ORDER.iter().enumerate() {
                assert_eq!(compare_versions(a, b), index.cmp(&other), "{a} and {b}");
            }
        }
        for (a, b) in [("1.0", "1.00"), ("0:1", "1"), ("1", "1-0")] {
            assert_eq!(compare_versions(a, b), Ordering::Equal, "{a} and {b}");
        }
    }
}
