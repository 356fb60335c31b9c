//! Whole supernet.

use milenas_models::fused::head::Head;
use milenas_models::fused::stem::Stem;
use milenas_models::fused::{
    self, AffineNorm, BufferOffset, MapView, NetworkTensors, Norm, Parameters, Profile, Statistics, Workspace,
};
use milenas_models::kernels::cpu::{Channels, Level, Pack};
use milenas_models::{Error, Result};

use super::cell::FusedCell;
use super::context::CellContext;
use crate::supernet::wired::{CANDIDATES, Mixture, Row, by_kind, for_cells};
use crate::supernet::{GradRequest, PassResult, SupernetConfig};

/// Batch of images.
#[derive(Copy, Clone, Debug)]
pub struct ImageBatch<'a> {
    /// Pixels `[N, C, H, W]`.
    pub pixels: &'a [f32],
    /// Height, at least 4.
    pub height: usize,
    /// Width, at least 4.
    pub width: usize,
}

/// Smallest side of an image, in pixels.
const SMALLEST: usize = 4;

/// Optimised supernet on the CPU, with all its weights.
pub struct FusedSupernet {
    config: SupernetConfig,
    level: Level,
    tensors: NetworkTensors,
    stem: Stem,
    /// Output of the stem, `[image]`.
    stem_values: Vec<Pack>,
    cells: Vec<FusedCell>,
    head: Head,
    /// Gradients of the active sources, in memory lent by cells: the stem is source 0, cell `i` source `i + 1`.
    /// The gradients of a cell hold all of its states.
    gradients: Vec<Vec<Pack>>,
    /// Gradients of both pooled feature maps of a state.
    pools: Vec<Pack>,
    workspace: Workspace,
    profile: Profile,
    /// Batch, height and width for which the buffers are allocated.
    size: (usize, usize, usize),
}

impl FusedSupernet {
    /// Creates a network with weights of zero, except the stem's BatchNorm, for the fastest instructions of
    /// this processor.
    pub fn new(config: SupernetConfig) -> FusedSupernet {
        Self::with_level(config, Level::best())
    }

    /// Creates a network for given instructions.
    pub fn with_level(config: SupernetConfig, level: Level) -> FusedSupernet {
        let (mut parameters, mut statistics) = (Parameters::default(), Statistics::default());
        let mut channels = config.channels;
        let stem_channels = config.stem_multiplier * channels;
        let stem = new_stem(config.in_channels, stem_channels, &mut parameters, &mut statistics);
        let mut inputs = [Channels::one(stem_channels); 2];
        let mut cells = Vec::with_capacity(config.layers);
        for index in 0..config.layers {
            let reduction = config.reduces(index);
            let halves = index > 0 && config.reduces(index - 1);
            channels *= 1 + reduction as usize;
            let size = (channels, config.nodes(), config.partial);
            let kind = (reduction, halves);
            cells.push(FusedCell::new(index, size, inputs, kind, &mut parameters, &mut statistics));
            inputs = [inputs[1], Channels { groups: config.nodes(), each: channels }];
        }
        let [weight, bias] = ["weight", "bias"].map(|x| format!("classifier.{x}"));
        let head = Head::new(weight, bias, inputs[1], config.classes, false, &mut parameters);
        FusedSupernet {
            config,
            level,
            tensors: NetworkTensors::new(parameters, statistics),
            stem,
            stem_values: Vec::new(),
            cells,
            head,
            gradients: vec![Vec::new(); config.layers + 1],
            pools: Vec::new(),
            workspace: Workspace::default(),
            profile: Profile::default(),
            size: (0, 0, 0),
        }
    }

    /// Returns the configuration.
    pub fn config(&self) -> &SupernetConfig {
        &self.config
    }

    /// Returns parameters, statistics, and the weight gradients of the last pass that computed them.
    pub fn tensors(&self) -> &NetworkTensors {
        &self.tensors
    }

    /// Returns parameters, statistics and gradients as a mutable reference.
    pub fn tensors_mut(&mut self) -> &mut NetworkTensors {
        &mut self.tensors
    }

    /// Returns the phases of all passes so far with their seconds.
    pub fn profile(&self) -> &[(&'static str, f64)] {
        &self.profile.0
    }

    /// Resets the times of [`profile`](Self::profile).
    pub fn reset_profile(&mut self) {
        self.profile.0.clear();
    }

    /// Calls [`evaluate_cells`](Self::evaluate_cells) with one mixture for all cells of a kind.
    pub fn evaluate(
        &mut self,
        images: ImageBatch<'_>,
        labels: &[u32],
        mixture: &Mixture,
        want: GradRequest,
    ) -> Result<PassResult<Mixture>> {
        let found = self.evaluate_cells(images, labels, &for_cells(&self.config, mixture), want)?;
        Ok(found.map(|cells| by_kind(&self.config, &cells)))
    }

    /// Computes loss and gradients of a batch in training mode: BatchNorms use the batch statistics, and update
    /// the running ones. The mixture has rows for each cell. A candidate of weight 0 is skipped: it and its
    /// weights get no gradient.
    ///
    /// Runs in rayon's current thread pool. The result does not depend on the number of threads.
    pub fn evaluate_cells(
        &mut self,
        images: ImageBatch<'_>,
        labels: &[u32],
        mixture: &[&[Row]],
        want: GradRequest,
    ) -> Result<PassResult<Vec<Vec<[f64; CANDIDATES]>>>> {
        let batch = self.check(images, mixture)?;
        if labels.len() != batch {
            let found = labels.len().to_string();
            return Err(Error::Value {
                what: "number of labels".into(),
                found,
                expected: format!("{batch}, one per image"),
            });
        }
        if let Some(label) = labels.iter().find(|&&label| label as usize >= self.config.classes) {
            let expected = format!("less than the {} classes", self.config.classes);
            return Err(Error::Value { what: "a label".into(), found: label.to_string(), expected });
        }
        Ok(rayon::scope(|_| {
            self.forward(images, batch, mixture, true);
            let (loss, correct) = self.head.loss(labels, 0.0);
            let mixture_gradient = if want.weights || want.mixture {
                self.backward(images.pixels, mixture, want.weights)
            } else {
                mixture.iter().map(|rows| vec![[0.0; CANDIDATES]; rows.len()]).collect()
            };
            PassResult { loss, correct, mixture_gradient }
        }))
    }

    /// Calls [`predict_cells`](Self::predict_cells) with one mixture for all cells of a kind.
    pub fn predict(&mut self, images: ImageBatch<'_>, mixture: &Mixture) -> Result<Vec<f32>> {
        self.predict_cells(images, &for_cells(&self.config, mixture))
    }

    /// Returns logits `[N, classes]` in evaluation mode: BatchNorms use the running statistics.
    pub fn predict_cells(&mut self, images: ImageBatch<'_>, mixture: &[&[Row]]) -> Result<Vec<f32>> {
        let batch = self.check(images, mixture)?;
        rayon::scope(|_| self.forward(images, batch, mixture, false));
        Ok(self.head.logits.clone())
    }

    /// Returns the number of images, or fails if a size is wrong.
    fn check(&self, images: ImageBatch<'_>, mixture: &[&[Row]]) -> Result<usize> {
        let ImageBatch { pixels, height, width } = images;
        if height < SMALLEST || width < SMALLEST {
            let found = format!("{height}x{width}");
            let expected = format!("at least {SMALLEST}x{SMALLEST}");
            return Err(Error::Value { what: "image size".into(), found, expected });
        }
        let image = self.config.in_channels * height * width;
        if pixels.is_empty() || !pixels.len().is_multiple_of(image) {
            let (found, expected) = (pixels.len().to_string(), format!("a positive multiple of {image}"));
            return Err(Error::Value { what: "number of pixel values".into(), found, expected });
        }
        if mixture.len() != self.cells.len() || mixture.iter().any(|rows| rows.len() != self.config.edges()) {
            let found = format!("{:?}", mixture.iter().map(|rows| rows.len()).collect::<Vec<_>>());
            let expected = format!("{} of each of {} cells", self.config.edges(), self.cells.len());
            return Err(Error::Value { what: "number of rows of the mixture".into(), found, expected });
        }
        Ok(pixels.len() / image)
    }

    fn resize(&mut self, size: (usize, usize, usize)) {
        self.workspace.prepare();
        if self.size != size {
            self.fit(size);
        }
        self.tensors.parameters.refresh();
    }

    fn fit(&mut self, size: (usize, usize, usize)) {
        self.size = size;
        let (batch, height, width) = size;
        self.stem.resize(height, width);
        self.stem_values.resize(batch * self.stem.map.len(), Pack::ZERO);
        let mut inputs = [self.stem.map; 2];
        for cell in &mut self.cells {
            cell.resize(inputs, batch, &mut self.tensors.parameters);
            inputs = [inputs[1], cell.output().map];
        }
    }

    fn forward(&mut self, images: ImageBatch<'_>, batch: usize, mixture: &[&[Row]], training: bool) {
        self.resize((batch, images.height, images.width));
        let (parameters, workspace) = (&self.tensors.parameters, &self.workspace);
        let pass = fused::PassContext { level: self.level, parameters, workspace, batch, training };
        let (stem, statistics, profile) = (&mut self.stem, &mut self.tensors.statistics, &mut self.profile);
        profile
            .time("forward, stem", || stem.forward(&pass, images.pixels, statistics, &mut self.stem_values));
        for (i, mixture) in mixture.iter().enumerate() {
            let (before, rest) = self.cells.split_at_mut(i);
            let stem = stem_view(&self.stem, &self.stem_values);
            let inputs = [source(stem, before, i.saturating_sub(1)), source(stem, before, i)];
            let cell = &mut rest[0];
            let c = CellContext { pass, mixture };
            cell.forward(&c, inputs, &mut self.tensors.statistics, &mut self.profile);
        }
        let stem = stem_view(&self.stem, &self.stem_values);
        self.head.forward(pass.parameters, source(stem, &self.cells, self.cells.len()), batch);
    }

    /// Computes the gradients of the last forward pass. The head holds the gradient of its loss.
    fn backward(
        &mut self,
        images: &[f32],
        mixture: &[&[Row]],
        want_weights: bool,
    ) -> Vec<Vec<[f64; CANDIDATES]>> {
        let (parameters, workspace) = (&self.tensors.parameters, &self.workspace);
        let (level, batch) = (self.level, self.size.0);
        let c = fused::PassContext { level, parameters, workspace, batch, training: true };
        let profile = &mut self.profile;
        let mut out: Vec<_> = mixture.iter().map(|rows| vec![[0.0; CANDIDATES]; rows.len()]).collect();
        let count = self.cells.len();
        let mut weights = want_weights.then_some(&mut self.tensors.gradients);
        if let Some(weights) = weights.as_deref_mut() {
            self.cells.iter().flat_map(FusedCell::idle).for_each(|id| weights.remove(id));
        }
        // Whether a source's gradient has been written, so that later ones are added.
        let mut begun = vec![false; count + 1];

        let stem = stem_view(&self.stem, &self.stem_values);
        let last = source(stem, &self.cells, count);
        let gradient = &mut self.gradients[count];
        gradient.resize(batch * last.place.image, Pack::ZERO);
        profile.time("backward, head", || {
            self.head.backward(c.parameters, last, gradient, weights.as_deref_mut())
        });
        for i in (0..count).rev() {
            // The gradient of the stem's output is only needed for the stem's weights.
            let first = if want_weights { 0 } else { 2usize.saturating_sub(i) };
            let mut own = std::mem::take(&mut self.gradients[i + 1]);
            let used = c.batch * self.cells[i].image_len();
            let c = CellContext { pass: c, mixture: mixture[i] };
            let (buffers, cell) = ((&mut own[..used], &mut self.pools), &mut self.cells[i]);
            cell.backward(&c, buffers, first, weights.as_deref_mut(), &mut out[i], profile);
            for j in (first..2).rev() {
                let from = if j == 0 { i.saturating_sub(1) } else { i };
                let add = std::mem::replace(&mut begun[from], true);
                if !add {
                    self.gradients[from] = std::mem::take(lender(&mut self.cells, from));
                }
                let (before, rest) = self.cells.split_at_mut(i);
                let input = source(stem_view(&self.stem, &self.stem_values), before, from);
                let (to, len) = (&mut self.gradients[from], c.batch * input.place.image);
                to.resize(len.max(to.len()), Pack::ZERO);
                let out = (&mut to[..len], input.place);
                rest[0].backward_input(&c, j, input, &own, out, add, weights.as_deref_mut(), profile);
            }
            match i + 1 == count {
                true => self.gradients[count] = own,
                false => *lender(&mut self.cells, i + 1) = own,
            }
        }
        if let Some(weights) = weights {
            let (stem, gradient) = (&mut self.stem, &self.gradients[0]);
            profile.time("backward, stem", || stem.backward(&c, images, gradient, weights));
            *lender(&mut self.cells, 0) = std::mem::take(&mut self.gradients[0]);
        }
        out
    }
}

/// Returns the memory for the gradients of a source: feature maps of the cell that writes these gradients
/// first, whose edges have been run backward by then.
fn lender(cells: &mut [FusedCell], source: usize) -> &mut Vec<Pack> {
    match source + 1 < cells.len() {
        true => cells[source + 1].lend(0),
        false => cells[source].lend(1),
    }
}

/// Creates the stem, whose BatchNorm is the only one with weight and bias.
fn new_stem(
    in_channels: usize,
    channels: usize,
    parameters: &mut Parameters,
    statistics: &mut Statistics,
) -> Stem {
    let shape = vec![channels, in_channels, 3, 3];
    let weight = parameters.pointwise("stem.0.weight".into(), shape, Stem::patch(in_channels));
    let [gamma, beta] = ["weight", "bias"].map(|x| Some(parameters.vector(format!("stem.1.{x}"), channels)));
    parameters.set("stem.1.weight", &vec![1.0; channels]);
    let norm = Norm::new("stem.1", channels, statistics);
    let norm = AffineNorm::new(Some(norm), gamma, beta, Channels::one(channels));
    Stem::new(in_channels, channels, weight, norm)
}

fn stem_view<'a>(stem: &Stem, values: &'a [Pack]) -> MapView<'a> {
    MapView { packs: values, place: BufferOffset { image: stem.map.len(), offset: 0 }, map: stem.map }
}

/// Returns the input of a cell: source 0 is the stem, source `i + 1` cell `i`.
fn source<'a>(stem: MapView<'a>, cells: &'a [FusedCell], source: usize) -> MapView<'a> {
    match source.checked_sub(1) {
        Some(cell) => cells[cell].output(),
        None => stem,
    }
}
