//! The command line.

use anyhow::{Context, Result, bail, ensure};
use std::path::PathBuf;

/// What to measure and where.
#[derive(Debug)]
pub(crate) struct Options {
    /// Name and socket of each runtime; the first is the one that the others are compared with.
    pub(crate) runtimes: Vec<(String, PathBuf)>,
    /// The image of the pods' containers.
    pub(crate) image: String,
    /// Images whose pull is measured.
    pub(crate) pulls: Vec<Pull>,
    /// Samples of each row.
    pub(crate) samples: usize,
    /// Rows to measure; empty means all.
    pub(crate) rows: Vec<String>,
    /// The floor program with its first arguments; it gets samples and workers.
    pub(crate) floor: Vec<String>,
    /// The smallest program that waits, for the floor of memory.
    pub(crate) idle: Option<PathBuf>,
    /// A directory on the file system that the runtimes use.
    pub(crate) directory: Option<PathBuf>,
    /// Where the figures are written as JSON.
    pub(crate) json: Option<PathBuf>,
}

/// An image to pull.
#[derive(Debug)]
pub(crate) struct Pull {
    /// Its name.
    pub(crate) reference: String,
    /// Its layers as gzip files on this machine, for the floor; empty: none is measured.
    pub(crate) layers: Vec<PathBuf>,
}

impl Pull {
    /// `REFERENCE` or `REFERENCE=LAYER,LAYER`.
    fn parse(value: &str) -> Self {
        let (reference, layers) = value.split_once('=').unwrap_or((value, ""));
        let layers = layers.split(',').filter(|layer| !layer.is_empty());
        Self { reference: reference.to_owned(), layers: layers.map(PathBuf::from).collect() }
    }
}

impl Options {
    /// Reads the words of the command line.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            runtimes: Vec::new(),
            image: String::new(),
            pulls: Vec::new(),
            samples: 100,
            rows: Vec::new(),
            floor: Vec::new(),
            idle: None,
            directory: None,
            json: None,
        };
        while let Some(word) = words.next() {
            let value = words.next().with_context(|| format!("{word} needs a value"))?;
            match word.as_str() {
                "--runtime" => {
                    let (name, socket) = value.split_once('=').context("--runtime NAME=SOCKET")?;
                    options.runtimes.push((name.to_owned(), PathBuf::from(socket)));
                }
                "--image" => options.image = value,
                "--pull" => options.pulls.push(Pull::parse(&value)),
                "--samples" => options.samples = value.parse().context("--samples is a number")?,
                "--rows" => options.rows = value.split(',').map(str::to_owned).collect(),
                "--floor" => options.floor = value.split(' ').map(str::to_owned).collect(),
                "--idle" => options.idle = Some(PathBuf::from(value)),
                "--directory" => options.directory = Some(PathBuf::from(value)),
                "--json" => options.json = Some(PathBuf::from(value)),
                _ => bail!("unknown option {word}"),
            }
        }
        ensure!(!options.runtimes.is_empty(), "--runtime NAME=SOCKET is missing");
        ensure!(!options.image.is_empty(), "--image REFERENCE is missing");
        ensure!(options.samples >= 10, "at least 10 samples");
        Ok(options)
    }

    /// Whether a row is to be measured.
    pub(crate) fn wants(&self, row: &str) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|wanted| wanted == row)
    }
}
