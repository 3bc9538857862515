//! The database's tables, their versions, and how a file comes to have the newest ones: made, brought up to date, refused, or set
//! aside because it is damaged.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::HistoryError;

/// The version of the tables, which `PRAGMA user_version` of the file has.
pub const SCHEMA: u32 = MIGRATIONS.len() as u32;

/// What says that an SQLite file is a history (`PRAGMA application_id`): "nest".
const APPLICATION: u32 = 0x6e65_7374;

/// Longest wait for somebody else who writes. A run is taken in within milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// From each version to the next one. What is here once is never changed: files have it.
const MIGRATIONS: [&str; 3] = [
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
    // Attempts tell of cells that are flaky within a run. All folders are read once more, so that those come in of verdicts that
    // are there already; where a run's folder is gone, they stay unknown.
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
    // What a scenario knew of a verdict. It stays unknown of those that are there already.
    "ALTER TABLE verdict ADD COLUMN known TEXT NOT NULL DEFAULT '';",
];

/// A damaged file that was moved out of the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Where it is now.
    pub to: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// What a file turns out to be.
enum Found {
    Usable(Connection),
    Damaged(String),
}

/// Opens the history at `path`, makes it if it is not there, brings it up to date. One that is damaged is set aside, and a new one
/// made in its place.
pub(super) fn open(path: &Path) -> Result<(Connection, Option<SetAside>), HistoryError> {
    if let Found::Usable(connection) = examine(path)? {
        return Ok((connection, None));
    }
    // Of several that find it damaged at the same time, one alone sets it aside; the others find the new one then.
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

/// A history in memory with what the one at `path` has, if that can be read and is up to date.
pub(super) fn in_memory(path: &Path) -> Result<Connection, HistoryError> {
    let made = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_in_memory()?;
        MIGRATIONS.iter().try_for_each(|migration| connection.execute_batch(migration))?;
        Ok(connection)
    };
    let failed = |source| HistoryError::Failed { doing: "make in memory", path: path.to_owned(), source };
    let mut connection = made().map_err(failed)?;
    // What can't be read is made anew from the runs, like everything that is damaged.
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

/// Keeps others from setting aside the history at `path`. The kernel gives the lock up however this ends; a file system that has none
/// is no reason to do nothing.
fn lock(path: &Path) -> Option<File> {
    let results = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let lock = File::open(results).ok()?;
    lock.lock().is_ok().then_some(lock)
}

/// Moves what is at `path` out of the way, whatever it is; gives the place where it is then, if there was something.
pub(super) fn clear(path: &Path) -> Result<Option<PathBuf>, HistoryError> {
    let _lock = lock(path);
    path.symlink_metadata().is_ok().then(|| set_aside(path)).transpose()
}

/// Moves the history at `path` out of the way, with the journal of what was being written to it: that would be taken for the new
/// one's. Gives the place where it is then.
fn set_aside(path: &Path) -> Result<PathBuf, HistoryError> {
    let beside = |path: &Path, end: &str| {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(end);
        path.with_file_name(name)
    };
    let to = (1..).map(|number| beside(path, &format!(".aside-{number}"))).find(|to| !to.exists());
    let to = to.unwrap_or_else(|| beside(path, ".aside"));
    let failed = |source| HistoryError::Folder { doing: "move away", path: path.to_owned(), source };
    // First what belongs to it: once it is gone, somebody else may make a new one, which has a journal of its own.
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
        // In results of another machine it can point to any file, which would be written to.
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

/// Whether what is read is not what was written: SQLite says so, or a value is none of its column's.
pub(super) fn is_damage(e: &rusqlite::Error) -> bool {
    let of_value = matches!(
        e,
        rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::Utf8Error(..)
    );
    of_value || matches!(code(e), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn code(e: &rusqlite::Error) -> Option<ErrorCode> {
    match e {
        rusqlite::Error::SqlInputError { error, .. } => Some(error.code),
        e => e.sqlite_error_code(),
    }
}

/// What an SQLite file says it is.
enum State {
    /// Nothing yet.
    Empty,
    UpToDate,
    Version(u32),
    /// It is none of ours.
    Foreign(String),
}

fn look_at(path: &Path) -> rusqlite::Result<Result<Found, HistoryError>> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    if let State::Empty | State::Version(_) = state(&connection)? {
        // Whoever else does so at the same time waits, and finds it done.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let from = match state(&transaction)? {
            State::Empty => 0,
            State::Version(version) if version > SCHEMA => return Ok(Err(newer(path, version))),
            State::Version(version) => version,
            State::UpToDate | State::Foreign(_) => SCHEMA,
        };
        for migration in MIGRATIONS.iter().skip(from as usize) {
            match transaction.execute_batch(migration) {
                // What it says to be it is not.
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

/// What is wrong with a history that says it is up to date.
fn problem(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let check: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if check != "ok" {
        return Ok(Some(check));
    }
    let dangling = connection.prepare("PRAGMA foreign_key_check")?.exists([])?;
    if dangling {
        return Ok(Some("rows name others that are not there".to_owned()));
    }
    let fresh = Connection::open_in_memory()?;
    MIGRATIONS.iter().try_for_each(|migration| fresh.execute_batch(migration))?;
    Ok((parts(connection)? != parts(&fresh)?).then(|| "its tables are not those of its version".to_owned()))
}

/// Tables and indices, as they were made.
fn parts(connection: &Connection) -> rusqlite::Result<BTreeMap<String, Option<String>>> {
    // SQLite's own statistics are nobody's concern.
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
