//! Uids (RFC 9562): of what is made here, and of what exists by its name alone.

use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::sys::process;

/// A uid that nothing else has: version 4.
pub fn random() -> Result<String> {
    Ok(written(process::random_bytes::<16>()?, 4))
}

/// The uid of what is always there under this name, as a node is: version 8.
pub fn of(name: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(name).into();
    written(std::array::from_fn(|n| digest[n]), 8)
}

fn written(mut bytes: [u8; 16], version: u8) -> String {
    bytes[6] = bytes[6] & 0x0f | version << 4;
    // Variant 10.
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_tells_its_version_and_a_name_has_one() {
        let uid = of("Node/x");
        assert_eq!((uid.len(), &uid[14..15], uid == of("Node/x"), uid == of("Node/y")), (36, "8", true, false));
        assert!("89ab".contains(&uid[19..20]));
        assert_eq!(&random().unwrap()[14..15], "4");
    }
}
