//! The built-in data set: 1,797 handwritten digits. data/README.md names their source.

use super::Dataset;
use super::sample::{ByteSource, Encoding, Sample};
use crate::{Error, Result};

/// Number of training rows and of test rows (u16, little endian), then rows of one label byte and 64 pixel bytes.
static DIGITS: &[u8] = include_bytes!("../../data/digits.bin");

const SIDE: usize = 8;
const ROW: usize = 1 + SIDE * SIDE;

pub(super) fn open() -> Result<Dataset> {
    let damaged = || Error::malformed("the built-in digits", "damaged; build the program again");
    let (head, rows) = DIGITS.split_at_checked(4).ok_or_else(damaged)?;
    let counts = [0, 2].map(|i| usize::from(u16::from_le_bytes([head[i], head[i + 1]])));
    if rows.len() != ROW * (counts[0] + counts[1]) {
        return Err(damaged());
    }
    let form = Encoding::Planar { channels: 1, height: SIDE, width: SIDE };
    let mut train: Vec<Sample> = rows
        .chunks_exact(ROW)
        .enumerate()
        .map(|(index, row)| {
            Sample::new(row[0].into(), ByteSource::BuiltIn { set: "digits", index, bytes: &row[1..] }, form)
        })
        .collect();
    let test = train.split_off(counts[0]);
    Ok(Dataset {
        classes: (0..10).map(|d| d.to_string()).collect(),
        train,
        test,
        scale: None,
        notes: Vec::new(),
        held_out: None,
        fingerprint: "digits".into(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::images::Source;
    use crate::input::Limits;

    #[test]
    fn counts_and_values() {
        let digits = open().unwrap();
        assert_eq!((digits.train.len(), digits.test.len()), (1437, 360));
        let mut counts = [0; 10];
        for sample in digits.train.iter().chain(&digits.test) {
            counts[sample.class() as usize] += 1;
        }
        assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        let first = digits.train[0].image(&Limits::default()).unwrap();
        assert_eq!((first.width(), first.height(), first.is_gray()), (8, 8, true));
        assert_eq!(digits.test[0].name(), "digits:1437");
    }

    /// Writes data/digits.bin from the tar of PNGs that the variable `DIGITS_TAR` names, sorted by file name, which
    /// is the original order.
    #[test]
    #[ignore = "regenerates data/digits.bin"]
    fn regenerate() {
        let tar = std::env::var("DIGITS_TAR").unwrap();
        let source = Source::parse(&tar).unwrap().open(0).unwrap();
        let part = |mut samples: Vec<Sample>| {
            samples.sort_by_key(|s| s.name().rsplit('/').next().map(String::from));
            let row = |s: &Sample| {
                let image = s.image(&Limits::default()).unwrap();
                std::iter::once(s.class() as u8)
                    .chain(image.rgb().iter().copied().step_by(3))
                    .collect::<Vec<_>>()
            };
            (samples.len() as u16, samples.iter().flat_map(row).collect::<Vec<u8>>())
        };
        let ((n, train), (m, test)) = (part(source.train), part(source.test));
        let bytes = [&n.to_le_bytes()[..], &m.to_le_bytes(), &train, &test].concat();
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/data/digits.bin"), bytes).unwrap();
    }
}
