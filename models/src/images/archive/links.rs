//! Links between members of an archive.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::{Member, MemberKind};

/// Files by the digests of their names, and links without a known target. A file needs about forty bytes, whatever
/// the length of its name.
#[derive(Default)]
pub(super) struct Links {
    files: HashMap<[u64; 2], (u64, u64)>,
    waiting: Vec<(String, String)>,
}

impl Links {
    /// Stores the offset and length of a file.
    pub(super) fn add(&mut self, name: &str, offset: u64, length: u64) {
        self.files.insert(digest(&normal(name)), (offset, length));
    }

    /// Returns the member for a link if its target is known. Other links are returned by [`rest`](Self::rest).
    pub(super) fn follow(&mut self, name: String, target: &str, symbolic: bool) -> Option<Member> {
        let target = match symbolic {
            false => normal(target),
            // The target of a symbolic link is relative to the folder of the link.
            true => normal(&format!("{}/{target}", name.rsplit_once('/').map_or("", |(folder, _)| folder))),
        };
        let Some(&(offset, length)) = self.files.get(&digest(&target)) else {
            self.waiting.push((name, target));
            return None;
        };
        self.add(&name, offset, length);
        Some(Member { name, kind: MemberKind::File, offset, length })
    }

    /// Returns the links whose targets came later or are missing.
    pub(super) fn rest(self) -> impl Iterator<Item = Member> {
        let Links { files, waiting } = self;
        waiting.into_iter().map(move |(name, target)| match files.get(&digest(&target)) {
            Some(&(offset, length)) => Member { name, kind: MemberKind::File, offset, length },
            None => Member { name, kind: MemberKind::Unreadable, offset: 0, length: 0 },
        })
    }
}

/// Normalises a path: `./a//b/../c` is `a/c`.
fn normal(name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn digest(name: &str) -> [u64; 2] {
    [0u8, 1].map(|half| {
        let mut hasher = DefaultHasher::new();
        (half, name).hash(&mut hasher);
        hasher.finish()
    })
}
