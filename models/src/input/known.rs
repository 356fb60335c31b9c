//! Unsupported formats, recognised by their first bytes. The error names the format and the next step.

use crate::Error;

/// Supported formats, for messages.
pub(super) const READ: &str = "JPEG, PNG, WebP, GIF, BMP, TIFF, PNM, QOI and TGA are read";

const IMAGE: &str = "convert it to PNG or JPEG";
const RAW: &str = "develop it and export it as PNG or JPEG";
const DRAWING: &str = "render it as PNG";
const VIDEO: &str = "extract its frames as PNG or JPEG";
const PACKED: &str = "unpack it first";
const OTHER: &str = "remove it from the images";
const AGAIN: &str = "copy or download the file again";

/// A format: its name, the next step for such a file, and the bytes at an offset that identify it.
struct KnownFormat {
    name: &'static str,
    help: &'static str,
    offset: usize,
    magic: &'static [u8],
}

/// Formats with a fixed signature; the first match is used.
#[rustfmt::skip]
const FORMATS: &[KnownFormat] = &[
    // Images.
    KnownFormat { name: "JPEG XL image", help: IMAGE, offset: 0, magic: b"\xff\x0a" },
    KnownFormat { name: "JPEG XL image", help: IMAGE, offset: 0, magic: b"\0\0\0\x0cJXL \r\n" },
    KnownFormat { name: "JPEG 2000 image", help: IMAGE, offset: 0, magic: b"\0\0\0\x0cjP  " },
    KnownFormat { name: "JPEG 2000 image", help: IMAGE, offset: 0, magic: b"\xff\x4f\xff\x51" },
    KnownFormat { name: "JPEG XR image", help: IMAGE, offset: 0, magic: b"II\xbc" },
    KnownFormat { name: "Photoshop document (PSD)", help: IMAGE, offset: 0, magic: b"8BPS" },
    KnownFormat { name: "GIMP document (XCF)", help: IMAGE, offset: 0, magic: b"gimp xcf" },
    KnownFormat { name: "OpenEXR image", help: IMAGE, offset: 0, magic: b"\x76\x2f\x31\x01" },
    KnownFormat { name: "Radiance HDR image", help: IMAGE, offset: 0, magic: b"#?RADIANCE" },
    KnownFormat { name: "Radiance HDR image", help: IMAGE, offset: 0, magic: b"#?RGBE" },
    KnownFormat { name: "DirectDraw surface (DDS)", help: IMAGE, offset: 0, magic: b"DDS " },
    KnownFormat { name: "farbfeld image", help: IMAGE, offset: 0, magic: b"farbfeld" },
    KnownFormat { name: "PFM image of floating-point values", help: IMAGE, offset: 0, magic: b"PF\n" },
    KnownFormat { name: "PFM image of floating-point values", help: IMAGE, offset: 0, magic: b"Pf\n" },
    KnownFormat { name: "Windows icon (ICO)", help: IMAGE, offset: 0, magic: b"\0\0\x01\0" },
    KnownFormat { name: "Windows cursor", help: IMAGE, offset: 0, magic: b"\0\0\x02\0" },
    KnownFormat { name: "macOS icon (ICNS)", help: IMAGE, offset: 0, magic: b"icns" },
    KnownFormat { name: "DICOM image", help: IMAGE, offset: 128, magic: b"DICM" },
    KnownFormat { name: "NIfTI image", help: IMAGE, offset: 344, magic: b"n+1\0" },
    KnownFormat { name: "FITS image", help: IMAGE, offset: 0, magic: b"SIMPLE  =" },
    KnownFormat { name: "DjVu document", help: IMAGE, offset: 0, magic: b"AT&TFORM" },
    KnownFormat { name: "BPG image", help: IMAGE, offset: 0, magic: b"BPG\xfb" },
    KnownFormat { name: "FLIF image", help: IMAGE, offset: 0, magic: b"FLIF" },
    KnownFormat { name: "MNG animation", help: VIDEO, offset: 0, magic: b"\x8aMNG" },
    KnownFormat { name: "JNG image", help: IMAGE, offset: 0, magic: b"\x8bJNG" },
    KnownFormat { name: "PCX image", help: IMAGE, offset: 0, magic: b"\x0a\x05\x01" },
    KnownFormat { name: "SGI image", help: IMAGE, offset: 0, magic: b"\x01\xda" },
    KnownFormat { name: "Sun raster image", help: IMAGE, offset: 0, magic: b"\x59\xa6\x6a\x95" },
    KnownFormat { name: "XPM image", help: IMAGE, offset: 0, magic: b"/* XPM */" },
    // Camera raw files that are not TIFF.
    KnownFormat { name: "camera raw file (Olympus ORF)", help: RAW, offset: 0, magic: b"IIRO" },
    KnownFormat { name: "camera raw file (Olympus ORF)", help: RAW, offset: 0, magic: b"IIRS" },
    KnownFormat { name: "camera raw file (Olympus ORF)", help: RAW, offset: 0, magic: b"MMOR" },
    KnownFormat { name: "camera raw file (Panasonic RW2)", help: RAW, offset: 0, magic: b"IIU\0" },
    KnownFormat { name: "camera raw file (Fujifilm RAF)", help: RAW, offset: 0, magic: b"FUJIFILMCCD-RAW" },
    KnownFormat { name: "camera raw file (Canon CRW)", help: RAW, offset: 6, magic: b"HEAPCCDR" },
    KnownFormat { name: "camera raw file (Canon CR2)", help: RAW, offset: 8, magic: b"CR\x02" },
    KnownFormat { name: "camera raw file (Sigma X3F)", help: RAW, offset: 0, magic: b"FOVb" },
    KnownFormat { name: "camera raw file (Minolta MRW)", help: RAW, offset: 0, magic: b"\0MRM" },
    // Drawings and documents.
    KnownFormat { name: "PDF document", help: DRAWING, offset: 0, magic: b"%PDF" },
    KnownFormat { name: "PostScript file (EPS)", help: DRAWING, offset: 0, magic: b"%!PS" },
    KnownFormat { name: "PostScript file (EPS)", help: DRAWING, offset: 0, magic: b"\xc5\xd0\xd3\xc6" },
    KnownFormat { name: "Windows metafile (WMF)", help: DRAWING, offset: 0, magic: b"\xd7\xcd\xc6\x9a" },
    KnownFormat { name: "Windows metafile (EMF)", help: DRAWING, offset: 40, magic: b" EMF" },
    KnownFormat { name: "RTF document", help: OTHER, offset: 0, magic: b"{\\rtf" },
    KnownFormat { name: "Microsoft Office file or Thumbs.db", help: OTHER, offset: 0, magic: b"\xd0\xcf\x11\xe0" },
    // Videos and sound.
    KnownFormat { name: "QuickTime video", help: VIDEO, offset: 4, magic: b"moov" },
    KnownFormat { name: "QuickTime video", help: VIDEO, offset: 4, magic: b"mdat" },
    KnownFormat { name: "QuickTime video", help: VIDEO, offset: 4, magic: b"wide" },
    KnownFormat { name: "Matroska or WebM video", help: VIDEO, offset: 0, magic: b"\x1a\x45\xdf\xa3" },
    KnownFormat { name: "AVI video", help: VIDEO, offset: 8, magic: b"AVI " },
    KnownFormat { name: "WAVE sound", help: OTHER, offset: 8, magic: b"WAVE" },
    KnownFormat { name: "Flash video", help: VIDEO, offset: 0, magic: b"FLV\x01" },
    KnownFormat { name: "Windows Media video", help: VIDEO, offset: 0, magic: b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" },
    KnownFormat { name: "MPEG video", help: VIDEO, offset: 0, magic: b"\0\0\x01\xba" },
    KnownFormat { name: "MPEG video", help: VIDEO, offset: 0, magic: b"\0\0\x01\xb3" },
    KnownFormat { name: "Ogg sound or video", help: OTHER, offset: 0, magic: b"OggS" },
    KnownFormat { name: "MP3 sound", help: OTHER, offset: 0, magic: b"ID3" },
    // Archives, tables and files of operating systems.
    KnownFormat { name: "zip archive", help: PACKED, offset: 0, magic: b"PK\x03\x04" },
    KnownFormat { name: "zip archive", help: PACKED, offset: 0, magic: b"PK\x05\x06" },
    KnownFormat { name: "gzip file", help: PACKED, offset: 0, magic: b"\x1f\x8b" },
    KnownFormat { name: "bzip2 file", help: PACKED, offset: 0, magic: b"BZh" },
    KnownFormat { name: "xz file", help: PACKED, offset: 0, magic: b"\xfd7zXZ\0" },
    KnownFormat { name: "Zstandard file", help: PACKED, offset: 0, magic: b"\x28\xb5\x2f\xfd" },
    KnownFormat { name: "7-Zip archive", help: PACKED, offset: 0, magic: b"7z\xbc\xaf\x27\x1c" },
    KnownFormat { name: "RAR archive", help: PACKED, offset: 0, magic: b"Rar!" },
    KnownFormat { name: "tar archive", help: PACKED, offset: 257, magic: b"ustar" },
    KnownFormat { name: "HDF5 file", help: IMAGE, offset: 0, magic: b"\x89HDF\r\n" },
    KnownFormat { name: "NumPy array", help: IMAGE, offset: 0, magic: b"\x93NUMPY" },
    KnownFormat { name: "Parquet file", help: PACKED, offset: 0, magic: b"PAR1" },
    KnownFormat { name: "SQLite database", help: OTHER, offset: 0, magic: b"SQLite format 3" },
    KnownFormat { name: "macOS resource file (AppleDouble)", help: OTHER, offset: 0, magic: b"\0\x05\x16\x07" },
    KnownFormat { name: "macOS folder file (.DS_Store)", help: OTHER, offset: 4, magic: b"Bud1" },
    KnownFormat { name: "Windows shortcut", help: OTHER, offset: 0, magic: b"L\0\0\0\x01\x14\x02\0" },
    KnownFormat {
        name: "Git LFS pointer, not the image", help: "fetch the images with `git lfs pull`",
        offset: 0, magic: b"version https://git-lfs.github.com/spec/",
    },
];

/// Brands of ISO base media files. A file lists several; the first row that matches any of them is used.
#[rustfmt::skip]
const BRANDS: &[(&[&str], &str, &str)] = &[
    (&["avif", "avis"], "AVIF image", IMAGE),
    (&["heic", "heix", "heim", "heis", "hevc", "hevx", "hevm", "hevs", "mif1", "mif2", "msf1"], "HEIC (HEIF) image", IMAGE),
    (&["jxl "], "JPEG XL image", IMAGE),
    (&["jp2 ", "jpx ", "jpm "], "JPEG 2000 image", IMAGE),
    (&["crx "], "camera raw file (Canon CR3)", RAW),
    (&["qt  "], "QuickTime video", VIDEO),
    (&["M4A ", "M4B "], "MPEG-4 sound", OTHER),
];

/// Returns the error for a file in an unsupported format.
pub(super) fn refusal(bytes: &[u8]) -> Error {
    let problem = match name(bytes) {
        Some((name, help)) => format!("format not read: {name}; help: {help}"),
        None => format!("the content is of no known image format; {READ}"),
    };
    Error::malformed("image", problem)
}

/// Returns the problem of an unsupported kind of file in a supported format.
pub(super) fn kind(name: &str) -> String {
    format!("format not read: {name}; help: {IMAGE}")
}

/// Returns the error for a TIFF with the values of a camera's sensor.
pub(super) fn raw_refusal(place: &str, kind: &str) -> Error {
    Error::malformed(place, format!("format not read: camera raw file ({kind}); help: {RAW}"))
}

/// Returns the name of a file's format, and the next step for such a file.
fn name(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    if bytes.iter().all(|&byte| byte == 0) {
        return Some(("zeros alone", AGAIN));
    }
    let fits = |f: &&KnownFormat| bytes.get(f.offset..).is_some_and(|bytes| bytes.starts_with(f.magic));
    media(bytes).or_else(|| FORMATS.iter().find(fits).map(|f| (f.name, f.help))).or_else(|| markup(bytes))
}

/// Recognises ISO base media files (HEIC, AVIF, CR3, MP4 and others) by the brands that they list.
fn media(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    if bytes.get(4..8)? != b"ftyp" {
        return None;
    }
    let length = bytes.first_chunk().map_or(0, |&length| u32::from_be_bytes(length)) as usize;
    let list = bytes.get(8..length.clamp(12, 256).min(bytes.len()))?;
    // Bytes 4 to 8 of the list are the version of the first brand.
    let listed = |brand: &str| list.chunks_exact(4).any(|found| found == brand.as_bytes());
    let row = BRANDS.iter().find(|(brands, ..)| brands.iter().any(|brand| listed(brand)));
    Some(row.map_or(("MP4 video", VIDEO), |&(_, name, help)| (name, help)))
}

/// Recognises HTML, SVG, XML, JSON and text.
fn markup(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let head = &bytes[..bytes.len().min(4096)];
    let utf16 = head.starts_with(b"\xff\xfe<\0") || head.starts_with(b"\xfe\xff\0<");
    let plain: Vec<u8> =
        if utf16 { head.iter().copied().filter(|&b| b != 0).skip(2).collect() } else { head.into() };
    let text = String::from_utf8_lossy(&plain).to_ascii_lowercase();
    let text = text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
    if text.starts_with('<') {
        // An HTML page may contain drawings, so it is checked first.
        let found = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if text.starts_with("<svg") {
            return Some(("SVG drawing", DRAWING));
        }
        if found(&["<!doctype html", "<html", "<head", "<body"]) {
            return Some(("HTML page, not an image", "download the image itself"));
        }
        if found(&["<svg"]) {
            return Some(("SVG drawing", DRAWING));
        }
        if found(&["<?xml", "</", "/>"]) {
            return Some(("XML file", OTHER));
        }
    }
    if text.starts_with(['{', '[']) && text.contains(['"', ',']) && std::str::from_utf8(bytes).is_ok() {
        return Some(("JSON file", OTHER));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_by_their_content() {
        let iso = |brands: &[u8]| {
            let length = (8 + brands.len() as u32).to_be_bytes();
            [&length[..], b"ftyp", brands, b"\0\0\0\x10meta"].concat()
        };
        let mut dicom = vec![0; 128];
        dicom.extend(b"DICM");
        let cases: [(Vec<u8>, &str, &str); 21] = [
            (iso(b"heic\0\0\0\0mif1heic"), "HEIC (HEIF) image", "convert"),
            (iso(b"mif1\0\0\0\0mif1avif"), "AVIF image", "convert"),
            (iso(b"crx \0\0\0\x01crx isom"), "Canon CR3", "export it as PNG"),
            (iso(b"isom\0\0\x02\0isomiso2avc1mp41"), "MP4 video", "frames"),
            (iso(b"qt  \0\0\0\0qt  "), "QuickTime video", "frames"),
            (b"\xff\x0a\xfa\x7f\x01".to_vec(), "JPEG XL image", "convert"),
            (b"\0\0\0\x0cjP  \r\n\x87\n".to_vec(), "JPEG 2000 image", "convert"),
            (b"II*\0\x10\0\0\0CR\x02\0".to_vec(), "Canon CR2", "export it as PNG"),
            (b"\n <svg xmlns='http://www.w3.org/2000/svg'/>".to_vec(), "SVG drawing", "render"),
            (b"<?xml version='1.0'?><!-- x --><svg/>".to_vec(), "SVG drawing", "render"),
            (b"<!DOCTYPE html><html><svg/></html>".to_vec(), "HTML page", "download"),
            (b"\xef\xbb\xbf<note></note>".to_vec(), "XML file", "remove"),
            (b"{\"a\": 1}".to_vec(), "JSON file", "remove"),
            (b"%PDF-1.4".to_vec(), "PDF document", "render"),
            (b"8BPS\0\x01".to_vec(), "Photoshop document", "convert"),
            (b"%!PS-Adobe-3.0 EPSF-3.0".to_vec(), "PostScript file", "render"),
            (b"PK\x03\x04\x14\0".to_vec(), "zip archive", "unpack"),
            (b"version https://git-lfs.github.com/spec/v1\noid".to_vec(), "Git LFS pointer", "git lfs pull"),
            (vec![0; 700], "zeros alone", "again"),
            (dicom, "DICOM image", "convert"),
            (b"what is this".to_vec(), "no known image format", "are read"),
        ];
        for (bytes, name, help) in cases {
            let message = refusal(&bytes).to_string();
            assert!(message.contains(name) && message.contains(help), "{message}, expected {name}");
        }
    }
}
