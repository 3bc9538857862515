//! An overview as one self-contained HTML page: it needs no network and no other file, and for the matrix no script.
//!
//! The matrix is in the page as HTML. The details of each cell are in the page as JSON, one element a cell. The script turns them
//! into HTML when the reader opens the cell, so thousands of cells cost only their text.
//!
//! Text from guests and scenarios is made visible ([`text::shown`]) and escaped by `maud` or by [`text::json`]. The page's policy
//! allows only its own script, by hash, and loads nothing.

mod cells;
mod contradictions;
mod documents;
mod head;
mod mutations;
mod text;
mod trouble;

pub(super) use text::shown;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, PreEscaped, html};
use sha2::{Digest as _, Sha256};

use super::layout::{Layout, counted};
use crate::records::Overview;
use crate::scenario::Matrix;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The overview as a page.
pub fn html(overview: &Overview, matrix: &Matrix) -> String {
    let layout = Layout::new(overview, matrix);
    let title = match overview.runs.as_slice() {
        [run] => format!("{}: nestmatrix {}", counted(&overview.tally()), text::shown(&run.record.run)),
        runs => format!("{}: nestmatrix, {} runs", counted(&overview.tally()), runs.len()),
    };
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(SCRIPT),
    );
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip-link href="#matrix" { "Skip to the matrix" }
                (head::head(overview))
                main {
                    (head::tools(overview))
                    (trouble::trouble(&layout))
                    (mutations::mutations(overview))
                    div #matrix tabindex="-1" { (documents::documents(&layout)) }
                    (contradictions::contradictions(&layout))
                    (head::legend(overview))
                }
                dialog #cell aria-labelledby="cell-name" {}
                (cells::cells(&layout))
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    let mut page = page.into_string();
    page.push('\n');
    page
}

/// The hash of a script or style for the page's policy.
fn hash(text: &str) -> String {
    STANDARD.encode(Sha256::digest(text))
}
