//! A hash of everything that a cell asks for. A recorded result of a cell is out of date as soon as the cell asks for something
//! else, but not if only its prose changes.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::cell::{Cell, kebab_case};
use super::documents::in_full;
use super::problem::ScenarioProblem;

/// The first digits of the SHA-256 of all that a cell asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint(String);

/// Number of bytes of the hash that are kept. Only versions of the same cell are compared, so few are enough.
const BYTES: usize = 8;

/// Members of a cell's data that change neither what is booted nor the expected result: prose, and whether a step only reads.
const ASIDE: [&str; 6] = ["name", "note", "seen", "reference", "no_symptom", "reads"];

impl Fingerprint {
    /// The fingerprint of `cell`: its levels and their settings, its steps, its expected result, the damage that its scenario
    /// describes, and the claims that it tests, since results about the cell count for these.
    pub fn of(cell: &Cell) -> Self {
        let level = |spec| {
            let mut value = plain(spec);
            if let Value::Object(members) = &mut value {
                members.remove("system");
            }
            value
        };
        let levels: Vec<Value> = cell.levels.iter().map(level).collect();
        let systems: Vec<String> = cell.levels.iter().map(|spec| spec.system.slug()).collect();
        let changes = cell.mutations.iter().filter_map(|own| Some((&own.name, plain(own.change.as_ref()?))));
        let claims: BTreeSet<String> =
            cell.claims.iter().map(|claim| in_full(claim, &cell.document)).collect();
        let asked = json!({
            "claims": claims,
            "architecture": cell.architecture,
            "systems": systems,
            "levels": levels,
            "clock": cell.clock,
            "expectation": plain(&cell.expectation),
            "steps": plain(&cell.steps),
            "faults": plain(&cell.faults),
            "mutations": changes.collect::<Vec<_>>(),
        });
        let digest = Sha256::digest(asked.to_string());
        Self(hex::encode(&digest[..BYTES]))
    }

    pub(super) fn parse(text: &str) -> Result<Self, ScenarioProblem> {
        kebab_case("a fingerprint", text).map(Self)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A value without those members and without defaults, so that a new member of the format changes only the fingerprints of the
/// cells that use it.
fn plain(value: impl Serialize) -> Value {
    // Only keys that are not text can't be written, and a cell has none.
    pruned(serde_json::to_value(value).unwrap_or_default())
}

fn pruned(value: Value) -> Value {
    let is_default = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    };
    match value {
        Value::Object(members) => {
            let members = members.into_iter().filter(|(key, _)| !ASIDE.contains(&key.as_str()));
            let members = members.map(|(key, value)| (key, pruned(value)));
            Value::Object(members.filter(|(_, value)| !is_default(value)).collect::<Map<_, _>>())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(pruned).collect()),
        other => other,
    }
}
