//! A file tree in memory. Packages are unpacked into one, and images are assembled in another. It has the merged-/usr layout,
//! whatever the packages have, and resolves symbolic links like the booted system.

use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::sync::Arc;

/// Folders in the root that a merged `/usr` replaces with links.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// Most symbolic links in a path: the kernel's limit (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// An entry of the tree. Only empty folders need an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Folder,
    File(File),
    Link(String),
}

/// A regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) data: Arc<[u8]>,
    pub(crate) executable: bool,
    /// The index of its package in the build's list of packages.
    pub(crate) package: Option<usize>,
}

/// Paths are relative to the root and do not begin with `/`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    nodes: BTreeMap<String, Node>,
}

impl Tree {
    pub(crate) fn insert(&mut self, path: &str, node: Node) {
        let path = merged(path);
        // Skip a package's own links of a merged `/usr`: here `bin` would be a link to itself.
        if !matches!(&node, Node::Link(target) if *target == path) {
            self.nodes.insert(path, node);
        }
    }

    /// Adds a file that comes from no package.
    pub(crate) fn write(&mut self, path: &str, data: impl Into<Arc<[u8]>>, executable: bool) {
        self.insert(path, Node::File(File { data: data.into(), executable, package: None }));
    }

    /// Adds the links of a merged `/usr`: `bin` to `usr/bin`, and so on.
    pub(crate) fn link_merged_folders(&mut self) {
        for name in MERGED {
            self.nodes.insert(name.to_owned(), Node::Link(format!("usr/{name}")));
            self.nodes.entry(format!("usr/{name}")).or_insert(Node::Folder);
        }
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.nodes.extend(other.nodes);
    }

    /// Removes kernels and modules that came from the first `packages` packages.
    pub(crate) fn remove_kernels(&mut self, packages: usize) {
        let is_of_kernel = |path: &str| path.starts_with("boot/") || path.starts_with("usr/lib/modules/");
        self.nodes.retain(|path, node| match node {
            Node::File(file) => !is_of_kernel(path) || file.package.is_none_or(|package| package >= packages),
            Node::Folder | Node::Link(_) => true,
        });
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// All entries whose paths start with `prefix`.
    pub(crate) fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Node)> {
        let range: Range<'a, String, Node> = self.nodes.range(prefix.to_owned()..);
        range.map(|(path, node)| (path.as_str(), node)).take_while(move |(path, _)| path.starts_with(prefix))
    }

    /// The file that a path leads to, and its own path.
    pub(crate) fn file(&self, path: &str) -> Option<(String, &File)> {
        let end = self.route(path)?.pop()?;
        match self.nodes.get(&end)? {
            Node::File(file) => Some((end, file)),
            _ => None,
        }
    }

    /// Copies the file that a path leads to, and the links in the path.
    pub(crate) fn copy_to(&self, path: &str, to: &mut Self) -> Option<&File> {
        let route = self.route(path)?;
        for stop in &route {
            to.nodes.insert(stop.clone(), self.nodes.get(stop)?.clone());
        }
        match self.nodes.get(route.last()?)? {
            Node::File(file) => Some(file),
            _ => None,
        }
    }

    /// The paths of the links that a path leads through, and last that of its target.
    fn route(&self, path: &str) -> Option<Vec<String>> {
        let mut route = Vec::new();
        let mut path = merged(path);
        'follow: while route.len() < MAX_LINKS {
            let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
            for end in ends {
                if let Some(Node::Link(target)) = self.nodes.get(&path[..end]) {
                    route.push(path[..end].to_owned());
                    path = merged(&format!("{}{}", join(&path[..end], target), &path[end..]));
                    continue 'follow;
                }
            }
            route.push(path);
            return Some(route);
        }
        None
    }
}

/// The target of a link, relative to the root.
fn join(link: &str, target: &str) -> String {
    if target.starts_with('/') {
        return target.to_owned();
    }
    let folder = link.rsplit_once('/').map_or("", |(folder, _)| folder);
    format!("{folder}/{target}")
}

/// The path without `.`, `..` and double slashes, in the merged-/usr layout.
pub(crate) fn merged(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    if parts.first().is_some_and(|first| MERGED.contains(first)) {
        parts.insert(0, "usr");
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_merged_layouts_name_the_same_file() {
        let mut tree = Tree::default();
        tree.write("./lib/x86_64-linux-gnu/libc.so.6", *b"c", false);
        assert_eq!(
            tree.file("/usr/lib/x86_64-linux-gnu/libc.so.6").unwrap().0,
            "usr/lib/x86_64-linux-gnu/libc.so.6"
        );
    }

    #[test]
    fn a_package_that_merges_the_folders_hides_no_file() {
        let mut tree = Tree::default();
        tree.write("usr/bin/sh", *b"sh", true);
        tree.insert("./bin", Node::Link("usr/bin".into()));
        assert!(tree.file("bin/sh").is_some());
    }

    #[test]
    fn links_are_followed_and_copied_with_what_they_lead_to() {
        let mut tree = Tree::default();
        tree.write("lib/a/ld-2.so", *b"ld", true);
        tree.insert("lib/a/ld.so", Node::Link("ld-2.so".into()));
        tree.insert("lib64/ld.so", Node::Link("/lib/a/ld.so".into()));
        tree.insert("usr/share/there", Node::Link("../lib/a".into()));
        let mut copy = Tree::default();
        assert!(tree.copy_to("lib64/ld.so", &mut copy).unwrap().executable);
        let paths: Vec<_> = copy.iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["usr/lib/a/ld-2.so", "usr/lib/a/ld.so", "usr/lib64/ld.so"]);
        assert_eq!(tree.file("usr/share/there/ld.so").unwrap().0, "usr/lib/a/ld-2.so");
    }

    #[test]
    fn a_loop_of_links_leads_nowhere() {
        let mut tree = Tree::default();
        tree.insert("a", Node::Link("b".into()));
        tree.insert("b", Node::Link("a".into()));
        assert!(tree.file("a").is_none());
        assert!(tree.file("absent").is_none());
    }
}
