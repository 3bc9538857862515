//! The CPU models of a QEMU, and which of them its host can run, as `query-cpu-definitions` reports them.
//!
//! The answer depends on the accelerator and on the machine type: with KVM, QEMU compares each model with what KVM offers, and the
//! machine type decides which version an unversioned name stands for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A CPU model of a QEMU. Other names of the same model are not models of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuModel {
    /// Its name, as `-cpu` takes it.
    pub name: String,
    /// Other names of it: `EPYC` for `EPYC-v1`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Whether QEMU calls it deprecated.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deprecated: bool,
    /// Its features that the host does not have: none if the model is usable. Absent if QEMU does not report this, as on Arm and
    /// POWER.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailable_features: Option<Vec<String>>,
}

impl CpuModel {
    /// Whether QEMU reports that the host has all of its features; none if QEMU does not report it.
    pub fn is_usable(&self) -> Option<bool> {
        self.unavailable_features.as_ref().map(Vec::is_empty)
    }

    /// Its name and its aliases.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.name.as_str()).chain(self.aliases.iter().map(String::as_str))
    }
}

/// The models in a reply to `query-cpu-definitions`, by name.
pub(super) fn read(reply: &Value) -> Vec<CpuModel> {
    let definitions: Vec<Definition> =
        reply.as_array().into_iter().flatten().filter_map(Definition::read).collect();
    let is_known = |name: &String| definitions.iter().any(|one| one.name == *name);
    let target_of = |one: &Definition| one.alias_of.clone().filter(is_known);
    // On POWER, an alias does not say so. It has the type of its model, which is named after that model.
    let mut of_types: BTreeMap<&str, &Definition> = BTreeMap::new();
    for one in definitions.iter().filter(|one| target_of(one).is_none()) {
        let first = of_types.entry(&one.model_type).or_insert(one);
        if !first.has_own_type() && one.has_own_type() {
            *first = one;
        }
    }
    let mut models: Vec<CpuModel> = of_types.values().map(|one| one.model()).collect();
    for alias in &definitions {
        let mut one = alias;
        // Bounded: aliases that name each other in a circle are no models.
        for _ in 0..definitions.len() {
            let Some(target) = target_of(one) else { break };
            one = definitions.iter().find(|other| other.name == target).unwrap_or(one);
        }
        let model = of_types.get(one.model_type.as_str()).map(|first| &first.name);
        let model = models.iter_mut().find(|known| Some(&known.name) == model && known.name != alias.name);
        if let Some(model) = model.filter(|model| !model.aliases.contains(&alias.name)) {
            model.aliases.push(alias.name.clone());
        }
    }
    models.iter_mut().for_each(|model| model.aliases.sort());
    models.sort_by_cached_key(|model| (model.name.to_lowercase(), model.name.clone()));
    models
}

/// One element of the reply.
struct Definition {
    name: String,
    alias_of: Option<String>,
    /// QEMU's type of it, which is its name if QEMU does not report it.
    model_type: String,
    deprecated: bool,
    unavailable_features: Option<Vec<String>>,
}

impl Definition {
    fn read(value: &Value) -> Option<Self> {
        let text = |member: &str| value[member].as_str().map(str::to_owned);
        let name = text("name").filter(|name| is_word(name))?;
        let unavailable_features = value["unavailable-features"].as_array().map(|features| {
            let mut names: Vec<String> = Vec::new();
            for name in features.iter().filter_map(Value::as_str) {
                // QEMU names a feature once for each of its bits that is missing.
                if !names.iter().any(|known| known == name) {
                    names.push(name.to_owned());
                }
            }
            names
        });
        Some(Self {
            alias_of: text("alias-of").filter(|target| *target != name),
            model_type: text("typename").unwrap_or_else(|| name.clone()),
            deprecated: value["deprecated"] == true,
            unavailable_features,
            name,
        })
    }

    /// Whether its type is named after it: `EPYC-v1-x86_64-cpu`.
    fn has_own_type(&self) -> bool {
        self.model_type.strip_prefix(&self.name).is_some_and(|rest| rest.starts_with('-'))
    }

    fn model(&self) -> CpuModel {
        CpuModel {
            name: self.name.clone(),
            aliases: Vec::new(),
            deprecated: self.deprecated,
            unavailable_features: self.unavailable_features.clone(),
        }
    }
}

/// Whether a name can be a value of `-cpu`: a QEMU in a level is not trusted, and the name becomes a part of a command line.
fn is_word(name: &str) -> bool {
    let stands = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    !name.is_empty()
        && name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(stands)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn another_name_of_a_model_is_no_model() {
        let reply = json!([
            {"name": "max", "typename": "max-x86_64-cpu", "unavailable-features": [], "static": false},
            {"name": "EPYC-IBPB", "typename": "EPYC-IBPB-x86_64-cpu", "alias-of": "EPYC-v2", "unavailable-features": []},
            {"name": "EPYC-v2", "typename": "EPYC-v2-x86_64-cpu", "unavailable-features": []},
            {"name": "EPYC-v1", "typename": "EPYC-v1-x86_64-cpu", "unavailable-features": [], "deprecated": false},
            {"name": "EPYC", "typename": "EPYC-x86_64-cpu", "alias-of": "EPYC-v2", "unavailable-features": []},
            {"name": "Icelake-Server-v1", "typename": "Icelake-Server-v1-x86_64-cpu", "deprecated": true,
             "unavailable-features": ["avx512f", "pcid", "avx512f"]},
        ]);
        let models = read(&reply);
        let names: Vec<(&str, Vec<&str>)> = models
            .iter()
            .map(|model| (model.name.as_str(), model.aliases.iter().map(String::as_str).collect()))
            .collect();
        assert_eq!(
            names,
            [
                ("EPYC-v1", vec![]),
                ("EPYC-v2", vec!["EPYC", "EPYC-IBPB"]),
                ("Icelake-Server-v1", vec![]),
                ("max", vec![])
            ]
        );
        assert_eq!(
            models[2].unavailable_features.as_deref(),
            Some(&["avx512f".to_owned(), "pcid".to_owned()][..])
        );
        assert_eq!((models[2].is_usable(), models[2].deprecated), (Some(false), true));
        assert_eq!((models[1].is_usable(), models[1].deprecated), (Some(true), false));
    }

    #[test]
    fn on_power_an_alias_has_the_type_of_its_model() {
        let reply = json!([
            {"name": "power9", "typename": "power9_v2.2-powerpc64-cpu"},
            {"name": "power9_v2.2", "typename": "power9_v2.2-powerpc64-cpu"},
            {"name": "host", "typename": "host-powerpc64-cpu"},
        ]);
        let models = read(&reply);
        assert_eq!(models.len(), 2);
        assert_eq!(
            (models[1].name.as_str(), &models[1].aliases),
            ("power9_v2.2", &vec!["power9".to_owned()])
        );
        assert_eq!(models[1].is_usable(), None, "QEMU does not say it");
    }

    #[test]
    fn what_is_no_list_of_models_has_none() {
        assert!(read(&json!({"name": "EPYC"})).is_empty());
        let odd = json!([
            7,
            {"typename": "x"},
            {"name": "a b"},
            {"name": "EPYC,enforce=off"},
            {"name": "-smp"},
            {"name": "one", "alias-of": "two"},
            {"name": "two", "alias-of": "one"},
            {"name": "three", "alias-of": "three", "unavailable-features": []},
            {"name": "four", "alias-of": "nowhere"},
        ]);
        let names: Vec<String> = read(&odd).into_iter().map(|model| model.name).collect();
        assert_eq!(names, ["four", "three"]);
    }
}
