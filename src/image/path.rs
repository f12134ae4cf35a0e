//! Paths inside an image: always absolute, never above the root, with symbolic links followed only inside the image.

/// Most links that the kernel follows for one path (Linux `MAXSYMLINKS`, `path_resolution(7)`).
pub const KERNEL_HOPS: usize = 40;
/// Most links that a container runtime follows where it mounts (`cyphar/filepath-securejoin:join.go`, `maxSymlinkLimit`).
pub const MOUNT_HOPS: usize = 255;

/// Bytes of a path of which the kernel takes no more, the zero at its end included (`PATH_MAX`, `linux/limits.h`).
pub const KERNEL_LENGTH: usize = 4096;

/// Longest path that is followed, in bytes: a working directory and a name, each as long as the kernel takes them. A longer one
/// leads nowhere.
pub const MAX_LENGTH: usize = 2 * KERNEL_LENGTH;

/// Most parts of the path of a mount that are followed.
pub const MOST_PARTS: usize = 255;

/// Whether the path of a mount has more parts than are followed. The kubelet and people write a handful.
pub fn is_deep(mount: &str) -> bool {
    // A shorter one has fewer parts, whatever they are.
    mount.len() >= MOST_PARTS && mount.split('/').count() > MOST_PARTS
}

/// Whether a path requires one of its parts to be a folder: it goes up from a name, or ends with a slash. If that part
/// is a file, the kernel refuses the path (`path_resolution(7)`, ENOTDIR), although normalised as text it would lead to
/// a file.
pub fn needs_a_folder(path: &str) -> bool {
    let named = path.split('/').any(|part| !matches!(part, "" | "." | ".."));
    goes_up(path) || (named && (path.ends_with('/') || path.ends_with("/.")))
}

/// Whether two dots stand next to each other in a path. Every path of a pod is asked several times, and is too short for a search by vectors.
pub(super) fn has_two_dots(path: &str) -> bool {
    path.as_bytes().windows(2).any(|pair| pair == b"..")
}

/// Whether a path goes up from a name. Where that leads depends on whether the name is a folder, a file or a link to a
/// folder elsewhere.
pub fn goes_up(path: &str) -> bool {
    if !has_two_dots(path) {
        return false;
    }
    let mut parts = path.split('/').skip_while(|part| matches!(*part, "" | "." | ".."));
    parts.any(|part| part == "..")
}

/// `name` under `folder`; an absolute `name` replaces it. Normalises nothing.
pub fn join(folder: &str, name: &str) -> String {
    if name.starts_with('/') { name.to_string() } else { format!("{folder}/{name}") }
}

/// The same; `None` where it would be longer than a path that is followed. It is not made then: an image and a pod choose how long each
/// part is, and there are many folders.
pub fn join_short(folder: &str, name: &str) -> Option<String> {
    let length = if name.starts_with('/') { 0 } else { folder.len().saturating_add(1) };
    (length.saturating_add(name.len()) <= MAX_LENGTH).then(|| join(folder, name))
}

/// The folder and the last part of a normalised path.
pub fn split(path: &str) -> (&str, &str) {
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((folder, name)) => (folder, name),
        None => ("/", path),
    }
}

/// Whether a normalised path lies below a folder.
pub fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| folder == "/" || rest.starts_with('/'))
}

/// Follows links: `link` gives the target of a path that is one. Follows the last part too when `last` is set. `None`
/// where the kernel would follow too many, and for a path of more than [`MAX_LENGTH`] bytes, before links are followed or
/// after. Takes as many steps as the path and the targets of its links have parts.
pub fn resolve<'a>(path: &'a str, last: bool, link: impl FnMut(&str) -> Option<&'a str>) -> Option<String> {
    resolve_within(KERNEL_HOPS, path, last, link)
}

/// [`resolve`] with at most so many links; `None` where there are more.
pub fn resolve_within<'a>(
    most: usize,
    path: &'a str,
    last: bool,
    link: impl FnMut(&str) -> Option<&'a str>,
) -> Option<String> {
    if path.len() > MAX_LENGTH {
        return None;
    }
    walk(most, String::with_capacity(path.len().saturating_add(1)), path, 0, last, link)
}

/// The same of a link in a folder of the image, none of whose parts is a link: only its target is followed.
pub fn resolve_link<'a>(
    most: usize,
    name: &str,
    target: &'a str,
    link: impl FnMut(&str) -> Option<&'a str>,
) -> Option<String> {
    if name.len() > MAX_LENGTH {
        return None;
    }
    let folder = if target.starts_with('/') { "" } else { split(name).0.trim_end_matches('/') };
    walk(most, folder.to_string(), target, 1, true, link)
}

/// Goes on from a folder, after so many links.
fn walk<'a>(
    most: usize,
    mut done: String,
    path: &'a str,
    mut hops: usize,
    last: bool,
    mut link: impl FnMut(&str) -> Option<&'a str>,
) -> Option<String> {
    // What is left of the path or of the link that was met last, and before it what is left of those that led there, the last one
    // first. Few paths meet a link.
    let (mut now, mut before) = (Some(path), Vec::new());
    while let Some(part) = next_part(&mut now, &mut before) {
        match part {
            "" | "." => continue,
            ".." => {
                climb(&mut done);
                continue;
            }
            name => {
                done.push('/');
                done.push_str(name);
            }
        }
        // Links may make it longer and longer.
        if done.len() > MAX_LENGTH {
            return None;
        }
        let is_end = |rest: &&str| rest.split('/').all(str::is_empty);
        if !last && now.iter().chain(&before).all(is_end) {
            break;
        }
        let Some(target) = link(&done) else { continue };
        hops = hops.saturating_add(1);
        if hops > most {
            return None;
        }
        climb(&mut done);
        if target.starts_with('/') {
            done.clear();
        }
        before.extend(now.replace(target));
    }
    Some(if done.is_empty() { "/".into() } else { done })
}

/// Takes the next part off a path, or off the last of those before it.
fn next_part<'a>(now: &mut Option<&'a str>, before: &mut Vec<&'a str>) -> Option<&'a str> {
    let path = now.take().or_else(|| before.pop())?;
    // Parts are short, so that the search of a `char` would take longer to begin than this takes.
    let Some(end) = path.bytes().position(|byte| byte == b'/') else { return Some(path) };
    *now = path.get(end.saturating_add(1)..);
    path.get(..end)
}

/// Removes the last part.
fn climb(path: &mut String) {
    path.truncate(path.rfind('/').unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(path: &str) -> Option<&'static str> {
        match path {
            "/bin" => Some("usr/bin"),
            "/usr/bin/sh" => Some("../lib/busybox"),
            "/abs" => Some("/usr/bin/sh"),
            "/loop" => Some("loop"),
            "/up" => Some("../../../../etc"),
            _ => None,
        }
    }

    #[test]
    fn paths_never_leave_the_root() {
        assert_eq!(resolve("/up/x", true, links).unwrap(), "/etc/x");
        assert_eq!((split("/a"), split("/a/b")), (("/", "a"), ("/a", "b")));
        assert_eq!((join("/w", "a"), join("/w", "/a")), ("/w/a".into(), "/a".into()));
    }

    #[test]
    fn a_link_leads_where_its_path_does() {
        for name in ["/bin", "/usr/bin/sh", "/abs", "/loop", "/up"] {
            let target = links(name).unwrap();
            let within = resolve_link(KERNEL_HOPS, name, target, links);
            assert_eq!(within, resolve(name, true, links), "{name}");
        }
    }

    #[test]
    fn links_are_followed_inside_the_image() {
        assert_eq!(resolve("/bin/sh", true, links).unwrap(), "/usr/lib/busybox");
        assert_eq!(resolve("/bin/sh", false, links).unwrap(), "/usr/bin/sh");
        assert_eq!(resolve("/abs", true, links).unwrap(), "/usr/lib/busybox");
        assert_eq!(resolve("/loop/x", true, links), None);
    }

    /// An image may hold tens of thousands of links that lead through the same chain.
    #[test]
    fn a_path_that_links_make_longer_and_longer_leads_nowhere() {
        let next = |number: usize| format!("/d{number}{}", "/x".repeat(1000));
        let targets: Vec<String> = (1..=30).map(next).collect();
        let through = |count: usize| {
            resolve("/d0", true, |at| {
                let number: usize = at.strip_prefix("/d")?.parse().ok()?;
                targets.get(number).filter(|_| number < count).map(String::as_str)
            })
        };
        assert_eq!(through(1).map(|end| end.len()), Some(2003));
        assert_eq!(through(5), None);
    }

    #[test]
    fn a_way_through_links_goes_on_with_what_was_left_before_each() {
        let link = |at: &str| match at {
            "/a" => Some("b/c"),
            "/b" => Some("/d"),
            "/d/c" => Some("../e"),
            "/loop" => Some("loop/x"),
            _ => None,
        };
        for (path, last, end) in [
            ("/a/x", true, Some("/e/x")),
            ("a//./x/", true, Some("/e/x")),
            ("/a", true, Some("/e")),
            ("/a", false, Some("/a")),
            ("/a//", false, Some("/a")),
            ("/a/x", false, Some("/e/x")),
            ("/b/../x", true, Some("/x")),
            ("/b/f/../../a/..", true, Some("/")),
            ("..", true, Some("/")),
            ("", true, Some("/")),
            ("/loop", true, None),
        ] {
            assert_eq!(resolve(path, last, link).as_deref(), end, "{path} {last}");
        }
    }

    #[test]
    fn a_path_that_would_lead_nowhere_is_not_made() {
        let long = "a".repeat(MAX_LENGTH);
        assert_eq!(join_short("/bin", "app"), Some("/bin/app".into()));
        assert_eq!(join_short(&long, "/app"), Some("/app".into()));
        assert_eq!(join_short("", &"a".repeat(MAX_LENGTH - 1)).map(|path| path.len()), Some(MAX_LENGTH));
        for (folder, name) in [("", long.as_str()), (long.as_str(), ""), ("/bin", long.as_str())] {
            assert_eq!(join_short(folder, name), None);
            assert_eq!(resolve(&join(folder, name), true, |_| None), None);
        }
    }

    #[test]
    fn a_path_is_deep_or_goes_up_by_its_parts_and_not_by_its_length_or_its_dots() {
        assert!(is_deep(&"/".repeat(255)) && is_deep(&"/a".repeat(255)));
        assert!(!is_deep(&"/".repeat(254)) && !is_deep(&"/a".repeat(254)) && !is_deep(&"a".repeat(5_000)));
        for (path, up) in [
            ("/a/..", true),
            ("/a/../b", true),
            ("/./a/..", true),
            ("/../a", false),
            ("/a/..b/c..", false),
            ("/a/.../b", false),
            ("..", false),
        ] {
            assert_eq!(goes_up(path), up, "{path}");
        }
    }
}
