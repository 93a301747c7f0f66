//! A source file as text: what it imports, and how long its functions are.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// One source file, without its unit tests.
pub(crate) struct Source {
    /// Its path below src.
    pub(crate) name: String,
    /// Its text up to the tests, with comments, strings and characters blanked; lines stay where they are.
    pub(crate) code: String,
}

/// A function, measured from the line with `fn` to its closing brace.
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) lines: usize,
}

impl Source {
    pub(crate) fn read(folder: &Path, path: &Path) -> Source {
        let name = path
            .strip_prefix(folder)
            .expect("sources lie in src")
            .to_str()
            .expect("source paths are UTF-8")
            .replace('\\', "/");
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let is_test = name.split(['/', '.']).any(|part| part == "tests");
        let code = if is_test { String::new() } else { without_tests(&blank(&text)) };
        Source { name, code }
    }

    /// The module right below the crate; `lib` and `main` stand for themselves.
    pub(crate) fn module(&self) -> &str {
        self.name.split(['/', '.']).next().unwrap_or_default()
    }

    /// The path within that module, `a` of `http/a.rs`; none for the module's own file, and for tests.
    pub(crate) fn inner(&self) -> Option<String> {
        let (_, inner) = self.name.split_once('/')?;
        let inner = inner.trim_end_matches(".rs").trim_end_matches("/mod");
        let own = inner == "mod" || inner.split('/').any(|part| part == "tests");
        (!own).then(|| inner.to_owned())
    }

    /// The crate's modules that this file names by a path.
    pub(crate) fn imports(&self) -> BTreeSet<String> {
        let mut imports = self.paths_under("crate");
        // The program sees the library as a crate of that name.
        imports.extend(self.paths_under("primacy"));
        // From a module's own file one `super` is the crate, from the files in its folder two are.
        let depth = 1 + self.inner().map_or(0, |inner| inner.split('/').count());
        if self.module() != "lib" {
            imports.extend(self.paths_under(&vec!["super"; depth].join("::")));
        }
        imports
    }

    /// The names that follow `start::` in the code, also in braces.
    pub(crate) fn paths_under(&self, start: &str) -> BTreeSet<String> {
        let start = format!("{start}::");
        let mut names = BTreeSet::new();
        for (at, _) in self.code.match_indices(&start) {
            let before = self.code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let after = &self.code[at + start.len()..];
            match after.strip_prefix('{') {
                Some(group) => names.extend(group_heads(group)),
                None => names.extend(Some(identifier(after)).filter(|name| !name.is_empty())),
            }
        }
        names
    }

    /// Every function with a body.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut functions = Vec::new();
        for (at, _) in self.code.match_indices("fn ") {
            let starts = self.code[..at].chars().next_back().is_none_or(|c| c.is_whitespace() || c == '(');
            let name = identifier(&self.code[at + 3..]);
            let Some(end) = body_end(&self.code[at..]).filter(|_| starts && !name.is_empty()) else { continue };
            let line = self.code[..at].matches('\n').count() + 1;
            let lines = self.code[at..at + end].matches('\n').count() + 1;
            functions.push(Function { name, line, lines });
        }
        functions
    }
}

/// Every identifier of the code.
pub(crate) fn words(code: &str) -> BTreeSet<&str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').collect()
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The first name of each path in a group of imports, up to the brace that closes it.
fn group_heads(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut heads = Vec::new();
    let mut head = String::new();
    let mut within_head = true;
    for c in group.chars() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                heads.push(std::mem::take(&mut head));
                within_head = true;
            }
            c if depth == 0 && within_head && (c.is_alphanumeric() || c == '_') => head.push(c),
            // A path goes on, or `as` follows.
            _ => within_head = within_head && head.is_empty(),
        }
    }
    heads.push(head);
    heads.retain(|head| !head.is_empty() && head != "self");
    heads
}

/// Where the body of the function at the start of `code` ends; none where it has no body.
fn body_end(code: &str) -> Option<usize> {
    // A `;` in an array type of the signature stands within brackets.
    let mut brackets = 0usize;
    let mut braces = 0usize;
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets = brackets.saturating_sub(1),
            ';' if braces == 0 && brackets == 0 => return None,
            '{' => braces += 1,
            '}' if braces == 1 => return Some(at + 1),
            '}' => braces = braces.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

/// The code up to the module of unit tests, which stands at the end.
fn without_tests(code: &str) -> String {
    let tests = code.match_indices("#[cfg(test)]").map(|(at, mark)| (at, code[at + mark.len()..].trim_start()));
    let first = tests.into_iter().find(|(_, rest)| rest.starts_with("mod tests"));
    code[..first.map_or(code.len(), |(at, _)| at)].to_owned()
}

/// The text with the insides of comments, strings and characters as spaces.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = skipped_at_start(rest, out.chars().next_back());
        if skipped == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let (gone, after) = rest.split_at(skipped);
        out.extend(gone.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = after;
    }
    out
}

/// How many bytes of a comment, string or character `text` begins with; 0 where it begins with code.
fn skipped_at_start(text: &str, before: Option<char>) -> usize {
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return block_comment(text);
    }
    if text.starts_with('"') {
        return quoted(text, '"');
    }
    if text.starts_with('\'') {
        return character(text);
    }
    if !in_word && text.starts_with(['r', 'b', 'c']) {
        return raw_string(text);
    }
    0
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        match () {
            () if rest.starts_with("/*") => (depth, at) = (depth + 1, at + 2),
            () if rest.starts_with("*/") => (depth, at) = (depth - 1, at + 2),
            () => at += rest.chars().next().map_or(1, char::len_utf8),
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// Up to the closing quote, past escapes.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A character, not a lifetime: a lifetime has no quote behind its first letter.
fn character(text: &str) -> usize {
    let mut chars = text[1..].chars();
    match (chars.next(), chars.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted(text, '\''),
        _ => 0,
    }
}

/// A raw string, with or without the letters and hashes in front.
fn raw_string(text: &str) -> usize {
    let prefix = text.find(|c| c != 'r' && c != 'b' && c != 'c').unwrap_or(text.len());
    let hashes = text[prefix..].find(|c| c != '#').unwrap_or(0);
    if prefix > 2 || !text[..prefix].ends_with('r') || !text[prefix + hashes..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let inside = prefix + hashes + 1;
    text[inside..].find(&end).map_or(text.len(), |at| inside + at + end.len())
}

#[test]
fn comments_strings_and_characters_are_blanked() {
    let text = "a /* b /* c */ d */ e // f\n\"g\\\"{\" 'h' '\\'' 'static r#\"i\"{\"# br\"\\\" j\n";
    assert_eq!(words(&blank(text)), BTreeSet::from(["", "a", "e", "static", "j"]));
    assert_eq!(blank(text).len(), text.len());
}

#[test]
fn imports_are_found_in_every_form() {
    let code = "use crate::a::b;\nuse crate::{c, d::{e, f}, self as g};\ncrate::h::i(); mycrate::j; super::k; super::super::l;";
    let source = |name: &str| Source { name: name.to_owned(), code: code.to_owned() };
    let crate_only = ["a", "c", "d", "h"].map(str::to_owned);
    assert_eq!(source("x/y.rs").paths_under("crate"), BTreeSet::from(crate_only));
    assert!(source("x/mod.rs").imports().contains("k"), "`super` of a module's own file is the crate");
    assert!(!source("x/y.rs").imports().contains("k") && source("x/y.rs").imports().contains("l"));
}

#[test]
fn functions_are_measured() {
    let code = "fn a(x: [u8; 2]) -> u8 {\n {\n }\n}\ntrait T { fn b(); }\nimpl A { fn c() {} }";
    let source = Source { name: "a.rs".to_owned(), code: code.to_owned() };
    let found: Vec<(String, usize, usize)> =
        source.functions().into_iter().map(|function| (function.name, function.line, function.lines)).collect();
    assert_eq!(found, [("a".to_owned(), 1, 4), ("c".to_owned(), 6, 1)]);
}

#[test]
fn tests_are_cut_off() {
    assert_eq!(without_tests("a\n#[cfg(test)]\nmod tests { b }"), "a\n");
    assert_eq!(without_tests("a\n#[cfg(test)]\nfn c() {}"), "a\n#[cfg(test)]\nfn c() {}");
}
