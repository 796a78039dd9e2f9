//! A Rust file as the rules see it: code without comments and texts, comments without code, functions with their
//! lengths. It is a reader of tokens, not a compiler; what macros produce it cannot know.

use std::ops::Range;

/// A file with what the rules ask of it.
pub(crate) struct Source {
    /// Its path below the repository, with `/` between the parts.
    pub path: String,
    /// Its code: comments, the inside of texts and test modules are blank.
    pub code: String,
    /// Its comments: everything else is blank.
    pub comments: String,
}

/// A function of a file.
pub(crate) struct Function {
    /// Its name.
    pub name: String,
    /// The line that it starts on, from 1.
    pub line: usize,
    /// Its lines of code, signature and closing brace included.
    pub length: usize,
}

impl Source {
    /// Reads a file's text.
    pub(crate) fn new(path: &str, text: &str) -> Source {
        let (mut code, comments) = separate(text);
        blank_tests(&mut code);
        let (code, comments) = (code.into_iter().collect(), comments.into_iter().collect());
        Source { path: path.to_owned(), code, comments }
    }

    /// Lines of code: neither blank, nor comment, nor test.
    pub(crate) fn length(&self) -> usize {
        length(&self.code)
    }

    /// Lines on which `token` stands in the code, as whole words: `Mutex` is not in `MutexGuard`.
    pub(crate) fn lines_with(&self, token: &str) -> Vec<usize> {
        lines_with(&self.code, token)
    }

    /// Lines on which `word` stands in a comment.
    pub(crate) fn comment_lines_with(&self, word: &str) -> Vec<usize> {
        lines_with(&self.comments, word)
    }

    /// All functions that have a body.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let chars: Vec<char> = self.code.chars().collect();
        let starts = (0..chars.len()).filter(|at| is_word(&chars, *at, "fn"));
        starts.filter_map(|at| function(&chars, at)).collect()
    }
}

fn function(chars: &[char], at: usize) -> Option<Function> {
    let name: String =
        chars[at + 2..].iter().skip_while(|c| **c == ' ').take_while(|c| is_name(**c)).collect();
    if name.is_empty() {
        return None;
    }
    let body = block(chars, at)?;
    let line = 1 + chars[..at].iter().filter(|c| **c == '\n').count();
    let text: String = chars[at..body.end].iter().collect();
    Some(Function { name, line, length: length(&text) })
}

/// The braces that follow `from`, unless a `;` ends the item first.
fn block(chars: &[char], from: usize) -> Option<Range<usize>> {
    let mut depth = 0;
    let mut start = None;
    for (at, c) in chars.iter().enumerate().skip(from) {
        match c {
            '(' | '[' | '{' => {
                if *c == '{' && depth == 0 {
                    start = Some(at);
                }
                depth += 1;
            }
            ')' | ']' | '}' => {
                depth -= 1;
                if *c == '}' && depth == 0 && start.is_some() {
                    return Some(start?..at + 1);
                }
            }
            ';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

fn length(code: &str) -> usize {
    code.lines().filter(|line| !line.trim().is_empty()).count()
}

fn lines_with(text: &str, token: &str) -> Vec<usize> {
    let starts_with_name = token.starts_with(is_name);
    let ends_with_name = token.ends_with(is_name);
    let whole = |line: &str, at: usize| {
        let before = line[..at].chars().next_back().is_some_and(is_name);
        let after = line[at + token.len()..].chars().next().is_some_and(is_name);
        !(starts_with_name && before || ends_with_name && after)
    };
    let has = |line: &str| line.match_indices(token).any(|(at, _)| whole(line, at));
    text.lines().enumerate().filter(|(_, line)| has(line)).map(|(index, _)| index + 1).collect()
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_word(chars: &[char], at: usize, word: &str) -> bool {
    let end = at + word.len();
    chars[at..].iter().copied().take(word.len()).eq(word.chars())
        && !(at > 0 && is_name(chars[at - 1]))
        && !chars.get(end).is_some_and(|c| is_name(*c))
}

/// Takes code and comments apart; both keep the file's lines.
fn separate(text: &str) -> (Vec<char>, Vec<char>) {
    let chars: Vec<char> = text.chars().collect();
    let blank = || chars.iter().map(|c| if *c == '\n' { '\n' } else { ' ' }).collect::<Vec<_>>();
    let (mut code, mut comments) = (blank(), blank());
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        let end = at + piece(rest, at > 0 && is_name(chars[at - 1]));
        match rest {
            ['/', '/', ..] | ['/', '*', ..] => comments[at..end].copy_from_slice(&chars[at..end]),
            // Of a text only its ends are code.
            _ => {
                code[at] = chars[at];
                code[end - 1] = chars[end - 1];
            }
        }
        at = end;
    }
    (code, comments)
}

/// How many characters the comment, the text or the single character at the front has.
fn piece(rest: &[char], inside_name: bool) -> usize {
    let until = |stop: &[char], from: usize| {
        let found = rest[from..].windows(stop.len()).position(|window| window == stop);
        found.map_or(rest.len(), |at| from + at + stop.len())
    };
    match rest {
        ['/', '/', ..] => rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
        ['/', '*', ..] => block_comment(rest),
        ['"', ..] => quoted(rest, '"'),
        ['r', '#' | '"', ..] if !inside_name => {
            let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
            if rest.get(1 + hashes) != Some(&'"') {
                return 1;
            }
            let stop: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            until(&stop, 2 + hashes)
        }
        ['\'', '\\', ..] => quoted(rest, '\''),
        ['\'', _, '\'', ..] => 3,
        _ => 1,
    }
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at + 1 < rest.len() {
        match (rest[at], rest[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Blanks what is compiled for tests alone.
fn blank_tests(code: &mut [char]) {
    for mark in ["#[cfg(test)]", "#[cfg(all(test"] {
        let mark: Vec<char> = mark.chars().collect();
        let starts: Vec<usize> =
            code.windows(mark.len()).enumerate().filter(|(_, w)| *w == mark).map(|(at, _)| at).collect();
        for start in starts {
            let after = start + code[start..].iter().take_while(|c| **c != ']').count() + 1;
            let end = block(code, after).map_or(after, |body| body.end);
            code[start..end].iter_mut().filter(|c| **c != '\n').for_each(|c| *c = ' ');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_texts_and_characters_are_not_code() {
        let text = "let a = \"x // {\"; // b\nlet c = 'd'; let e = '\\''; /* f /* g */ h */ let i = r#\"j\"k\"#;\nfn l<'m>() {}\n";
        let source = Source::new("a.rs", text);
        let code = "let a = \"      \";     \nlet c = ' '; let e = '  ';                   let i = r      #;\nfn l<'m>() {}\n";
        assert_eq!(source.code, code);
        assert!(source.comments.contains("// b") && source.comments.contains("/* f /* g */ h */"));
        assert!(!source.comments.contains("let"));
    }

    #[test]
    fn blank_lines_comments_and_tests_have_no_length() {
        let text =
            "//! a\n\nfn b() {\n    // c\n    d();\n}\n\n#[cfg(test)]\nmod tests {\n    fn e() {}\n}\n";
        assert_eq!(Source::new("a.rs", text).length(), 3);
    }

    #[test]
    fn functions_have_names_lines_and_lengths() {
        let text = "trait A {\n    fn b(&self) -> [u8; 4];\n}\n\nfn c(f: fn(u8)) -> [u8; 2]\nwhere\n    u8: Copy,\n{\n    d();\n}\n";
        let functions = Source::new("a.rs", text).functions();
        let seen: Vec<_> = functions.iter().map(|f| (f.name.as_str(), f.line, f.length)).collect();
        assert_eq!(seen, [("c", 5, 6)]);
    }

    #[test]
    fn tokens_are_whole_words_of_code() {
        let source = Source::new(
            "a.rs",
            "use a::Mutex;\n// Mutex\nlet b: MutexGuard;\nlet c = \"Mutex\";\nb::Mutex::new();\n",
        );
        assert_eq!(source.lines_with("Mutex"), [1, 5]);
        assert_eq!(source.comment_lines_with("Mutex"), [2]);
    }
}
