//! Which code is compiled for tests only, or is the panic handler.

use super::lexer::{Token, reads};

/// Files, without `.rs`, of the modules that this file declares for tests only: `#[cfg(test)] mod name;`. What is in
/// a directory of that name is for tests as well.
pub(super) fn test_modules(path: &str, code: &[Token<'_>]) -> Vec<String> {
    let (directory, file) = path.rsplit_once('/').unwrap_or((".", path));
    let children = match file {
        "mod.rs" | "lib.rs" | "main.rs" => directory,
        _ => path.trim_end_matches(".rs"),
    };
    let exempt = exempt(code);
    let mut modules = Vec::new();
    for (at, token) in code.iter().enumerate() {
        if !token.is("mod") || !reads(code, at + 2, &[";"]) || exempt.get(at) != Some(&true) {
            continue;
        }
        if let Some(name) = code.get(at + 1) {
            modules.push(match path_attribute(code.get(..at).unwrap_or_default()) {
                Some(file) => format!("{directory}/{}", file.trim_end_matches(".rs")),
                None => format!("{children}/{}", name.text),
            });
        }
    }
    modules
}

/// Is this the file of such a module, or below it?
pub(super) fn is_test_file(path: &str, test_modules: &[String]) -> bool {
    test_modules.iter().any(|module| {
        path.strip_prefix(module.as_str()).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    })
}

/// The value of `#[path = "…"]` among the attributes at the end of the code.
fn path_attribute<'a>(before: &[Token<'a>]) -> Option<&'a str> {
    let start = before.iter().rposition(|token| token.is(";") || token.is("}")).map_or(0, |at| at + 1);
    let at = (start..before.len()).find(|at| reads(before, *at, &["[", "path", "="]))?;
    before.get(at + 3).map(|value| value.text.trim_matches('"'))
}

/// For every token: is it in an item that `#[cfg(test)]`, `#[test]` or `#[panic_handler]` stands before?
pub(super) fn exempt(tokens: &[Token<'_>]) -> Vec<bool> {
    let mut exempt = vec![false; tokens.len()];
    let mut at = 0;
    while at < tokens.len() {
        let inner = reads(tokens, at, &["#", "!", "["]);
        let open = at + 1 + usize::from(inner);
        if !reads(tokens, at, &["#"]) || !reads(tokens, open, &["["]) {
            at += 1;
            continue;
        }
        let close = matching(tokens, open);
        let attribute = tokens.get(open + 1..close).unwrap_or_default();
        at = close + 1;
        if exempts(attribute) {
            let end = if inner { tokens.len() } else { item_end(tokens, at) };
            exempt.iter_mut().take(end).skip(at).for_each(|exempt| *exempt = true);
            at = end;
        }
    }
    exempt
}

fn exempts(attribute: &[Token<'_>]) -> bool {
    let condition = attribute.iter().skip(2);
    match attribute.first() {
        Some(name) if name.is("cfg") => {
            let only = reads(attribute, 2, &["test"]);
            let all = reads(attribute, 2, &["all"])
                && condition.clone().any(|token| token.is("test"))
                && !condition.clone().any(|token| token.is("not") || token.is("any"));
            only || all
        }
        // `#[test]`, `#[tokio::test(…)]`, `#[panic_handler]`.
        _ => attribute
            .iter()
            .take_while(|token| !token.is("(") && !token.is("="))
            .last()
            .is_some_and(|token| token.is("test") || token.is("panic_handler")),
    }
}

/// Index after an item: after its `;` or its block, whichever is first.
fn item_end(tokens: &[Token<'_>], from: usize) -> usize {
    let mut at = from;
    while let Some(token) = tokens.get(at) {
        if token.is("{") {
            return matching(tokens, at) + 1;
        }
        if token.is(";") || token.is("}") {
            return at + 1;
        }
        at = if token.is("(") || token.is("[") { matching(tokens, at) + 1 } else { at + 1 };
    }
    tokens.len()
}

/// Index of the bracket that closes the one at `open`, or of the last token.
fn matching(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        if ["(", "[", "{"].iter().any(|bracket| token.is(bracket)) {
            depth += 1;
        } else if [")", "]", "}"].iter().any(|bracket| token.is(bracket)) {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return at;
            }
        }
    }
    tokens.len().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::super::lexer;
    use super::*;

    /// The identifiers of the form `xN` that are not exempt.
    fn kept(source: &str) -> Vec<&str> {
        let tokens = lexer::tokens(source);
        let exempt = exempt(&tokens);
        tokens
            .iter()
            .zip(exempt)
            .filter(|(token, exempt)| !exempt && token.text.starts_with('x'))
            .map(|(t, _)| t.text)
            .collect()
    }

    #[test]
    fn test_items_are_exempt_and_their_neighbours_are_not() {
        assert_eq!(kept("x1; #[cfg(test)] mod tests { fn f() { x2 } } x3;"), ["x1", "x3"]);
        assert_eq!(kept("#[cfg(test)] mod tests; x1;"), ["x1"]);
        assert_eq!(kept("#[cfg(test)] #[path = \"a\"] fn f(a: [u8; 2]) -> [u8; 3] { x1 } x2;"), ["x2"]);
        assert_eq!(kept("#[tokio::test(flavor = \"x\")] async fn f() { x1 } fn g() { x2 }"), ["x2"]);
        assert_eq!(kept("#[panic_handler] fn panic() -> ! { x1 } x2"), ["x2"]);
        assert_eq!(kept("#[cfg(all(test, unix))] fn f() { x1 } x2"), ["x2"]);
        assert_eq!(kept("#![cfg(test)] x1; fn f() { x2 }"), [""; 0]);
    }

    #[test]
    fn code_that_is_compiled_without_tests_too_is_kept() {
        assert_eq!(kept("#[cfg(not(test))] fn f() { x1 }"), ["x1"]);
        assert_eq!(kept("#[cfg(any(test, unix))] fn f() { x1 }"), ["x1"]);
        assert_eq!(kept("#[cfg(all(unix, any(test, windows)))] fn f() { x1 }"), ["x1"]);
        assert_eq!(kept("#[cfg(all(unix, not(test)))] fn f() { x1 }"), ["x1"]);
        assert_eq!(kept("#[derive(Debug)] struct S { x1: u8 }"), ["x1"]);
        assert_eq!(kept("struct S { #[cfg(test)] a: u8 } fn f() { x1 }"), ["x1"]);
    }

    #[test]
    fn files_of_test_modules_are_known_by_their_declaration() {
        let modules = |path, source| test_modules(path, &lexer::tokens(source));
        let source = "mod a; #[cfg(test)] mod b; #[path = \"d.rs\"] #[cfg(test)] mod c; #[cfg(test)] #[path = \"e/f.rs\"] mod g; #[cfg(test)] mod h {}";
        assert_eq!(modules("s/elf/mod.rs", source), ["s/elf/b", "s/elf/d", "s/elf/e/f"]);
        assert_eq!(modules("s/elf.rs", source), ["s/elf/b", "s/d", "s/e/f"]);
        let known = ["s/elf/b".to_owned()];
        for path in ["s/elf/b.rs", "s/elf/b/mod.rs", "s/elf/b/c/d.rs"] {
            assert!(is_test_file(path, &known), "{path}");
        }
        assert!(!is_test_file("s/elf/bc.rs", &known) && !is_test_file("s/elf.rs", &known));
    }
}
