//! DNS messages (RFC 1035): the question of a query is read, an answer is written. Pure, and total over hostile bytes.
//!
//! This is less than any DNS library brings: of a message from a pod only the header and the one question are looked at,
//! and what is answered are addresses, names and ports. All else is passed on as the bytes it came in.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Types and classes of records (RFC 1035 section 3.2).
pub const A: u16 = 1;
pub const CNAME: u16 = 5;
pub const PTR: u16 = 12;
pub const AAAA: u16 = 28;
pub const SRV: u16 = 33;
pub const ANY: u16 = 255;
pub const IN: u16 = 1;

/// Response codes (RFC 1035 section 4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    NoError = 0,
    FormatError = 1,
    ServerFailure = 2,
    NoSuchName = 3,
    NotImplemented = 4,
    Refused = 5,
}

/// The largest answer over UDP to one who did not ask for more (RFC 1035 section 2.3.4).
pub const UDP_LIMIT: usize = 512;
/// The largest message over TCP, whose length has two bytes.
pub const TCP_LIMIT: usize = 65535;

const HEADER: usize = 12;
/// How long a resolver may keep an answer, in seconds: pods come and go.
const TTL: u32 = 5;

/// The one question of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The name in lower case, without a dot at its end; the root is empty. A byte that belongs in no host name is written
    /// as a backslash and three digits, so that it is equal to no pod's name.
    pub name: String,
    pub kind: u16,
    pub class: u16,
    /// Where the question ends in the query.
    end: usize,
}

/// What is wrong with a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No query: too short, or an answer. Answering those would be a way to make two servers talk for ever.
    Ignore,
    /// To be answered with this code.
    Code(Code),
}

/// The data of an answer's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    Address(Ipv4Addr),
    /// Of a name outside; pods have none.
    Address6(Ipv6Addr),
    /// The name that this one stands for; the records that follow are that one's.
    Alias(String),
    Name(String),
    /// Where a Service is offered; all are alike (RFC 2782).
    Service {
        port: u16,
        target: String,
    },
}

impl Record {
    pub fn kind(&self) -> u16 {
        match self {
            Record::Address(_) => A,
            Record::Address6(_) => AAAA,
            Record::Alias(_) => CNAME,
            Record::Name(_) => PTR,
            Record::Service { .. } => SRV,
        }
    }
}

/// The message's id; it needs to be a message at all.
pub fn id(message: &[u8]) -> Option<u16> {
    (message.len() >= HEADER).then(|| u16_at(message, 0)).flatten()
}

/// Gives the message another id.
pub fn set_id(message: &mut [u8], id: u16) {
    if let Some(bytes) = message.first_chunk_mut() {
        *bytes = id.to_be_bytes();
    }
}

/// Reads the question of a query.
pub fn question(query: &[u8]) -> Result<Question, Fault> {
    let format_error = Fault::Code(Code::FormatError);
    if query.len() < HEADER || query[2] & 0x80 != 0 {
        return Err(Fault::Ignore);
    }
    if query[2] & 0x78 != 0 {
        return Err(Fault::Code(Code::NotImplemented));
    }
    if u16_at(query, 4) != Some(1) {
        return Err(format_error);
    }
    let (name, at) = name(query).ok_or(format_error)?;
    let (Some(kind), Some(class)) = (u16_at(query, at), u16_at(query, at + 2)) else { return Err(format_error) };
    Ok(Question { name, kind, class, end: at + 4 })
}

/// The name after the header, and where it ends. A question has nothing to point back to, so pointers are no names here.
fn name(query: &[u8]) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*query.get(at)?);
        let label = query.get(at + 1..at + 1 + length)?;
        at += 1 + length;
        if length > 63 || at - HEADER > 255 {
            return None;
        }
        if length == 0 {
            return Some((name, at));
        }
        if !name.is_empty() {
            name.push('.');
        }
        for byte in label {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte.to_ascii_lowercase())),
                other => name += &format!("\\{other:03}"),
            }
        }
    }
}

/// The answer to a query whose question was read, at most `limit` bytes long: what does not fit is left out, and the answer
/// says that it is cut.
pub fn answer(query: &[u8], question: &Question, code: Code, records: &[Record], limit: usize) -> Vec<u8> {
    let mut message = header(query, code);
    message[5] = 1;
    message.extend_from_slice(&query[HEADER..question.end]);
    let mut count: u16 = 0;
    // The question's name stands right behind the header.
    let mut owner = vec![0xC0, HEADER as u8];
    for each in records {
        let record = bytes_of(&owner, each);
        if let Record::Alias(target) = each {
            owner = labels(target);
        }
        if message.len() + record.len() > limit.min(TCP_LIMIT) {
            message[2] |= 0x02;
            break;
        }
        message.extend(record);
        count += 1;
    }
    message[6..8].copy_from_slice(&count.to_be_bytes());
    message
}

/// The answer to a query that cannot be answered otherwise; with its question, if that can be read.
pub fn failure(query: &[u8], code: Code) -> Vec<u8> {
    match question(query) {
        Ok(question) => answer(query, &question, code, &[], UDP_LIMIT),
        Err(_) => header(query, code),
    }
}

/// A header without any section: the query's id, opcode and "recursion desired"; recursion is available.
fn header(query: &[u8], code: Code) -> Vec<u8> {
    let byte = |at: usize| query.get(at).copied().unwrap_or_default();
    vec![byte(0), byte(1), 0x80 | byte(2) & 0x79, 0x80 | code as u8, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// A record of a name.
fn bytes_of(owner: &[u8], record: &Record) -> Vec<u8> {
    let data = match record {
        Record::Address(ip) => ip.octets().to_vec(),
        Record::Address6(ip) => ip.octets().to_vec(),
        Record::Name(name) | Record::Alias(name) => labels(name),
        // Priority 0, weight 100.
        Record::Service { port, target } => [&[0, 0, 0, 100], port.to_be_bytes().as_slice(), &labels(target)].concat(),
    };
    let mut bytes = owner.to_vec();
    bytes.extend(record.kind().to_be_bytes());
    bytes.extend(IN.to_be_bytes());
    bytes.extend(TTL.to_be_bytes());
    bytes.extend((data.len() as u16).to_be_bytes());
    bytes.extend(data);
    bytes
}

fn labels(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        bytes.push(label.len() as u8);
        bytes.extend(label);
    }
    bytes.push(0);
    bytes
}

/// The code of an answer to this query, if it is one: the same id, and the same question in whatever case. A server that
/// failed may have left the question out.
pub fn code_of_answer(answer: &[u8], query: &[u8]) -> Option<u8> {
    let code = answer.get(3)? & 0x0F;
    if id(answer)? != id(query)? || answer[2] & 0x80 == 0 {
        return None;
    }
    let asked = query.get(HEADER..question(query).ok()?.end)?;
    let same = u16_at(answer, 4) == Some(1) && answer.get(HEADER..HEADER + asked.len())?.eq_ignore_ascii_case(asked);
    (same || u16_at(answer, 4) == Some(0) && code != 0).then_some(code)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|two| u16::from_be_bytes(*two))
}

/// The addresses in an answer, whichever of the names in it they belong to: all of those lead to them.
pub fn addresses(answer: &[u8]) -> Vec<Record> {
    let count = |at| u16_at(answer, at).unwrap_or(0);
    let after_questions = (0..count(4)).try_fold(HEADER, |at, _| Some(after_name(answer, at)? + 4));
    let mut found = Vec::new();
    let mut at = after_questions;
    for _ in 0..count(6) {
        let Some(fixed) = at.and_then(|at| after_name(answer, at)) else { break };
        // Type, class, time to live, length.
        let (Some(kind), Some(length)) = (u16_at(answer, fixed), u16_at(answer, fixed + 8)) else { break };
        let Some(data) = answer.get(fixed + 10..fixed + 10 + usize::from(length)) else { break };
        match (kind, <[u8; 4]>::try_from(data), <[u8; 16]>::try_from(data)) {
            (A, Ok(bytes), _) => found.push(Record::Address(bytes.into())),
            (AAAA, _, Ok(bytes)) => found.push(Record::Address6(bytes.into())),
            _ => {}
        }
        at = Some(fixed + 10 + usize::from(length));
    }
    found
}

/// Where a name ends, which may point back.
fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            0xC0.. => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

/// A query as a resolver sends it.
pub fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    bytes.extend(labels(name));
    bytes.extend(kind.to_be_bytes());
    bytes.extend(IN.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_question_is_read_in_lower_case() {
        let query = query(7, "Web.Default.svc", A);
        let question = question(&query).unwrap();
        assert_eq!((question.name.as_str(), question.kind, question.class, question.end), ("web.default.svc", A, IN, query.len()));
        assert_eq!(super::question(&super::query(7, "", ANY)).unwrap().name, "", "the root");
    }

    #[test]
    fn a_label_with_a_dot_or_worse_in_it_is_no_host_name() {
        let mut bytes = query(7, "a_b.c", A);
        bytes[14] = b'.';
        assert_eq!(question(&bytes).unwrap().name, "a\\046b.c");
        bytes[14] = 0xFF;
        assert_eq!(question(&bytes).unwrap().name, "a\\255b.c");
    }

    #[test]
    fn what_is_no_query_is_ignored_and_what_is_wrong_is_told() {
        let good = query(7, "a", A);
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            question(&bytes).unwrap_err()
        };
        assert_eq!(question(&good[..11]), Err(Fault::Ignore));
        assert_eq!(with(2, 0x80), Fault::Ignore, "an answer");
        assert_eq!(with(2, 0x28), Fault::Code(Code::NotImplemented), "an update");
        assert_eq!(with(5, 2), Fault::Code(Code::FormatError), "two questions");
        assert_eq!(with(12, 0xC0), Fault::Code(Code::FormatError), "a pointer");
        assert_eq!(question(&good[..good.len() - 1]), Err(Fault::Code(Code::FormatError)), "cut");
        let long = query(7, &"a.".repeat(128), A);
        assert_eq!(question(&long), Err(Fault::Code(Code::FormatError)), "a name of 257 bytes");
    }

    #[test]
    fn an_answer_has_the_bytes_of_the_standard() {
        let query = query(0x1234, "web", A);
        let question = question(&query).unwrap();
        let mut expected = vec![0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0, 3, b'w', b'e', b'b', 0, 0, 1, 0, 1];
        expected.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 77, 0, 5]);
        assert_eq!(answer(&query, &question, Code::NoError, &[Record::Address([10, 77, 0, 5].into())], UDP_LIMIT), expected);
        let name = answer(&query, &question, Code::NoError, &[Record::Name("b.c".into())], UDP_LIMIT);
        let service = answer(&query, &question, Code::NoError, &[Record::Service { port: 258, target: "b".into() }], UDP_LIMIT);
        assert_eq!(service[21..], [0xC0, 12, 0, 33, 0, 1, 0, 0, 0, 5, 0, 9, 0, 0, 0, 100, 1, 2, 1, b'b', 0]);
        assert_eq!(name[21..], [0xC0, 12, 0, 12, 0, 1, 0, 0, 0, 5, 0, 5, 1, b'b', 1, b'c', 0]);
    }

    #[test]
    fn an_answer_that_does_not_fit_is_cut_and_says_so() {
        let query = query(7, "web", A);
        let records: Vec<_> = (0..100).map(|n| Record::Address([10, 77, 0, n].into())).collect();
        let question = question(&query).unwrap();
        let cut = answer(&query, &question, Code::NoError, &records, UDP_LIMIT);
        assert!(cut.len() <= UDP_LIMIT && cut[2] & 0x02 != 0);
        assert_eq!(usize::from(cut[7]), (UDP_LIMIT - query.len()) / 16);
        let whole = answer(&query, &question, Code::NoError, &records, TCP_LIMIT);
        assert_eq!((whole[2] & 0x02, whole[7]), (0, 100));
    }

    #[test]
    fn only_an_answer_to_the_same_question_counts() {
        let asked = query(7, "example.org", A);
        let reply = |query: &[u8]| answer(query, &question(query).unwrap(), Code::NoError, &[], UDP_LIMIT);
        assert_eq!(code_of_answer(&reply(&asked), &asked), Some(0));
        assert_eq!(code_of_answer(&reply(&query(7, "EXAMPLE.org", A)), &asked), Some(0));
        assert_eq!(code_of_answer(&reply(&query(8, "example.org", A)), &asked), None, "another id");
        assert_eq!(code_of_answer(&reply(&query(7, "example.com", A)), &asked), None, "another name");
        assert_eq!(code_of_answer(&reply(&query(7, "example.org", PTR)), &asked), None, "another type");
        assert_eq!(code_of_answer(&asked, &asked), None, "a query");
        assert_eq!(code_of_answer(&header(&asked, Code::ServerFailure), &asked), Some(2));
        assert_eq!(code_of_answer(&header(&asked, Code::NoError), &asked), None, "success without a question");
    }

    #[test]
    fn an_alias_is_followed_by_the_records_of_the_name_behind_it() {
        let asked = query(7, "ext", A);
        let records = [Record::Alias("example.org".into()), Record::Address(Ipv4Addr::new(192, 0, 2, 1)), Record::Address6(Ipv6Addr::LOCALHOST)];
        let answer = answer(&asked, &question(&asked).unwrap(), Code::NoError, &records, UDP_LIMIT);
        assert_eq!(answer[7], 3);
        let name = labels("example.org");
        assert_eq!(answer.windows(name.len()).filter(|window| **window == name).count(), 3, "once as what it stands for, twice as an owner");
        assert_eq!(addresses(&answer), records[1..]);
        assert_eq!(addresses(&answer[..answer.len() - 1]), records[1..2], "what is cut off is no record");
        assert_eq!(addresses(&asked), []);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), other in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = (question(&bytes), failure(&bytes, Code::ServerFailure), code_of_answer(&bytes, &other), code_of_answer(&other, &bytes), id(&bytes));
        }

        #[test]
        fn a_query_with_any_bytes_changed_is_answered_to_its_sender_or_not_at_all(
            name in "[a-z]{1,9}(\\.[a-z]{1,9}){0,5}",
            changes in proptest::collection::vec((0usize..80, any::<u8>()), 0..4),
            count in 0usize..60,
        ) {
            let mut bytes = query(0xABCD, &name, A);
            for (at, byte) in changes {
                if let Some(place) = bytes.get_mut(at) { *place = byte }
            }
            if let Ok(question) = question(&bytes) {
                prop_assert!(question.end <= bytes.len());
                let records = vec![Record::Address(Ipv4Addr::LOCALHOST); count];
                let answer = answer(&bytes, &question, Code::NoError, &records, UDP_LIMIT);
                prop_assert!(answer.len() <= UDP_LIMIT);
                prop_assert_eq!(code_of_answer(&answer, &bytes), Some(0));
                prop_assert_eq!(&answer[12..question.end], &bytes[12..question.end]);
            }
        }
    }
}
