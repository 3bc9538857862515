//! libvirt: a machine as domain XML, the description that vendors' documents tell their readers to edit.

mod domain;
mod xml;

pub use domain::{channel_of_alias, domain_xml, libvirt_tpm_model};

#[cfg(test)]
mod tests;
