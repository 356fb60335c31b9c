//! Rows as Apache Parquet: the typed columns of CSV, with null for missing values, snappy-compressed.
//!
//! A Parquet file can be read only after its footer has been written, so it has no rows until
//! [`Sink::close`].

use std::io::{Error as Io, Write};
use std::mem::take;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, FloatType, Int32Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};

use super::{Sink, failed, one_line};
use crate::Result;
use crate::answer::{AnswerOptions, Predictions};

/// Number of values in a row group. A row group is held in memory and written at once.
const VALUES: usize = 1 << 20;

/// Column of the rows that are not yet written.
enum Column {
    Text(Vec<Option<ByteArray>>),
    Index(Vec<Option<i32>>),
    Score(Vec<Option<f64>>),
    Feature(Vec<Option<f32>>),
}

struct Parquet<'a> {
    /// Writer; `None` after closing.
    writer: Option<SerializedFileWriter<Box<dyn Write + Send + 'a>>>,
    view: &'a AnswerOptions,
    columns: Vec<Column>,
    rows: usize,
}

/// Returns `Ok`: this build can write Parquet.
pub(super) fn available() -> Result<()> {
    Ok(())
}

pub(super) fn open<'a>(
    to: Box<dyn Write + Send + 'a>,
    view: &'a AnswerOptions,
) -> Result<Box<dyn Sink + 'a>> {
    let columns = empty(view);
    let schema = schema(&super::columns(view), &columns).map_err(wrapped)?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let writer = SerializedFileWriter::new(to, schema, Arc::new(properties)).map_err(wrapped)?;
    Ok(Box::new(Parquet { writer: Some(writer), view, columns, rows: 0 }))
}

/// Returns empty columns, in the order of [`super::columns`].
fn empty(view: &AnswerOptions) -> Vec<Column> {
    let text = || Column::Text(Vec::new());
    let mut all = vec![text()];
    for _ in 0..view.top_k {
        all.extend([text(), Column::Index(Vec::new()), Column::Score(Vec::new())]);
    }
    let scores = if view.all_scores { view.labels.len() } else { 0 };
    all.extend((0..scores).map(|_| Column::Score(Vec::new())));
    all.extend((0..view.features.unwrap_or(0)).map(|_| Column::Feature(Vec::new())));
    all.push(text());
    all
}

fn schema(names: &[String], columns: &[Column]) -> std::result::Result<TypePtr, ParquetError> {
    let field = |(name, column): (&String, &Column)| {
        let (physical, logical) = match column {
            Column::Text(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Column::Index(_) => (Physical::INT32, None),
            Column::Score(_) => (Physical::DOUBLE, None),
            Column::Feature(_) => (Physical::FLOAT, None),
        };
        let built = Type::primitive_type_builder(name, physical).with_logical_type(logical);
        built.with_repetition(Repetition::OPTIONAL).build().map(Arc::new)
    };
    let fields = names.iter().zip(columns).map(field).collect::<std::result::Result<_, _>>()?;
    Type::group_type_builder("predictions").with_fields(fields).build().map(Arc::new)
}

fn wrapped(error: ParquetError) -> crate::Error {
    failed(Io::other(error))
}

impl Column {
    fn write<W: Write + Send>(
        &mut self,
        group: &mut SerializedRowGroupWriter<'_, W>,
    ) -> std::result::Result<(), ParquetError> {
        match self {
            Column::Text(rows) => put::<ByteArrayType, W>(group, take(rows)),
            Column::Index(rows) => put::<Int32Type, W>(group, take(rows)),
            Column::Score(rows) => put::<DoubleType, W>(group, take(rows)),
            Column::Feature(rows) => put::<FloatType, W>(group, take(rows)),
        }
    }
}

/// Writes the next column of a row group: a flag for each row that has a value, and the values.
fn put<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    rows: Vec<Option<T::T>>,
) -> std::result::Result<(), ParquetError> {
    let present: Vec<i16> = rows.iter().map(|row| i16::from(row.is_some())).collect();
    let values: Vec<T::T> = rows.into_iter().flatten().collect();
    let Some(mut column) = group.next_column()? else {
        return Err(ParquetError::General("a row of more columns than the schema".into()));
    };
    column.typed::<T>().write_batch(&values, Some(&present), None)?;
    column.close()
}

impl Parquet<'_> {
    fn write_group(&mut self) -> Result<()> {
        let Some(writer) = self.writer.as_mut().filter(|_| self.rows > 0) else { return Ok(()) };
        let mut group = writer.next_row_group().map_err(wrapped)?;
        self.columns.iter_mut().try_for_each(|column| column.write(&mut group)).map_err(wrapped)?;
        group.close().map_err(wrapped)?;
        self.rows = 0;
        Ok(())
    }
}

impl Sink for Parquet<'_> {
    fn write(&mut self, path: &str, predictions: std::result::Result<&Predictions, &str>) -> Result<()> {
        let text = |text: &str| Some(ByteArray::from(text));
        let (predictions, error) = match predictions {
            Ok(predictions) => (Some(predictions), None),
            Err(reason) => (None, text(&one_line(reason))),
        };
        let best = |k: usize| predictions.and_then(|predictions| predictions.predictions.get(k));
        let AnswerOptions { labels, top_k, all_scores, .. } = self.view;
        let scores = if *all_scores { labels.len() } else { 0 };
        let (behind_best, last) = (1 + 3 * top_k, self.columns.len() - 1);
        for (place, column) in self.columns.iter_mut().enumerate() {
            let behind = place.saturating_sub(behind_best);
            match column {
                Column::Text(rows) if place == 0 => rows.push(text(path)),
                Column::Text(rows) if place == last => rows.push(error.clone()),
                Column::Text(rows) => rows.push(best((place - 1) / 3).and_then(|&(i, _)| text(&labels[i]))),
                Column::Index(rows) => rows.push(best((place - 1) / 3).map(|&(i, _)| i as i32)),
                Column::Score(rows) if place < behind_best => {
                    rows.push(best((place - 1) / 3).map(|&(_, score)| score));
                }
                Column::Score(rows) => {
                    rows.push(predictions.and_then(|predictions| predictions.scores.get(behind).copied()))
                }
                Column::Feature(rows) => {
                    rows.push(
                        predictions
                            .and_then(|predictions| predictions.features.get(behind - scores).copied()),
                    );
                }
            }
        }
        self.rows += 1;
        if self.rows * self.columns.len() >= VALUES { self.write_group() } else { Ok(()) }
    }

    /// Does nothing. Row groups are written when they are full, because many small ones would be slow to
    /// read.
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        self.write_group()?;
        match self.writer.take() {
            None => Ok(()),
            Some(writer) => {
                let mut to = writer.into_inner().map_err(wrapped)?;
                to.flush().map_err(failed)
            }
        }
    }
}
