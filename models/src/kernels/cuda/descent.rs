//! A step of stochastic gradient descent, and parameters moved about.

use super::device::{Arg, Device, LaunchGrid, Words, int, launch};
use crate::Result;

/// Where parameters lie, in pieces, each a block's work. All three are integers, one for each.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// How many pieces.
    pub count: usize,
    /// Where each is among all there are.
    pub home: Words,
    /// Where it is among those of a pass.
    pub packed: Words,
    /// Its words.
    pub lengths: Words,
}

/// What a step of descent is by, as `torch.optim.SGD` and `torch.nn.utils.clip_grad_norm_` have it.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Descent {
    /// A word.
    pub rate: Words,
    pub momentum: f32,
    pub decay: f32,
    /// The largest norm of all gradients together; 0 for none.
    pub clip: f32,
}

impl Table {
    /// Of three integers for each of so many pieces: all homes first, then all places in a pass, then all lengths.
    ///
    /// # Errors
    /// Fewer integers.
    pub fn of(ints: Words, count: usize) -> Result<Table> {
        let column = |i: usize| ints.part(i * count, count);
        Ok(Table { count, home: column(0)?, packed: column(1)?, lengths: column(2)? })
    }

    fn ints(&self, words: Words) -> Result<Arg> {
        words.holds(self.count)
    }

    /// Copies from all parameters, `from`, those of a pass, `to`.
    pub fn gather(&self, device: &mut dyn Device, from: Words, to: Words) -> Result<()> {
        let args = [
            Arg::Read(from),
            Arg::Write(to),
            self.ints(self.home)?,
            self.ints(self.packed)?,
            self.ints(self.lengths)?,
            int(self.count),
        ];
        launch(device, "gather", LaunchGrid::Rows(self.count), &args)
    }

    /// Moves parameters `w` and their velocities, both among all there are, by the gradients of a pass. `sums` is scratch, a word for
    /// each; `norm` becomes that of all gradients together, and the factor they were clipped by.
    pub fn sgd_step(
        &self,
        device: &mut dyn Device,
        [w, velocity, gradient]: [Words; 3],
        [sums, norm]: [Words; 2],
        by: Descent,
    ) -> Result<()> {
        let (count, lengths) = (int(self.count), self.ints(self.lengths)?);
        let packed = self.ints(self.packed)?;
        let gradient = Arg::Read(gradient);
        launch(
            device,
            "squares",
            LaunchGrid::Rows(self.count),
            &[gradient, packed, lengths, sums.written(self.count)?, count],
        )?;
        launch(
            device,
            "clip",
            LaunchGrid::Rows(1),
            &[sums.holds(self.count)?, norm.written(2)?, count, Arg::Float(by.clip)],
        )?;
        let args = [
            Arg::Write(w),
            Arg::Write(velocity),
            gradient,
            norm.holds(2)?,
            self.ints(self.home)?,
            packed,
            lengths,
            by.rate.holds(1)?,
            Arg::Float(by.momentum),
            Arg::Float(by.decay),
            count,
        ];
        launch(device, "descend", LaunchGrid::Rows(self.count), &args)
    }
}
