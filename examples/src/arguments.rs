//! The options of a program.
//!
//! It owns how they are read and refused. Invariant: an option is what the usage text lists, so none can be forgotten
//! there.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

/// The options that a program was started with. Each takes a value.
#[derive(Debug)]
pub struct Arguments(BTreeMap<String, String>);

impl Arguments {
    /// Reads what the program was started with. `usage` lists the options, each as `--name VALUE`.
    ///
    /// Ends the program after `--help`, and where something is wrong.
    pub fn read(usage: &str) -> Arguments {
        match Self::parse(usage, std::env::args().skip(1)) {
            Ok(arguments) if arguments.0.contains_key("--help") => leave(usage, 0),
            Ok(arguments) => arguments,
            Err(problem) => leave(&format!("{problem}, see --help\n"), 2),
        }
    }

    fn parse(usage: &str, mut given: impl Iterator<Item = String>) -> Result<Arguments, String> {
        let listed = |name: &str| usage.lines().any(|line| line.trim_start().split(' ').next() == Some(name));
        let mut options = BTreeMap::new();
        while let Some(name) = given.next() {
            let value = match name.as_str() {
                "--help" => String::new(),
                name if name.starts_with("--") && listed(name) => {
                    given.next().ok_or_else(|| format!("{name} needs a value"))?
                }
                name => return Err(format!("there is no option {name}")),
            };
            if options.insert(name.clone(), value).is_some() {
                return Err(format!("{name} is there twice"));
            }
        }
        Ok(Arguments(options))
    }

    /// The value of an option, if it was given.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The value of an option, or `default` when it was not given. Ends the program if it cannot be read.
    pub fn get<T: FromStr<Err: Display>>(&self, name: &str, default: T) -> T {
        let Some(text) = self.text(name) else { return default };
        text.parse().unwrap_or_else(|problem| leave(&format!("{name} {text}: {problem}\n"), 2))
    }

    /// What the value of an option stands for; the first of the choices, when it was not given. Ends the program if it
    /// is none of them.
    pub fn choose<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> T {
        let names = || choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let chosen = match self.text(name) {
            None => choices.first(),
            Some(text) => choices.iter().find(|(name, _)| *name == text),
        };
        let refuse = || {
            leave(
                &format!("{name} {}: it is one of {}\n", self.text(name).unwrap_or("is needed"), names()),
                2,
            )
        };
        chosen.map_or_else(refuse, |(_, value)| *value)
    }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the last word is for the user")]
fn leave(word: &str, code: i32) -> ! {
    match code {
        0 => print!("{word}"),
        _ => eprint!("{word}"),
    }
    std::process::exit(code)
}

#[cfg(test)]
mod tests {
    use super::Arguments;

    fn parse(given: &str) -> Result<Arguments, String> {
        let usage = "Usage: program --not-one\n\n  --times N   how often (see --input)\n";
        Arguments::parse(usage, given.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn an_option_has_its_value_or_its_default() {
        for (given, value) in [("", 1), ("--times 600", 600)] {
            assert_eq!(parse(given).map(|arguments| arguments.get("--times", 1)), Ok(value));
        }
        assert!(parse("--help").is_ok_and(|arguments| arguments.text("--help").is_some()));
    }

    #[test]
    fn what_the_usage_does_not_list_is_refused() {
        for given in ["--time 1", "--not-one 1", "--input 1", "times 1", "N 1", "--", "--times 1 2"] {
            let problem = parse(given).expect_err(given);
            assert!(problem.starts_with("there is no option "), "{given}: {problem}");
        }
        assert_eq!(parse("--times").expect_err("no value"), "--times needs a value");
        assert_eq!(parse("--times 1 --times 2").expect_err("twice"), "--times is there twice");
    }
}
