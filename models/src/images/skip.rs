//! Names that are not images: files of operating systems, and files of other kinds beside images.

use std::collections::BTreeMap;
use std::fmt;

/// Reason why a file or a folder is not read as an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SkipKind {
    /// Thumbnails, recycle bins and other files of operating systems, e.g. `@eaDir` or `Thumbs.db`.
    System,
    /// A name that begins with a dot.
    Hidden,
    /// Text, source code or a sidecar file of a camera.
    Text,
    /// A table, an array, labels, or results of this program.
    Table,
    /// Weights or a network.
    Model,
    /// A video or audio file.
    Video,
    /// Raw data of a camera.
    Raw,
    /// A document, e.g. PDF.
    Document,
    /// An archive other than a tar.
    Archive,
    /// A program, a shortcut or an unfinished download.
    Program,
    /// An output file of the run itself.
    Output,
    /// A socket, a pipe, a device, or a link in a tar without target.
    Special,
    /// A link to a folder that is already being read.
    Ring,
    /// An image outside of the class folders.
    NoClass,
    /// An image without a label in a set with labels in files.
    NoLabel,
    /// A folder beside the classes that contains files but no image.
    NoImages,
    /// A row of a table whose file does not exist.
    Missing,
}

impl SkipKind {
    /// Returns the name of the kind in singular and plural.
    fn names(self) -> [&'static str; 2] {
        match self {
            SkipKind::System => ["thumbnail or bin", "thumbnails and bins"],
            SkipKind::Hidden => ["hidden name", "hidden names"],
            SkipKind::Text => ["text", "texts"],
            SkipKind::Table => ["table or result", "tables and results"],
            SkipKind::Model => ["model", "models"],
            SkipKind::Video => ["video or sound", "videos and sounds"],
            SkipKind::Raw => ["raw file", "raw files"],
            SkipKind::Document => ["document", "documents"],
            SkipKind::Archive => ["archive", "archives"],
            SkipKind::Program => ["program or unfinished file", "programs and unfinished files"],
            SkipKind::Output => ["output of this run", "outputs of this run"],
            SkipKind::Special => ["special file", "special files"],
            SkipKind::Ring => ["link in a ring", "links in a ring"],
            SkipKind::NoClass => ["file in no class", "files in no class"],
            SkipKind::NoLabel => ["image without a label", "images without a label"],
            SkipKind::NoImages => ["folder without images", "folders without images"],
            SkipKind::Missing => ["row whose file does not exist", "rows whose files do not exist"],
        }
    }
}

/// Counts of skipped entries by kind. Displayed as `3 thumbnails and bins, 1 file in no class`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped(BTreeMap<SkipKind, usize>);

impl Skipped {
    /// Adds one to a count.
    pub fn add(&mut self, kind: SkipKind) {
        self.add_many(kind, 1);
    }

    /// Adds `count` to a count.
    pub fn add_many(&mut self, kind: SkipKind, count: usize) {
        if count > 0 {
            *self.0.entry(kind).or_default() += count;
        }
    }

    /// Adds the counts of another listing.
    pub fn extend(&mut self, other: &Skipped) {
        other.0.iter().for_each(|(&kind, &count)| self.add_many(kind, count));
    }

    /// Whether nothing was skipped.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns a note for users if anything was skipped.
    pub fn note(&self) -> Option<String> {
        (!self.is_empty()).then(|| format!("skipped: {self}"))
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.0.iter().map(|(kind, count)| {
            let [one, several] = kind.names();
            format!("{count} {}", if *count == 1 { one } else { several })
        });
        f.write_str(&counts.collect::<Vec<_>>().join(", "))
    }
}

/// Names of files of operating systems, in lower case.
const SYSTEM: [&str; 28] = [
    "@eadir",
    "@recycle",
    "@recently-snapshot",
    "@synoresource",
    "@tmp",
    ".@__thumb",
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "recycler",
    "recycled",
    "lost+found",
    "lost.dir",
    "system volume information",
    "network trash folder",
    "temporary items",
    "__macosx",
    "__pycache__",
    "thumbs.db",
    "ehthumbs.db",
    "ehthumbs_vista.db",
    "desktop.ini",
    "icon\r",
    "synoindex_media_info",
    ".ds_store",
    ".ipynb_checkpoints",
    ".spotlight-v100",
    ".fseventsd",
];

/// Prefixes of such names, in lower case.
const SYSTEM_BEGINNINGS: [&str; 6] =
    ["._", ".trash", ".thumb", ".appledouble", "synophoto_thumb", ".picasaoriginals"];

/// Names of text files without an extension, in lower case.
const TEXT_NAMES: [&str; 14] = [
    "readme",
    "license",
    "licence",
    "copying",
    "copyright",
    "notice",
    "changelog",
    "changes",
    "authors",
    "contributors",
    "citation",
    "version",
    "makefile",
    "dockerfile",
];

/// Extensions of files that often lie beside images and are not images, in lower case.
const ENDINGS: [(SkipKind, &str); 9] = [
    (
        SkipKind::Text,
        "txt text md rst html htm xhtml css js xml xmp aae yaml yml toml ini cfg conf log py ipynb r m sh bat ps1 c h cpp \
         hpp java tex bib srt vtt kml gpx url webloc pp3 dop nfo license prototxt pbtxt names",
    ),
    (
        SkipKind::Table,
        "csv tsv json jsonl ndjson parquet arrow feather run done db sqlite sqlite3 npy npz mat pkl pickle cls lbl msg \
         mp msgpack cbor ten tfrecord tfrecords lmdb mdb idx index id",
    ),
    (
        SkipKind::Model,
        "onnx safetensors pt pth pyth ckpt h5 hdf5 hdf keras tflite lite pb data bin engine trt plan mlmodel mlpackage \
         caffemodel weights gguf ggml params joblib torchscript ptl ort",
    ),
    (
        SkipKind::Video,
        "mov mp4 m4v avi mkv webm mpg mpeg wmv 3gp 3g2 flv mts m2ts ts vob ogv lrv insv mp3 wav m4a aac flac ogg wma amr",
    ),
    (
        SkipKind::Raw,
        "cr2 cr3 crw nef nrw arw srf sr2 dng raf orf rw2 rwl pef srw x3f raw 3fr fff iiq erf kdc dcr mrw mef mos gpr",
    ),
    (
        SkipKind::Document,
        "pdf doc docx xls xlsx xlsm ppt pptx odt ods odp odg rtf epub djvu pages numbers key ps",
    ),
    (SkipKind::Archive, "zip rar 7z gz tgz bz2 tbz tbz2 xz txz zst lz4 lzma z cab iso dmg jar whl"),
    (
        SkipKind::Program,
        "exe dll so dylib app msi apk deb rpm lnk tmp temp part partial crdownload download torrent lock bak swp",
    ),
    (SkipKind::System, "thm ctg db-journal ds_store"),
];

/// Returns the reason to skip a path component by its name alone: files of operating systems and hidden names.
pub fn skipped_name(component: &str) -> Option<SkipKind> {
    let name = component.to_lowercase();
    let system = SYSTEM.contains(&name.as_str())
        || SYSTEM_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
        || name.ends_with("@synoeastream")
        || name.strip_prefix("found.").is_some_and(|rest| rest.len() == 3 && rest.parse::<u16>().is_ok());
    match system {
        true => Some(SkipKind::System),
        false if name.starts_with('.') => Some(SkipKind::Hidden),
        false => None,
    }
}

/// Returns the reason to skip a file by its name. Other files are checked by content.
pub fn skipped_file(name: &str) -> Option<SkipKind> {
    let base = name.rsplit('/').next().unwrap_or(name).to_lowercase();
    let Some((_, ending)) = base.rsplit_once('.') else {
        return TEXT_NAMES.contains(&base.as_str()).then_some(SkipKind::Text);
    };
    let found = ENDINGS.iter().find(|(_, endings)| endings.split_whitespace().any(|known| known == ending));
    found.map(|(kind, _)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_kind() {
        for (name, expected) in [
            ("@eaDir", Some(SkipKind::System)),
            ("#recycle", Some(SkipKind::System)),
            ("$RECYCLE.BIN", Some(SkipKind::System)),
            ("lost+found", Some(SkipKind::System)),
            ("System Volume Information", Some(SkipKind::System)),
            ("._photo.jpg", Some(SkipKind::System)),
            (".Trash-1000", Some(SkipKind::System)),
            ("FOUND.000", Some(SkipKind::System)),
            (".git", Some(SkipKind::Hidden)),
            ("found.jpg", None),
            ("recycle", None),
        ] {
            assert_eq!(skipped_name(name), expected, "{name}");
        }
        for (name, expected) in [
            ("a/b.ONNX", Some(SkipKind::Model)),
            ("model.onnx.data", Some(SkipKind::Model)),
            ("part.csv.run", Some(SkipKind::Table)),
            ("IMG_1.CR2", Some(SkipKind::Raw)),
            ("IMG_1.MOV", Some(SkipKind::Video)),
            ("album.tar.gz", Some(SkipKind::Archive)),
            ("README", Some(SkipKind::Text)),
            ("photo", None),
            ("photo.jpg", None),
            ("photo.heic", None),
            ("shard.tar", None),
            ("12.5", None),
        ] {
            assert_eq!(skipped_file(name), expected, "{name}");
        }
    }

    #[test]
    fn counts_are_one_line() {
        let mut skipped = Skipped::default();
        assert_eq!(skipped.note(), None);
        skipped.add(SkipKind::NoClass);
        skipped.add_many(SkipKind::System, 3);
        assert_eq!(skipped.note().unwrap(), "skipped: 3 thumbnails and bins, 1 file in no class");
    }
}
