//! Recipes: the ones in this folder, and what is said about those that are wrong.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use nestmatrix_images::{Catalog, Error, Product, Recipe};
use std::fs;
use std::path::Path;

const GOOD: &str = r#"name = "sample"
architecture = "amd64"

[packages]
origin = "Debian"
keyring = "k.gpg"
suites = ["s"]
components = ["main"]
install = ["p"]

[emulator]
qemu = "usr/bin/qemu"
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
    for recipe in ["debian-11-amd64", "debian-12-amd64", "debian-13-amd64"] {
        assert!(made.contains(&(recipe, levels.clone())), "{made:?}");
    }
    assert!(made.contains(&("emulator-amd64", vec![Product::Emulator])), "{made:?}");
    for recipe in catalog.recipes().filter(|recipe| recipe.os().is_some()) {
        let os = recipe.os().unwrap();
        assert_eq!(recipe.name(), format!("{}-{}-{}", os.id, os.version, recipe.architecture()));
    }
}

#[test]
fn errors_say_where() {
    assert_eq!(load(GOOD).unwrap().name(), "sample");
    for (there, instead, line, column, words) in [
        ("suites = ", "suits = ", 7, 1, "unknown field `suits`"),
        ("[\"p\"]", "\"p\"", 9, 11, "invalid type: string \"p\", expected a sequence"),
        ("\"amd64\"", "\"z80\"", 2, 16, "unknown variant `z80`"),
        ("\"sample\"", "\"other\"", 1, 8, "its file must be other.toml"),
        (
            "[emulator]\n",
            "[minimal]\ninit = \"i\"\ncompression = \"none\"\napplets = []\n#",
            12,
            8,
            "needs a [kernel]",
        ),
        ("[emulator]\nqemu", "#", 1, 1, "the recipe makes nothing"),
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
fn an_init_script_that_is_not_there_is_told_at_its_mention() {
    let minimal =
        "[kernel]\nimage = \"k\"\n[minimal]\ninit = \"absent.sh\"\ncompression = \"none\"\napplets = []\n";
    let error = load(&format!("{GOOD}{minimal}")).unwrap_err().to_string();
    assert!(
        error.contains("sample.toml:16:8: cannot read init script") && error.contains("absent.sh"),
        "{error}"
    );
}
