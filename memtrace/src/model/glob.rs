//! Patterns for names: `*` stands for any characters, `?` for one.

/// Whether a pattern matches a whole name.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut place) = (0, 0);
    // The last star, and the place in the name up to which it matches.
    let mut star = None;
    while let Some(letter) = name.get(place) {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, place));
                at += 1;
            }
            Some(one) if *one == '?' || one == letter => (at, place) = (at + 1, place + 1),
            _ => {
                let Some((back, reach)) = star else { return false };
                star = Some((back, reach + 1));
                (at, place) = (back + 1, reach + 1);
            }
        }
    }
    pattern.iter().skip(at).all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, name, is) in [
            ("dentry", "dentry", true),
            ("dentry", "dentry2", false),
            ("kmalloc-*", "kmalloc-64", true),
            ("kmalloc-*", "kmalloc-cg-64", true),
            ("kmalloc-??", "kmalloc-64", true),
            ("kmalloc-??", "kmalloc-128", false),
            ("*inode*cache", "ext4_inode_cache", true),
            ("*a*b", "aab", true),
            ("*a*b", "aba", false),
            ("*", "", true),
            ("", "x", false),
            ("a**", "a", true),
        ] {
            assert_eq!(matches(pattern, name), is, "{pattern} {name}");
        }
    }
}
