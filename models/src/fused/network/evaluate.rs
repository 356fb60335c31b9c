//! Evaluation: image by image, a thread each, so that what one step writes is in the thread's cache when the next reads it.
//! A map's room goes to the next that needs as much once its last reader is done. Where there are fewer images than threads,
//! the threads share an image: they do steps that do not meet at the same time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use crate::Result;
use crate::kernels::blocked::Pack;

use super::super::head::Head;
use super::lives::{Lives, Room};
use super::team::Team;
use super::{Maps, Network};

/// What an image is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prediction {
    /// `[classes]`.
    pub logits: Vec<f32>,
    /// What the linear layer reads: means over the pixels of the last map, `[channels]`.
    pub features: Vec<f32>,
}

/// The maps of one image, and rooms free for others, by their size.
#[derive(Default)]
pub(super) struct Worker {
    pub(super) maps: Maps,
    free: HashMap<usize, Vec<Vec<Pack>>>,
}

impl Worker {
    /// For so many steps and buffers, with the rooms that another has left.
    pub(super) fn with(free: HashMap<usize, Vec<Vec<Pack>>>, steps: usize, buffers: usize) -> Worker {
        let maps = Maps {
            made: (0..steps).map(|_| Vec::new()).collect(),
            states: (0..buffers).map(|_| Vec::new()).collect(),
            ..Maps::default()
        };
        Worker { maps, free }
    }

    /// All rooms.
    pub(super) fn end(mut self) -> HashMap<usize, Vec<Vec<Pack>>> {
        let left = self.maps.made.into_iter().chain(self.maps.states);
        left.filter(|packs| !packs.is_empty())
            .for_each(|packs| self.free.entry(packs.len()).or_default().push(packs));
        self.free
    }

    fn room(&mut self, room: Room) -> &mut Vec<Pack> {
        match room {
            Room::Made(i) => &mut self.maps.made[i],
            Room::State(buffer) => &mut self.maps.states[buffer],
        }
    }

    pub(super) fn take(&mut self, room: Room, len: usize) {
        let found = self.free.entry(len).or_default().pop();
        *self.room(room) = found.unwrap_or_else(|| vec![Pack::ZERO; len]);
    }

    pub(super) fn give(&mut self, room: Room) {
        let packs = std::mem::take(self.room(room));
        if packs.is_empty() {
            return;
        }
        self.free.entry(packs.len()).or_default().push(packs);
    }
}

impl Network {
    /// Logits `[N, classes]` in evaluation mode: BatchNorms use the running statistics.
    ///
    /// # Errors
    /// Pixels that do not fit.
    pub fn predict(&mut self, images: &[f32]) -> Result<Vec<f32>> {
        self.forget_factors();
        self.settle();
        Ok(self.infer(images)?.into_iter().flat_map(|found| found.logits).collect())
    }

    /// Makes the network ready for [`infer`](Self::infer), after its weights or statistics changed.
    pub fn settle(&mut self) {
        self.workspace.prepare();
        let tensors = &self.program.tensors;
        for norm in self.program.norms.iter_mut().flatten() {
            norm.evaluate(&tensors.parameters, &tensors.statistics);
        }
        self.program.stem.evaluate(&tensors.parameters, &tensors.statistics);
    }

    /// Answers to images `[N, C, H, W]` in evaluation mode, as the network was when it was last [settled](Self::settle).
    ///
    /// # Errors
    /// Pixels that do not fit.
    pub fn infer(&self, images: &[f32]) -> Result<Vec<Prediction>> {
        let batch = self.check(images)?;
        let free: Mutex<Vec<(Worker, Head)>> = Mutex::default();
        let program = &self.program;
        let shared = batch < rayon::current_num_threads();
        let tasks = images.par_chunks_exact(images.len() / batch);
        let answer = |image| {
            let kept = free.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let (mut worker, mut head) = kept.unwrap_or_else(|| (Worker::default(), program.head.clone()));
            self.evaluate(image, shared, &mut worker, &mut head);
            let found = Prediction {
                logits: head.logits.clone(),
                features: head.features(program.last.channels).collect(),
            };
            free.lock().unwrap_or_else(PoisonError::into_inner).push((worker, head));
            found
        };
        Ok(tasks.map(answer).collect())
    }

    fn evaluate(&self, image: &[f32], shared: bool, worker: &mut Worker, head: &mut Head) {
        let c = self.context(1, false);
        let program = &self.program;
        self.resize_sums(&mut worker.maps, 1);
        worker.maps.made.resize_with(program.steps.len(), Vec::new);
        worker.maps.states.resize_with(program.images.len(), Vec::new);
        worker.take(Room::State(0), program.images[0]);
        program.stem.predict(&c, image, &mut worker.maps.states[0]);
        let mut run = |lives: &Lives, steps: &dyn Fn(&[usize], &mut Maps)| {
            for (group, (taken, given)) in lives.groups.iter().zip(lives.taken.iter().zip(&lives.given)) {
                for &room in taken {
                    let len = match room {
                        Room::Made(i) => program.steps[i].made(),
                        Room::State(buffer) => program.images[buffer],
                    };
                    worker.take(room, len);
                }
                steps(group, &mut worker.maps);
                given.iter().for_each(|&room| worker.give(room));
            }
        };
        match shared {
            true => Team::work(self, &c, |team| run(&program.waves, &|steps, maps| team.steps(steps, maps))),
            false => run(&program.lives, &|steps, maps| self.steps(&c, steps, maps)),
        }
        head.forward(&program.tensors.parameters, self.view(&worker.maps.states, program.last), 1);
        worker.give(Room::State(program.last.buffer));
    }
}
