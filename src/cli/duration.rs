//! Ages as kubectl writes them, two or three figures of precision: `HumanDuration` of
//! `apimachinery/pkg/util/duration/duration.go`. And Go's durations, read (`--since 1h30m`).

use jiff::{SignedDuration, Timestamp};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// A duration in words of a table. Less than two seconds below zero is clock skew and counts as none.
pub fn human(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    // A bigger unit, and a smaller one unless it is zero.
    let two = |big: i64, of_big: &str, small: i64, of_small: &str| {
        if small == 0 { format!("{big}{of_big}") } else { format!("{big}{of_big}{small}{of_small}") }
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        _ if seconds < 2 * MINUTE => format!("{seconds}s"),
        _ if seconds < 10 * MINUTE => two(seconds / MINUTE, "m", seconds % MINUTE, "s"),
        _ if seconds < 3 * HOUR => format!("{}m", seconds / MINUTE),
        _ if seconds < 8 * HOUR => two(seconds / HOUR, "h", seconds / MINUTE % 60, "m"),
        _ if seconds < 2 * DAY => format!("{}h", seconds / HOUR),
        _ if seconds < 8 * DAY => two(seconds / DAY, "d", seconds / HOUR % 24, "h"),
        _ if seconds < 2 * YEAR => format!("{}d", seconds / DAY),
        _ if seconds < 8 * YEAR => two(seconds / YEAR, "y", seconds / DAY % 365, "d"),
        _ => format!("{}y", seconds / YEAR),
    }
}

/// How long ago `then` was; `<unknown>` if nothing is known.
pub fn since(then: Option<Timestamp>, now: Timestamp) -> String {
    then.map_or_else(|| "<unknown>".to_owned(), |then| human(now.duration_since(then)))
}

/// A time in the form of `describe` (Go's RFC1123Z), in UTC. An absent time is shown as upstream shows Go's zero time.
pub fn rfc1123(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "Mon, 01 Jan 0001 00:00:00 +0000".to_owned(), |time| time.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string())
}

/// A duration as Go's flags take it: numbers with units ns, us, ms, s, m, h, without spaces (`90s`, `1h30m`, `0.5s`).
pub fn parse(text: &str) -> Option<SignedDuration> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let units = [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", MINUTE as f64), ("h", HOUR as f64)];
        // "ms" stands before "m", so that the longer name wins.
        let (unit, factor) = units.iter().find(|(unit, _)| rest[digits..].starts_with(unit))?;
        seconds += number * factor;
        rest = &rest[digits + unit.len()..];
    }
    (!text.trim_start_matches(['-', '+']).is_empty()).then(|| SignedDuration::try_from_secs_f64(sign * seconds).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_border_falls_on_the_side_that_upstream_gives_it() {
        let table = [
            (-3, "<invalid>"),
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (1, "1s"),
            (119, "119s"),
            (120, "2m"),
            (121, "2m1s"),
            (599, "9m59s"),
            (600, "10m"),
            (601, "10m"),
            (3 * HOUR - 1, "179m"),
            (3 * HOUR, "3h"),
            (3 * HOUR + 59, "3h"),
            (3 * HOUR + 60, "3h1m"),
            (8 * HOUR - 1, "7h59m"),
            (8 * HOUR, "8h"),
            (2 * DAY - 1, "47h"),
            (2 * DAY, "2d"),
            (2 * DAY + HOUR, "2d1h"),
            (8 * DAY - 1, "7d23h"),
            (8 * DAY, "8d"),
            (2 * YEAR - 1, "729d"),
            (2 * YEAR, "2y"),
            (2 * YEAR + DAY, "2y1d"),
            (8 * YEAR - 1, "7y364d"),
            (8 * YEAR, "8y"),
            (9 * YEAR, "9y"),
        ];
        for (seconds, shown) in table {
            assert_eq!(human(SignedDuration::from_secs(seconds)), shown, "{seconds} s");
        }
    }

    #[test]
    fn a_fraction_of_a_second_is_cut_towards_zero() {
        assert_eq!(human(SignedDuration::from_millis(-1999)), "0s");
        assert_eq!(human(SignedDuration::from_millis(-2000)), "<invalid>");
        assert_eq!(human(SignedDuration::from_millis(119_999)), "119s");
    }

    #[test]
    fn a_time_is_shown_in_rfc1123_with_its_zone() {
        assert_eq!(rfc1123(Some("2026-03-07T09:05:00.5Z".parse().unwrap())), "Sat, 07 Mar 2026 09:05:00 +0000");
        assert_eq!(rfc1123(None), "Mon, 01 Jan 0001 00:00:00 +0000");
    }

    #[test]
    fn a_go_duration_is_read_and_anything_else_refused() {
        assert_eq!(parse("1h30m"), Some(SignedDuration::from_secs(5400)));
        assert_eq!(parse("1.5s"), Some(SignedDuration::from_millis(1500)));
        assert_eq!(parse("250ms"), Some(SignedDuration::from_millis(250)));
        assert_eq!(parse("-5s"), Some(SignedDuration::from_secs(-5)));
        assert_eq!(parse("0"), Some(SignedDuration::ZERO));
        for wrong in ["", "-", "5", "5x", "s", "1..2s", "1h 5m", "1e400h", "99999999999999999999h"] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
