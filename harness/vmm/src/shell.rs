//! Words of shell commands.

/// `word` as one word of a POSIX shell command.
///
/// It is not that of the crate `shlex`, which also quotes `=` and `,`: then nearly every argument of QEMU that a record or
/// `reproduce.sh` shows would be in quotes.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quote("a b'c"), r"'a b'\''c'");
        assert_eq!(quote("-machine"), "-machine");
        assert_eq!(quote(""), "''");
    }
}
