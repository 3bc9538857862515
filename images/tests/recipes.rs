//! The recipes of this project, and the errors of wrong recipes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use nestmatrix_images::{Catalog, Error, Product, Recipe};

const GOOD: &str = r#"name = "sample"
architecture = "amd64"

[packages]
origin = "Debian"
keyring = "k.gpg"
suites = ["s"]
components = ["main"]
install = ["p"]

[emulator]
program = "usr/bin/qemu"
"#;

fn load(text: &str) -> Result<Recipe, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sample.toml");
    fs::write(&path, text).unwrap();
    Recipe::load(&path)
}

#[test]
fn every_recipe_here_loads() {
    let catalog = Catalog::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes")).unwrap();
    let made: Vec<(&str, Vec<Product>)> =
        catalog.recipes().map(|recipe| (recipe.name(), recipe.products())).collect();
    let levels = vec![Product::Hypervisor, Product::Minimal];
    for recipe in ["debian-11-amd64", "debian-12-arm64", "debian-13-ppc64el"] {
        assert!(made.contains(&(recipe, levels.clone())), "{made:?}");
    }
    for recipe in catalog.recipes() {
        let (name, isa) = (recipe.name(), recipe.isa());
        match recipe.os() {
            Some(os) => {
                let variant = os.variant.as_ref().map_or(String::new(), |variant| format!("-{variant}"));
                assert_eq!(name, format!("{}-{}{variant}-{isa}", os.id, os.version));
            }
            None => assert!(name.ends_with(&format!("-{isa}")), "{name}"),
        }
        assert_eq!(recipe.emulator().is_some(), recipe.products().contains(&Product::Emulator), "{name}");
    }
    assert_eq!(catalog.get("qemu-ppc-amd64").unwrap().emulator(), Some("qemu-system-ppc64"));
}

#[test]
fn errors_say_where() {
    assert_eq!(load(GOOD).unwrap().name(), "sample");
    for (there, instead, line, column, words) in [
        ("suites = ", "suits = ", 7, 1, "unknown field `suits`"),
        ("[\"p\"]", "\"p\"", 9, 11, "invalid type: string \"p\", expected a sequence"),
        ("\"amd64\"", "\"z80\"", 2, 16, "unknown instruction set `z80`, expected one of `amd64`"),
        ("\"sample\"", "\"other\"", 1, 8, "its file must be other.toml"),
        (
            "[packages]\n",
            "[packages]\nsource = \"pacman\"\n",
            5,
            10,
            "unknown package source `pacman`, expected one of `apt`",
        ),
        (
            "[emulator]\n",
            "[minimal]\ninit = \"i\"\ncompression = \"none\"\napplets = \"a\"\n#",
            12,
            8,
            "needs a [kernel]",
        ),
        ("[emulator]\nprogram", "#", 1, 1, "the recipe makes nothing"),
        ("[emulator]", "[emulator", 11, 10, ""),
    ] {
        let error = load(&GOOD.replace(there, instead)).unwrap_err();
        let Error::Recipe { line: found_line, column: found_column, message, .. } = &error else {
            panic!("{error}")
        };
        assert!(message.contains(words), "{error}");
        assert_eq!((*found_line, *found_column), (line, column), "{error}");
    }
}

#[test]
fn a_missing_init_script_is_reported_where_it_is_named() {
    let minimal =
        "[kernel]\nimage = \"k\"\n[minimal]\ninit = \"absent.sh\"\ncompression = \"none\"\napplets = \"a\"\n";
    let error = load(&format!("{GOOD}{minimal}")).unwrap_err().to_string();
    assert!(error.contains("sample.toml:16:8: cannot read") && error.contains("absent.sh"), "{error}");
}
