//! What the masks make of an object, in a form that holds for each object that differs from it in known parts of its text alone: so the pods of a
//! workload are masked without being read again.
//!
//! Such a part is a gap. One that is kept is a string, a part of one, or `null`, in each of the objects, and the masks do not ask what it says: they go by the
//! names on the way to a value, by its kind, and by the `@` of an address. An object with any other gap is read as if nothing were known.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use serde_json::value::RawValue;

use super::pass::Masking;
use super::trail::Kept;
use super::{MaskReport, Masks, OBJECT};
use crate::audit::secrets::REDACTED;

/// Most bytes of a template. An object in which more is masked is read each time.
const MOST_BYTES: usize = 4 << 10;

/// What a gap is, in each of the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gap {
    /// It stands in what is not kept, and may be anything.
    Hidden,
    /// `null`.
    Null,
    /// A string in which nothing is escaped.
    Text,
    /// Letters of a string.
    Word,
}

impl Gap {
    /// What a gap with this text is, if the masks do not ask what it says.
    fn of(text: &str) -> Option<Self> {
        let is_of_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        match inner {
            Some(inner) => (!inner.contains(['"', '\\', '@'])).then_some(Self::Text),
            None if text == "null" => Some(Self::Null),
            None => (!text.is_empty() && text.bytes().all(is_of_word)).then_some(Self::Word),
        }
    }

    /// What this gap is in an object of which these parts are kept.
    fn at(gap: &Range<usize>, object: &str, kept: &[Kept]) -> Option<Self> {
        let is_beside = |kept: &Kept| kept.place.end <= gap.start || gap.end <= kept.place.start;
        if kept.iter().all(is_beside) {
            // Of a value that goes alone the masks may have asked what it is; of what goes with its name, or with more, they did not.
            let goes_with_more = kept.iter().all(|kept| kept.place.end != gap.start);
            return goes_with_more.then_some(Self::Hidden);
        }
        let found = Self::of(object.get(gap.clone())?)?;
        let (before, after) = (object.get(..gap.start)?, object.get(gap.end..)?);
        let is_in_place = match found {
            // A whole string, or its end, and no key.
            Self::Word => {
                before.ends_with('"') && after.strip_prefix('"').is_some_and(|rest| !rest.starts_with(':'))
            }
            Self::Hidden | Self::Null | Self::Text => before.ends_with(':') && after.starts_with([',', '}']),
        };
        is_in_place.then_some(found)
    }
}

/// A place in each of the objects: so many bytes behind so many of its gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Spot {
    gaps: usize,
    bytes: usize,
}

impl Spot {
    /// This place in an object with these gaps; `None` within one.
    fn of(place: usize, gaps: &[Range<usize>]) -> Option<Self> {
        let before = gaps.partition_point(|gap| gap.end <= place);
        let is_within = gaps.get(before).is_some_and(|next| next.start < place);
        let bytes = place.checked_sub(end_of(before, gaps)?)?;
        (!is_within).then_some(Self { gaps: before, bytes })
    }

    /// Where it is in an object with these gaps.
    fn place(self, gaps: &[Range<usize>]) -> Option<usize> {
        end_of(self.gaps, gaps)?.checked_add(self.bytes)
    }
}

/// Where the text behind so many of the gaps begins.
fn end_of(count: usize, gaps: &[Range<usize>]) -> Option<usize> {
    match count.checked_sub(1) {
        Some(last) => gaps.get(last).map(|gap| gap.end),
        None => Some(0),
    }
}

/// Bytes of an object beside its gaps.
fn outside(object: &str, gaps: &[Range<usize>]) -> Option<usize> {
    gaps.iter().try_fold(object.len(), |left, gap| left.checked_sub(gap.end.checked_sub(gap.start)?))
}

/// A part of each object that is kept.
#[derive(Debug, Clone, Copy)]
struct Part {
    start: Spot,
    end: Spot,
    is_redacted_after: bool,
}

impl Part {
    fn of(kept: &Kept, gaps: &[Range<usize>]) -> Option<Self> {
        let Kept { place, is_redacted_after } = kept;
        let (start, end) = (Spot::of(place.start, gaps)?, Spot::of(place.end, gaps)?);
        Some(Self { start, end, is_redacted_after: *is_redacted_after })
    }

    fn append_to(self, to: &mut String, object: &str, gaps: &[Range<usize>]) -> Option<()> {
        to.push_str(object.get(self.start.place(gaps)?..self.end.place(gaps)?)?);
        if self.is_redacted_after {
            to.push('"');
            to.push_str(REDACTED);
            to.push('"');
        }
        Some(())
    }
}

/// What the masks make of an object and of those that differ from it in their gaps alone.
#[derive(Debug)]
pub struct Template {
    gaps: Vec<Gap>,
    /// Bytes of each object beside its gaps.
    outside: usize,
    parts: Vec<Part>,
    report: MaskReport,
    /// Bytes of the pointers that are listed.
    listed: usize,
    /// What the records of these objects say of the decision, once one is written.
    result: OnceLock<Box<RawValue>>,
}

impl Template {
    /// The template of a review's object, of which a parser has said that it is JSON. The gaps are whole values, and letters of strings, in their
    /// order. `None` where another object may be masked otherwise.
    pub fn of(masks: &Masks, object: &str, gaps: &[Range<usize>]) -> Option<Self> {
        if !gaps.is_sorted_by(|one, next| one.end <= next.start) {
            return None;
        }
        let mut masking = Masking::without_texts(masks);
        let kept = masking.trail(object, OBJECT)?.0;
        let kinds = gaps.iter().map(|gap| Gap::at(gap, object, &kept));
        let template = Self {
            gaps: kinds.collect::<Option<_>>()?,
            outside: outside(object, gaps)?,
            parts: kept.iter().map(|kept| Part::of(kept, gaps)).collect::<Option<_>>()?,
            listed: masking.listed,
            result: OnceLock::new(),
            report: masking.report,
        };
        (template.bytes() <= MOST_BYTES).then_some(template)
    }

    /// Approximate bytes.
    pub fn bytes(&self) -> usize {
        let pointers = self.report.erased.iter().chain(&self.report.masked);
        let pointers: usize = pointers.map(|pointer| pointer.len() + size_of::<String>()).sum();
        let lists = size_of_val(self.gaps.as_slice()) + size_of_val(self.parts.as_slice());
        size_of::<Self>() + lists + pointers
    }

    /// Whether the gaps of this object are what they are in the first one.
    fn fits(&self, object: &str, gaps: &[Range<usize>]) -> bool {
        let is_same = |(own, gap): (&Gap, &Range<usize>)| {
            *own == Gap::Hidden || object.get(gap.clone()).and_then(Gap::of) == Some(*own)
        };
        self.gaps.len() == gaps.len()
            && outside(object, gaps) == Some(self.outside)
            && self.gaps.iter().zip(gaps).all(is_same)
    }

    fn append_to(&self, to: &mut String, object: &str, gaps: &[Range<usize>]) -> bool {
        let start = to.len();
        let is_written = self.fits(object, gaps)
            && self.parts.iter().all(|part| part.append_to(to, object, gaps).is_some());
        if !is_written {
            to.truncate(start);
        }
        is_written
    }
}

/// That an object differs from another one, whose template is known, in these gaps alone, and that the decision about it is the same.
#[derive(Debug, Clone)]
pub struct Alike {
    template: Arc<Template>,
    gaps: Vec<Range<usize>>,
}

impl Alike {
    /// The gaps of the object, which are as many as the other one has, and stand at the same places of the text beside them.
    pub fn new(template: Arc<Template>, gaps: Vec<Range<usize>>) -> Self {
        Self { template, gaps }
    }

    /// Appends the object, masked, as the first one of its record. `false`, and nothing is appended, where it has to be read for that: where values are looked for in texts too, and
    /// where a gap is something else than it is in the other object.
    pub fn append_to(&self, to: &mut String, object: &RawValue, masking: &mut Masking<'_>) -> bool {
        let is_first = !masking.keeps_secrets && masking.listed == 0;
        if !is_first || !self.template.append_to(to, object.get(), &self.gaps) {
            return false;
        }
        let MaskReport { erased, masked } = &self.template.report;
        masking.report.erased.extend_from_slice(erased);
        masking.report.masked.extend_from_slice(masked);
        masking.listed = self.template.listed;
        true
    }

    /// What the records of these objects say of the decision, which is written for the first of them.
    pub fn result(&self, write: impl FnOnce() -> Option<Box<RawValue>>) -> Option<&RawValue> {
        let known = &self.template.result;
        if known.get().is_none() {
            // Another thread may have been quicker; it wrote the same.
            let _ = known.set(write()?);
        }
        known.get().map(|result| &**result)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The text of a pod around the gaps that [`POD`] and others have for it: its name, its uid, `managedFields`, a part of the name of a volume, an
    /// address, and the value of a variable.
    const AROUND: [&str; 7] = [
        r#"{"metadata":{"name":"#,
        r#","uid":"#,
        r#","managedFields":"#,
        r#","labels":{"uid":"x"},"annotations":{"kapp.k14s.io/original":"{}","team/token":"hunter2","a":"b"}},"spec":{"volumes":[{"name":"a-"},{"name":""#,
        r#""},{"gitRepo":{"repository":"#,
        r#"}}],"containers":[{"env":[{"name":"A","value":"hunter2"},{"name":"B","value":{"c":"#,
        r#"}}],"image":"a"}]}}"#,
    ];

    const POD: [&str; 6] = [
        r#""web-bcdfg""#,
        r#""1""#,
        "[1]",
        "kube-api-access-bcdfg",
        r#""https://git.example/r""#,
        r#""hunter3""#,
    ];

    fn masks() -> Masks {
        Masks { annotations: vec!["team/token".into()] }
    }

    /// An object, and where its gaps are.
    fn object(around: &[&str], gaps: &[&str]) -> (Box<RawValue>, Vec<Range<usize>>) {
        let (mut object, mut places) = (String::new(), Vec::new());
        for (index, text) in around.iter().enumerate() {
            object.push_str(text);
            if let Some(gap) = gaps.get(index) {
                places.push(object.len()..object.len() + gap.len());
                object.push_str(gap);
            }
        }
        (RawValue::from_string(object).unwrap(), places)
    }

    /// What becomes of the object with the other gaps by the template of the first one.
    fn by_template(around: &[&str], gaps: &[&str], others: &[&str]) -> Option<(String, MaskReport)> {
        let masks = masks();
        let (first, places) = object(around, gaps);
        let template = Template::of(&masks, first.get(), &places)?;
        let (other, places) = object(around, others);
        let (mut masking, mut line) = (Masking::without_texts(&masks), String::from("before"));
        let is_written = Alike::new(Arc::new(template), places).append_to(&mut line, &other, &mut masking);
        let masked = line.strip_prefix("before").unwrap().to_owned();
        assert!(is_written || (masked.is_empty() && masking.report == MaskReport::default()));
        is_written.then_some((masked, masking.report))
    }

    fn by_reading(around: &[&str], gaps: &[&str]) -> (String, MaskReport) {
        let masks = masks();
        let mut masking = Masking::without_texts(&masks);
        let masked = masking.object(&object(around, gaps).0, OBJECT);
        (masked, masking.report)
    }

    #[test]
    fn another_pod_of_the_workload_is_masked_as_if_it_were_read() {
        let other = [
            r#""web-x2k4p-of-a-longer-name""#,
            r#""2""#,
            r#"[{"time":"}]\""},1e999]"#,
            "kube-api-access-x2k4p",
            r#""https://git.example/other""#,
            r#"{"a":["hunter4",{"b":{}}]}"#,
        ];
        let found = by_template(&AROUND, &POD, &other).unwrap();
        assert!(!found.0.contains("hunter") && found.0.contains("x2k4p-of-a"), "{found:?}");
        assert_eq!(found, by_reading(&AROUND, &other));
        assert_eq!((found.1.erased.len(), found.1.masked.len()), (3, 2));
    }

    #[test]
    fn an_object_of_which_a_gap_is_something_else_is_read() {
        for (index, gap) in [
            (0, r#""a\"b""#),
            (0, "null"),
            (1, "7"),
            (1, r#"{"env":{"A":"hunter5"}}"#),
            (1, r#""\ud83d""#),
            (3, r#"a","env":{"A":"hunter5"},"b":"c"#),
            (3, "A"),
            (3, ""),
            (4, r#""https://me:hunter5@git.example/r""#),
            (4, "null"),
            (4, "1e999"),
        ] {
            let mut other = POD;
            other[index] = gap;
            assert_eq!(by_template(&AROUND, &POD, &other), None, "{gap}");
            let by_own = by_template(&AROUND, &other, &other);
            assert!(by_own.is_none_or(|found| found == by_reading(&AROUND, &other)), "{gap}");
        }
    }

    #[test]
    fn an_object_with_other_text_around_its_gaps_or_with_more_of_them_is_read() {
        let template = |masks: &Masks| {
            let (first, places) = object(&AROUND, &POD);
            Arc::new(Template::of(masks, first.get(), &places).unwrap())
        };
        let masks = masks();
        let (other, places) = object(&AROUND, &POD);
        let is_written = |object: &str, places: Vec<Range<usize>>| {
            let object: Box<RawValue> = RawValue::from_string(object.to_owned()).unwrap();
            let mut masking = Masking::without_texts(&masks);
            Alike::new(template(&masks), places).append_to(&mut String::new(), &object, &mut masking)
        };
        assert!(is_written(other.get(), places.clone()));
        let longer = other.get().replace(r#""image":"a""#, r#""image":"ab""#);
        assert!(!is_written(&longer, places.clone()));
        assert!(!is_written(other.get(), places[1..].to_vec()));
        let beyond = places.last().unwrap().start..other.get().len() + 1;
        assert!(!is_written(other.get(), [&places[..5], &[beyond]].concat()));
    }

    #[test]
    fn no_template_is_made_where_the_masks_may_ask_what_a_gap_says() {
        let masks = masks();
        let has_one = |around: &[&str], gaps: &[&str]| {
            let (object, places) = object(around, gaps);
            Template::of(&masks, object.get(), &places).is_some()
        };
        for (around, gap, wanted) in [
            ([r#"{"a":""#, r#""}"#], "b", true),
            ([r#"{""#, r#"":"a"}"#], "b", false),
            ([r#"{"a":"b"#, r#""}"#], "b", false),
            ([r#"{"a":"#, "}"], r#""b""#, true),
            ([r#"{"a":["#, "]}"], r#""b""#, false),
            ([r#"{"a":"#, "}"], "[]", false),
            ([r#"{ "a":"#, "}"], r#""b""#, false),
            ([r#"{"a":"#, r#","b":1e999}"#], r#""b""#, false),
            ([r#"{"gitRepo":{"repository":"#, "}}"], "null", false),
            ([r#"{"env":["#, "]}"], r#""A=b""#, false),
            ([r#"{"data":"#, r#","b":1}"#], "[]", true),
        ] {
            assert_eq!(has_one(&around, &[gap]), wanted, "{around:?} {gap}");
        }
        assert!(has_one(&AROUND, &POD));
        let object = r#"{"a":"b","c":"d"}"#;
        assert!(Template::of(&masks, object, &[5..8, 13..16]).is_some());
        for gaps in [[13..16, 5..8], [5..8, 7..9], [5..8, 13..99]] {
            assert!(Template::of(&masks, object, &gaps).is_none(), "{gaps:?}");
        }
        let many = format!(r#"{{"env":[{}"a"]}}"#, r#""a=hunter2","#.repeat(200));
        assert!(Template::of(&masks, &many, &[]).is_none(), "a large one");
    }

    #[test]
    fn an_object_is_read_where_its_values_are_looked_for_in_texts_and_where_it_is_not_the_first() {
        let masks = masks();
        let (first, places) = object(&AROUND, &POD);
        let template = Arc::new(Template::of(&masks, first.get(), &places).unwrap());
        let alike = Alike::new(template, places);
        let mut line = String::new();
        assert!(!alike.append_to(&mut line, &first, &mut Masking::new(&masks)));
        let mut masking = Masking::without_texts(&masks);
        masking.write_object(&first, OBJECT, None, &mut String::new());
        assert!(!alike.append_to(&mut line, &first, &mut masking));
        assert_eq!(line, "");
    }

    fn gaps() -> impl Strategy<Value = [&'static str; 6]> {
        let value = || {
            prop::sample::select(vec![
                r#""web""#,
                r#""a-longer-name""#,
                r#""""#,
                "null",
                "true",
                "-1.5",
                "1e999",
                "[]",
                r#"{"env":{"A":"hunter2"},"data":1}"#,
                r#""me@git""#,
                r#""\u0061\n""#,
                r#""\ud83d""#,
                "\"caf\u{e9}\"",
            ])
        };
        let word = prop::sample::select(vec![
            "a",
            "kube-api-access-x2k4p",
            "0-9",
            "A",
            "null",
            "\u{e9}",
            r#"a","env":{"A":"hunter2"},"b":"c"#,
        ]);
        (value(), value(), value(), word, value(), value()).prop_map(<[&'static str; 6]>::from)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn whatever_stands_in_the_gaps_an_object_is_masked_as_if_it_were_read(first in gaps(), others in gaps()) {
            if let Some(found) = by_template(&AROUND, &first, &others) {
                prop_assert_eq!(found, by_reading(&AROUND, &others));
            }
        }
    }
}
