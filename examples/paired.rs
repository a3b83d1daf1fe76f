//! Two indexes of the same rows, searched from either side: what words mean, and what they look like.
//!
//! Each row is one of 5,000 English words. Its text vector is from GloVe; its image vector is a picture of the word,
//! 60 by 7 gray pixels. Both have the same row id, so a hit on one side is a row on the other. Labels, the words
//! themselves, are an Arrow column that is saved beside an index.
//!
//! ```sh
//! cargo run --release --features cli --example paired
//! ```

use std::error::Error;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, FixedSizeListArray, RecordBatch, StringArray, UInt8Array};
use arrow_schema::{DataType, Field};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use pennon::{
    BuildParams, DistanceType, ElementType, Index, Loaded, SaveOptions, SearchParams, VectorSource,
};

const WORDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/glove-words.parquet");
const OUTPUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/paired");

/// Letters that a picture has room for; the rest of a longer word is cut off.
const LETTERS: usize = 10;
/// A letter is 5 pixels wide, with one more to the next.
const WIDTH: usize = LETTERS * 6;
const HEIGHT: usize = 7;

/// The letters from A to Z: 7 rows of 5 bits.
const FONT: [[u8; HEIGHT]; 26] = [
    [0x0e, 0x11, 0x11, 0x1f, 0x11, 0x11, 0x11],
    [0x1e, 0x11, 0x11, 0x1e, 0x11, 0x11, 0x1e],
    [0x0e, 0x11, 0x10, 0x10, 0x10, 0x11, 0x0e],
    [0x1e, 0x11, 0x11, 0x11, 0x11, 0x11, 0x1e],
    [0x1f, 0x10, 0x10, 0x1e, 0x10, 0x10, 0x1f],
    [0x1f, 0x10, 0x10, 0x1e, 0x10, 0x10, 0x10],
    [0x0e, 0x11, 0x10, 0x17, 0x11, 0x11, 0x0f],
    [0x11, 0x11, 0x11, 0x1f, 0x11, 0x11, 0x11],
    [0x0e, 0x04, 0x04, 0x04, 0x04, 0x04, 0x0e],
    [0x07, 0x02, 0x02, 0x02, 0x02, 0x12, 0x0c],
    [0x11, 0x12, 0x14, 0x18, 0x14, 0x12, 0x11],
    [0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x1f],
    [0x11, 0x1b, 0x15, 0x15, 0x11, 0x11, 0x11],
    [0x11, 0x19, 0x15, 0x13, 0x11, 0x11, 0x11],
    [0x0e, 0x11, 0x11, 0x11, 0x11, 0x11, 0x0e],
    [0x1e, 0x11, 0x11, 0x1e, 0x10, 0x10, 0x10],
    [0x0e, 0x11, 0x11, 0x11, 0x15, 0x12, 0x0d],
    [0x1e, 0x11, 0x11, 0x1e, 0x14, 0x12, 0x11],
    [0x0f, 0x10, 0x10, 0x0e, 0x01, 0x01, 0x1e],
    [0x1f, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04],
    [0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x0e],
    [0x11, 0x11, 0x11, 0x11, 0x11, 0x0a, 0x04],
    [0x11, 0x11, 0x11, 0x15, 0x15, 0x1b, 0x11],
    [0x11, 0x11, 0x0a, 0x04, 0x0a, 0x11, 0x11],
    [0x11, 0x11, 0x0a, 0x04, 0x04, 0x04, 0x04],
    [0x1f, 0x01, 0x02, 0x04, 0x08, 0x10, 0x1f],
];

/// A word in white on black, row by row.
fn picture(word: &str) -> Vec<u8> {
    let mut pixels = vec![0; WIDTH * HEIGHT];
    for (at, letter) in word.bytes().filter(u8::is_ascii_lowercase).take(LETTERS).enumerate() {
        for (y, row) in FONT[usize::from(letter - b'a')].into_iter().enumerate() {
            for x in (0..5).filter(|x| (row >> (4 - x)) & 1 == 1) {
                pixels[y * WIDTH + at * 6 + x] = 255;
            }
        }
    }
    pixels
}

/// A bad photograph of a picture: grayer, and grainy.
fn photograph(picture: &[u8]) -> Vec<f32> {
    let mut state = 1_u64;
    let mut grain = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    picture.iter().map(|&pixel| 40.0 + 0.4 * f32::from(pixel) + 120.0 * grain()).collect()
}

fn show(pixels: &[f32]) {
    for row in pixels.chunks(WIDTH) {
        let line: String = row.iter().map(|&p| if p > 150.0 { '#' } else { ' ' }).collect();
        println!("    {}", line.trim_end());
    }
}

/// Both indexes in memory, built from a file of words and vectors, and saved with the words as labels.
fn build_and_save(texts: &Path, pictures: &Path) -> Result<(), Box<dyn Error>> {
    let params = BuildParams::default();
    let text = Index::hnsw(100, DistanceType::Cosine, params.clone())?;
    let image = Index::builder(WIDTH * HEIGHT, DistanceType::L2)
        .element_type(ElementType::UInt8)
        .params(params)
        .build()?;
    let mut words: Vec<String> = Vec::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(File::open(WORDS)?)?.build()? {
        let batch = batch?;
        let first = words.len() as u64;
        let of_batch: Vec<&str> = batch["word"].as_string::<i32>().iter().flatten().collect();
        text.append(batch["vector"].as_fixed_size_list(), first)?;

        let pixels: UInt8Array = of_batch.iter().flat_map(|word| picture(word)).collect::<Vec<u8>>().into();
        let item = Arc::new(Field::new("item", DataType::UInt8, true));
        let size = (WIDTH * HEIGHT) as i32;
        image.append(&FixedSizeListArray::try_new(item, size, Arc::new(pixels), None)?, first)?;
        words.extend(of_batch.into_iter().map(str::to_owned));
    }
    // Every row has a usable vector on both sides: vector ids are row ids, and labels are those of the rows.
    assert_eq!((text.len(), image.len()), (words.len(), words.len()));
    let words: ArrayRef = Arc::new(StringArray::from(words));
    let labels = RecordBatch::try_from_iter([("word", words)])?;
    text.save_with(texts, &SaveOptions::new().labels(labels))?;
    image.save(pictures)?;
    Ok(())
}

/// An index that was saved, mapped from its files.
fn open_mapped(dir: &Path) -> pennon::Result<Loaded> {
    // SAFETY: nobody writes to files that were saved, least of all this program.
    #[allow(unsafe_code, reason = "only who knows the directory can promise that its files stay")]
    unsafe {
        Index::load_mmap(dir)
    }
}

/// Builds, saves, maps and searches.
pub fn main() -> Result<(), Box<dyn Error>> {
    let (texts, pictures) = (Path::new(OUTPUT).join("texts"), Path::new(OUTPUT).join("pictures"));
    build_and_save(&texts, &pictures)?;

    // What another process would do: nothing but the words themselves is read into memory.
    let (texts, pictures) = (open_mapped(&texts)?, open_mapped(&pictures)?);
    let (text, image) = (texts.index.reader(), pictures.index.reader());
    let labels = texts.labels.ok_or("the words were saved with the texts")?;
    let words = labels["word"].as_string::<i32>();
    let name = |row_id: u64| words.value(row_id as usize);

    let photo = photograph(&picture("guitar"));
    println!("A photograph:");
    show(&photo);
    let seen = image.search(&photo, &SearchParams::new(1))?[0];
    println!("shows row {}, {:?}. Words that mean something like it:", seen.row_id, name(seen.row_id));
    let meanings = text.snapshot();
    let related = text.search(meanings.vector(seen.id), &SearchParams::new(6))?;
    for hit in &related[1..] {
        println!("    {:<8} {:.3}", name(hit.row_id), hit.distance);
    }
    assert_eq!(name(seen.row_id), "guitar");
    assert!(related.iter().any(|hit| name(hit.row_id) == "piano"));

    println!("What the nearest of them looks like, and what looks like that:");
    let pixels = image.snapshot();
    let pixels = pixels.widened(related[1].id);
    show(&pixels);
    for hit in &image.search(&pixels, &SearchParams::new(5))?[1..] {
        println!("    {:<8} {:.0} pixels differ", name(hit.row_id), hit.distance / (255.0 * 255.0));
    }
    Ok(())
}
