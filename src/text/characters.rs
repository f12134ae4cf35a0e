//! Which characters are dangerous.

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory as Category};
use icu_properties::{CodePointMapData, CodePointSetData};

/// Whether a character acts on what shows it, or is not seen, so that a text can read as another one.
///
/// By the properties of the Unicode Character Database (UAX #44; `UnicodeData.txt`, `DerivedCoreProperties.txt`), and not
/// by a list of code points, so that it grows with the standard:
///
/// | property | examples | danger |
/// |---|---|---|
/// | `Cc` control | NUL, CR, LF, TAB, ESC, DEL, C1 with its one-byte CSI U+009B | drives a terminal, begins a new line of a log |
/// | `Zl`, `Zp` separators | U+2028, U+2029 | a line break for YAML and JavaScript |
/// | `Cf` format | bidi controls U+061C, U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069 (UAX #9); BOM; tags U+E0001 to U+E007F | reorders or hides text (UTR #36) |
/// | `Default_Ignorable_Code_Point` | U+200B to U+200D, U+2060, variation selectors, U+034F, Hangul fillers | has no width |
/// | `Zs` other than the blank | U+00A0, U+2003, U+3000 | looks like the end of a word |
/// | `Cn`, `Co` unassigned, for private use | U+FFFE, U+E000 | no reader knows how it is shown |
pub fn is_dangerous(c: char) -> bool {
    // Nearly every character is one of these, and is settled without a table.
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    let unseen = matches!(
        CodePointMapData::<Category>::new().get(c),
        Category::Control
            | Category::Format
            | Category::LineSeparator
            | Category::ParagraphSeparator
            | Category::SpaceSeparator
            | Category::Surrogate
            | Category::PrivateUse
            | Category::Unassigned
    );
    unseen || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

/// A character that ends a line or only parts words: a blank in prose (`White_Space`, `PropList.txt`).
pub(super) fn parts_words(c: char) -> bool {
    c.is_whitespace()
}

/// A character that only shapes its neighbours and may be left out of prose: the joiners of Indic and Persian writing and
/// of emoji, and the selectors of text or emoji style. Names keep them, made visible.
pub(super) const fn only_shapes(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe0e}' | '\u{fe0f}')
}
