//! Windows PowerShell in a level: how a script is handed to it, and what it says if the script fails.
//!
//! A script is an argument of its own, encoded, so that nothing in it is quoted (about_PowerShell_exe). Errors of a PowerShell whose
//! standard error is no console come as CLIXML ([MS-PSRP], 2.2.5): XML, in which characters such as line ends are written `_x000A_`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::excerpt;

/// The program.
pub(super) const PROGRAM: &str = "powershell.exe";

/// What comes before every script: no progress bars, errors that end the script, and text as UTF-8.
const PROLOGUE: &str = "$ProgressPreference='SilentlyContinue'; $ErrorActionPreference='Stop'; \
                        [Console]::OutputEncoding=[Text.Encoding]::UTF8;\n";

/// What errors in CLIXML begin with.
const CLIXML: &str = "#< CLIXML";

/// The arguments of PowerShell for this script.
pub(super) fn arguments(script: &str) -> Vec<String> {
    let utf16 = [PROLOGUE, script].concat().encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let options = ["-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Bypass", "-EncodedCommand"];
    options.into_iter().map(str::to_owned).chain([BASE64.encode(utf16)]).collect()
}

/// The message in what a failed PowerShell wrote to its standard error, without where in the script it was. Empty if it wrote none.
pub fn powershell_error(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let errors = match text.strip_prefix(CLIXML) {
        Some(xml) => errors_in(xml),
        None => text.to_owned(),
    };
    let lines: Vec<&str> = errors.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    // A line on the place comes first, in the language of the system; the others on it, and its categories, begin with a plus sign.
    let is_place = |line: Option<&&str>| line.is_some_and(|line| line.starts_with('+'));
    let numbered = lines.iter().enumerate();
    let message = numbered.filter(|(at, line)| !is_place(Some(line)) && !is_place(lines.get(at + 1)));
    excerpt(&message.map(|(_, line)| *line).collect::<Vec<_>>().join(" "))
}

/// The text of all errors in CLIXML. The end may be missing.
fn errors_in(xml: &str) -> String {
    const BEGIN: &str = "<S S=\"Error\">";
    let pieces = xml.split(BEGIN).skip(1).map(|rest| rest.split("</S>").next().unwrap_or_default());
    pieces.map(decoded).collect()
}

/// Text of CLIXML as plain text.
fn decoded(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut units = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("_x") {
        let unit = rest.get(at + 2..at + 6).filter(|_| rest[at + 2..].get(4..5) == Some("_"));
        let Some(unit) = unit.and_then(|hex| u16::from_str_radix(hex, 16).ok()) else {
            flush(&mut plain, &mut units);
            plain.push_str(&rest[..at + 2]);
            rest = &rest[at + 2..];
            continue;
        };
        if at > 0 {
            flush(&mut plain, &mut units);
            plain.push_str(&rest[..at]);
        }
        units.push(unit);
        rest = &rest[at + 7..];
    }
    flush(&mut plain, &mut units);
    plain.push_str(rest);
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    entities.into_iter().fold(plain, |text, (entity, character)| text.replace(entity, character))
}

/// Adds characters that were written as units of UTF-16, of which two in a row can be one character.
fn flush(plain: &mut String, units: &mut Vec<u16>) {
    plain.push_str(&String::from_utf16_lossy(units));
    units.clear();
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn a_script_is_one_argument_in_utf_16() {
        let arguments = arguments("'\u{fc}' | Out-Host");
        let [.., option, encoded] = &arguments[..] else { panic!("{arguments:?}") };
        assert_eq!(option, "-EncodedCommand");
        let bytes = BASE64.decode(encoded).unwrap();
        let units: Vec<u16> = bytes.chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        let script = String::from_utf16(&units).unwrap();
        assert!(script.starts_with("$ProgressPreference=") && script.ends_with("'\u{fc}' | Out-Host"));
    }

    /// As Windows PowerShell 5.1 writes it: a record of progress, and an error in pieces.
    const CLIXML_ERROR: &str = "#< CLIXML\r\n<Objs Version=\"1.1.0.1\" xmlns=\"http://schemas.microsoft.com/powershell/2004/04\">\
        <Obj S=\"progress\" RefId=\"0\"><MS><S N=\"Activity\">Preparing modules</S></MS></Obj>\
        <S S=\"Error\">New-VM : &lt;L2&gt; &amp; its disk: the file_x000D__x000A_</S>\
        <S S=\"Error\">'C:\\_x_\\\u{fc}' is in use. _xD83D__xDE00__x000D__x000A_</S>\
        <S S=\"Error\">In Zeile:3 Zeichen:1_x000D__x000A_</S>\
        <S S=\"Error\">+ New-VM -Name 'L2'_x000D__x000A_</S><S S=\"Error\">+ ~~~~~~_x000D__x000A_</S>\
        <S S=\"Error\">    + CategoryInfo          : NotSpecified: (:) [New-VM], Exception_x000D__x000A_</S></Objs>";

    #[rstest]
    #[case::nothing("", "")]
    #[case::plain("'powershell.exe' is not recognized\r\n", "'powershell.exe' is not recognized")]
    #[case::clixml(CLIXML_ERROR, "New-VM : <L2> & its disk: the file 'C:\\_x_\\\u{fc}' is in use. \u{1f600}")]
    #[case::no_error("#< CLIXML\r\n<Objs><Obj S=\"progress\"></Obj></Objs>", "")]
    #[case::cut("#< CLIXML\r\n<Objs><S S=\"Error\">half an er_x00", "half an er_x00")]
    #[case::with_escapes("#< CLIXML <S S=\"Error\">a_x001B_[2Jb_x0_</S>", "a\\u{1b}[2Jb_x0_")]
    #[case::with_an_accent("#< CLIXML <S S=\"Error\">_x00\u{e9}\u{e9}_ _x</S>", "_x00\u{e9}\u{e9}_ _x")]
    fn an_error_is_its_message_without_the_place(#[case] stderr: &str, #[case] expected: &str) {
        assert_eq!(powershell_error(stderr.as_bytes()), expected);
    }

    #[test]
    fn megabytes_become_an_excerpt() {
        let flood = format!("{CLIXML}<S S=\"Error\">{}", "_x0041_".repeat(1 << 20));
        assert!(powershell_error(flood.as_bytes()).len() < 2000);
    }
}
