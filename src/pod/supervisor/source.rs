//! Whom a descriptor in the poll set belongs to.

use crate::container::log::Stream;
use crate::lifecycle::C;

/// Where an event of the poll set comes from; packed into its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Listener,
    Owner,
    Pause,
    Dns,
    Client(usize),
    Exit(C),
    Output(C, Stream),
    /// Somebody who is attached to the container and was behind reads again.
    Room(C),
    /// An errand has ended.
    Errand(usize),
    /// An errand has said something.
    Said(usize),
    Prober,
    /// A ConfigMap or a Secret has come, changed or gone.
    Objects,
    /// The pull of a container's image.
    Pull(C),
    /// The volumes have been measured.
    Measured,
}

impl Source {
    /// Of what happened at once, this comes first, next, last: a hook's end before the end of its container, and that before the word of
    /// a probe, to which its server did not answer because it was ending.
    pub(super) fn turn(self) -> u8 {
        match self {
            Source::Errand(_) => 0,
            Source::Prober => 2,
            _ => 1,
        }
    }

    pub(super) fn token(self) -> u64 {
        let (kind, number) = match self {
            Source::Listener => (0, 0),
            Source::Owner => (1, 0),
            Source::Pause => (2, 0),
            Source::Dns => (3, 0),
            Source::Client(number) => (4, number),
            Source::Exit(c) => (5, c.0),
            Source::Output(c, Stream::Stdout) => (6, c.0),
            Source::Output(c, Stream::Stderr) => (7, c.0),
            Source::Room(c) => (8, c.0),
            Source::Errand(number) => (9, number),
            Source::Said(number) => (10, number),
            Source::Prober => (11, 0),
            Source::Objects => (12, 0),
            Source::Pull(c) => (13, c.0),
            Source::Measured => (14, 0),
        };
        kind << 32 | number as u64
    }

    pub(super) fn of(token: u64) -> Option<Source> {
        let number = (token & u64::from(u32::MAX)) as usize;
        Some(match token >> 32 {
            0 => Source::Listener,
            1 => Source::Owner,
            2 => Source::Pause,
            3 => Source::Dns,
            4 => Source::Client(number),
            5 => Source::Exit(C(number)),
            6 => Source::Output(C(number), Stream::Stdout),
            7 => Source::Output(C(number), Stream::Stderr),
            8 => Source::Room(C(number)),
            9 => Source::Errand(number),
            10 => Source::Said(number),
            11 => Source::Prober,
            12 => Source::Objects,
            13 => Source::Pull(C(number)),
            14 => Source::Measured,
            _ => return None,
        })
    }
}
