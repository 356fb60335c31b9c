//! Convolution with automatic padding, and batch normalisation.

use milenas_models::graph::Value;
use milenas_models::op::{BatchNorm, Conv2d, Padding};

use super::super::attributes::{decimal, size};
use super::{NodeReader, Read};

/// Window attributes of a convolution or pooling.
pub(super) struct WindowAttributes {
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) dilation: [usize; 2],
    pub(super) padding: Padding,
}

impl WindowAttributes {
    /// Reads the attributes and makes `auto_pad` explicit. `image` is height and width of the input.
    pub(super) fn read(r: &NodeReader, kernel: [usize; 2], image: [usize; 2]) -> Read<Self> {
        let stride: [usize; 2] = r.attributes.sizes("strides", 1)?;
        let dilation: [usize; 2] = r.attributes.sizes("dilations", 1)?;
        let [top, left, bottom, right] = r.attributes.sizes("pads", 0)?;
        if kernel.contains(&0) || stride.contains(&0) || dilation.contains(&0) {
            return Err(format!(
                "kernel {kernel:?}, stride {stride:?}, dilation {dilation:?}: none may be 0"
            ));
        }
        let mut window =
            WindowAttributes { kernel, stride, dilation, padding: Padding { top, left, bottom, right } };
        let at_end = match r.attributes.text("auto_pad")?.unwrap_or("NOTSET") {
            "NOTSET" => return Ok(window),
            "VALID" => {
                window.padding = Padding::default();
                return Ok(window);
            }
            "SAME_UPPER" => true,
            "SAME_LOWER" => false,
            other => return Err(format!("auto_pad is `{other}`")),
        };
        let [rows, columns] = [0, 1].map(|axis| {
            let outputs = image[axis].div_ceil(stride[axis]);
            let total =
                ((outputs.max(1) - 1) * stride[axis] + window.reach(axis)).saturating_sub(image[axis]);
            let (less, more) = (total / 2, total - total / 2);
            if at_end { (less, more) } else { (more, less) }
        });
        window.padding = Padding { top: rows.0, bottom: rows.1, left: columns.0, right: columns.1 };
        Ok(window)
    }

    /// Returns the number of input rows (axis 0) or columns (axis 1) under the window.
    pub(super) fn reach(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1) * self.dilation[axis] + 1
    }
}

/// Returns channels and `[height, width]` of an image.
pub(super) fn image(r: &NodeReader, x: Value) -> Read<(usize, [usize; 2])> {
    let fact = r.fact(x);
    let (c, h, w) =
        fact.chw().ok_or_else(|| format!("it reads {fact}, this program has only images [N, C, H, W]"))?;
    Ok((c, [h, w]))
}

pub(super) fn conv(r: &mut NodeReader) -> Read<Value> {
    r.inputs(3)?;
    let x = r.wire(0)?;
    let (in_channels, size_of_image) = image(r, x)?;
    let shape = r.param_shape(1)?;
    let [out_channels, _, rows, columns] = shape[..] else {
        return Err(format!("its weight has shape {shape:?}, expected [out, in / groups, rows, columns]"));
    };
    let kernel = [rows, columns];
    if let Some(declared) = r.attributes.ints("kernel_shape")?
        && declared != [rows as i64, columns as i64]
    {
        return Err(format!("kernel_shape is {declared:?}, its weight has shape {shape:?}"));
    }
    let groups = size("group", r.attributes.int("group", 1)?)?;
    let WindowAttributes { stride, dilation, padding, .. } =
        WindowAttributes::read(r, kernel, size_of_image)?;
    if groups == 0 || !in_channels.is_multiple_of(groups) || !out_channels.is_multiple_of(groups) {
        return Err(format!("{groups} groups do not divide {in_channels} and {out_channels} channels"));
    }
    let bias = r.input_count() > 2 && r.floats(2)?.is_some();
    let mut params = vec![r.param(1)?];
    if bias {
        params.push(r.param(2)?);
    }
    let conv = Conv2d { in_channels, out_channels, kernel, stride, padding, dilation, groups, bias };
    r.emit(conv, &[x], params)
}

pub(super) fn batch_norm(r: &mut NodeReader) -> Read<Value> {
    r.inputs(5)?;
    r.one_output()?;
    let training = "it is in training mode. help: export the model in inference mode";
    r.attributes.must_be("training_mode", 0, 0).map_err(|_| training)?;
    if r.opset < 9 {
        r.attributes.must_be("spatial", 1, 1)?;
    }
    if r.opset < 7 {
        r.attributes.must_be("is_test", 1, 0).map_err(|_| training)?;
        r.attributes.ints("consumed_inputs")?;
    }
    let x = r.wire(0)?;
    let (channels, _) = image(r, x)?;
    let eps = decimal(r.attributes.float("epsilon", 1e-5)?);
    // ONNX's momentum weighs the running statistics; PyTorch's and this project's weighs those of the batch.
    let momentum = decimal((1.0 - decimal(r.attributes.float("momentum", 0.9)?)) as f32);
    let params = (1..5).map(|i| r.param(i)).collect::<Read<Vec<_>>>()?;
    r.emit(BatchNorm { channels, eps, momentum, affine: true }, &[x], params)
}
