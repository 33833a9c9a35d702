//! Modes as `--chmod` takes them: octal, or `u+rwx,g=r`.

use std::str::FromStr;

/// A mode, or a change of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// These bits.
    Octal(u32),
    /// One clause after another.
    Symbolic(Vec<Clause>),
}

/// `who`, what to do with it, and with which permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// Bits of `who`, in all three places.
    who: u32,
    sign: char,
    permissions: String,
}

/// Why a mode is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid chmod parameter: '{0}'. it should be octal string and between 0 and 07777")]
pub struct ModeError(String);

impl FromStr for Mode {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, ModeError> {
        if let Ok(bits) = u32::from_str_radix(text, 8) {
            return if bits <= 0o7777 { Ok(Self::Octal(bits)) } else { Err(ModeError(text.to_owned())) };
        }
        let clauses: Option<Vec<Clause>> = text.split(',').map(clause).collect();
        clauses.map(Self::Symbolic).ok_or_else(|| ModeError(text.to_owned()))
    }
}

fn clause(text: &str) -> Option<Clause> {
    let sign_at = text.find(['+', '-', '='])?;
    let mut who = 0;
    for part in text[..sign_at].chars() {
        who |= match part {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o1007,
            'a' => 0o7777,
            _ => return None,
        };
    }
    let mut rest = text[sign_at..].chars();
    let sign = rest.next()?;
    let permissions: String = rest.collect();
    let known = permissions.chars().all(|part| "rwxXst".contains(part));
    known.then_some(Clause { who: if who == 0 { 0o7777 } else { who }, sign, permissions })
}

impl Mode {
    /// What becomes of the permission bits `bits` of something.
    #[must_use]
    pub fn apply(&self, bits: u32, is_directory: bool) -> u32 {
        match self {
            Self::Octal(bits) => *bits,
            Self::Symbolic(clauses) => {
                clauses.iter().fold(bits, |bits, clause| clause.apply(bits, is_directory))
            }
        }
    }
}

impl Clause {
    fn apply(&self, bits: u32, is_directory: bool) -> u32 {
        let mut named = 0;
        for part in self.permissions.chars() {
            named |= match part {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if is_directory || bits & 0o111 != 0 => 0o111,
                's' => 0o6000,
                't' => 0o1000,
                _ => 0,
            };
        }
        let named = named & self.who;
        match self.sign {
            '+' => bits | named,
            '-' => bits & !named,
            // A directory's set-id bits stay, as with chmod(1).
            _ => bits & !(self.who & if is_directory { 0o1777 } else { 0o7777 }) | named,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() {
        let apply = |text: &str, bits, dir| text.parse::<Mode>().unwrap().apply(bits, dir);
        assert_eq!(apply("640", 0o777, false), 0o640);
        assert_eq!(apply("u+x,g=r", 0o666, false), 0o746);
        assert_eq!(apply("a+X", 0o644, false), 0o644);
        assert_eq!(apply("a+X", 0o644, true), 0o755);
        assert_eq!(apply("go-rwx", 0o755, false), 0o700);
        assert_eq!(apply("+t", 0o755, true), 0o1755);
        assert!(
            "9".parse::<Mode>().is_err()
                && "u+q".parse::<Mode>().is_err()
                && "17777".parse::<Mode>().is_err()
        );
    }
}
