//! Results as CSV: `path,label,index,score,error`, a row an image, in the order of the inputs.

use std::io::Write;
use std::path::PathBuf;

use milenas_models::metrics::rank;

use crate::Result;
use crate::classify::Classified;

/// Writes rows as they come.
pub struct Csv<'a, W: Write> {
    writer: csv::Writer<W>,
    labels: &'a [String],
    /// Rows so far.
    pub images: usize,
    /// Rows with an error.
    pub failed: usize,
}

/// The softmax of one logit.
fn probability(logits: &[f32], index: usize) -> f32 {
    let largest = logits.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
    let sum: f32 = logits.iter().map(|x| (x - largest).exp()).sum();
    (logits[index] - largest).exp() / sum
}

impl<'a, W: Write> Csv<'a, W> {
    /// With the header.
    pub fn new(to: W, labels: &'a [String]) -> Result<Self> {
        let mut writer = csv::Writer::from_writer(to);
        writer.write_record(["path", "label", "index", "score", "error"])?;
        Ok(Csv { writer, labels, images: 0, failed: 0 })
    }

    /// One row, flushed: what is written is safe from what comes after.
    pub fn write(&mut self, one: &Classified<PathBuf>) -> Result<()> {
        self.images += 1;
        let path = one.item.display().to_string();
        let best = |logits: &[f32]| (0..logits.len()).find(|&i| rank(logits, i as u32) == 0);
        match one.logits.as_ref().map(|logits| best(logits).map(|i| (i, probability(logits, i)))) {
            Ok(Some((i, score))) => {
                let row = [&path, &self.labels[i], &i.to_string(), &format!("{score:.6}"), ""];
                self.writer.write_record(row)?;
            }
            Ok(None) => self.fail(&path, "the network gives no number")?,
            Err(reason) => self.fail(&path, reason)?,
        }
        Ok(self.writer.flush().map_err(csv::Error::from)?)
    }

    fn fail(&mut self, path: &str, reason: &str) -> Result<()> {
        self.failed += 1;
        Ok(self.writer.write_record([path, "", "", "", reason])?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_an_image() {
        let labels = ["cat, small".to_string(), "dog".to_string()];
        let mut out = Vec::new();
        let mut csv = Csv::new(&mut out, &labels).unwrap();
        csv.write(&Classified { item: "a.png".into(), logits: Ok(vec![1.0, 1.0]) }).unwrap();
        csv.write(&Classified { item: "b.png".into(), logits: Err("truncated".into()) }).unwrap();
        csv.write(&Classified { item: "c.png".into(), logits: Ok(vec![f32::NAN; 2]) }).unwrap();
        assert_eq!((csv.images, csv.failed), (3, 2));
        drop(csv);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with(
                "path,label,index,score,error\na.png,\"cat, small\",0,0.500000,\nb.png,,,,truncated\n"
            ),
            "{text}"
        );
    }
}
