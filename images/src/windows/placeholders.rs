//! Placeholders in the commands of a role: which there are, and what replaces them.

use crate::recipe_problem::RecipeProblem;
use crate::recipe_text::Text;
use nestmatrix_model::{Word, word_traits};

/// A placeholder, written as `@GUEST@`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placeholder {
    Guest,
    Cpus,
    MemoryMib,
    Parameters,
    Volume,
}

impl Word for Placeholder {
    const WHAT: &'static str = "placeholder";
    const ALL: &'static [Self] = &[Self::Guest, Self::Cpus, Self::MemoryMib, Self::Parameters, Self::Volume];

    fn word(self) -> &'static str {
        match self {
            Self::Guest => "@GUEST@",
            Self::Cpus => "@CPUS@",
            Self::MemoryMib => "@MEMORY_MIB@",
            Self::Parameters => "@PARAMETERS@",
            Self::Volume => "@VOLUME@",
        }
    }
}
word_traits!(Placeholder);

/// What the placeholders of a script stand for. No value can end a string of PowerShell, since only harmless characters are allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleValues {
    guest: String,
    cpus: u32,
    memory_mib: u32,
    parameters: String,
    volume: String,
}

/// A value that must not be in a script.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{placeholder} cannot be {value:?}: a script of a Windows role may only have letters, digits, blanks and ._=:,/- in it"
)]
pub struct RoleValueError {
    placeholder: &'static str,
    value: String,
}

impl RoleValues {
    /// The name of the guest, its CPUs and memory, its kernel parameters, and the label of the volume that carries it.
    ///
    /// # Errors
    /// A text has a character that PowerShell could take for more than a part of a string.
    pub fn new(
        guest: &str,
        cpus: u32,
        memory_mib: u32,
        parameters: &str,
        volume: &str,
    ) -> Result<Self, RoleValueError> {
        let checked = |placeholder: Placeholder, value: &str| {
            let is_harmless = |c: char| c.is_ascii_alphanumeric() || " ._=:,/-".contains(c);
            let wrong = || RoleValueError { placeholder: placeholder.word(), value: value.to_owned() };
            if value.chars().all(is_harmless) { Ok(value.to_owned()) } else { Err(wrong()) }
        };
        Ok(Self {
            guest: checked(Placeholder::Guest, guest)?,
            cpus,
            memory_mib,
            parameters: checked(Placeholder::Parameters, parameters)?,
            volume: checked(Placeholder::Volume, volume)?,
        })
    }

    fn of(&self, placeholder: Placeholder) -> String {
        match placeholder {
            Placeholder::Guest => self.guest.clone(),
            Placeholder::Cpus => self.cpus.to_string(),
            Placeholder::MemoryMib => self.memory_mib.to_string(),
            Placeholder::Parameters => self.parameters.clone(),
            Placeholder::Volume => self.volume.clone(),
        }
    }

    /// The script with these values.
    pub(super) fn fill(&self, script: &str) -> String {
        Placeholder::ALL.iter().fold(script.to_owned(), |script, placeholder| {
            script.replace(placeholder.word(), &self.of(*placeholder))
        })
    }
}

/// What looks like placeholders in a script, known or not: capital letters, digits and underscores between two `@`.
pub(super) fn written(script: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    script.match_indices('@').filter_map(move |(at, _)| {
        let name = &script[at + 1..];
        let length = name.find(|c: char| !is_part(c))?;
        let is_placeholder =
            name.starts_with(|c: char| c.is_ascii_uppercase()) && name[length..].starts_with('@');
        is_placeholder.then(|| &script[at..at + length + 2])
    })
}

/// Reports the unknown placeholders of a script, or all if there is no guest that they could be about.
pub(super) fn check(script: &Text<'_>, has_guest: bool) {
    let mut seen = Vec::new();
    for placeholder in written(script.as_str()) {
        if seen.contains(&placeholder) {
            continue;
        }
        seen.push(placeholder);
        match Placeholder::parse(placeholder) {
            Err(unknown) => script.report_part(placeholder, unknown),
            Ok(_) if !has_guest => {
                script.report_part(placeholder, RecipeProblem::NoGuest(placeholder.to_owned()));
            }
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_placeholder_is_replaced_wherever_it_stands() {
        let values = RoleValues::new("L2", 2, 512, "nest.nonce=42 quiet", "NESTGUEST").unwrap();
        let script =
            "'@GUEST@' @CPUS@ (@MEMORY_MIB@ * 1MB) @PARAMETERS@ @VOLUME@@GUEST@ @{ a = @('b') } @'\n'@";
        let filled = "'L2' 2 (512 * 1MB) nest.nonce=42 quiet NESTGUESTL2 @{ a = @('b') } @'\n'@";
        assert_eq!(values.fill(script), filled);
    }

    #[test]
    fn a_value_cannot_end_a_string() {
        for value in ["'", "\"", "$x", "`n", "a\nb", "a;b", "@CPUS@", "(", "{", "\u{2019}", "%x%"] {
            let error = RoleValues::new("L2", 1, 1, value, "V").unwrap_err();
            assert!(error.to_string().starts_with("@PARAMETERS@ cannot be "), "{error}");
            assert!(
                RoleValues::new(value, 1, 1, "", "V").is_err()
                    && RoleValues::new("L2", 1, 1, "", value).is_err()
            );
        }
    }

    #[test]
    fn only_words_in_capital_letters_look_like_placeholders() {
        let script = "@GUEST@@GEUST@ a@b.c @( @{ @'\nX\n'@ @args@ @1@ @A @B_2@";
        assert_eq!(written(script).collect::<Vec<_>>(), ["@GUEST@", "@GEUST@", "@B_2@"]);
    }
}
