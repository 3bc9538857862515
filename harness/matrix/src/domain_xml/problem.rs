//! What makes it impossible to import a domain, and what can be done about it.

use nestmatrix_input::{FileProblem, InputError, Problem, list};

/// The page that describes the import.
const MANUAL: &str = "docs/domain-xml.md";

/// A domain that can't be imported, and the place of the problem.
pub type DomainError = InputError<DomainProblem>;

/// Why a domain can't be imported.
#[derive(Debug, thiserror::Error)]
pub enum DomainProblem {
    /// What can be wrong with a file whatever it holds.
    #[error(transparent)]
    File(#[from] FileProblem),
    /// The file is not well-formed XML, or has too many elements.
    #[error("can't be read as XML: {0}")]
    NotXml(String),
    /// A document type could define entities and name other files.
    #[error("a document type is not read")]
    DocumentType,
    /// The XML describes something else.
    #[error("the root element is <{found}>, not <domain>")]
    NoDomain {
        /// The name of the root element.
        found: String,
    },
    /// No scenario can have such a machine.
    #[error("there are no cells for the architecture `{given}`")]
    NoArchitecture {
        /// As written.
        given: String,
        /// libvirt's names of those that there are.
        known: Vec<String>,
    },
    /// The instruction set of the machine is not that of the architecture that the user chose.
    #[error("a machine of `{given}` is not {chosen}")]
    OtherArchitecture {
        /// As written.
        given: String,
        /// The architecture that was chosen.
        chosen: String,
    },
}

impl Problem for DomainProblem {
    fn help(&self) -> String {
        match self {
            Self::File(problem) => problem.help(MANUAL),
            Self::NotXml(_) => {
                "copy the whole output of `virsh dumpxml DOMAIN` into the file, without a prompt or quotation marks".into()
            }
            Self::DocumentType => "remove the line with <!DOCTYPE; libvirt writes none".into(),
            Self::NoDomain { .. } => {
                format!("write a part of a domain, such as <cpu>, between <domain> and </domain>; see {MANUAL}")
            }
            Self::NoArchitecture { known, .. } => format!("the known ones are {}", list(known)),
            Self::OtherArchitecture { .. } => {
                "leave out --architecture, or name one with this instruction set".into()
            }
        }
    }

    fn label(&self) -> &'static str {
        match self {
            Self::File(problem) => problem.label(),
            _ => "here",
        }
    }
}
