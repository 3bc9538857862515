//! What a cell requires of the machine that runs it, as a tree that can say which part is missing.

use std::collections::BTreeMap;
use std::fmt;

use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Architecture, Isa};

/// Something that a machine may have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// Its instruction set.
    Isa(Isa),
    /// A flag of its processors, by its name in /proc/cpuinfo: `svm`.
    CpuFlag(String),
    /// A `/dev/kvm` that may be opened, with this module loaded.
    KvmDevice(String),
    /// A KVM that runs guests.
    KvmGuests,
    /// That it is a guest of the system with this name, whose guests can host.
    GuestOf(String),
    /// The permission of its administrator to change it.
    DisposableHost,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Isa(isa) => write!(f, "a machine of {isa}"),
            Self::CpuFlag(flag) => write!(f, "{flag} on L0"),
            Self::KvmDevice(module) => write!(f, "a usable /dev/kvm, with {module} loaded"),
            Self::KvmGuests => f.write_str("a KVM that runs stock guests"),
            Self::GuestOf(system) => f.write_str(&kind_of_guest(system)),
            Self::DisposableHost => f.write_str("a disposable host"),
        }
    }
}

/// The kind of machine of which the system with this name is L0.
pub(crate) fn kind_of_guest(system: &str) -> String {
    format!("a virtual machine of {system} with nested virtualization")
}

/// A machine, or a kind of machines, described by what was probed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runner {
    features: BTreeMap<Feature, Result<(), String>>,
}

impl Runner {
    /// It has this.
    #[must_use]
    pub fn with(mut self, feature: Feature) -> Self {
        self.features.insert(feature, Ok(()));
        self
    }

    /// This is missing, for the reason `why`: `this machine has none`.
    #[must_use]
    pub fn without(mut self, feature: Feature, why: impl Into<String>) -> Self {
        self.features.insert(feature, Err(why.into()));
        self
    }

    /// Whether this was probed.
    pub fn knows(&self, feature: &Feature) -> bool {
        self.features.contains_key(feature)
    }

    /// Why `feature` is missing, if it is. What was not probed counts as missing.
    fn missing(&self, feature: &Feature) -> Option<&str> {
        match self.features.get(feature) {
            Some(Ok(())) => None,
            Some(Err(why)) => Some(why),
            None => Some("not probed"),
        }
    }
}

/// What is required of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// This.
    Has(Feature),
    /// All of these; nothing at all if there are none.
    All(Vec<Requirement>),
    /// One of these; if there are none, no machine meets it.
    Any(Vec<Requirement>),
    /// That this is not so.
    Not(Box<Requirement>),
}

impl Requirement {
    /// What a machine needs to be L0 of stacks of this architecture.
    pub fn native_metal(architecture: Architecture) -> Self {
        let guests = Self::Has(Feature::KvmGuests);
        Self::All(Self::seen_without_a_guest(architecture).into_iter().chain([guests]).collect())
    }

    /// What a machine needs to be L1 of such stacks, as a guest of the system with this name.
    pub fn guest_of(architecture: Architecture, system: &str) -> Self {
        let native = Self::seen_without_a_guest(architecture).into_iter();
        // That it can host shows that its processor can.
        let native = native.filter(|part| !matches!(part, Self::Has(Feature::CpuFlag(_))));
        let own = [Feature::GuestOf(system.to_owned()), Feature::KvmGuests].map(Self::Has);
        Self::All(native.chain(own).collect())
    }

    /// The part of it that can be seen without a guest.
    pub(super) fn to_host(architecture: Architecture) -> Self {
        Self::All(Self::seen_without_a_guest(architecture))
    }

    fn seen_without_a_guest(architecture: Architecture) -> Vec<Self> {
        let profile = ArchInfo::of(architecture);
        let isa = Feature::Isa(architecture.isa());
        let flag = profile.virtualization_flag.map(|flag| Feature::CpuFlag(flag.to_owned()));
        let device = Feature::KvmDevice(profile.kvm_module.to_owned());
        [Some(isa), flag, Some(device)].into_iter().flatten().map(Self::Has).collect()
    }

    /// The parts that `runner` does not meet, as the reason for a skip: `needs svm on L0: this machine has none`. Nothing if it
    /// meets all.
    pub fn unmet(&self, runner: &Runner) -> Option<String> {
        match self {
            Self::Has(feature) => runner.missing(feature).map(|why| format!("needs {feature}: {why}")),
            Self::All(parts) => {
                let unmet: Vec<String> = parts.iter().filter_map(|part| part.unmet(runner)).collect();
                (!unmet.is_empty()).then(|| unmet.join("; "))
            }
            Self::Any(parts) => {
                if parts.iter().any(|part| part.unmet(runner).is_none()) {
                    return None;
                }
                Some(match parts.len() {
                    0 => format!("needs {self}"),
                    _ => format!("needs {self}: this machine has none of it"),
                })
            }
            Self::Not(part) => part.unmet(runner).is_none().then(|| format!("needs {self}")),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut fmt::Formatter<'_>, parts: &[Self], word: &str, nothing: &str| match parts {
            [] => f.write_str(nothing),
            [first, others @ ..] => {
                write!(f, "{}", Nested(first))?;
                others.iter().try_for_each(|part| write!(f, " {word} {}", Nested(part)))
            }
        };
        match self {
            Self::Has(feature) => write!(f, "{feature}"),
            Self::All(parts) => joined(f, parts, "and", "nothing"),
            Self::Any(parts) => joined(f, parts, "or", "what no machine has"),
            Self::Not(part) => write!(f, "no {}", Nested(part)),
        }
    }
}

/// A part of a requirement, in brackets if it has several parts itself.
struct Nested<'a>(&'a Requirement);

impl fmt::Display for Nested<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Requirement::All(parts) | Requirement::Any(parts) if parts.len() > 1 => write!(f, "({})", self.0),
            part => write!(f, "{part}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn has(flag: &str) -> Requirement {
        Requirement::Has(Feature::CpuFlag(flag.into()))
    }

    fn a_runner() -> Runner {
        let flag = |name: &str| Feature::CpuFlag(name.into());
        Runner::default().with(flag("svm")).without(flag("vmx"), "this machine has none")
    }

    #[rstest]
    #[case(has("svm"), None)]
    #[case(has("vmx"), Some("needs vmx on L0: this machine has none"))]
    #[case(has("sie"), Some("needs sie on L0: not probed"))]
    #[case(Requirement::All(vec![has("svm"), has("vmx")]), Some("needs vmx on L0: this machine has none"))]
    #[case(Requirement::All(vec![]), None)]
    #[case(Requirement::Any(vec![has("vmx"), has("svm")]), None)]
    #[case(
        Requirement::Any(vec![has("vmx"), Requirement::All(vec![has("svm"), has("sie")])]),
        Some("needs vmx on L0 or (svm on L0 and sie on L0): this machine has none of it")
    )]
    #[case(Requirement::Any(vec![]), Some("needs what no machine has"))]
    #[case(Requirement::Not(Box::new(has("vmx"))), None)]
    #[case(Requirement::Not(Box::new(has("svm"))), Some("needs no svm on L0"))]
    fn what_is_missing_is_told_as_the_reason_of_a_skip(
        #[case] requirement: Requirement,
        #[case] missing: Option<&str>,
    ) {
        assert_eq!(requirement.unmet(&a_runner()).as_deref(), missing);
    }

    #[test]
    fn native_metal_lacks_what_can_be_seen_and_what_a_guest_tells() {
        let device = Feature::KvmDevice("kvm_amd".into());
        let machine = Runner::default()
            .with(Feature::Isa(Isa::Amd64))
            .with(Feature::CpuFlag("svm".into()))
            .without(device, "this machine has none that this user may open")
            .without(Feature::KvmGuests, "a trial guest failed");
        let missing = "needs a usable /dev/kvm, with kvm_amd loaded: this machine has none that this user may open; \
                       needs a KVM that runs stock guests: a trial guest failed";
        let native = Requirement::native_metal(Architecture::Amd);
        assert_eq!(native.unmet(&machine).as_deref(), Some(missing));
    }
}
