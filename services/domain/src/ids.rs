//! Names that exist only if they are well formed, so that they can stand in keys, logs and scripts as they are.

use std::fmt;

/// Why a name was refused. It never repeats the name: what somebody typed may say who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdError {
    /// The name was empty.
    Empty,
    /// The name was longer than this many bytes.
    TooLong(usize),
    /// The name held a character outside the allowed ones, which are listed here.
    BadCharacter(&'static str),
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "must not be empty"),
            Self::TooLong(max) => write!(f, "must be at most {max} bytes long"),
            Self::BadCharacter(allowed) => write!(f, "may only hold {allowed}"),
        }
    }
}

impl std::error::Error for IdError {}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $max:literal, $allowed:literal, $test:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Longest name, in bytes.
            pub const MAX: usize = $max;

            /// Parses a name; nothing else makes one.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                let allowed: fn(u8) -> bool = $test;
                if text.is_empty() {
                    Err(IdError::Empty)
                } else if text.len() > Self::MAX {
                    Err(IdError::TooLong(Self::MAX))
                } else if !text.bytes().all(allowed) {
                    Err(IdError::BadCharacter($allowed))
                } else {
                    Ok(Self(text.to_owned()))
                }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }
    };
}

id!(
    /// A helpline: an organisation with its own line, policy, responders and keys.
    HelplineId, 40, "lower-case letters, digits and '-'",
    |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'
);
id!(
    /// One visitor's request and what becomes of it. Not a secret: the visitor's token is.
    ChatId, 40, "letters, digits, '-' and '_'",
    |b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'
);
id!(
    /// A block, or the proposal of one. It says nothing of whom it is of.
    BlockId, 40, "letters, digits, '-' and '_'",
    |b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'
);
id!(
    /// A volunteer or counsellor who takes chats.
    ResponderId, 64, "letters, digits, '-', '_' and '.'",
    |b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.'
);
id!(
    /// A digest in hexadecimal: of a principal and request id, of a request's body, of a replica's name.
    DigestHex, 64, "lower-case hexadecimal digits",
    |b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_break_a_key_or_a_log_line_are_refused() {
        for bad in ["a{b", "a}b", "a:b", "a b", "a\nb", "ä", "A"] {
            assert!(HelplineId::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(HelplineId::parse(""), Err(IdError::Empty));
        assert_eq!(HelplineId::parse(&"a".repeat(41)), Err(IdError::TooLong(40)));
        assert!(ResponderId::parse("vol.7_b-2").is_ok());
        assert!(ChatId::parse("0192_aB-c").is_ok());
    }
}
