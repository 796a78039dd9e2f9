//! Who a certificate is for: its subject as Java writes it (RFC 2253), and `ssl.principal.mapping.rules` (KIP-371).
//!
//! It owns the few steps through DER that lead to the subject. It refuses to judge a certificate: that was done before.
//! Invariant: bytes of any kind are read without a panic; what makes no sense has no name.

use super::refused;
use crate::core::settings::SettingError;
use regex::Regex;
use std::fmt::Write;

const RULES: &str = "ssl.principal.mapping.rules";

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const VERSION: u8 = 0xa0;

/// Attributes that RFC 2253 has words for.
const WORDS: &[(&[u8], &str)] = &[
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
];

struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    whole: &'a [u8],
    rest: &'a [u8],
}

/// The next element.
fn element(bytes: &[u8]) -> Option<Element<'_>> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match *first {
        short @ 0..=0x7f => (usize::from(short), rest),
        long @ 0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    let whole = &bytes[..bytes.len() - rest.len()];
    Some(Element { tag: *tag, content, whole, rest })
}

fn expect(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    element(bytes).filter(|it| it.tag == tag).map(|it| (it.content, it.rest))
}

/// The subject of a certificate, the most special part first.
pub(crate) fn distinguished_name(certificate: &[u8]) -> Option<String> {
    let (signed, _) = expect(SEQUENCE, certificate)?;
    let (mut fields, _) = expect(SEQUENCE, signed)?;
    if let Some((_, rest)) = expect(VERSION, fields) {
        fields = rest;
    }
    // Serial number, algorithm, issuer, validity.
    for _ in 0..4 {
        fields = element(fields)?.rest;
    }
    let (mut names, _) = expect(SEQUENCE, fields)?;
    let mut parts = Vec::new();
    while !names.is_empty() {
        let (mut set, rest) = expect(SET, names)?;
        let mut together = Vec::new();
        while !set.is_empty() {
            let (pair, rest) = expect(SEQUENCE, set)?;
            let (id, value) = expect(OBJECT_ID, pair)?;
            together.push(attribute(id, value)?);
            set = rest;
        }
        parts.push(together.join("+"));
        names = rest;
    }
    parts.reverse();
    Some(parts.join(","))
}

fn attribute(id: &[u8], value: &[u8]) -> Option<String> {
    let Element { tag, content, whole, .. } = element(value)?;
    let word = WORDS.iter().find(|(known, _)| *known == id).map(|(_, word)| *word);
    let text = match tag {
        // Strings of UTF-8, ASCII and Latin-1, and of 16 bits a sign.
        0x0c | 0x12 | 0x13 | 0x16 => std::str::from_utf8(content).ok().map(str::to_string),
        0x14 => Some(content.iter().map(|byte| char::from(*byte)).collect()),
        0x1e => {
            let pairs = content.chunks_exact(2).map(|it| u16::from_be_bytes([it[0], it[1]]));
            char::decode_utf16(pairs).collect::<Result<_, _>>().ok()
        }
        _ => None,
    };
    match (word, text) {
        (Some(word), Some(text)) => Some(format!("{word}={}", escaped(&text))),
        _ => {
            let mut hex = String::new();
            whole.iter().for_each(|byte| {
                // Writing into a string cannot fail.
                let _ = write!(hex, "{byte:02x}");
            });
            Some(format!("{}=#{hex}", word.map_or_else(|| dotted(id), str::to_string)))
        }
    }
}

fn escaped(text: &str) -> String {
    let last = text.chars().count().saturating_sub(1);
    let mut escaped = String::new();
    for (index, c) in text.chars().enumerate() {
        let at_edge = (c == ' ' && (index == 0 || index == last)) || (c == '#' && index == 0);
        if at_edge || matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// An object id as people write it.
fn dotted(id: &[u8]) -> String {
    let mut numbers = Vec::new();
    let mut number: u64 = 0;
    for byte in id {
        number = number.wrapping_shl(7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            match numbers.is_empty() {
                true => numbers.extend([(number / 40).min(2), number - 40 * (number / 40).min(2)]),
                false => numbers.push(number),
            }
            number = 0;
        }
    }
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(".")
}

/// How subjects become names: the first rule that fits.
pub(super) struct Mapping(Vec<Rule>);

struct Rule {
    /// None: the subject as it is.
    pattern: Option<(Regex, String)>,
    case: Option<char>,
}

impl Mapping {
    /// `DEFAULT`, or `RULE:pattern/replacement/` with `L` or `U` behind it; commas between.
    pub(super) fn parse(text: &str) -> Result<Self, SettingError> {
        let bad = |expected: &str| refused(RULES, text, expected);
        let mut rules = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let (rule, after) = match rest.strip_prefix("DEFAULT") {
                Some(after) => (Rule { pattern: None, case: None }, after),
                None => rule(rest).ok_or_else(|| bad("DEFAULT, or RULE:pattern/replacement/[LU]"))?,
            };
            rules.push(rule);
            let after = after.trim_start();
            rest = after.strip_prefix(',').unwrap_or(after).trim_start();
            if rest.len() == after.len() && !rest.is_empty() {
                return Err(bad("commas between the rules"));
            }
        }
        Ok(Self(rules))
    }

    /// The name of a subject, which stays what it is when no rule fits.
    pub(super) fn name(&self, subject: &str) -> String {
        let named = self.0.iter().find_map(|rule| {
            let Some((pattern, replacement)) = &rule.pattern else { return Some(subject.to_string()) };
            let replaced = pattern.is_match(subject).then(|| pattern.replace(subject, replacement))?;
            Some(match rule.case {
                Some('L') => replaced.to_lowercase(),
                Some('U') => replaced.to_uppercase(),
                _ => replaced.into_owned(),
            })
        });
        named.unwrap_or_else(|| subject.to_string())
    }
}

fn rule(text: &str) -> Option<(Rule, &str)> {
    let text = text.strip_prefix("RULE:")?;
    let (pattern, rest) = text.split_once('/')?;
    let (replacement, rest) = rest.split_once('/')?;
    let case = rest.chars().next().filter(|c| matches!(c, 'L' | 'U'));
    let rest = &rest[case.map_or(0, char::len_utf8)..];
    let pattern = Regex::new(&format!("^(?:{pattern})$")).ok()?;
    // Java takes `$1x` for the first group and an x, the crate for a group called 1x.
    let groups = Regex::new(r"\$(\d)").ok()?;
    let replacement = groups.replace_all(replacement, "$${${1}}").into_owned();
    Some((Rule { pattern: Some((pattern, replacement)), case }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate that has nothing but a subject of these attributes.
    fn certificate(attributes: &[(&[u8], u8, &[u8])]) -> Vec<u8> {
        let wrap = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
        let names: Vec<u8> = attributes
            .iter()
            .flat_map(|(id, tag, value)| {
                let pair = [wrap(OBJECT_ID, id), wrap(*tag, value)].concat();
                wrap(SET, &wrap(SEQUENCE, &pair))
            })
            .collect();
        let fields = [
            wrap(VERSION, &[]),
            wrap(2, &[1]),
            wrap(SEQUENCE, &[]),
            wrap(SEQUENCE, &[]),
            wrap(SEQUENCE, &[]),
            wrap(SEQUENCE, &names),
        ];
        wrap(SEQUENCE, &wrap(SEQUENCE, &fields.concat()))
    }

    #[test]
    fn a_subject_is_written_as_java_does() {
        let subject = certificate(&[
            (&[0x55, 4, 6], 0x13, b"SE"),
            (&[0x55, 4, 10], 0x0c, b"a, b"),
            (&[0x2a, 0x86, 0x48], 0x0c, b"x"),
            (&[0x55, 4, 3], 0x0c, "al\u{ef}ce".as_bytes()),
        ]);
        assert_eq!(distinguished_name(&subject).unwrap(), "CN=al\u{ef}ce,1.2.840=#0c0178,O=a\\, b,C=SE");
        for length in 0..subject.len() {
            assert_eq!(distinguished_name(&subject[..length]), None, "cut after {length} bytes");
        }
    }

    #[test]
    fn rules_make_names_of_subjects() {
        let rules = "RULE:^CN=(.*?),OU=ServiceUsers.*$/$1x/L,RULE:CN=(\\w+),.*/$1/U , DEFAULT";
        let mapping = Mapping::parse(rules).unwrap();
        assert_eq!(mapping.name("CN=Kafka,OU=ServiceUsers,O=x"), "kafkax");
        assert_eq!(mapping.name("CN=alice,OU=y"), "ALICE");
        assert_eq!(mapping.name("OU=y"), "OU=y");
        for bad in ["RULE:a", "RULE:(/x/", "DEFAULT DEFAULT", "x"] {
            assert!(Mapping::parse(bad).is_err(), "{bad}");
        }
    }
}
