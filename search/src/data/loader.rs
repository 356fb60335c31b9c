//! Loader that prepares batches on a thread.

use std::sync::mpsc::{Receiver, sync_channel};

use milenas_models::Rng;

use super::{Batch, ByteBatch, ImageSet, Move, Transform, shuffled};

/// Order of the images in the batches of an epoch, with the seed of the augmentation.
#[derive(Clone, Debug)]
pub struct EpochOrder {
    batches: Vec<Vec<usize>>,
    /// Index of the first batch that is produced.
    first: usize,
    seed: u64,
    purpose: String,
}

impl EpochOrder {
    /// Returns the order of a training epoch: a random permutation of all indices. The last batch may be
    /// smaller. `steps` limits the number of batches; 0 for no limit.
    pub fn epoch(
        indices: &[usize],
        batch: usize,
        steps: usize,
        seed: u64,
        purpose: &str,
        epoch: usize,
    ) -> Self {
        let purpose = format!("{purpose}/{epoch}");
        let order = shuffled(indices.len(), seed, &format!("{purpose}/order"));
        let order: Vec<usize> = order.into_iter().map(|i| indices[i]).collect();
        let steps = if steps == 0 { usize::MAX } else { steps };
        let batches = order.chunks(batch).take(steps).map(<[usize]>::to_vec).collect();
        EpochOrder { batches, first: 0, seed, purpose }
    }

    /// Returns `steps` independent batches, each sampled without replacement, as the released code reads the
    /// validation split.
    pub fn draws(
        indices: &[usize],
        batch: usize,
        steps: usize,
        seed: u64,
        purpose: &str,
        epoch: usize,
    ) -> Self {
        let purpose = format!("{purpose}/{epoch}");
        let draw = |step| {
            let mut rng = Rng::new(seed, &format!("{purpose}/draw/{step}"));
            let mut pool = indices.to_vec();
            let take = batch.min(pool.len());
            for i in 0..take {
                let j = i + rng.below(pool.len() - i);
                pool.swap(i, j);
            }
            // A copy is kept, since the pool has the capacity of all indices.
            pool[..take].to_vec()
        };
        EpochOrder { batches: (0..steps).map(draw).collect(), first: 0, seed, purpose }
    }

    /// Returns all indices in order, for evaluation.
    pub fn in_order(indices: &[usize], batch: usize) -> Self {
        EpochOrder {
            batches: indices.chunks(batch).map(<[usize]>::to_vec).collect(),
            first: 0,
            seed: 0,
            purpose: String::new(),
        }
    }

    /// Skips the batches before `step`. The others do not change.
    pub fn starting_at(self, step: usize) -> Self {
        EpochOrder { first: step, ..self }
    }

    /// Returns the number of batches, including skipped ones.
    pub fn steps(&self) -> usize {
        self.batches.len()
    }

    /// Returns a batch of the images of some indices, without augmentation.
    pub fn batch(set: &ImageSet, indices: &[usize]) -> Batch {
        EpochOrder::in_order(indices, indices.len().max(1)).make(0, set, BatchFormat::Numbers(None))
    }

    fn make(&self, step: usize, set: &ImageSet, form: BatchFormat) -> Batch {
        let contract = &set.contract;
        let (size, picks) = (contract.len(), &self.batches[step]);
        let mut rng = Rng::new(self.seed, &format!("{}/augment/{step}", self.purpose));
        let images = match form {
            BatchFormat::Numbers(transform) => {
                let mut images = vec![0.0; picks.len() * size];
                let mut moved = vec![0; size];
                for (&index, out) in picks.iter().zip(images.chunks_exact_mut(size)) {
                    match transform {
                        None => contract.normalise(set.image(index), out),
                        Some(transform) => {
                            let (image, of) = set.given(index, &transform);
                            transform.apply(image, of, contract, &mut rng, &mut moved, out);
                        }
                    }
                }
                images.into()
            }
            BatchFormat::Bytes(transform) => {
                let mut draw = || {
                    transform.map_or(Move::default(), |transform| transform.draw(contract.size(), &mut rng))
                };
                ByteBatch::new(picks.iter().map(|&index| (set.image(index), draw())), contract).into()
            }
        };
        let labels = picks.iter().map(|&i| set.images.labels[i]).collect();
        Batch { images, labels, shape: [contract.channels, contract.height, contract.width] }
    }
}

/// Format of batches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BatchFormat {
    /// Transformed and normalised values.
    Numbers(Option<Transform>),
    /// Bytes with the sampled moves. They give the same values as `Numbers`.
    Bytes(Option<Transform>),
}

impl BatchFormat {
    /// Chooses bytes if the reader takes `bytes` and moves suffice for the transform, else normalised values.
    pub fn new(bytes: bool, transform: Option<Transform>) -> BatchFormat {
        match bytes && transform.is_none_or(|transform| transform.only_moves()) {
            true => BatchFormat::Bytes(transform),
            false => BatchFormat::Numbers(transform),
        }
    }
}

/// Batches of an order, prepared up to two ahead.
#[derive(Debug)]
pub struct Loader(Receiver<Batch>);

impl Loader {
    /// Starts preparing batches on a thread of `scope`.
    pub fn start<'scope, 'env>(
        scope: &'scope std::thread::Scope<'scope, 'env>,
        set: &'env ImageSet,
        plan: EpochOrder,
        form: BatchFormat,
    ) -> Self {
        let (send, receive) = sync_channel(2);
        scope.spawn(move || {
            // A closed channel means that the reader stopped early.
            (plan.first..plan.steps()).try_for_each(|step| send.send(plan.make(step, set, form)))
        });
        Loader(receive)
    }
}

impl Iterator for Loader {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        self.0.recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use milenas_models::images::Labelled;
    use milenas_models::input::{ImageSize, InputContract, Resize};

    use super::super::{Augment, Whole};
    use super::*;

    #[test]
    fn an_epoch_visits_each_image_once_in_its_own_order() {
        let indices: Vec<usize> = (10..30).collect();
        let plan = |epoch| EpochOrder::epoch(&indices, 8, 0, 1, "train", epoch);
        let mut seen = plan(0).batches.concat();
        assert_eq!(plan(0).batches.iter().map(Vec::len).collect::<Vec<_>>(), [8, 8, 4]);
        assert_ne!(seen, plan(1).batches.concat());
        seen.sort_unstable();
        assert_eq!(seen, indices);
        assert_eq!(EpochOrder::epoch(&indices, 8, 2, 1, "train", 0).steps(), 2);
    }

    fn set(height: usize, width: usize, channels: usize, count: usize) -> ImageSet {
        let (mean, std) = (vec![0.5; channels], vec![0.3; channels]);
        let contract = InputContract::new(ImageSize { height, width }, channels, mean, std, Resize::Stretch);
        let pixels = (0..contract.len() * count).map(|i| (i * 37 % 256) as u8).collect();
        let images = Labelled { pixels, labels: (0..count as u32).collect() };
        ImageSet { images, wholes: Vec::new(), contract }
    }

    /// The values agree bit for bit, whether the last element is full or padded.
    #[test]
    fn bytes_give_the_same_values() {
        let moved = |crop| Transform::from(Augment { crop, flip: true });
        for (set, transform) in [
            (set(6, 5, 3, 20), Some(moved(0.5))),
            (set(3, 3, 1, 20), Some(moved(0.0))),
            (set(6, 4, 3, 20), Some(Transform { cutout: 0.5, ..moved(0.25) })),
            (set(4, 4, 3, 20), None),
        ] {
            let all: Vec<usize> = (0..20).collect();
            let batches = |bytes| -> Vec<Batch> {
                let plan = EpochOrder::epoch(&all, 3, 0, 1, "train", 0);
                let form = BatchFormat::new(bytes, transform);
                std::thread::scope(|scope| Loader::start(scope, &set, plan, form).collect())
            };
            for (numbers, bytes) in batches(false).iter().zip(&batches(true)) {
                assert_ne!(numbers.images, bytes.images, "both in one format");
                assert_eq!((numbers.numbers(), &numbers.labels), (bytes.numbers(), &bytes.labels));
            }
        }
    }

    #[test]
    fn colours_and_resized_crops_use_values() {
        let moved = Transform::from(Augment { crop: 0.5, flip: true });
        for transform in [Transform { jitter: 0.4, ..moved }, Transform { resized_crop: 0.1, ..moved }] {
            assert_eq!(BatchFormat::new(true, Some(transform)), BatchFormat::Numbers(Some(transform)));
        }
        assert_eq!(BatchFormat::new(true, Some(moved)), BatchFormat::Bytes(Some(moved)));
    }

    /// The centre of each image is dark and the network's input is light. Crops are taken from whole images, so
    /// none is as dark.
    #[test]
    fn resized_crops_are_of_whole_images() {
        let mut set = set(4, 4, 1, 12);
        set.images.pixels.fill(0);
        let pixels =
            (0..144).map(|i| if (4..8).contains(&(i / 12)) && (4..8).contains(&(i % 12)) { 0 } else { 255 });
        set.wholes = vec![Whole { pixels: pixels.collect(), size: ImageSize::square(12) }; 12];
        let all: Vec<usize> = (0..12).collect();
        let means = |transform: Transform| -> Vec<f32> {
            let plan = EpochOrder::epoch(&all, 1, 0, 1, "train", 0);
            let form = BatchFormat::new(true, Some(transform));
            let mean = |batch: Batch| batch.numbers().iter().sum::<f32>() / 16.0;
            std::thread::scope(|scope| Loader::start(scope, &set, plan, form).map(mean).collect())
        };
        let still = Transform::from(Augment { crop: 0.0, flip: false });
        let [dark, light] = [0.0, 1.0].map(|x: f32| (x - 0.5) / 0.3);
        assert!(means(still).iter().all(|mean| (mean - dark).abs() < 1e-5));
        let cropped = means(Transform { resized_crop: 0.5, ..still });
        assert!(cropped.iter().all(|mean| *mean > 0.0 && *mean < light), "{cropped:?}");
    }

    #[test]
    fn a_later_start_leaves_the_batches_as_they_were() {
        let set = set(2, 2, 1, 20);
        let all: Vec<usize> = (0..20).collect();
        let batches = |step| -> Vec<Batch> {
            let plan = EpochOrder::epoch(&all, 3, 0, 1, "train", 0).starting_at(step);
            let form = BatchFormat::new(false, Some(Augment { crop: 0.5, flip: true }.into()));
            std::thread::scope(|scope| Loader::start(scope, &set, plan, form).collect())
        };
        let whole = batches(0);
        assert_eq!(whole.len(), 7);
        (0..=7).for_each(|step| assert_eq!(batches(step), whole[step..], "from {step}"));
    }

    #[test]
    fn draws_repeat_across_steps_but_not_inside_one() {
        let plan = EpochOrder::draws(&[1, 2, 3, 4, 5], 3, 40, 0, "valid", 0);
        for batch in &plan.batches {
            assert_eq!(batch.capacity(), 3, "what a step keeps");
            assert!(batch.len() == 3 && batch[0] != batch[1] && batch[1] != batch[2] && batch[0] != batch[2]);
        }
        let ones = plan.batches.iter().filter(|b| b.contains(&1)).count();
        assert!((14..34).contains(&ones), "{ones} of 40, expected near 24");
    }
}
