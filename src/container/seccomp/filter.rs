//! `linux.seccomp` of an OCI spec as a program that the kernel asks at each system call.
//!
//! ```text
//! which architecture? ─▶ numbers, by halves:   n >= 220 ? ─▶ n >= 335 ? ─▶ … ─▶ allow
//!                                                                          ─▶ EPERM
//!                                                                          ─▶ compare arguments ─▶ allow, or the next rule
//! ```
//!
//! Neighbouring numbers with the same answer are one range, and the ranges are a tree of comparisons. So a call is answered after some
//! ten instructions. It matters at the start more than later: the kernel runs a new filter once for every number there is, to
//! learn which are always allowed, so a list of comparisons costs the square of its length (0.8 ms, against 0.1 ms so).
//!
//! The first rule that fits decides; a call that no rule fits gets the default action. (libseccomp lets a rule without conditions
//! override those with; a profile that has both for one call and means the later one does not exist in practice.)

use std::cell::RefCell;
use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator, LinuxSyscall};

use crate::error::{Error, Result};
use crate::sys::seccomp::{Architecture, Flags, Instruction, NATIVE, OF_32_BITS};

/// A filter, ready for the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    pub instructions: Vec<Instruction>,
    pub flags: Flags,
}

/// Compiles a profile. Names that this machine's kernels do not have are left out, as every runtime does.
///
/// The containers of a pod mostly have the same one, and so has each restart: the last is kept.
pub fn compile(seccomp: &LinuxSeccomp) -> Result<Filter> {
    thread_local!(static LAST: RefCell<Option<(LinuxSeccomp, Filter)>> = const { RefCell::new(None) });
    LAST.with_borrow_mut(|last| match last {
        Some((known, filter)) if known == seccomp => Ok(filter.clone()),
        _ => compile_anew(seccomp).inspect(|filter| *last = Some((seccomp.clone(), filter.clone()))),
    })
}

fn compile_anew(seccomp: &LinuxSeccomp) -> Result<Filter> {
    let default = answer(seccomp.default_action(), seccomp.default_errno_ret())?;
    let listed = |architecture: &Architecture| seccomp.architectures().iter().flatten().any(|arch| super::word(*arch) == architecture.name);
    let mut program = vec![load(ARCHITECTURE)];
    for architecture in [NATIVE, OF_32_BITS].into_iter().filter(|each| each.audit == NATIVE.audit || listed(each)) {
        let section = section(seccomp.syscalls().as_deref().unwrap_or(&[]), architecture, default)?;
        program.extend([jump(EQUAL, architecture.audit, 1, 0), always(section.len())]);
        program.extend(section);
    }
    program.push(give(KILL_PROCESS));
    Ok(Filter { instructions: program, flags: flags(seccomp.flags().as_deref())? })
}

/// As runc: without a word about flags, the mitigation of speculative store bypass is left to the machine.
fn flags(words: Option<&[LinuxSeccompFilterFlag]>) -> Result<Flags> {
    let Some(words) = words else { return Ok(Flags::SPEC_ALLOW) };
    words.iter().try_fold(Flags::empty(), |all, word| match word {
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => Ok(all | Flags::LOG),
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => Ok(all | Flags::SPEC_ALLOW),
        // One thread, so there is none to synchronize.
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => Ok(all),
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => Err(Error::said("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV is not supported")),
    })
}

fn answer(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32> {
    match action {
        // Somebody would have to listen.
        LinuxSeccompAction::ScmpActNotify => Err(Error::said("SCMP_ACT_NOTIFY is not supported")),
        LinuxSeccompAction::ScmpActErrno | LinuxSeccompAction::ScmpActTrace if errno.is_some_and(|errno| errno > 0xffff) => {
            Err(Error::said(format!("{} is not an errno", errno.unwrap_or_default())))
        }
        action => Ok(action.as_u32(errno)),
    }
}

/// Everything about one architecture: finds the number's range, gives its answer.
fn section(rules: &[LinuxSyscall], architecture: Architecture, default: u32) -> Result<Vec<Instruction>> {
    let mut calls: BTreeMap<u32, Vec<&LinuxSyscall>> = BTreeMap::new();
    for rule in rules {
        for number in rule.names().iter().filter_map(|name| architecture.number(name)) {
            calls.entry(number).or_default().push(rule);
        }
    }
    let mut ranges: Vec<(u32, Vec<Instruction>)> = Vec::new();
    let mut push = |from: u32, code: Vec<Instruction>| {
        if ranges.last().is_none_or(|(_, before)| *before != code) {
            ranges.push((from, code));
        }
    };
    let mut next = 0;
    for (number, rules) in calls {
        if number > next {
            push(next, vec![give(default)]);
        }
        push(number, chain(&rules, default)?);
        next = number + 1;
    }
    push(next, vec![give(default)]);
    Ok([vec![load(NUMBER)], tree(&ranges)].concat())
}

/// Halves the ranges until one is left.
fn tree(ranges: &[(u32, Vec<Instruction>)]) -> Vec<Instruction> {
    let [_, _, ..] = ranges else { return ranges[0].1.clone() };
    let (left, right) = ranges.split_at(ranges.len() / 2);
    let (from, left, right) = (right[0].0, tree(left), tree(right));
    let branch = match u8::try_from(left.len()) {
        Ok(length) => vec![jump(GREATER_OR_EQUAL, from, length, 0)],
        // A conditional jump has 8 bits, an unconditional one 32.
        Err(_) => vec![jump(GREATER_OR_EQUAL, from, 0, 1), always(left.len())],
    };
    [branch, left, right].concat()
}

/// The rules of one call, in the profile's order.
fn chain(rules: &[&LinuxSyscall], default: u32) -> Result<Vec<Instruction>> {
    let mut code = Vec::new();
    for rule in rules {
        let given = answer(rule.action(), rule.errno_ret())?;
        let args = rule.args().as_deref().unwrap_or(&[]);
        if args.is_empty() {
            code.push(give(given));
            return Ok(code);
        }
        // As runc: several conditions on one argument are alternatives, on several arguments they hold together.
        let repeated = args.iter().enumerate().any(|(at, arg)| args[..at].iter().any(|before| before.index() == arg.index()));
        let alternatives: Vec<&[LinuxSeccompArg]> = if repeated { args.chunks(1).collect() } else { vec![args] };
        for all in alternatives {
            code.extend(when(all, given)?);
        }
    }
    code.push(give(default));
    Ok(code)
}

/// Where a comparison leads.
#[derive(Clone, Copy)]
enum To {
    /// The next instruction.
    On,
    /// This condition holds.
    Holds,
    /// The rule does not fit.
    Fails,
}

enum Part {
    Plain(Instruction),
    Compare(u16, u32, To, To),
}

/// `given`, if all conditions hold; else on to what follows.
fn when(conditions: &[LinuxSeccompArg], given: u32) -> Result<Vec<Instruction>> {
    let conditions: Vec<Vec<Part>> = conditions.iter().map(condition).collect::<Result<_>>()?;
    let whole = conditions.iter().map(Vec::len).sum::<usize>() + 1;
    let mut code = Vec::with_capacity(whole);
    for parts in conditions {
        let end = code.len() + parts.len();
        for part in parts {
            let here = code.len() + 1;
            // At most six conditions of six instructions: every distance fits.
            let distance = |to: To| match to {
                To::On => 0,
                To::Holds => (end - here) as u8,
                To::Fails => (whole - here) as u8,
            };
            code.push(match part {
                Part::Plain(instruction) => instruction,
                Part::Compare(code, value, yes, no) => jump(code, value, distance(yes), distance(no)),
            });
        }
    }
    code.push(give(given));
    Ok(code)
}

/// Arguments have 64 bits, and the machine compares 32.
fn condition(arg: &LinuxSeccompArg) -> Result<Vec<Part>> {
    use LinuxSeccompOperator as Op;
    let index = u32::try_from(arg.index()).ok().filter(|index| *index < 6).ok_or_else(|| Error::said(format!("no call has an argument {}", arg.index())))?;
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    let (high, low) = halves(arg.value());
    let low_at = ARGUMENTS + 8 * index + if cfg!(target_endian = "little") { 0 } else { 4 };
    let (load_high, load_low) = (Part::Plain(load(low_at ^ 4)), Part::Plain(load(low_at)));
    let same_high = |otherwise: To| Part::Compare(EQUAL, high, To::On, otherwise);
    let (above_holds, above_fails) = (Part::Compare(GREATER, high, To::Holds, To::On), Part::Compare(GREATER, high, To::Fails, To::On));
    Ok(match arg.op() {
        Op::ScmpCmpEq => vec![load_high, same_high(To::Fails), load_low, Part::Compare(EQUAL, low, To::On, To::Fails)],
        Op::ScmpCmpNe => vec![load_high, same_high(To::Holds), load_low, Part::Compare(EQUAL, low, To::Fails, To::On)],
        Op::ScmpCmpGt => vec![load_high, above_holds, same_high(To::Fails), load_low, Part::Compare(GREATER, low, To::On, To::Fails)],
        Op::ScmpCmpGe => vec![load_high, above_holds, same_high(To::Fails), load_low, Part::Compare(GREATER_OR_EQUAL, low, To::On, To::Fails)],
        Op::ScmpCmpLt => vec![load_high, above_fails, same_high(To::Holds), load_low, Part::Compare(GREATER_OR_EQUAL, low, To::Fails, To::On)],
        Op::ScmpCmpLe => vec![load_high, above_fails, same_high(To::Holds), load_low, Part::Compare(GREATER, low, To::Fails, To::On)],
        Op::ScmpCmpMaskedEq => {
            let (wanted_high, wanted_low) = halves(arg.value_two().unwrap_or(0));
            vec![
                load_high,
                Part::Plain(and(high)),
                Part::Compare(EQUAL, wanted_high, To::On, To::Fails),
                load_low,
                Part::Plain(and(low)),
                Part::Compare(EQUAL, wanted_low, To::On, To::Fails),
            ]
        }
    })
}

// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const KILL_PROCESS: u32 = 0x8000_0000;

// Classic BPF (bpf_common.h).
const LOAD: u16 = 0x20;
const ALWAYS: u16 = 0x05;
const EQUAL: u16 = 0x15;
const GREATER: u16 = 0x25;
const GREATER_OR_EQUAL: u16 = 0x35;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD, if_true: 0, if_false: 0, value: offset }
}

fn and(value: u32) -> Instruction {
    Instruction { code: AND, if_true: 0, if_false: 0, value }
}

fn jump(code: u16, value: u32, if_true: u8, if_false: u8) -> Instruction {
    Instruction { code, if_true, if_false, value }
}

fn always(distance: usize) -> Instruction {
    // The kernel takes no program of more than 4096 instructions, so what does not fit here is refused there.
    Instruction { code: ALWAYS, if_true: 0, if_false: 0, value: u32::try_from(distance).unwrap_or(u32::MAX) }
}

fn give(answer: u32) -> Instruction {
    Instruction { code: RETURN, if_true: 0, if_false: 0, value: answer }
}

/// Runs a filter as the kernel would.
#[cfg(test)]
pub fn run(program: &[Instruction], architecture: u32, number: u32, args: &[u64]) -> u32 {
    let arg = |offset: u32| {
        let bytes: Vec<u8> = (0..6).flat_map(|at| args.get(at).copied().unwrap_or(0).to_ne_bytes()).collect();
        let at = (offset - ARGUMENTS) as usize;
        u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
    };
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let Instruction { code, if_true, if_false, value } = program[at];
        at += 1;
        let mut branch = |holds: bool| at += usize::from(if holds { if_true } else { if_false });
        match code {
            LOAD if value == NUMBER => accumulator = number,
            LOAD if value == ARCHITECTURE => accumulator = architecture,
            LOAD => accumulator = arg(value),
            AND => accumulator &= value,
            ALWAYS => at += value as usize,
            EQUAL => branch(accumulator == value),
            GREATER => branch(accumulator > value),
            GREATER_OR_EQUAL => branch(accumulator >= value),
            RETURN => return value,
            other => panic!("operation {other:#x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(profile: serde_json::Value) -> Filter {
        compile(&serde_json::from_value(profile).unwrap()).unwrap()
    }

    fn of_args(args: serde_json::Value) -> Filter {
        compiled(serde_json::json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{ "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": args }] }))
    }

    const ALLOW: u32 = 0x7fff_0000;

    fn allows(filter: &Filter, args: &[u64]) -> bool {
        run(&filter.instructions, NATIVE.audit, NATIVE.number("read").unwrap(), args) == ALLOW
    }

    #[test]
    fn arguments_are_compared_whole() {
        const VALUE: u64 = 0x1_0000_0005;
        for (op, holds) in [
            ("EQ", [false, true, false, false, false]),
            ("NE", [true, false, true, true, true]),
            ("GT", [false, false, true, false, true]),
            ("GE", [false, true, true, false, true]),
            ("LT", [true, false, false, true, false]),
            ("LE", [true, true, false, true, false]),
        ] {
            let filter = of_args(serde_json::json!([{ "index": 2, "value": VALUE, "op": format!("SCMP_CMP_{op}") }]));
            for (value, expected) in [VALUE - 1, VALUE, VALUE + 1, 0xffff_ffff, 0x2_0000_0000].into_iter().zip(holds) {
                assert_eq!(allows(&filter, &[0, 0, value]), expected, "{value:#x} {op} {VALUE:#x}");
            }
        }
        let masked = of_args(serde_json::json!([{ "index": 0, "value": 0x1_0000_00f0_u64, "valueTwo": 0x1_0000_0010_u64, "op": "SCMP_CMP_MASKED_EQ" }]));
        assert!(allows(&masked, &[0xf_0000_0f1f_u64]) && !allows(&masked, &[0x10]) && !allows(&masked, &[0x1_0000_0020]));
    }

    #[test]
    fn conditions_on_several_arguments_hold_together_and_on_one_are_alternatives() {
        let condition = |index, value: u64| serde_json::json!({ "index": index, "value": value, "op": "SCMP_CMP_EQ" });
        let both = of_args(serde_json::json!([condition(0, 1), condition(1, 2)]));
        assert!(allows(&both, &[1, 2]) && !allows(&both, &[1, 3]) && !allows(&both, &[0, 2]));
        let either = of_args(serde_json::json!([condition(0, 1), condition(0, 2)]));
        assert!(allows(&either, &[1]) && allows(&either, &[2]) && !allows(&either, &[3]));
    }

    #[test]
    fn every_number_gets_its_answer_whatever_the_tree() {
        // Every third call is allowed, so the tree is as large as it gets and its jumps as long.
        let names: Vec<&str> = ["read", "open", "fstat", "lseek", "munmap", "ioctl", "writev", "select", "dup", "getpid", "socket", "shutdown", "clone"].into();
        let filter = compiled(serde_json::json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }] }));
        let allowed: Vec<u32> = names.iter().filter_map(|name| NATIVE.number(name)).collect();
        for number in (0..600).chain([u32::MAX]) {
            let expected = if allowed.contains(&number) { ALLOW } else { 0x0005_0001 };
            assert_eq!(run(&filter.instructions, NATIVE.audit, number, &[]), expected, "{number}");
        }
        assert_eq!(run(&filter.instructions, OF_32_BITS.audit, 3, &[]), KILL_PROCESS, "an architecture that the profile does not list");
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        for (profile, word) in [
            (serde_json::json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 70000 }), "70000"),
            (serde_json::json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"] }), "WAIT_KILLABLE"),
            (
                serde_json::json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["read"], "action": "SCMP_ACT_ERRNO",
                    "args": [{ "index": 6, "value": 0, "op": "SCMP_CMP_EQ" }] }] }),
                "argument 6",
            ),
        ] {
            let error = compile(&serde_json::from_value(profile).unwrap()).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
