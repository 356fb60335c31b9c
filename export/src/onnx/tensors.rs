//! Encoding and decoding of constant tensors.

use super::schema::{DataLocation, DataType, TensorProto};
use half::f16;

/// Largest rank that can be read.
const MAX_RANK: usize = 8;

pub(super) fn f32s(name: &str, dims: &[usize], data: &[f32]) -> TensorProto {
    let raw = data.iter().flat_map(|x| x.to_le_bytes()).collect();
    raw_tensor(name, dims, DataType::Float, raw)
}

/// Encodes values rounded to float16; `None` if a value is out of its range.
pub(super) fn f16s(name: &str, dims: &[usize], data: &[f32]) -> Option<TensorProto> {
    let rounded: Vec<f16> = data.iter().map(|&x| f16::from_f32(x)).collect();
    let fits = rounded.iter().zip(data).all(|(r, x)| r.is_finite() || !x.is_finite());
    let raw = rounded.iter().flat_map(|x| x.to_le_bytes()).collect();
    fits.then(|| raw_tensor(name, dims, DataType::Float16, raw))
}

pub(super) fn i64s(name: &str, dims: &[usize], data: &[i64]) -> TensorProto {
    let raw = data.iter().flat_map(|x| x.to_le_bytes()).collect();
    raw_tensor(name, dims, DataType::Int64, raw)
}

pub(super) fn i32s(name: &str, dims: &[usize], data: &[i32]) -> TensorProto {
    let raw = data.iter().flat_map(|x| x.to_le_bytes()).collect();
    raw_tensor(name, dims, DataType::Int32, raw)
}

pub(super) fn i8s(name: &str, dims: &[usize], data: &[i8]) -> TensorProto {
    raw_tensor(name, dims, DataType::Int8, data.iter().map(|x| x.cast_unsigned()).collect())
}

pub(super) fn u8s(name: &str, dims: &[usize], data: &[u8]) -> TensorProto {
    raw_tensor(name, dims, DataType::Uint8, data.to_vec())
}

fn raw_tensor(name: &str, dims: &[usize], kind: DataType, raw_data: Vec<u8>) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.iter().map(|&n| n as i64).collect(),
        data_type: kind.into(),
        raw_data: raw_data.into(),
        ..Default::default()
    }
}

/// Returns the shape of a tensor after checking that the data match it. A shape in the file thus never causes
/// an allocation by itself.
///
/// # Errors
/// Returns a message for a negative or huge dimension, external data, an unsupported element type, or fewer
/// or more data than the shape needs.
pub(super) fn dims(tensor: &TensorProto) -> Result<Vec<usize>, String> {
    if tensor.data_location() == DataLocation::External || !tensor.external_data.is_empty() {
        return Err(
            "its data are in another file, which is read for initialisers of the main graph only".into()
        );
    }
    if tensor.segment.is_some() {
        return Err("it is a segment of a tensor".into());
    }
    if tensor.dims.len() > MAX_RANK {
        return Err(format!("rank is {}, the limit is {MAX_RANK}", tensor.dims.len()));
    }
    let dims: Option<Vec<usize>> = tensor.dims.iter().map(|&n| usize::try_from(n).ok()).collect();
    let count = dims.as_ref().and_then(|dims| dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d)));
    let (Some(dims), Some(count)) = (dims, count) else {
        return Err(format!("its shape is {:?}", tensor.dims));
    };
    let (bytes, listed) = match kind(tensor) {
        DataType::Float => (4, tensor.float_data.len()),
        DataType::Float16 => (2, tensor.int32_data.len()),
        DataType::Int64 => (8, tensor.int64_data.len()),
        DataType::Int32 => (4, tensor.int32_data.len()),
        DataType::Bool | DataType::Int8 | DataType::Uint8 => (1, tensor.int32_data.len()),
        other => {
            return Err(format!("it is {other}, this program reads FLOAT. help: export in float32"));
        }
    };
    let found = if tensor.raw_data.is_empty() { Some(listed) } else { whole(tensor.raw_data.len(), bytes) };
    match found {
        Some(found) if found == count => Ok(dims),
        _ => Err(format!(
            "its shape {dims:?} needs {count} numbers, found {} listed and {} bytes",
            listed,
            tensor.raw_data.len()
        )),
    }
}

fn whole(bytes: usize, each: usize) -> Option<usize> {
    bytes.is_multiple_of(each).then_some(bytes / each)
}

pub(super) fn kind(tensor: &TensorProto) -> DataType {
    DataType::of(tensor.data_type)
}

/// Constant of the file, as the nodes that read it see it.
#[derive(Clone, Copy)]
pub(super) struct Constant<'a> {
    pub(super) tensor: &'a TensorProto,
    /// True if a `Cast` to FLOAT was applied.
    pub(super) widened: bool,
    /// Scale and zero point of a `DequantizeLinear` that was applied.
    pub(super) grid: Option<QuantizationGrid<'a>>,
}

/// Grid of integers: the float value is `(integer - zero) * scale`.
#[derive(Clone, Copy)]
pub(super) struct QuantizationGrid<'a> {
    /// One scale, or one scale per index of `axis`.
    pub(super) scale: &'a TensorProto,
    /// Zero points, in the shape of `scale`; 0 if absent.
    pub(super) zero: Option<&'a TensorProto>,
    pub(super) axis: i64,
}

/// Returns shape and values of a float constant.
pub(super) fn floats(constant: Constant) -> Result<(Vec<usize>, Vec<f32>), String> {
    let Constant { tensor, widened, grid } = constant;
    let dims = dims(tensor)?;
    if let Some(grid) = grid {
        let numbers = dequantized(&dims, &integers(tensor)?, grid)?;
        return Ok((dims, numbers));
    }
    match kind(tensor) {
        DataType::Float => {}
        DataType::Float16 if widened => {
            let raw = tensor.raw_data.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32());
            let listed = tensor.int32_data.iter().map(|&bits| f16::from_bits(bits as u16).to_f32());
            return Ok((dims, if tensor.raw_data.is_empty() { listed.collect() } else { raw.collect() }));
        }
        other => {
            return Err(format!("it is {}, expected FLOAT. help: export in float32, or with a Cast", other));
        }
    }
    if tensor.raw_data.is_empty() {
        return Ok((dims, tensor.float_data.clone()));
    }
    let numbers = tensor.raw_data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    Ok((dims, numbers.collect()))
}

fn dequantized(dims: &[usize], integers: &[i64], grid: QuantizationGrid) -> Result<Vec<f32>, String> {
    let QuantizationGrid { scale, zero, axis } = grid;
    let (_, scales) = floats(Constant { tensor: scale, widened: false, grid: None })?;
    let zeros = zero.map_or(Ok(vec![0; scales.len()]), self::integers)?;
    let (places, inner) = match scales.len() {
        1 => (1, dims.iter().product()),
        _ => {
            let axis = super::attributes::axis(axis, dims.len())?;
            (dims[axis], dims[axis + 1..].iter().product::<usize>())
        }
    };
    if scales.len() != places || zeros.len() != places {
        let found = (scales.len(), zeros.len());
        return Err(format!("{found:?} scales and zero points for {places} places of {dims:?}"));
    }
    let place = |i: usize| i / inner.max(1) % places;
    let one = |(i, x): (usize, &i64)| x.saturating_sub(zeros[place(i)]) as f32 * scales[place(i)];
    Ok(integers.iter().enumerate().map(one).collect())
}

/// Returns the values of an integer tensor.
pub(super) fn integers(tensor: &TensorProto) -> Result<Vec<i64>, String> {
    dims(tensor)?;
    let raw = &tensor.raw_data;
    let long = |b: &[u8]| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
    let short = |b: &[u8]| i64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    Ok(match kind(tensor) {
        DataType::Int64 if raw.is_empty() => tensor.int64_data.clone(),
        DataType::Int64 => raw.chunks_exact(8).map(long).collect(),
        DataType::Int32 if !raw.is_empty() => raw.chunks_exact(4).map(short).collect(),
        DataType::Bool if !raw.is_empty() => raw.iter().map(|&b| i64::from(b)).collect(),
        DataType::Int8 if !raw.is_empty() => raw.iter().map(|&b| i64::from(b.cast_signed())).collect(),
        DataType::Uint8 if !raw.is_empty() => raw.iter().map(|&b| i64::from(b)).collect(),
        DataType::Int8 | DataType::Uint8 | DataType::Int32 | DataType::Bool => {
            tensor.int32_data.iter().map(|&i| i64::from(i)).collect()
        }
        other => return Err(format!("it is {}, expected integers", other)),
    })
}
