//! Names of systems, for people who know products and not this project's images.

use nestmatrix_model::Version;

use crate::scenario::Matrix;

/// `Debian 13` for `debian-13`, followed by what replaces its own software. The names are those of the matrix' systems.
pub(super) fn system_name(os: &str, matrix: &Matrix) -> String {
    if os == "emulator" {
        return "the emulator itself".to_owned();
    }
    let mut parts = os.split('+');
    let name = named(parts.next().unwrap_or_default(), matrix);
    let others: Vec<&str> = parts
        .map(|part| match part {
            "kernel" => "another kernel",
            "local-kernel" => "a locally built kernel",
            "qemu" => "another QEMU",
            part => part,
        })
        .collect();
    if others.is_empty() { name } else { format!("{name} with {}", others.join(" and ")) }
}

fn named(image: &str, matrix: &Matrix) -> String {
    if let Some(system) = image.strip_suffix("-disk") {
        return format!("{}, installed on a disk", named(system, matrix));
    }
    // The id of a system may have a `-`, and its version has none.
    let Some((id, version)) =
        image.rsplit_once('-').filter(|(_, version)| version.parse::<Version>().is_ok())
    else {
        return capital(image);
    };
    match matrix.systems().iter().find(|system| system.id == id) {
        Some(system) => format!("{} {version}", system.name),
        None => format!("{} {version}", capital(id)),
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}
