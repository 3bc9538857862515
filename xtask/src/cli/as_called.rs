//! The help of a program from an archive, which users do not call through cargo.

use clap::builder::StyledStr;
use clap::{Command, CommandFactory as _, FromArgMatches as _};
use nestmatrix_model::IS_FROM_ARCHIVE;

use super::Cli;

/// What the texts of the help say for a program of a checkout, and what they say for one of an archive.
const TEXTS: [(&str, &str); 2] = [
    ("cargo xtask", "nestmatrix"),
    ("results in the checkout", "nestmatrix/results in the XDG state folder"),
];

/// Commands that compile something, and so need a checkout.
const OF_A_CHECKOUT: [&str; 2] = ["bench", "dist"];

impl Cli {
    /// Reads the command line. Help and errors show the program as users call it.
    pub fn try_parse_as_called() -> Result<Self, clap::Error> {
        let mut command = Self::command();
        if IS_FROM_ARCHIVE {
            command = called(command);
            for name in OF_A_CHECKOUT {
                command = command.mut_subcommand(name, |subcommand| subcommand.hide(true));
            }
        }
        let mut matches = command.try_get_matches_from_mut(std::env::args_os())?;
        Self::from_arg_matches_mut(&mut matches).map_err(|e| e.format(&mut command))
    }
}

/// Puts what holds for an archive into all texts of a command and of its subcommands.
fn called(command: Command) -> Command {
    let renamed =
        |text: &StyledStr| TEXTS.iter().fold(text.to_string(), |text, (from, to)| text.replace(from, to));
    let about = command.get_about().map(renamed);
    let long_about = command.get_long_about().map(renamed);
    let after_help = command.get_after_help().map(renamed);
    let after_long_help = command.get_after_long_help().map(renamed);
    let mut command = command;
    if let Some(about) = about {
        command = command.about(about);
    }
    if let Some(about) = long_about {
        command = command.long_about(about);
    }
    if let Some(help) = after_help {
        command = command.after_help(help);
    }
    if let Some(help) = after_long_help {
        command = command.after_long_help(help);
    }
    let command = command.mut_args(|argument| {
        let (help, long_help) = (argument.get_help().map(renamed), argument.get_long_help().map(renamed));
        let argument = match help {
            Some(help) => argument.help(help),
            None => argument,
        };
        match long_help {
            Some(help) => argument.long_help(help),
            None => argument,
        }
    });
    command.mut_subcommands(called)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(command: &mut Command) -> String {
        command.render_long_help().to_string()
    }

    #[test]
    fn no_text_of_an_archives_program_names_cargo() {
        let mut command = called(Cli::command()).name("nestmatrix").bin_name("nestmatrix");
        command.build();
        let mut texts = help(&mut command);
        for subcommand in
            command.get_subcommands_mut().filter(|command| !OF_A_CHECKOUT.contains(&command.get_name()))
        {
            texts.push_str(&help(subcommand));
            subcommand.get_subcommands_mut().for_each(|command| texts.push_str(&help(command)));
        }
        assert!(texts.contains("nestmatrix merge"), "{texts}");
        let is_wrong = |line: &&str| TEXTS.iter().any(|(from, _)| line.contains(from));
        let wrong: Vec<&str> = texts.lines().filter(is_wrong).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
