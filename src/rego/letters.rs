//! The classes of letters that a pattern names (`regexp/syntax:parse.go`, `unicodeTable`, Go 1.26).

/// Names of general categories (`unicode.Categories`).
const CATEGORIES: &[&str] = &[
    "C", "Cc", "Cf", "Cn", "Co", "Cs", "L", "Lc", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N",
    "Nd", "Nl", "No", "P", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk", "Sm", "So", "Z", "Zl",
    "Zp", "Zs",
];

/// Other names of them, as they are looked up (`unicode.CategoryAliases`).
const ALIASES: &[&str] = &[
    "Casedletter",
    "Closepunctuation",
    "Cntrl",
    "Combiningmark",
    "Connectorpunctuation",
    "Control",
    "Currencysymbol",
    "Dashpunctuation",
    "Decimalnumber",
    "Digit",
    "Enclosingmark",
    "Finalpunctuation",
    "Format",
    "Initialpunctuation",
    "Letter",
    "Letternumber",
    "Lineseparator",
    "Lowercaseletter",
    "Mark",
    "Mathsymbol",
    "Modifierletter",
    "Modifiersymbol",
    "Nonspacingmark",
    "Number",
    "Openpunctuation",
    "Other",
    "Otherletter",
    "Othernumber",
    "Otherpunctuation",
    "Othersymbol",
    "Paragraphseparator",
    "Privateuse",
    "Punct",
    "Punctuation",
    "Separator",
    "Spaceseparator",
    "Spacingmark",
    "Surrogate",
    "Symbol",
    "Titlecaseletter",
    "Unassigned",
    "Uppercaseletter",
];

/// Names of scripts that are found (`unicode.Scripts`): a name of several words is looked up as one word, and is none.
const SCRIPTS: &[&str] = &[
    "Adlam",
    "Ahom",
    "Arabic",
    "Armenian",
    "Avestan",
    "Balinese",
    "Bamum",
    "Batak",
    "Bengali",
    "Bhaiksuki",
    "Bopomofo",
    "Brahmi",
    "Braille",
    "Buginese",
    "Buhid",
    "Carian",
    "Chakma",
    "Cham",
    "Cherokee",
    "Chorasmian",
    "Common",
    "Coptic",
    "Cuneiform",
    "Cypriot",
    "Cyrillic",
    "Deseret",
    "Devanagari",
    "Dogra",
    "Duployan",
    "Elbasan",
    "Elymaic",
    "Ethiopic",
    "Georgian",
    "Glagolitic",
    "Gothic",
    "Grantha",
    "Greek",
    "Gujarati",
    "Gurmukhi",
    "Han",
    "Hangul",
    "Hanunoo",
    "Hatran",
    "Hebrew",
    "Hiragana",
    "Inherited",
    "Javanese",
    "Kaithi",
    "Kannada",
    "Katakana",
    "Kawi",
    "Kharoshthi",
    "Khmer",
    "Khojki",
    "Khudawadi",
    "Lao",
    "Latin",
    "Lepcha",
    "Limbu",
    "Lisu",
    "Lycian",
    "Lydian",
    "Mahajani",
    "Makasar",
    "Malayalam",
    "Mandaic",
    "Manichaean",
    "Marchen",
    "Medefaidrin",
    "Miao",
    "Modi",
    "Mongolian",
    "Mro",
    "Multani",
    "Myanmar",
    "Nabataean",
    "Nandinagari",
    "Newa",
    "Nko",
    "Nushu",
    "Ogham",
    "Oriya",
    "Osage",
    "Osmanya",
    "Palmyrene",
    "Phoenician",
    "Rejang",
    "Runic",
    "Samaritan",
    "Saurashtra",
    "Sharada",
    "Shavian",
    "Siddham",
    "Sinhala",
    "Sogdian",
    "Soyombo",
    "Sundanese",
    "Syriac",
    "Tagalog",
    "Tagbanwa",
    "Takri",
    "Tamil",
    "Tangsa",
    "Tangut",
    "Telugu",
    "Thaana",
    "Thai",
    "Tibetan",
    "Tifinagh",
    "Tirhuta",
    "Toto",
    "Ugaritic",
    "Vai",
    "Vithkuqi",
    "Wancho",
    "Yezidi",
    "Yi",
];

/// What the `regex` crate calls a class, after `\\p{`; `None` where Go knows none of this name. No text has a surrogate.
pub(super) fn class(name: &str) -> Option<String> {
    let name = looked_up(name);
    let is_in = |names: &[&str]| names.binary_search(&name.as_str()).is_ok();
    match name.as_str() {
        "Any" => Some("any".into()),
        "Assigned" => Some("Assigned".into()),
        "Ascii" => Some("ascii".into()),
        "Cs" | "Surrogate" => Some("^any".into()),
        _ if is_in(CATEGORIES) || is_in(ALIASES) => Some(format!("gc={name}")),
        _ if is_in(SCRIPTS) => Some(format!("sc={name}")),
        _ => None,
    }
}

/// A capital and small letters, without what separates words (`canonicalName`).
fn looked_up(name: &str) -> String {
    let letters = name.chars().filter(|letter| !matches!(letter, '_' | '-' | ' '));
    let one = |(place, letter): (usize, char)| match place {
        0 => letter.to_ascii_uppercase(),
        _ => letter.to_ascii_lowercase(),
    };
    letters.enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_so_that_they_are_found_and_the_other_library_knows_them_all() {
        for names in [CATEGORIES, ALIASES, SCRIPTS] {
            assert!(names.is_sorted());
            for name in names {
                let class = class(name).unwrap();
                let class = class.trim_start_matches('^');
                assert!(regex::Regex::new(&format!("^\\p{{{class}}}\\P{{{class}}}$")).is_ok(), "{name}");
            }
        }
    }

    #[test]
    fn names_that_go_does_not_know_are_none() {
        for name in
            ["Alphabetic", "White_Space", "Latn", "Emoji", "Old_Italic", "Olditalic", "SignWriting", ""]
        {
            assert_eq!(class(name), None, "{name}");
        }
        for name in ["greek", "Gr-eek", "LC", "uppercase letter", "digit"] {
            assert!(class(name).is_some(), "{name}");
        }
    }
}
