//! Roles of a Windows level: how it is prepared, and the commands that start, watch and end what it hosts.
//!
//! A role is a TOML file in the folder `windows` of the recipes. Its commands are scripts of Windows PowerShell.

use super::placeholders::{self, RoleValues};
use crate::digest::Hasher;
use crate::recipe_problem::RecipeProblem;
use crate::recipe_text::{Table, Text, optional_list, read_file};
use crate::{Catalog, Digest};
use nestmatrix_input::{Entry, FileProblem, InputError, InputFile, Keys, entries, is_toml};
use nestmatrix_model::{Word, word_traits};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// The folder of roles in that of the recipes.
const FOLDER: &str = "windows";

/// How long a level may take to become ready, if its role says nothing.
const READY: Duration = Duration::from_secs(120);
const LONGEST_READY_SECONDS: u32 = 24 * 3600;

/// The most characters of a script. A command line of Windows has at most 32767, and the script is in it as UTF-16 in base 64.
const LONGEST_SCRIPT: usize = 11_500;

/// A command of a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RoleCommand {
    /// Exits with 0 once the level can start guests.
    Ready,
    /// Prints what the level says about itself, as lines `KEY=VALUE`.
    Facts,
    /// Prints the report of an innermost level.
    Report,
    /// Starts the guest.
    Start,
    /// Prints all that the guest's console has said.
    Console,
    /// Prints `running` or `ended REASON`.
    State,
    /// Ends the guest and removes what was made for it.
    Stop,
    /// Prints what may explain a failure.
    Diagnostics,
}

impl Word for RoleCommand {
    const WHAT: &'static str = "command of a Windows role";
    const ALL: &'static [Self] = &[
        Self::Ready,
        Self::Facts,
        Self::Report,
        Self::Start,
        Self::Console,
        Self::State,
        Self::Stop,
        Self::Diagnostics,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Facts => "facts",
            Self::Report => "report",
            Self::Start => "start",
            Self::Console => "console",
            Self::State => "state",
            Self::Stop => "stop",
            Self::Diagnostics => "diagnostics",
        }
    }
}
word_traits!(RoleCommand);

impl RoleCommand {
    /// Whether it is about a guest.
    fn has_guest(self) -> bool {
        matches!(self, Self::Start | Self::Console | Self::State | Self::Stop)
    }
}

/// A step of the preparation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrepareStep {
    script: String,
    why: String,
    success: Vec<u32>,
    restart: bool,
}

impl PrepareStep {
    const KEYS: Keys = &["run", "why", "success", "restart"];

    fn read(table: &Table<'_>, functions: usize) -> Option<Self> {
        let script = read_script(table, false, functions);
        let why = table.prose("why");
        let success = table.optional_integers("success", 0, u32::MAX).unwrap_or_else(|| vec![0]);
        let restart = table.optional_boolean("restart").unwrap_or(false);
        Some(Self { script: script?, why: why?, success, restart })
    }

    /// Its PowerShell script, without the role's functions.
    pub fn script(&self) -> &str {
        &self.script
    }

    /// The reason for it.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// The exit statuses that mean success.
    pub fn success(&self) -> &[u32] {
        &self.success
    }

    /// Whether Windows restarts after it.
    pub fn restart(&self) -> bool {
        self.restart
    }
}

/// A role, as its file says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowsRole {
    name: String,
    title: String,
    files: Vec<String>,
    functions: String,
    prepare: Vec<PrepareStep>,
    commands: BTreeMap<RoleCommand, String>,
    ready_limit: Duration,
    digest: Digest,
}

const COMMAND_KEYS: Keys = &["run", "why"];
const READY_KEYS: Keys = &["run", "why", "seconds"];

impl WindowsRole {
    const KEYS: Keys = &[
        "name",
        "title",
        "functions",
        "files",
        "prepare",
        "ready",
        "facts",
        "report",
        "start",
        "console",
        "state",
        "stop",
        "diagnostics",
    ];

    fn load(path: &Path) -> Result<Self, Vec<InputError<RecipeProblem>>> {
        let file = InputFile::read(path).map_err(|error| vec![error])?;
        let source = file.text();
        file.interpret(Self::KEYS, |root| Self::read(root, path.parent().unwrap_or(path), &source))
    }

    fn read(root: &Table<'_>, folder: &Path, source: &str) -> Option<Self> {
        let name = root.string("name").filter(|name| name.names_its_file("role", "name"));
        let title = root.prose("title");
        let files = optional_list(root, "files");
        let functions = root.optional_string("functions").map(|name| read_file(&name, folder));
        let functions = functions.unwrap_or_else(|| Some(String::new()));
        let length = functions.as_deref().map_or(0, |text| text.chars().count());
        let prepare = root.tables("prepare", PrepareStep::KEYS);
        let prepare = prepare.iter().filter_map(|step| PrepareStep::read(step, length)).collect();
        let (mut commands, mut ready_limit) = (BTreeMap::new(), READY);
        for command in RoleCommand::ALL {
            let keys = if *command == RoleCommand::Ready { READY_KEYS } else { COMMAND_KEYS };
            let is_required = *command == RoleCommand::Facts || (command.has_guest() && root.has("start"));
            let table = if is_required {
                root.table(command.word(), keys)
            } else {
                root.optional_table(command.word(), keys)
            };
            let Some(table) = table else { continue };
            table.prose("why");
            commands
                .extend(read_script(&table, command.has_guest(), length).map(|script| (*command, script)));
            if *command == RoleCommand::Ready
                && let Some(seconds) = table.optional_integer("seconds", 1, LONGEST_READY_SECONDS)
            {
                ready_limit = Duration::from_secs(seconds.into());
            }
        }
        if !root.has("start") && root.is_missing("report") {
            root.report(RecipeProblem::IdleRole);
        }
        let (name, functions) = (name?.as_str().to_owned(), functions?);
        let digest = Hasher::new().field(source).field(&functions).finish();
        Some(Self { name, title: title?, files, functions, prepare, commands, ready_limit, digest })
    }

    /// Its name: `hyper-v`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its name for readers: `Hyper-V`.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The names of the files that its preparation needs from the user: `wsl.msi`.
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// The functions that all its scripts use.
    pub fn functions(&self) -> &str {
        &self.functions
    }

    /// The steps of its preparation, in their order.
    pub fn prepare(&self) -> &[PrepareStep] {
        &self.prepare
    }

    /// The PowerShell script of a command, with these values for its placeholders and with the functions that it uses; none if the role
    /// has no such command.
    pub fn script(&self, command: RoleCommand, values: &RoleValues) -> Option<String> {
        let script = self.commands.get(&command)?;
        Some(format!("{}\n{}", self.functions, values.fill(script)))
    }

    /// Whether it has this command.
    pub fn has(&self, command: RoleCommand) -> bool {
        self.commands.contains_key(&command)
    }

    /// How long a level may take to become ready.
    pub fn ready_limit(&self) -> Duration {
        self.ready_limit
    }

    /// SHA-256 of its file and its functions.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }
}

/// The script under `run`. `functions` is the number of characters that come before it.
fn read_script(table: &Table<'_>, has_guest: bool, functions: usize) -> Option<String> {
    let script: Text<'_> = table.string("run")?;
    placeholders::check(&script, has_guest);
    let length = functions + script.as_str().chars().count();
    script.parse(|text| match text.trim() {
        "" => Err(FileProblem::Empty { key: "run" }.into()),
        _ if length > LONGEST_SCRIPT => Err(RecipeProblem::LongScript { length, limit: LONGEST_SCRIPT }),
        text => Ok(text.to_owned()),
    })
}

/// The roles in a folder of recipes, or every mistake in them. A folder without roles has none.
pub(crate) fn load(recipes: &Path) -> Result<BTreeMap<String, WindowsRole>, Vec<InputError<RecipeProblem>>> {
    let folder = recipes.join(FOLDER);
    if !folder.is_dir() {
        return Ok(BTreeMap::new());
    }
    let unreadable = |error| {
        let name = folder.display().to_string();
        vec![InputError::of_file(&name, FileProblem::Unreadable(error))]
    };
    let (mut roles, mut errors) = (BTreeMap::new(), Vec::new());
    let files = entries(&folder).map_err(unreadable)?;
    for Entry { path, .. } in files.into_iter().filter(|entry| !entry.is_folder && is_toml(&entry.path)) {
        match WindowsRole::load(&path) {
            Ok(role) => {
                roles.insert(role.name.clone(), role);
            }
            Err(found) => errors.extend(found),
        }
    }
    if errors.is_empty() { Ok(roles) } else { Err(errors) }
}

impl Catalog {
    /// The Windows role of this name, if there is one.
    pub fn windows_role(&self, name: &str) -> Option<&WindowsRole> {
        self.windows_roles.get(name)
    }

    /// All Windows roles, by name.
    pub fn windows_roles(&self) -> impl Iterator<Item = &WindowsRole> {
        self.windows_roles.values()
    }
}
