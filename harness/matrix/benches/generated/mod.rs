//! A folder of scenarios with more cells than any real matrix. It is separate from the benchmarks, since two use it: this
//! crate's and, by its path, that of `cargo xtask bench`.

use std::fs;
use std::io;
use std::path::Path;

/// The number of scenarios, each with 1024 cells, the maximum.
const SCENARIOS: usize = 100;

const SYSTEMS: &str = r#"
[[system]]
id = "rhel"
name = "RHEL"

[[stand-in]]
for = "rhel 9"
image = "debian-12"
reason = "same for all"
"#;

/// A value of an axis for each of the first minor versions, with its own claim.
fn axis(name: &str, values: usize) -> String {
    let value = |minor| format!("{{ system = \"rhel 9.{minor} and later\", claims = [\"{name}-{minor}\"] }}");
    let values: Vec<String> = (0..values).map(value).collect();
    format!("{name} = [{}]\n", values.join(", "))
}

/// Writes scenarios of 102,400 cells into `folder`. Each cell has a stand-in for every level.
///
/// # Errors
/// They can't be written.
pub fn write(folder: &Path) -> io::Result<()> {
    let write = |name: String, content: String| {
        let path = folder.join(name);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, content)
    };
    write("systems.toml".into(), SYSTEMS.into())?;
    let claim = |id: String| {
        format!("[[claim]]\nid = \"{id}\"\nsection = \"1\"\ntier = \"supported\"\ntext = \"It works.\"\n")
    };
    let claims =
        ["l0", "l1", "l2"].iter().flat_map(|axis| (0..8).map(move |minor| format!("{axis}-{minor}")));
    let claims: String = claims.chain(["works".into()]).map(claim).collect();
    let head =
        "id = \"limits\"\ntitle = \"Limits\"\nproduct = \"RHEL 9\"\nsection = \"1\"\nlanguage = \"en\"\n";
    write("documents/limits.toml".into(), format!("{head}{claims}"))?;
    let axes = format!(
        "[axes]\narchitecture = [\"amd\", \"power9\"]\n{}{}{}",
        axis("l0", 8),
        axis("l1", 8),
        axis("l2", 8)
    );
    for number in 0..SCENARIOS {
        let head = format!(
            "name = \"scenario-{number}\"\ntitle = \"Scenario {number}\"\ndocument = \"limits\"\n\
             claims = [\"works\"]\ntier = \"supported\"\n"
        );
        write(format!("product/scenario-{number}.toml"), format!("{head}{axes}"))?;
    }
    Ok(())
}
