//! Name patterns in which `*` matches any run of characters, also an empty one, and every other character matches
//! itself.

/// Whether every name that `narrow` matches is matched by `wide`. A name without `*` is a pattern that matches only
/// itself, so this is also plain matching.
///
/// Sound and complete: a `*` in `narrow` can produce a character that `wide` does not have, so only a `*` of `wide` can
/// absorb it; and a `*` that absorbs one such character absorbs any run. Inclusion is therefore the same as matching
/// `narrow` as a text, with its own `*` as a character that equals no literal. Time is at most the product of the
/// lengths.
pub fn covers(wide: &str, narrow: &str) -> bool {
    let (mut pattern, mut text) = (wide.chars(), narrow.chars());
    // Where to resume when a literal does not match: after the last `*`, whose run is extended by one character.
    let mut retry: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    loop {
        let mut rest = pattern.clone();
        match (rest.next(), text.clone().next()) {
            (Some('*'), _) => {
                pattern = rest;
                retry = Some((pattern.clone(), text.clone()));
            }
            (None, None) => return true,
            (Some(wanted), Some(found)) if wanted == found => {
                pattern = rest;
                text.next();
            }
            _ => match retry.take() {
                Some((after, mut run)) => {
                    if run.next().is_none() {
                        return false;
                    }
                    pattern = after.clone();
                    text = run.clone();
                    retry = Some((after, run));
                }
                None => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::covers;
    use proptest::prelude::*;

    #[test]
    fn a_star_matches_any_run_and_nothing_else_is_special() {
        for (wide, narrow) in
            [("*", ""), ("*", "x"), ("a*", "a"), ("*b", "aab"), ("a*c*e", "abcde"), ("**", "x"), ("", "")]
        {
            assert!(covers(wide, narrow), "{wide} {narrow}");
        }
        for (wide, narrow) in [("", "x"), ("a", "ab"), ("a?", "ab"), ("a*b", "a"), (".*", "x"), ("[a]", "a")]
        {
            assert!(!covers(wide, narrow), "{wide} {narrow}");
        }
    }

    #[test]
    fn inclusion_of_patterns_is_not_matching_of_their_text() {
        for (wide, narrow) in [("*", "*"), ("A_*", "A_*"), ("A*", "A_*"), ("*_*", "A_*_B"), ("a**", "a*")] {
            assert!(covers(wide, narrow), "{wide} {narrow}");
        }
        for (wide, narrow) in [("A_*", "A*"), ("a", "*"), ("a*b", "a*"), ("*a*", "*"), ("", "*")] {
            assert!(!covers(wide, narrow), "{wide} {narrow}");
        }
    }

    /// Straight from the definition, for comparison.
    fn matches_slowly(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), _) => (0..=text.len()).any(|n| matches_slowly(rest, &text[n..])),
            (Some((p, rest)), Some((t, text))) => p == t && matches_slowly(rest, text),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_its_definition(pattern in "[ab*]{0,6}", text in "[ab]{0,6}") {
            let chars = |s: &str| s.chars().collect::<Vec<_>>();
            prop_assert_eq!(covers(&pattern, &text), matches_slowly(&chars(&pattern), &chars(&text)));
        }

        #[test]
        fn coverage_is_reflexive(a in any::<String>()) {
            prop_assert!(covers(&a, &a));
        }

        #[test]
        fn coverage_is_transitive(a in "[ab*]{0,4}", b in "[ab*]{0,4}", c in "[ab*]{0,4}") {
            prop_assert!(!(covers(&a, &b) && covers(&b, &c)) || covers(&a, &c));
        }

        #[test]
        fn whatever_the_narrow_one_matches_the_wide_one_matches(wide in "[ab*]{0,4}", narrow in "[ab*]{0,4}", text in "[abc]{0,5}") {
            prop_assert!(!(covers(&wide, &narrow) && covers(&narrow, &text)) || covers(&wide, &text));
        }
    }
}
