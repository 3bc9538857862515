//! The tables of the database and their versions. A file is created, migrated to the newest version, refused because it is newer, or
//! set aside because it is damaged.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::HistoryError;

/// The version of the tables, stored as `PRAGMA user_version`.
pub const SCHEMA: u32 = MIGRATIONS.len() as u32;

/// Marks an SQLite file as a history (`PRAGMA application_id`): "nest".
const APPLICATION: u32 = 0x6e65_7374;

/// The longest wait for a lock of another process. Adding a run takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// The migrations from each version to the next. They never change, because existing files have used them.
const MIGRATIONS: [&str; 4] = [
    "CREATE TABLE run (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        began TEXT NOT NULL,
        identity TEXT NOT NULL
    ) STRICT;
    CREATE INDEX run_by_identity ON run (identity);
    CREATE TABLE software (
        id INTEGER PRIMARY KEY,
        level TEXT NOT NULL,
        os TEXT NOT NULL,
        kernel TEXT NOT NULL,
        qemu TEXT NOT NULL,
        recipe TEXT NOT NULL,
        image TEXT NOT NULL,
        UNIQUE (level, os, kernel, qemu, recipe, image)
    ) STRICT;
    CREATE TABLE surroundings (
        id INTEGER PRIMARY KEY,
        nestmatrix TEXT NOT NULL,
        build TEXT NOT NULL,
        machine_kernel TEXT NOT NULL,
        machine_system TEXT NOT NULL,
        processor TEXT NOT NULL,
        metal TEXT NOT NULL,
        emulator TEXT NOT NULL,
        expectation TEXT NOT NULL,
        UNIQUE (nestmatrix, build, machine_kernel, machine_system, processor, metal, emulator, expectation)
    ) STRICT;
    CREATE TABLE verdict (
        id INTEGER PRIMARY KEY,
        run INTEGER NOT NULL REFERENCES run,
        cell TEXT NOT NULL,
        seen TEXT NOT NULL,
        verdict TEXT NOT NULL,
        known_stale INTEGER NOT NULL,
        stage TEXT NOT NULL,
        symptom TEXT,
        seconds REAL NOT NULL,
        saved INTEGER NOT NULL,
        surroundings INTEGER NOT NULL REFERENCES surroundings,
        digest TEXT NOT NULL,
        UNIQUE (run, digest)
    ) STRICT;
    CREATE INDEX verdict_by_cell ON verdict (cell, seen);
    CREATE INDEX verdict_by_digest ON verdict (digest);
    CREATE TABLE verdict_software (
        verdict INTEGER NOT NULL REFERENCES verdict,
        software INTEGER NOT NULL REFERENCES software,
        PRIMARY KEY (verdict, software)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE folder (
        name TEXT PRIMARY KEY,
        stamp TEXT NOT NULL,
        problem TEXT
    ) STRICT, WITHOUT ROWID;",
    // Attempts show cells that are flaky within a run. All folders are read again to add the attempts of existing verdicts. If a
    // run's folder no longer exists, its attempts stay unknown.
    "CREATE TABLE attempt (
        verdict INTEGER NOT NULL REFERENCES verdict,
        number INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        symptom TEXT,
        seconds REAL NOT NULL,
        saved INTEGER NOT NULL,
        PRIMARY KEY (verdict, number)
    ) STRICT, WITHOUT ROWID;
    DELETE FROM folder;",
    // What a scenario knew about a verdict. For existing verdicts, it stays unknown.
    "ALTER TABLE verdict ADD COLUMN known TEXT NOT NULL DEFAULT '';",
    // How near each system is to the documented one. All folders are read again to add it to existing verdicts.
    "ALTER TABLE verdict_software ADD COLUMN fidelity TEXT NOT NULL DEFAULT '';
    DELETE FROM folder;",
];

/// A damaged file that was moved away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Where it is now.
    pub to: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// The result of opening a file.
enum Found {
    Usable(Connection),
    Damaged(String),
}

/// Opens the history at `path`, creates it if it does not exist, and migrates it. A damaged one is set aside and replaced by a new
/// one.
pub(super) fn open(path: &Path) -> Result<(Connection, Option<SetAside>), HistoryError> {
    if let Found::Usable(connection) = examine(path)? {
        return Ok((connection, None));
    }
    // If several processes find it damaged at the same time, only one sets it aside; the others then find the new one.
    let _lock = lock(path);
    match examine(path)? {
        Found::Usable(connection) => Ok((connection, None)),
        Found::Damaged(why) => {
            let to = set_aside(path)?;
            match examine(path)? {
                Found::Usable(connection) => Ok((connection, Some(SetAside { to, why }))),
                Found::Damaged(why) => Err(HistoryError::Damaged { path: path.to_owned(), why }),
            }
        }
    }
}

/// A history in memory with the content of the one at `path`, if that is readable and up to date.
pub(super) fn in_memory(path: &Path) -> Result<Connection, HistoryError> {
    let made = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_in_memory()?;
        MIGRATIONS.iter().try_for_each(|migration| connection.execute_batch(migration))?;
        Ok(connection)
    };
    let failed = |source| HistoryError::Failed { doing: "create in memory", path: path.to_owned(), source };
    let mut connection = made().map_err(failed)?;
    // If it is not readable, the history is rebuilt from the runs.
    if let Err(e) = copy(path, &mut connection) {
        tracing::debug!("{} is not read: {e}", path.display());
    }
    Ok(connection)
}

/// Copies all rows of the history at `path`, or none.
fn copy(path: &Path, to: &mut Connection) -> rusqlite::Result<()> {
    if path.is_symlink() {
        return Err(rusqlite::Error::InvalidPath(path.to_owned()));
    }
    let from = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    from.busy_timeout(PATIENCE)?;
    if !matches!(state(&from)?, State::UpToDate) || problem(&from)?.is_some() {
        return Err(rusqlite::Error::InvalidQuery);
    }
    let transaction = to.transaction()?;
    for table in tables(&from)? {
        let mut rows = from.prepare(&format!("SELECT * FROM \"{table}\""))?;
        let columns = rows.column_count();
        let places = vec!["?"; columns].join(", ");
        let mut insert = transaction.prepare(&format!("INSERT INTO \"{table}\" VALUES ({places})"))?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let values = (0..columns).map(|column| row.get::<_, rusqlite::types::Value>(column));
            insert.execute(rusqlite::params_from_iter(values.collect::<rusqlite::Result<Vec<_>>>()?))?;
        }
    }
    transaction.commit()
}

/// Prevents other processes from setting aside the history at `path`. The kernel releases the lock however this process ends.
/// Without support for locks in the file system, this continues without one.
fn lock(path: &Path) -> Option<File> {
    let results = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let lock = File::open(results).ok()?;
    lock.lock().is_ok().then_some(lock)
}

/// Moves the file at `path` away, whatever it is. Returns its new path, if there was a file.
pub(super) fn clear(path: &Path) -> Result<Option<PathBuf>, HistoryError> {
    let _lock = lock(path);
    path.symlink_metadata().is_ok().then(|| set_aside(path)).transpose()
}

/// Moves the history at `path` away, with its journal, which SQLite would otherwise apply to the new history. Returns its new
/// path.
fn set_aside(path: &Path) -> Result<PathBuf, HistoryError> {
    let beside = |path: &Path, end: &str| {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(end);
        path.with_file_name(name)
    };
    let to = (1..).map(|number| beside(path, &format!(".aside-{number}"))).find(|to| !to.exists());
    let to = to.unwrap_or_else(|| beside(path, ".aside"));
    let failed = |source| HistoryError::Folder { doing: "move away", path: path.to_owned(), source };
    // The journal goes first: once the history is gone, another process may create a new one, with its own journal.
    for end in ["-journal", "-wal", "-shm"] {
        match fs::rename(beside(path, end), beside(&to, end)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
    }
    fs::rename(path, &to).map_err(failed)?;
    Ok(to)
}

fn examine(path: &Path) -> Result<Found, HistoryError> {
    if path.is_symlink() {
        // In results from another machine, the link can point to any file, which would be overwritten.
        let source = io::Error::other("it is a symbolic link, which is not followed");
        return Err(HistoryError::Folder { doing: "open", path: path.to_owned(), source });
    }
    let examined = look_at(path);
    match examined {
        Ok(found) => found,
        Err(e) if is_damage(&e) => Ok(Found::Damaged(e.to_string())),
        Err(source) => Err(HistoryError::Failed { doing: "open", path: path.to_owned(), source }),
    }
}

/// Whether the content is damaged: SQLite reports it, or a value is not valid for its column.
pub(super) fn is_damage(e: &rusqlite::Error) -> bool {
    let of_value = matches!(
        e,
        rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::Utf8Error(..)
    );
    // A schema format that SQLite does not know has no code of its own (sqlite3.c, sqlite3InitOne).
    let of_format = e.to_string().contains("unsupported file format");
    of_value || of_format || matches!(code(e), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn code(e: &rusqlite::Error) -> Option<ErrorCode> {
    match e {
        rusqlite::Error::SqlInputError { error, .. } => Some(error.code),
        e => e.sqlite_error_code(),
    }
}

/// What an SQLite file claims to be.
enum State {
    /// A new file.
    Empty,
    UpToDate,
    Version(u32),
    /// Not a history.
    Foreign(String),
}

fn look_at(path: &Path) -> rusqlite::Result<Result<Found, HistoryError>> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    if let State::Empty | State::Version(_) = state(&connection)? {
        // Another process that migrates at the same time waits, and then has nothing to do.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let from = match state(&transaction)? {
            State::Empty => 0,
            State::Version(version) if version > SCHEMA => return Ok(Err(newer(path, version))),
            State::Version(version) => version,
            State::UpToDate | State::Foreign(_) => SCHEMA,
        };
        for migration in MIGRATIONS.iter().skip(from as usize) {
            match transaction.execute_batch(migration) {
                // It is not of the version that it claims.
                Err(e) if code(&e) == Some(ErrorCode::Unknown) => {
                    return Ok(Ok(Found::Damaged(e.to_string())));
                }
                done => done?,
            }
        }
        if from < SCHEMA {
            transaction.pragma_update(None, "application_id", APPLICATION)?;
            transaction.pragma_update(None, "user_version", SCHEMA)?;
        }
        transaction.commit()?;
    }
    Ok(Ok(match state(&connection)? {
        State::UpToDate => match problem(&connection)? {
            None => Found::Usable(connection),
            Some(why) => Found::Damaged(why),
        },
        State::Version(version) => return Ok(Err(newer(path, version))),
        State::Foreign(why) => Found::Damaged(why),
        State::Empty => Found::Damaged("it stays empty".to_owned()),
    }))
}

fn newer(path: &Path, version: u32) -> HistoryError {
    HistoryError::Newer { path: path.to_owned(), version, known: SCHEMA }
}

fn state(connection: &Connection) -> rusqlite::Result<State> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(match (application, u32::try_from(version)) {
        (0, Ok(0)) if tables == 0 => State::Empty,
        (application, _) if application != i64::from(APPLICATION) => {
            State::Foreign(format!("it is another program's database (application_id {application:#x})"))
        }
        (_, Ok(SCHEMA)) => State::UpToDate,
        (_, Ok(version)) if version > 0 => State::Version(version),
        _ => State::Foreign(format!("its tables have no version ({version})")),
    })
}

/// What is wrong with a history that claims to be up to date.
fn problem(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let check: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if check != "ok" {
        return Ok(Some(check));
    }
    let dangling = connection.prepare("PRAGMA foreign_key_check")?.exists([])?;
    if dangling {
        return Ok(Some("rows refer to others that do not exist".to_owned()));
    }
    let fresh = Connection::open_in_memory()?;
    MIGRATIONS.iter().try_for_each(|migration| fresh.execute_batch(migration))?;
    Ok((parts(connection)? != parts(&fresh)?).then(|| "its tables are not those of its version".to_owned()))
}

/// The definitions of tables and indices.
fn parts(connection: &Connection) -> rusqlite::Result<BTreeMap<String, Option<String>>> {
    // SQLite's own statistics do not matter.
    let mut statement =
        connection.prepare("SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%'")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// The names of all tables.
fn tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let names = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
    connection.prepare(names)?.query_map([], |row| row.get(0))?.collect()
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
