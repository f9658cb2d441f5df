//! Sets of completion indexes, as Jobs write them: `0,2-4,7` (`pkg/controller/job/indexed_job_utils.go`).

use std::collections::BTreeSet;
use std::fmt;

/// Completion indexes. A Job has at most 2^31 of them; a set holds those that were seen, or those that a manifest names by intervals.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Indexes {
    /// First and last of each interval, ascending; two of them neither overlap nor touch.
    intervals: Vec<(u32, u32)>,
}

impl Indexes {
    /// Reads a list of a manifest. The error is the API server's sentence (`validateIndexesFormat`).
    pub fn parse(text: &str, completions: u32) -> Result<Indexes, String> {
        let mut indexes = Indexes::default();
        if text.is_empty() {
            return Ok(indexes);
        }
        let mut last: Option<u32> = None;
        for part in text.split(',') {
            let (from, to) = interval(part, completions)?;
            if let Some(last) = last.filter(|last| *last >= from) {
                return Err(format!("non-increasing order, previous: {last}, current: {from}"));
            }
            last = Some(to);
            indexes.append(from, to);
        }
        Ok(indexes)
    }

    /// Adds an interval that lies behind all others.
    fn append(&mut self, from: u32, to: u32) {
        match self.intervals.last_mut() {
            Some((_, last)) if *last + 1 == from => *last = to,
            _ => self.intervals.push((from, to)),
        }
    }

    /// How many indexes there are.
    pub fn total(&self) -> u32 {
        self.intervals.iter().map(|(from, to)| to - from + 1).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    pub fn contains(&self, index: u32) -> bool {
        let before = self.intervals.partition_point(|(_, to)| *to < index);
        self.intervals.get(before).is_some_and(|(from, _)| *from <= index)
    }

    /// How many indexes both have.
    pub fn shared_with(&self, other: &Indexes) -> u32 {
        let overlap = |a: &(u32, u32), b: &(u32, u32)| (a.1.min(b.1) + 1).saturating_sub(a.0.max(b.0));
        self.intervals.iter().map(|a| other.intervals.iter().map(|b| overlap(a, b)).sum::<u32>()).sum()
    }
}

impl FromIterator<u32> for Indexes {
    fn from_iter<I: IntoIterator<Item = u32>>(all: I) -> Indexes {
        let mut indexes = Indexes::default();
        all.into_iter().collect::<BTreeSet<u32>>().into_iter().for_each(|index| indexes.append(index, index));
        indexes
    }
}

/// `0,2-4,7`; two neighbours are written with a comma, as upstream does.
impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (from, to)) in self.intervals.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            match to - from {
                0 => write!(f, "{comma}{from}")?,
                1 => write!(f, "{comma}{from},{to}")?,
                _ => write!(f, "{comma}{from}-{to}")?,
            }
        }
        Ok(())
    }
}

fn interval(part: &str, completions: u32) -> Result<(u32, u32), String> {
    let limits: Vec<&str> = part.split('-').collect();
    let number = |text: &str| {
        let index: u32 = text.parse().map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
        if index >= completions { Err(format!("too large index: {text:?}")) } else { Ok(index) }
    };
    match limits.as_slice() {
        [one] => number(one).map(|index| (index, index)),
        [from, to] => {
            let (from, to) = (number(from)?, number(to)?);
            if from >= to { Err(format!("non-increasing order, previous: {from}, current: {to}")) } else { Ok((from, to)) }
        }
        _ => Err(format!("the fragment {part:?} violates the requirement that an index interval can have at most two parts separated by '-'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_written_as_upstream_writes_them() {
        for (all, text) in [(vec![], ""), (vec![3], "3"), (vec![1, 0], "0,1"), (vec![0, 1, 2, 5, 7, 8], "0-2,5,7,8")] {
            assert_eq!(all.iter().copied().collect::<Indexes>().to_string(), text);
            assert_eq!(Indexes::parse(text, 10).unwrap(), all.into_iter().collect());
        }
    }

    #[test]
    fn what_is_no_list_of_indexes_is_told_in_the_servers_words() {
        for (text, said) in [
            ("a", "cannot convert string to integer for index: \"a\""),
            ("0-5", "too large index: \"5\""),
            ("3-1", "non-increasing order, previous: 3, current: 1"),
            ("2,2", "non-increasing order, previous: 2, current: 2"),
            ("1-2-3", "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts separated by '-'"),
            ("0,", "cannot convert string to integer for index: \"\""),
        ] {
            assert_eq!(Indexes::parse(text, 5).unwrap_err(), said, "{text}");
        }
    }

    #[test]
    fn sets_are_compared_by_their_members() {
        let (a, b) = (Indexes::parse("0-3,6", 10).unwrap(), Indexes::parse("2-7", 10).unwrap());
        assert_eq!((a.total(), b.total(), a.shared_with(&b)), (5, 6, 3));
        assert!(a.contains(6) && !a.contains(4) && !a.contains(9));
    }
}
