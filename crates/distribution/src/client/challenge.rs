//! `WWW-Authenticate`: what a registry wants to see (RFC 9110, 11.6.1; distribution, "Token Authentication").

use std::collections::BTreeMap;

const LENGTH_LIMIT: usize = 8 << 10;
const CHALLENGE_LIMIT: usize = 16;
const PARAMETER_LIMIT: usize = 32;

/// One way to authenticate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// In lower case: `basic`, `bearer`.
    pub scheme: String,
    /// By names in lower case; the first of a name counts.
    pub parameters: BTreeMap<String, String>,
}

impl Challenge {
    /// A parameter, if it says something.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Reads the challenges of one header value. What cannot be read ends the reading; what was read until then counts.
#[must_use]
pub fn parse(value: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = Cursor(value.get(..LENGTH_LIMIT).unwrap_or(value));
    if value.len() > LENGTH_LIMIT {
        return challenges;
    }
    while challenges.len() <= CHALLENGE_LIMIT {
        rest.skip(|b| b == b',' || is_space(b));
        let word = rest.token();
        if word.is_empty() {
            break;
        }
        rest.skip(is_space);
        if rest.eat(b'=') {
            let Some(challenge) = challenges.last_mut() else { break };
            rest.skip(is_space);
            let Some(value) = rest.value() else { break };
            if challenge.parameters.len() < PARAMETER_LIMIT {
                challenge.parameters.entry(word.to_ascii_lowercase()).or_insert(value);
            }
            continue;
        }
        challenges.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: BTreeMap::new() });
    }
    challenges.truncate(CHALLENGE_LIMIT);
    challenges
}

struct Cursor<'a>(&'a str);

const fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t')
}

const fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || matches!(
            b,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

impl<'a> Cursor<'a> {
    fn skip(&mut self, matches: impl Fn(u8) -> bool) {
        let end = self.0.bytes().position(|b| !matches(b)).unwrap_or(self.0.len());
        // Everything skipped is ASCII, so this is a boundary.
        self.0 = &self.0[end..];
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.0.bytes().next() == Some(byte);
        if found {
            self.0 = &self.0[1..];
        }
        found
    }

    fn token(&mut self) -> &'a str {
        let end = self.0.bytes().position(|b| !is_token(b)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        token
    }

    /// A quoted string, or what stands up to the next comma or space: token servers' addresses are written bare too.
    fn value(&mut self) -> Option<String> {
        if !self.eat(b'"') {
            let end = self.0.find([',', ' ', '\t']).unwrap_or(self.0.len());
            let (value, rest) = self.0.split_at(end);
            self.0 = rest;
            return Some(value.to_owned());
        }
        let mut value = String::new();
        let mut letters = self.0.char_indices();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '"' => {
                    self.0 = &self.0[at + 1..];
                    return Some(value);
                }
                '\\' => value.push(letters.next()?.1),
                letter => value.push(letter),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(value: &str) -> String {
        let one = |challenge: &Challenge| {
            let parameters: Vec<_> = challenge.parameters.iter().map(|(k, v)| format!("{k}={v}")).collect();
            format!("{}[{}]", challenge.scheme, parameters.join(";"))
        };
        parse(value).iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_registries_send() {
        assert_eq!(
            shown(
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#
            ),
            "bearer[realm=https://auth.docker.io/token;scope=repository:a/b:pull,push;service=registry.docker.io]"
        );
        assert_eq!(
            shown("Basic realm=\"x\", Bearer realm=\"y\" , service = z"),
            "basic[realm=x] bearer[realm=y;service=z]"
        );
        assert_eq!(shown("BEARER Realm=https://h/t,service=a"), "bearer[realm=https://h/t;service=a]");
        assert_eq!(shown(r#"Basic realm="a \"b\", c""#), "basic[realm=a \"b\", c]");
        assert_eq!(shown("Negotiate, Basic realm=\"x\""), "negotiate[] basic[realm=x]");
    }

    #[test]
    fn what_no_registry_sends() {
        assert_eq!(shown(""), "");
        assert_eq!(shown("=x"), "");
        assert_eq!(shown("realm=\"x\""), "");
        assert_eq!(shown("Bearer realm=\"open"), "bearer[]");
        assert_eq!(shown("Bearer realm=\"a\",realm=\"b\""), "bearer[realm=a]");
        assert_eq!(shown("Bearer realm=\"a\\"), "bearer[]");
        assert_eq!(shown(&format!("Bearer realm=\"{}\"", "a".repeat(9000))), "");
        assert_eq!(parse(&"a,".repeat(1000)).len(), CHALLENGE_LIMIT);
        let many: String = (0..100).map(|n| format!("p{n}=1,")).collect();
        assert_eq!(parse(&format!("Bearer {many}"))[0].parameters.len(), PARAMETER_LIMIT);
    }

    proptest! {
        #[test]
        fn any_text_is_read_within_bounds(text in ".{0,200}") {
            let challenges = parse(&text);
            prop_assert!(challenges.len() <= CHALLENGE_LIMIT);
        }
    }
}
