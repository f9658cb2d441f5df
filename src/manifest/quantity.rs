//! Kubernetes quantities: `500m`, `1.5Gi`, `1e3`.
//!
//! Rules of apimachinery's `api/resource/quantity.go`: a number with an optional suffix, decimal (`n u m k M G T P E`),
//! binary (`Ki` … `Ei`) or an exponent (`1e3`, `1E3`); anything finer than a billionth is rounded away from zero, anything
//! beyond 2^63-1 is cut there. The canonical text has no fraction and the largest suffix that fits, in the family of the
//! suffix it was written with.

use std::fmt;

/// An exact amount in billionths of a unit.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    nanos: i128,
    family: Family,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Decimal,
    Binary,
    Exponent,
}

const NANO: i128 = 1_000_000_000;
const MOST: i128 = i64::MAX as i128 * NANO;
const DECIMAL: [(&str, i32); 10] = [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

/// What upstream says of a text that is no quantity.
pub const MALFORMED: &str = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

impl Quantity {
    pub const ZERO: Quantity = Quantity { nanos: 0, family: Family::Decimal };

    /// Reads a quantity; the error is upstream's sentence.
    pub fn parse(text: &str) -> Result<Quantity, &'static str> {
        let text = text.trim();
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            Some(_) => (false, text),
            None => return Err(MALFORMED),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (digits, suffix) = rest.split_at(end);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return Err(MALFORMED);
        }
        let (scale, family) = scale(suffix)?;
        let nanos = amount(whole, fraction, scale).min(MOST);
        Ok(Quantity { nanos: if negative { -nanos } else { nanos }, family })
    }

    /// Thousandths of a CPU, rounded up; what the scheduler and the cgroup's weight count in.
    pub fn milli_cpus(self) -> i64 {
        self.scaled(NANO / 1000)
    }

    /// Whole units (bytes for memory), rounded up.
    pub fn bytes(self) -> i64 {
        self.scaled(NANO)
    }

    fn scaled(self, unit: i128) -> i64 {
        let up = self.nanos.div_euclid(unit) + i128::from(self.nanos.rem_euclid(unit) != 0);
        i64::try_from(up).unwrap_or(if up < 0 { i64::MIN } else { i64::MAX })
    }

    /// Nothing, in the same family.
    #[must_use]
    pub fn zero(self) -> Quantity {
        Quantity { nanos: 0, family: self.family }
    }

    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Whether it is a whole number of units (a fraction of a byte is legal, and a mistake).
    pub fn is_whole(self) -> bool {
        self.nanos % NANO == 0
    }

    /// Rounded up to thousandths, as the API server stores resources (`SetDefaults_ResourceList`).
    #[must_use]
    pub fn to_milli(self) -> Quantity {
        let unit = NANO / 1000;
        let up = self.nanos.div_euclid(unit) + i128::from(self.nanos.rem_euclid(unit) != 0);
        Quantity { nanos: up * unit, family: self.family }
    }
}

/// A sum is printed in the family of its left side.
impl std::ops::Add for Quantity {
    type Output = Quantity;

    fn add(self, other: Quantity) -> Quantity {
        Quantity { nanos: (self.nanos + other.nanos).clamp(-MOST, MOST), family: self.family }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Quantity) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Quantity) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Quantity) -> std::cmp::Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

enum Scale {
    Ten(i32),
    Two(u32),
}

fn scale(suffix: &str) -> Result<(Scale, Family), &'static str> {
    if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Ok((Scale::Ten(*power), Family::Decimal));
    }
    if let Some((_, power)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Ok((Scale::Two(*power), Family::Binary));
    }
    let shaped = suffix.trim_start_matches(['e', 'E', 'i', 'n', 'u', 'm', 'k', 'K', 'M', 'G', 'T', 'P']).trim_start_matches(['+', '-']);
    if !shaped.bytes().all(|b| b.is_ascii_digit()) {
        return Err(MALFORMED);
    }
    let power = suffix.strip_prefix(['e', 'E']).and_then(|digits| digits.parse::<i32>().ok());
    power.map(|power| (Scale::Ten(power), Family::Exponent)).ok_or("unable to parse quantity's suffix")
}

/// The digits as billionths, rounded up; beyond what an i128 holds it is `MOST` or one billionth, never wrong by sign.
fn amount(whole: &str, fraction: &str, scale: Scale) -> i128 {
    let (ten, two) = match scale {
        Scale::Ten(power) => (power, 0),
        Scale::Two(power) => (0, power),
    };
    // The value is the digits, read as one integer, times 10^(point + 9) billionths, times 2^two.
    let mut point = ten.clamp(-200_000_000, 200_000_000) + 9;
    let mut number: i128 = 0;
    let mut rest = false;
    let digits = whole.bytes().map(|b| (b, false)).chain(fraction.bytes().map(|b| (b, true)));
    for (digit, after_point) in digits {
        let digit = i128::from(digit - b'0');
        if number < MOST {
            number = number * 10 + digit;
            point -= i32::from(after_point);
        } else {
            // No more digits fit beside 2^60; they only say that something follows.
            rest |= digit != 0;
            point += i32::from(!after_point);
        }
    }
    if number == 0 {
        return 0;
    }
    let grown = 1_i128.checked_shl(two).and_then(|factor| number.checked_mul(factor)).unwrap_or(i128::MAX);
    if point >= 0 {
        return 10_i128.checked_pow(point.unsigned_abs()).and_then(|factor| grown.checked_mul(factor)).unwrap_or(MOST);
    }
    match 10_i128.checked_pow(point.unsigned_abs()) {
        Some(divisor) => grown / divisor + i128::from(rest || grown % divisor != 0),
        None => 1,
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let small = self.nanos.abs() < 1024 * NANO;
        if self.family == Family::Binary && !small && self.is_whole() {
            let (number, times) = strip(self.nanos / NANO, 1024, BINARY.len());
            return write!(f, "{number}{}", if times == 0 { "" } else { BINARY[times - 1].0 });
        }
        let (number, times) = strip(self.nanos, 1000, DECIMAL.len() - 1);
        let (suffix, power) = DECIMAL[times];
        match (self.family, power) {
            _ if self.nanos == 0 => f.write_str("0"),
            (Family::Exponent, 0) => write!(f, "{number}"),
            (Family::Exponent, power) => write!(f, "{number}e{power}"),
            _ => write!(f, "{number}{suffix}"),
        }
    }
}

/// Divides by `base` as often as it goes without rest, but not more than `most` times.
fn strip(mut number: i128, base: i128, most: usize) -> (i128, usize) {
    let mut times = 0;
    while number != 0 && times < most && number % base == 0 {
        number /= base;
        times += 1;
    }
    (number, times)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Quantity {
        Quantity::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn a_quantity_reads_and_prints_as_kubernetes_does() {
        for (text, canonical, bytes, milli) in [
            ("0", "0", 0, 0),
            ("0Ki", "0", 0, 0),
            ("500m", "500m", 1, 500),
            ("0.5", "500m", 1, 500),
            (".5", "500m", 1, 500),
            ("1.", "1", 1, 1000),
            ("+1.5Gi", "1536Mi", 1_610_612_736, 1_610_612_736_000),
            ("1024Mi", "1Gi", 1_073_741_824, 1_073_741_824_000),
            ("1000Mi", "1000Mi", 1_048_576_000, 1_048_576_000_000),
            ("1Ki", "1Ki", 1024, 1_024_000),
            ("0.5Ki", "512", 512, 512_000),
            ("1e3", "1e3", 1000, 1_000_000),
            ("1E3", "1e3", 1000, 1_000_000),
            ("2E", "2E", 2_000_000_000_000_000_000, i64::MAX),
            ("1500", "1500", 1500, 1_500_000),
            ("2000", "2k", 2000, 2_000_000),
            ("100M", "100M", 100_000_000, 100_000_000_000),
            ("0.1n", "1n", 1, 1),
            ("1u", "1u", 1, 1),
            ("-1", "-1", -1, -1000),
            ("-0.5", "-500m", 0, -500),
            ("9Ei", "9223372036854775807", i64::MAX, i64::MAX),
            ("1e99", "9223372036854775807", i64::MAX, i64::MAX),
            ("1e-99", "1e-9", 1, 1),
            ("000000000000000000000000000000000000000000000000001", "1", 1, 1000),
        ] {
            let quantity = read(text);
            let shown = quantity.to_string();
            assert_eq!((shown.as_str(), quantity.bytes(), quantity.milli_cpus()), (canonical, bytes, milli), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "-", ".", "1.2.3", "Mi", "1 Gi", "eighty", "1,5", "0x10", "1\u{0}"] {
            assert!(Quantity::parse(text).is_err(), "{text:?}");
        }
        for text in ["1mi", "1K", "1Gii", "1ee3", "1e", "1Mi5"] {
            assert_eq!(Quantity::parse(text), Err("unable to parse quantity's suffix"), "{text:?}");
        }
    }

    #[test]
    fn resources_are_kept_in_thousandths() {
        assert_eq!(read("100n").to_milli().to_string(), "1m");
        assert_eq!(read("1.5Gi").to_milli().to_string(), "1536Mi");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in "[-+.0-9eEinumkKMGTP]{0,50}|.{0,20}") {
            if let Ok(quantity) = Quantity::parse(&text) {
                prop_assert_eq!(Quantity::parse(&quantity.to_string()), Ok(quantity), "{} -> {}", text, quantity);
            }
        }

        #[test]
        fn the_suffix_only_scales(number in 0_i64..1_000_000_000, which in 0_usize..6) {
            let (suffix, power) = BINARY[which];
            let expected = (i128::from(number) << power).min(i128::from(i64::MAX));
            prop_assert_eq!(i128::from(read(&format!("{number}{suffix}")).bytes()), expected);
        }

        #[test]
        fn order_follows_the_amount(a in 0_u32..u32::MAX, b in 0_u32..u32::MAX) {
            prop_assert_eq!(read(&format!("{a}m")) < read(&format!("{b}m")), a < b);
            prop_assert_eq!(read(&format!("{a}m")).milli_cpus(), i64::from(a));
            prop_assert_eq!(read(&format!("{a}m")).bytes(), i64::from(a.div_ceil(1000)));
        }
    }
}
