//! A step of stochastic gradient descent, and copies of parameters.

use super::device::{Arg, Device, LaunchGrid, Words, int, launch};
use crate::Result;

/// Positions of parameters, cut into pieces; a block processes one piece. The three tables hold one integer per
/// piece.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Number of pieces.
    pub count: usize,
    /// Index of each piece among all parameters.
    pub home: Words,
    /// Index of each piece among the parameters of a pass.
    pub packed: Words,
    /// Number of elements of each piece.
    pub lengths: Words,
}

/// Settings of an SGD step, as in `torch.optim.SGD` and `torch.nn.utils.clip_grad_norm_`.
#[derive(Clone, Copy, Debug)]
pub struct SgdStep {
    /// Learning rate, one element.
    pub rate: Words,
    /// Momentum factor.
    pub momentum: f32,
    /// Weight decay, as an L2 penalty.
    pub decay: f32,
    /// Largest norm of all gradients together; 0 for no limit.
    pub clip: f32,
}

/// Tensors that an SGD step reads and updates.
#[derive(Clone, Copy, Debug)]
pub struct SgdTensors {
    /// All parameters.
    pub w: Words,
    /// Velocities of all parameters.
    pub velocity: Words,
    /// Gradients of the parameters of a pass.
    pub gradient: Words,
}

impl Table {
    /// Reads a table of three integers per piece: all `home` indices first, then all `packed` indices, then all
    /// lengths.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if there are fewer integers.
    pub fn of(ints: Words, count: usize) -> Result<Table> {
        let column = |i: usize| ints.part(i * count, count);
        Ok(Table { count, home: column(0)?, packed: column(1)?, lengths: column(2)? })
    }

    fn ints(&self, words: Words) -> Result<Arg> {
        words.holds(self.count)
    }

    /// Copies the parameters of a pass from all parameters `from` to `to`.
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

    /// Updates parameters and their velocities from the gradients of a pass. `sums` is scratch memory of one element
    /// per piece. `norm` receives the norm of all gradients together and the factor by which they were clipped.
    pub fn sgd_step(
        &self,
        device: &mut dyn Device,
        tensors: SgdTensors,
        sums: Words,
        norm: Words,
        by: SgdStep,
    ) -> Result<()> {
        let (count, lengths) = (int(self.count), self.ints(self.lengths)?);
        let packed = self.ints(self.packed)?;
        let gradient = Arg::Read(tensors.gradient);
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
            Arg::Write(tensors.w),
            Arg::Write(tensors.velocity),
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
        launch(device, "sgd_step", LaunchGrid::Rows(self.count), &args)
    }
}
