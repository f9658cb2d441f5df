//! Which devices the processes of a cgroup may use, as a program that the kernel asks at each open and mknod.
//!
//! The rules are a list that only allows; what no rule allows is refused with EPERM. Each rule becomes a few instructions
//! (the kernel's `filter.txt`; the context is `struct bpf_cgroup_dev_ctx`):
//!
//! ```text
//! r2 = kind (1 block, 2 char)   r3 = access (1 mknod, 2 read, 4 write)   r4 = major   r5 = minor
//!     rule 1:  access outside the rule's? -> rule 2.  other kind? -> rule 2.  other number? -> rule 2.  return 1
//!     rule 2:  …
//!     return 0
//! ```

use std::os::fd::{AsFd, OwnedFd};

use crate::error::Result;
use crate::sys::bpf;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Block,
    Char,
}

/// Bits of access to a device, the kernel's `BPF_DEVCG_ACC_*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access(u8);

impl Access {
    pub const MKNOD: Access = Access(1);
    pub const READ: Access = Access(2);
    pub const WRITE: Access = Access(4);
    pub const ALL: Access = Access(7);

    #[must_use]
    pub const fn and(self, other: Access) -> Access {
        Access(self.0 | other.0)
    }
}

/// Devices that may be used. `None` is any: kind, major or minor number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    pub kind: Option<Kind>,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub access: Access,
}

/// What a container may use: the union of its rules.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Devices(pub Vec<Rule>);

impl Devices {
    /// What every container may use, as with runc and containerd: its own `/dev`, and mknod of any device, which alone
    /// opens nothing (package managers unpack device files).
    pub fn of_containers() -> Devices {
        let char = |major, minor| Rule { kind: Some(Kind::Char), major: Some(major), minor, access: Access::ALL };
        Devices(vec![
            char(1, Some(3)), // null
            char(1, Some(5)), // zero
            char(1, Some(7)), // full
            char(1, Some(8)), // random
            char(1, Some(9)), // urandom
            char(5, Some(0)), // tty
            char(5, Some(1)), // console
            char(5, Some(2)), // ptmx
            char(136, None),  // pts/*
            Rule { kind: Some(Kind::Char), major: None, minor: None, access: Access::MKNOD },
            Rule { kind: Some(Kind::Block), major: None, minor: None, access: Access::MKNOD },
        ])
    }

    /// Every device: a privileged container.
    pub fn all() -> Devices {
        Devices(vec![Rule { kind: None, major: None, minor: None, access: Access::ALL }])
    }

    /// The program's instructions, one `struct bpf_insn` each.
    pub fn compile(&self) -> Vec<u64> {
        let mut program = vec![
            load(R2, CTX, 0), // access_type: access << 16 | kind
            load(R4, CTX, 4),
            load(R5, CTX, 8),
            instruction(MOV32_REG, R3, R2, 0, 0),
            instruction(RSH32, R3, 0, 0, 16),
            instruction(AND32, R2, 0, 0, 0xffff),
        ];
        for rule in &self.0 {
            program.extend(rule.compile());
        }
        program.extend(answer(0));
        program
    }
}

impl Rule {
    fn compile(&self) -> Vec<u64> {
        // (instructions before the jump, register to compare, with what)
        let mut tests: Vec<(Vec<u64>, u8, u32)> = Vec::new();
        if self.access != Access::ALL {
            let beyond = u32::from(!self.access.0 & Access::ALL.0);
            tests.push((vec![instruction(MOV32_REG, R1, R3, 0, 0), instruction(AND32, R1, 0, 0, beyond)], R1, 0));
        }
        if let Some(kind) = self.kind {
            let number = match kind {
                Kind::Block => 1,
                Kind::Char => 2,
            };
            tests.push((Vec::new(), R2, number));
        }
        tests.extend(self.major.map(|major| (Vec::new(), R4, major)));
        tests.extend(self.minor.map(|minor| (Vec::new(), R5, minor)));
        let answer = answer(1);
        let mut left = answer.len() + tests.iter().map(|(before, ..)| before.len() + 1).sum::<usize>();
        let mut code = Vec::with_capacity(left);
        for (before, register, value) in tests {
            left -= before.len() + 1;
            code.extend(before);
            // At most some ten instructions: the offset fits.
            code.push(instruction(JNE32, register, 0, left as i16, value));
        }
        code.extend(answer);
        code
    }
}

/// Rules in the kernel: loaded once, attached to many cgroups.
#[derive(Debug)]
pub struct DeviceProgram(OwnedFd);

impl DeviceProgram {
    pub fn load(devices: &Devices) -> Result<DeviceProgram> {
        bpf::load_cgroup_device(&devices.compile()).map(DeviceProgram).map_err(|error| error.doing("loading device rules"))
    }

    /// Holds the processes of a cgroup2 directory to these rules, until it is removed. Rules of its parents hold as well.
    pub fn attach(&self, cgroup: impl AsFd) -> Result<()> {
        bpf::attach_cgroup_device(self.0.as_fd(), cgroup.as_fd()).map_err(|error| error.doing("attaching device rules"))
    }
}

const R0: u8 = 0;
const R1: u8 = 1;
const CTX: u8 = R1;
const R2: u8 = 2;
const R3: u8 = 3;
const R4: u8 = 4;
const R5: u8 = 5;

// Operations of 32 bits: device numbers compare unsigned and whole, without the sign extension of the 64-bit forms.
const LDX_WORD: u8 = 0x61;
const MOV32_REG: u8 = 0xbc;
const MOV32: u8 = 0xb4;
const AND32: u8 = 0x54;
const RSH32: u8 = 0x74;
/// Jump if not equal, since 5.1.
const JNE32: u8 = 0x56;
const EXIT: u8 = 0x95;

fn instruction(op: u8, dst: u8, src: u8, offset: i16, value: u32) -> u64 {
    let registers = if cfg!(target_endian = "little") { src << 4 | dst } else { dst << 4 | src };
    let mut bytes = [op, registers, 0, 0, 0, 0, 0, 0];
    bytes[2..4].copy_from_slice(&offset.to_ne_bytes());
    bytes[4..].copy_from_slice(&value.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

fn load(register: u8, from: u8, offset: i16) -> u64 {
    instruction(LDX_WORD, register, from, offset, 0)
}

fn answer(value: u32) -> [u64; 2] {
    [instruction(MOV32, R0, 0, 0, value), instruction(EXIT, 0, 0, 0, 0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would; a read of a register that was never set, or a jump out, is a panic.
    fn run(program: &[u64], kind: u32, access: u32, major: u32, minor: u32) -> u32 {
        let context = [access << 16 | kind, major, minor];
        let mut registers: [Option<u32>; 6] = [None; 6];
        let mut at = 0;
        loop {
            let bytes = program[at].to_ne_bytes();
            let (dst, src) = if cfg!(target_endian = "little") { (bytes[1] & 15, bytes[1] >> 4) } else { (bytes[1] >> 4, bytes[1] & 15) };
            let (dst, src) = (dst as usize, src as usize);
            let offset = i16::from_ne_bytes([bytes[2], bytes[3]]);
            let value = u32::from_ne_bytes(bytes[4..].try_into().unwrap());
            let (now, here) = (registers, at);
            let read = |register: usize| now[register].unwrap_or_else(|| panic!("r{register} is not set at {here}"));
            at += 1;
            match bytes[0] {
                LDX_WORD if src == 1 => registers[dst] = Some(context[offset as usize / 4]),
                MOV32_REG => registers[dst] = Some(read(src)),
                MOV32 => registers[dst] = Some(value),
                AND32 => registers[dst] = Some(read(dst) & value),
                RSH32 => registers[dst] = Some(read(dst) >> value),
                JNE32 if read(dst) != value => at += usize::try_from(offset).unwrap(),
                JNE32 => {}
                EXIT => return read(0),
                other => panic!("operation {other:#x}"),
            }
        }
    }

    const BLOCK: u32 = 1;
    const CHAR: u32 = 2;
    const MKNOD: u32 = 1;
    const READ: u32 = 2;
    const WRITE: u32 = 4;

    #[test]
    fn a_container_may_use_its_own_dev_and_make_any_node() {
        let program = Devices::of_containers().compile();
        let allows = |kind, access, major, minor| run(&program, kind, access, major, minor) == 1;
        for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, 0), (136, 77)] {
            for access in 1..8 {
                assert!(allows(CHAR, access, major, minor), "{major}:{minor}");
            }
            assert!(!allows(BLOCK, READ, major, minor), "only as a character device");
        }
        for (kind, major, minor) in [(CHAR, 1, 11), (CHAR, 1, 1), (CHAR, 10, 229), (CHAR, 137, 0), (CHAR, 4_294_967_295, 3), (BLOCK, 254, 0)] {
            assert!(allows(kind, MKNOD, major, minor));
            assert!(!allows(kind, READ, major, minor) && !allows(kind, WRITE, major, minor) && !allows(kind, MKNOD | READ, major, minor), "{major}:{minor}");
        }
    }

    #[test]
    fn rules_are_a_union_and_an_empty_list_allows_nothing() {
        let fuse = Rule { kind: Some(Kind::Char), major: Some(10), minor: Some(229), access: Access::READ.and(Access::WRITE) };
        let mut devices = Devices::of_containers();
        devices.0.push(fuse);
        let program = devices.compile();
        assert_eq!((run(&program, CHAR, READ | WRITE, 10, 229), run(&program, CHAR, READ, 10, 228)), (1, 0));
        for access in 1..8 {
            assert_eq!(run(&Devices::all().compile(), BLOCK, access, 8, 0), 1);
            assert_eq!(run(&Devices::default().compile(), CHAR, access, 1, 3), 0);
        }
    }

    #[test]
    fn the_programs_are_short() {
        assert!(Devices::of_containers().compile().len() < 80);
    }
}
