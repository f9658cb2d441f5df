//! Mutants of what is right: layers, documents and lines, each the same for the same seed.
//!
//! ```text
//! layer:    headers and contents are taken apart, changed as a writer of tars would, and put together with checksums made anew
//! document: a value somewhere in it becomes another; then the digests of those above it are made anew
//! ```
//!
//! A mutant whose checksum or digest is wrong is refused at the door. These get in.

use serde_json::{Value, json};

/// Numbers that follow from a seed (SplitMix64).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to one less than `faces`, which is not 0.
    pub fn below(&mut self, faces: usize) -> usize {
        (self.number() % faces as u64) as usize
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }
}

const BLOCK: usize = 512;
/// What a name or a link's target may be. `AWAY` becomes the directory that must stay as it is.
const NAMES: [&str; 26] = [
    "a",
    "a/b",
    "a/b/c",
    "d",
    "d/x",
    "l",
    "l/x",
    "s",
    "..",
    "../..",
    "../../../../away/secret",
    "AWAY",
    "AWAY/secret",
    "/",
    "./",
    "",
    ".",
    "a/../../l",
    "dev/fifo",
    "a/.wh.kept",
    ".wh.a",
    "a/.wh..",
    "l/.wh..wh..opq",
    ".wh..wh.x",
    "etc/passwd",
    "x\n\u{1b}[2J",
];
const NUMBERS: [&str; 12] = ["0", "1", "7", "511", "512", "513", "4294967295", "4294967296", "9223372036854775807", "18446744073709551615", "-1", "x"];
const RECORDS: [&str; 14] = [
    "path",
    "linkpath",
    "size",
    "uid",
    "gid",
    "mtime",
    "SCHILY.xattr.trusted.overlay.redirect",
    "SCHILY.xattr.trusted.overlay.opaque",
    "SCHILY.xattr.user.x",
    "SCHILY.xattr.security.capability",
    "SCHILY.xattr.",
    "SCHILY.xattr.trusted.x",
    "GNU.sparse.size",
    "hdrcharset",
];
/// Every type that a header may tell, and one that none may.
const KINDS: &[u8] = b"0\x0001234567xgLKSVMD?";
/// Fields of a header that are numbers: where, and how long.
const FIELDS: [(usize, usize); 7] = [(100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (329, 8), (337, 8)];

/// A header and what follows it up to the next.
pub type Piece = (Vec<u8>, Vec<u8>);

/// Takes a tar that is right apart.
pub fn pieces(tar: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = tar;
    while rest.len() >= BLOCK && rest[..BLOCK].iter().any(|byte| *byte != 0) {
        let size: String = rest[124..135].iter().map(|byte| char::from(*byte)).collect();
        let content = usize::from_str_radix(&size, 8).expect("a tar that is right").next_multiple_of(BLOCK);
        pieces.push((rest[..BLOCK].to_vec(), rest[BLOCK..BLOCK + content].to_vec()));
        rest = &rest[BLOCK + content..];
    }
    pieces
}

/// A layer made of pieces of `corpus`; names lead to `away`, too.
pub fn layer(dice: &mut Dice, corpus: &[Vec<Piece>], away: &str) -> Vec<u8> {
    let mut all = corpus[dice.below(corpus.len())].clone();
    for _ in 0..=dice.below(8) {
        let (at, other) = (dice.below(all.len()), dice.below(all.len()));
        match dice.below(12) {
            0 => drop((all.len() > 1).then(|| all.remove(at))),
            1 => all.insert(at, all[other].clone()),
            2 => all.swap(at, other),
            3 => {
                let other = &corpus[dice.below(corpus.len())];
                all.insert(at, other[dice.below(other.len())].clone());
            }
            4 => all.insert(at, extended(dice, away)),
            5 => all.insert(at, long(dice, away)),
            _ => header(dice, &mut all[at], away),
        }
    }
    for (header, _) in &mut all {
        // Now and then one that is wrong.
        if !dice.once_in(60) {
            sum(header);
        }
    }
    let mut tar: Vec<u8> = all.into_iter().flat_map(|(header, content)| [header, content].concat()).collect();
    tar.resize(tar.len() + 2 * BLOCK, 0);
    match dice.below(20) {
        0 => tar.truncate(dice.below(tar.len())),
        1 => tar.extend((0..dice.below(2000)).map(|n| n as u8)),
        2 => drop(tar.drain(..dice.below(tar.len().min(600)))),
        _ => {}
    }
    tar
}

fn name(dice: &mut Dice, away: &str) -> String {
    let name = dice.of(&NAMES).replace("AWAY", away);
    match dice.below(12) {
        0 => format!("{}{name}", "d/".repeat(dice.below(400))),
        1 => format!("{name}{}", "n".repeat(dice.below(300))),
        2 => format!("{name}/{}", dice.of(&NAMES)),
        _ => name,
    }
}

/// Puts something else into one field of a header, or another content behind it.
fn header(dice: &mut Dice, (header, content): &mut Piece, away: &str) {
    match dice.below(8) {
        0 | 1 => put(&mut header[..100], name(dice, away).as_bytes()),
        2 | 3 => put(&mut header[157..257], name(dice, away).as_bytes()),
        4 => header[156] = KINDS[dice.below(KINDS.len())],
        5 => {
            let (at, length) = FIELDS[dice.below(FIELDS.len())];
            number(dice, &mut header[at..at + length]);
        }
        6 => header[dice.below(BLOCK)] = dice.below(256) as u8,
        _ => {
            // As many bytes as the header says, or not.
            content.resize(dice.below(4) * BLOCK, b'm');
            if dice.once_in(2) {
                put(&mut header[124..136], format!("{:011o}\0", content.len()).as_bytes());
            }
        }
    }
}

fn put(field: &mut [u8], bytes: &[u8]) {
    let length = bytes.len().min(field.len());
    field[..length].copy_from_slice(&bytes[..length]);
    field[length..].fill(0);
}

/// Octal, or two's complement with the highest bit set, or neither.
fn number(dice: &mut Dice, field: &mut [u8]) {
    match dice.below(4) {
        0 => put(field, format!("{:o}", dice.number() >> dice.below(64)).as_bytes()),
        1 => {
            field.fill(if dice.once_in(2) { 0xff } else { 0 });
            field[0] |= 0x80;
            let last = field.len() - 1;
            field[last - dice.below(last)] = dice.below(256) as u8;
        }
        2 => field.fill(b'7'),
        _ => put(field, dice.of(&NUMBERS).as_bytes()),
    }
}

/// An extended header of some records; sometimes a record's length is wrong.
fn extended(dice: &mut Dice, away: &str) -> Piece {
    let mut records = Vec::new();
    for _ in 0..=dice.below(3) {
        let value = if dice.once_in(2) { name(dice, away) } else { dice.of(&NUMBERS).to_owned() };
        records.extend(crate::image_maker::record(dice.of(&RECORDS), value.as_bytes()));
    }
    if dice.once_in(8) {
        let at = dice.below(records.len());
        records[at] = dice.below(256) as u8;
    }
    piece(if dice.once_in(10) { b'g' } else { b'x' }, records)
}

/// A GNU long name or link.
fn long(dice: &mut Dice, away: &str) -> Piece {
    let mut bytes = name(dice, away).into_bytes();
    bytes.resize(bytes.len() + dice.below(3), 0);
    piece(*dice.of(&[&b'L', &b'K']), bytes)
}

fn piece(kind: u8, mut content: Vec<u8>) -> Piece {
    let mut header = vec![0; BLOCK];
    put(&mut header[..100], b"extension");
    put(&mut header[124..136], format!("{:011o}\0", content.len()).as_bytes());
    header[156] = kind;
    put(&mut header[257..265], b"ustar\x0000");
    content.resize(content.len().next_multiple_of(BLOCK), 0);
    (header, content)
}

fn sum(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    put(&mut header[148..156], format!("{sum:06o}\0 ").as_bytes());
}

/// Makes some value within a document another one.
pub fn document(dice: &mut Dice, value: &mut Value) {
    if dice.once_in(4) {
        *value = stranger(dice);
        return;
    }
    match value {
        Value::Array(list) if !list.is_empty() => {
            let at = dice.below(list.len());
            match dice.below(6) {
                0 => drop(list.remove(at)),
                1 => list.insert(at, list[at].clone()),
                2 => list.extend(vec![list[at].clone(); dice.below(200)]),
                _ => document(dice, &mut list[at]),
            }
        }
        Value::Object(fields) if !fields.is_empty() => {
            let key = fields.keys().nth(dice.below(fields.len())).expect("so many").clone();
            match dice.below(8) {
                0 => drop(fields.remove(&key)),
                1 => drop(fields.insert(key.to_uppercase(), stranger(dice))),
                _ => document(dice, fields.get_mut(&key).expect("its own key")),
            }
        }
        Value::String(text) if dice.once_in(2) => *text = String::from_utf8_lossy(&line(dice, text.as_bytes())).into_owned(),
        other => *other = stranger(dice),
    }
}

fn stranger(dice: &mut Dice) -> Value {
    match dice.below(12) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(u64::MAX),
        4 => json!(1e300),
        5 => json!([]),
        6 => json!({}),
        7 => (0..dice.below(300)).fold(json!(0), |inside, _| json!([inside])),
        8 => json!("sha256:../../../../../../escaped"),
        9 => json!("x\n\u{1b}[2J"),
        10 => json!("n".repeat(dice.below(9000))),
        _ => json!(dice.of(&NAMES)),
    }
}

/// Makes some bytes of a text others.
pub fn line(dice: &mut Dice, text: &[u8]) -> Vec<u8> {
    const PARTS: [&[u8]; 20] = [
        b"/",
        b"//",
        b":",
        b"@",
        b"..",
        b".",
        b"__",
        b"---",
        b"sha256:",
        b"localhost",
        b"docker.io/",
        b"library/",
        b"[",
        b"]",
        b"\0",
        b"\n",
        b"\xc3\xa9",
        b"A",
        b"0",
        b"{\"auths\": ",
    ];
    let mut text = text.to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.below(text.len() + 1);
        match dice.below(6) {
            0 => text.truncate(at),
            1 => drop(text.drain(..at)),
            2 if at < text.len() => drop(text.remove(at)),
            3 if at < text.len() => text[at] = dice.below(128) as u8,
            4 => text.extend_from_within(at..),
            _ => drop(text.splice(at..at, dice.of(&PARTS).iter().copied())),
        }
        text.truncate(100_000);
    }
    text
}
