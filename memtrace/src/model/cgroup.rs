//! Paths of cgroups.

/// Whether a cgroup is another one or below it, by their paths from the root of their hierarchy.
#[must_use]
pub fn is_inside(path: &str, of: &str) -> bool {
    let rest = path.strip_prefix(of.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::is_inside;

    #[test]
    fn cgroups_are_inside_of_each_other() {
        for (path, of, inside) in [
            ("/a/b", "/a", true),
            ("/a", "/a", true),
            ("/ab", "/a", false),
            ("/a", "/", true),
            ("/", "/a", false),
        ] {
            assert_eq!(is_inside(path, of), inside, "{path} {of}");
        }
    }
}
