//! Splits the inputs of a run over several machines, and merges the outputs.
//!
//! Shard `I` of `N` takes every `N`th input, starting at input `I`, so the shards need not communicate. A
//! finished shard writes a receipt beside its output. [`merge()`] requires the receipts of all shards.

mod census;
mod merge;
mod receipt;

use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use census::Census;
pub use merge::{Merged, merge};
pub use receipt::Receipt;

/// One of several equal parts of the inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Index of the shard, from 0.
    pub index: usize,
    /// Number of shards, at least 1.
    pub count: usize,
}

impl Shard {
    /// Returns whether the input with this index, counted from 0, belongs to the shard.
    pub fn holds(&self, place: usize) -> bool {
        place % self.count == self.index
    }

    /// Returns the number of inputs of the shard, out of `all`.
    pub fn share(&self, all: usize) -> usize {
        (all + self.count - 1 - self.index) / self.count
    }

    /// Returns the shard given by the environment of a Slurm job array, a Slurm step, or a Kubernetes Indexed
    /// Job. The pods of the job must have the count as `JOB_COMPLETIONS`. `read` looks up a variable.
    ///
    /// # Errors
    /// Returns a message if no such variable is set, or if values contradict each other.
    pub fn from_environment(read: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let number = |name: &str| -> Result<usize, String> {
            let text = read(name).ok_or_else(|| format!("{name} is not set"))?;
            text.parse().map_err(|_| format!("{name} is `{text}`, expected a number"))
        };
        let (index, count) = if read("SLURM_ARRAY_TASK_ID").is_some() {
            let step = read("SLURM_ARRAY_TASK_STEP").map_or(Ok(1), |_| number("SLURM_ARRAY_TASK_STEP"))?;
            let first = number("SLURM_ARRAY_TASK_MIN")?;
            let from_first = number("SLURM_ARRAY_TASK_ID")?.checked_sub(first);
            let from_first = from_first.ok_or("SLURM_ARRAY_TASK_ID is below SLURM_ARRAY_TASK_MIN")?;
            (from_first / step.max(1), number("SLURM_ARRAY_TASK_COUNT")?)
        } else if read("JOB_COMPLETION_INDEX").is_some() {
            let count = number("JOB_COMPLETIONS")
                .map_err(|e| format!("{e}. help: set it to the job's `completions` in the pod template"))?;
            (number("JOB_COMPLETION_INDEX")?, count)
        } else if read("SLURM_PROCID").is_some() {
            (number("SLURM_PROCID")?, number("SLURM_NTASKS")?)
        } else {
            return Err("neither SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX nor SLURM_PROCID is set".into());
        };
        format!("{index}/{count}").parse()
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("a shard is I/N with I from 0 to N - 1, e.g. 0/8, found `{text}`");
        let (index, count) = text.split_once('/').ok_or_else(refused)?;
        let (index, count) = (index.parse().map_err(|_| refused())?, count.parse().map_err(|_| refused())?);
        if index < count { Ok(Shard { index, count }) } else { Err(refused()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_written_as_parts() {
        assert_eq!("3/8".parse(), Ok(Shard { index: 3, count: 8 }));
        for wrong in ["8/8", "3", "a/8", "-1/8", "0/0"] {
            assert!(wrong.parse::<Shard>().unwrap_err().contains(wrong), "{wrong}");
        }
    }

    #[test]
    fn every_input_is_in_one_shard() {
        for (all, count) in [(0, 3), (1, 3), (10, 3), (12, 4)] {
            let shards: Vec<Shard> = (0..count).map(|index| Shard { index, count }).collect();
            for shard in &shards {
                assert_eq!((0..all).filter(|&place| shard.holds(place)).count(), shard.share(all));
            }
            assert_eq!(shards.iter().map(|s| s.share(all)).sum::<usize>(), all);
        }
    }

    #[test]
    fn environments_are_understood() {
        let from = |pairs: &[(&str, &str)]| {
            let find = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, v)| v.to_string());
            Shard::from_environment(&find)
        };
        let array = [
            ("SLURM_ARRAY_TASK_ID", "5"),
            ("SLURM_ARRAY_TASK_MIN", "1"),
            ("SLURM_ARRAY_TASK_COUNT", "8"),
            ("SLURM_PROCID", "0"),
            ("SLURM_NTASKS", "1"),
        ];
        assert_eq!(from(&array), Ok(Shard { index: 4, count: 8 }));
        let step = [
            ("SLURM_ARRAY_TASK_ID", "6"),
            ("SLURM_ARRAY_TASK_MIN", "0"),
            ("SLURM_ARRAY_TASK_STEP", "2"),
            ("SLURM_ARRAY_TASK_COUNT", "4"),
        ];
        assert_eq!(from(&step), Ok(Shard { index: 3, count: 4 }));
        assert_eq!(from(&[("SLURM_PROCID", "2"), ("SLURM_NTASKS", "3")]), Ok(Shard { index: 2, count: 3 }));
        let pod = [("JOB_COMPLETION_INDEX", "2"), ("JOB_COMPLETIONS", "4")];
        assert_eq!(from(&pod), Ok(Shard { index: 2, count: 4 }));
        assert!(from(&pod[..1]).unwrap_err().contains("JOB_COMPLETIONS is not set"));
        assert!(from(&[]).unwrap_err().contains("neither"));
    }
}
