//! The open history: rows in, typed values out. It has all SQL except the definitions of the tables.

use std::path::{Path, PathBuf};

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::entry::{Origin, Seen, by_origin};
use super::schema::{self, SetAside, is_damage};
use super::{AttemptSeen, Circumstances, HistoryEntry, HistoryError, Software};
use crate::records::PastRun;
use crate::scenario::CellName;

/// The history's file name in a folder of results.
pub const FILE: &str = "history.sqlite3";

/// The history of a folder of results.
#[derive(Debug)]
pub struct History {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
}

/// What is known about a folder that was read.
pub(super) struct KnownFolder {
    pub(super) stamp: String,
    pub(super) problem: Option<String>,
}

impl History {
    /// Opens the history in the folder `results`, or creates it. A damaged one is set aside.
    ///
    /// # Errors
    /// It cannot be opened or written, or a newer nestmatrix wrote it.
    pub fn open(results: &Path) -> Result<(Self, Option<SetAside>), HistoryError> {
        let path = results.join(FILE);
        let (connection, aside) = schema::open(&path)?;
        Ok((Self { connection, path }, aside))
    }

    /// A history of the folder `results` in memory, for a folder that is not writable. It begins with the content of the file, if
    /// that is readable.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn in_memory(results: &Path) -> Result<Self, HistoryError> {
        let path = results.join(FILE);
        Ok(Self { connection: schema::in_memory(&path)?, path })
    }

    /// Sets aside the history in the folder `results`, if there is one, and creates a new one.
    ///
    /// # Errors
    /// It cannot be moved away, or a new one cannot be created.
    pub fn anew(results: &Path) -> Result<(Self, Option<PathBuf>), HistoryError> {
        let path = results.join(FILE);
        let aside = schema::clear(&path)?;
        Ok((Self::open(results)?.0, aside))
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every cell with a verdict, sorted by name.
    ///
    /// # Errors
    /// The history cannot be read.
    pub fn cells(&self) -> Result<Vec<CellName>, HistoryError> {
        let read = || -> rusqlite::Result<Vec<CellName>> {
            let mut statement = self.connection.prepare("SELECT DISTINCT cell FROM verdict ORDER BY cell")?;
            statement.query_map([], |row| word(row, 0))?.collect()
        };
        read().map_err(|e| self.failed("read", e))
    }

    /// The number of runs and of verdicts.
    ///
    /// # Errors
    /// The history cannot be read.
    pub fn counts(&self) -> Result<(i64, i64), HistoryError> {
        let counts = "SELECT (SELECT count(DISTINCT run) FROM verdict), (SELECT count(*) FROM verdict)";
        let read = self.connection.query_row(counts, [], |row| Ok((row.get(0)?, row.get(1)?)));
        read.map_err(|e| self.failed("read", e))
    }

    /// The entries of a cell, in time order.
    ///
    /// # Errors
    /// The history cannot be read.
    pub fn entries(&self, cell: &CellName) -> Result<Vec<HistoryEntry>, HistoryError> {
        self.read_entries(cell).map_err(|e| self.failed("read", e))
    }

    fn read_entries(&self, cell: &CellName) -> rusqlite::Result<Vec<HistoryEntry>> {
        let mut verdicts = self.connection.prepare(
            "SELECT verdict.id, run.name, seen, verdict, known_stale, stage, symptom, seconds, saved,
                    nestmatrix, build, machine_kernel, machine_system, processor, metal, emulator, expectation,
                    known
             FROM verdict JOIN run ON run.id = verdict.run JOIN surroundings ON surroundings.id = verdict.surroundings
             WHERE cell = ? ORDER BY seen, run.began, verdict.id",
        )?;
        let mut software = self.connection.prepare(
            "SELECT level, os, kernel, qemu, recipe, image, fidelity
             FROM verdict_software JOIN software ON software.id = verdict_software.software
             WHERE verdict = ? ORDER BY level",
        )?;
        let mut attempts = self.connection.prepare(
            "SELECT outcome, symptom, seconds, saved FROM attempt WHERE verdict = ? ORDER BY number",
        )?;
        let mut found = Vec::new();
        let mut rows = verdicts.query([cell.as_str()])?;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            let levels = software.query_map([id], |row| {
                Ok(Software {
                    level: word(row, 0)?,
                    os: row.get(1)?,
                    kernel: some(row, 2)?,
                    qemu: some(row, 3)?,
                    recipe: some(row, 4)?,
                    image: some(row, 5)?,
                    fidelity: some_word(row, 6)?,
                })
            })?;
            let with = Circumstances {
                nestmatrix: row.get(9)?,
                build: some(row, 10)?,
                machine_kernel: row.get(11)?,
                machine_system: row.get(12)?,
                processor: row.get(13)?,
                metal: some_word(row, 14)?,
                emulator: some(row, 15)?,
                expectation: row.get(16)?,
                levels: levels.collect::<rusqlite::Result<_>>()?,
            };
            let tried = attempts.query_map([id], |row| {
                Ok(AttemptSeen {
                    verdict: word(row, 0)?,
                    symptom: row.get(1)?,
                    seconds: row.get(2)?,
                    saved: row.get(3)?,
                })
            })?;
            found.push(HistoryEntry {
                cell: cell.clone(),
                run: row.get(1)?,
                seen: row.get(2)?,
                verdict: word(row, 3)?,
                known_stale: row.get(4)?,
                known: some_word(row, 17)?,
                stage: some_word(row, 5)?,
                symptom: row.get(6)?,
                seconds: row.get(7)?,
                saved: row.get(8)?,
                attempts: tried.collect::<rusqlite::Result<_>>()?,
                with,
            });
        }
        Ok(found)
    }

    /// What is known about a folder of the folder of results, if it was read.
    pub(super) fn folder(&self, name: &str) -> Result<Option<KnownFolder>, HistoryError> {
        let read = || {
            let mut statement =
                self.connection.prepare("SELECT stamp, problem FROM folder WHERE name = ?")?;
            let known = |row: &Row<'_>| Ok(KnownFolder { stamp: row.get(0)?, problem: row.get(1)? });
            statement.query_row([name], known).optional()
        };
        read().map_err(|e| self.failed("read", e))
    }

    /// Stores that a folder cannot be read as a run.
    pub(super) fn note_problem(
        &mut self,
        name: &str,
        stamp: &str,
        problem: &str,
    ) -> Result<(), HistoryError> {
        self.write(|transaction| note_folder(transaction, name, stamp, Some(problem)))
    }

    /// Adds the verdicts of a run, all or none. Existing ones stay as they are. Returns the number of new verdicts.
    pub(super) fn insert_run(
        &mut self,
        past: &PastRun,
        (name, stamp): (&str, &str),
    ) -> Result<usize, HistoryError> {
        self.write(|transaction| {
            let mut new = 0;
            for (origin, seen) in by_origin(past) {
                let run = run_of(transaction, &origin, &seen)?;
                for seen in &seen {
                    new += usize::from(insert(transaction, run, seen)?);
                }
            }
            note_folder(transaction, name, stamp, None)?;
            Ok(new)
        })
    }

    fn write<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, HistoryError> {
        // A transaction that begins with a read and then writes fails if another process has written in between.
        let written = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let written = written.and_then(|transaction| {
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        });
        written.map_err(|e| self.failed("write", e))
    }

    fn failed(&self, doing: &'static str, source: rusqlite::Error) -> HistoryError {
        let path = self.path.clone();
        if is_damage(&source) {
            HistoryError::Damaged { path, why: source.to_string() }
        } else {
            HistoryError::Failed { doing, path, source }
        }
    }
}

fn note_folder(
    transaction: &Transaction<'_>,
    name: &str,
    stamp: &str,
    problem: Option<&str>,
) -> rusqlite::Result<()> {
    transaction
        .execute(
            "INSERT OR REPLACE INTO folder (name, stamp, problem) VALUES (?, ?, ?)",
            params![name, stamp, problem],
        )
        .map(drop)
}

/// The row of a run, which may exist under another name. Runs that began in the same second on the same machine have the same
/// identity; they are distinguished by their verdicts, and otherwise by their names.
fn run_of(transaction: &Transaction<'_>, origin: &Origin, seen: &[Seen]) -> rusqlite::Result<i64> {
    let mut by_entry = transaction.prepare(
        "SELECT run.id FROM verdict JOIN run ON run.id = verdict.run WHERE digest = ? AND identity = ?",
    )?;
    // Two runs may have the same record of a skipped cell.
    for seen in seen.iter().filter(|seen| !seen.entry.attempts.is_empty()) {
        let found = by_entry.query_row(params![seen.digest, origin.identity], |row| row.get(0));
        if let Some(run) = found.optional()? {
            return Ok(run);
        }
    }
    let by_name = "SELECT id FROM run WHERE identity = ? AND name = ?";
    let found = transaction.query_row(by_name, params![origin.identity, origin.name], |row| row.get(0));
    if let Some(run) = found.optional()? {
        return Ok(run);
    }
    transaction.execute(
        "INSERT INTO run (name, began, identity) VALUES (?, ?, ?)",
        params![origin.name, origin.began, origin.identity],
    )?;
    Ok(transaction.last_insert_rowid())
}

/// Inserts an entry, unless the run has it. Attempts and fidelities that were unknown are added in both cases.
fn insert(transaction: &Transaction<'_>, run: i64, seen: &Seen) -> rusqlite::Result<bool> {
    let Seen { entry, digest } = seen;
    let known = "SELECT id FROM verdict WHERE run = ? AND digest = ?";
    let known: Option<i64> =
        transaction.query_row(known, params![run, digest], |row| row.get(0)).optional()?;
    let verdict = match known {
        Some(verdict) => verdict,
        None => insert_verdict(transaction, run, entry, digest)?,
    };
    let mut statement = transaction.prepare(
        "INSERT OR IGNORE INTO attempt (verdict, number, outcome, symptom, seconds, saved) VALUES (?, ?, ?, ?, ?, ?)",
    )?;
    for (number, attempt) in (1_i64..).zip(&entry.attempts) {
        let AttemptSeen { verdict: outcome, symptom, seconds, saved } = attempt;
        statement.execute(params![verdict, number, text(outcome), symptom, seconds, saved])?;
    }
    note_fidelities(transaction, verdict, &entry.with.levels)?;
    Ok(known.is_none())
}

fn note_fidelities(transaction: &Transaction<'_>, verdict: i64, levels: &[Software]) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare(
        "UPDATE verdict_software SET fidelity = ?
         WHERE verdict = ? AND software IN (SELECT id FROM software WHERE level = ?)",
    )?;
    for Software { level, fidelity, .. } in levels {
        if let Some(fidelity) = fidelity {
            statement.execute(params![text(fidelity), verdict, text(level)])?;
        }
    }
    Ok(())
}

fn insert_verdict(
    transaction: &Transaction<'_>,
    run: i64,
    entry: &HistoryEntry,
    digest: &str,
) -> rusqlite::Result<i64> {
    let Circumstances {
        nestmatrix,
        build,
        machine_kernel,
        machine_system,
        processor,
        metal,
        emulator,
        expectation,
        levels,
    } = &entry.with;
    let build = build.as_deref().unwrap_or_default();
    let metal = metal.map_or(String::new(), |metal| text(&metal));
    let emulator = emulator.as_deref().unwrap_or_default();
    // The update of an existing row changes nothing, but returns its id.
    let surroundings: i64 = transaction.query_row(
        "INSERT INTO surroundings
             (nestmatrix, build, machine_kernel, machine_system, processor, metal, emulator, expectation)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET build = excluded.build RETURNING id",
        params![nestmatrix, build, machine_kernel, machine_system, processor, metal, emulator, expectation],
        |row| row.get(0),
    )?;
    let stage = entry.stage.map_or(String::new(), |stage| stage.to_string());
    transaction.execute(
        "INSERT INTO verdict
             (run, cell, seen, verdict, known_stale, stage, symptom, seconds, saved, surroundings, digest, known)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            run,
            entry.cell.as_str(),
            entry.seen,
            text(&entry.verdict),
            entry.known_stale,
            stage,
            entry.symptom,
            entry.seconds,
            entry.saved,
            surroundings,
            digest,
            entry.known.map_or(String::new(), |known| text(&known))
        ],
    )?;
    let verdict = transaction.last_insert_rowid();
    for Software { level, os, kernel, qemu, recipe, image, fidelity: _ } in levels {
        let [kernel, qemu, recipe, image] =
            [kernel, qemu, recipe, image].map(|of| of.as_deref().unwrap_or_default());
        let software: i64 = transaction.query_row(
            "INSERT INTO software (level, os, kernel, qemu, recipe, image) VALUES (?, ?, ?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET os = excluded.os RETURNING id",
            params![text(level), os, kernel, qemu, recipe, image],
            |row| row.get(0),
        )?;
        transaction.execute(
            "INSERT OR IGNORE INTO verdict_software (verdict, software) VALUES (?, ?)",
            [verdict, software],
        )?;
    }
    Ok(verdict)
}

/// A word, as in records.
fn text<T: Serialize>(word: &T) -> String {
    match serde_json::to_value(word) {
        Ok(Value::String(text)) => text,
        // Every type that is written like this is a word.
        _ => String::new(),
    }
}

/// The word in a column, as in records.
fn word<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_value(Value::String(text))
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, e.into()))
}

/// The text in a column, or `None` if it is empty.
fn some(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    Ok(Some(row.get::<_, String>(column)?).filter(|text| !text.is_empty()))
}

fn some_word<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>> {
    some(row, column)?.map(|_| word(row, column)).transpose()
}
