//! What the tests of this crate share: archives made byte by byte, a scripted registry on loopback, and a store of one's own.

pub(crate) mod disk;
pub(crate) mod registry;
pub(crate) mod tarball;
pub(crate) mod tls;

use crate::settings::ImageSettings;
use crate::{Images, PullRequest};
use cringle_domain::reference::{Algorithm, Digest};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A store in a directory of its own.
pub(crate) struct TestStore {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) images: Arc<Images>,
}

impl TestStore {
    pub(crate) fn new() -> Self {
        Self::with(settings())
    }

    pub(crate) fn with(settings: ImageSettings) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let images =
            Images::open(&directory.path().join("images"), settings).expect("an open store");
        Self { directory, images }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("images")
    }

    /// The same store after a restart.
    pub(crate) fn reopened(self) -> Self {
        self.images.finish_sweep();
        let Self { directory, images } = self;
        drop(images);
        let images =
            Images::open(&directory.path().join("images"), settings()).expect("an open store");
        images.finish_sweep();
        Self { directory, images }
    }

    pub(crate) async fn pull(&self, reference: &str) -> Result<Digest, crate::PullError> {
        self.images.pull(&PullRequest { reference: reference.to_owned(), credentials: None }).await
    }

    /// How many entries a directory of the store has, after all that's unneeded is gone.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.images.finish_sweep();
        std::fs::read_dir(self.root().join(name)).expect("a directory").count()
    }
}

/// Settings with the test's worker, and without patience.
pub(crate) fn settings() -> ImageSettings {
    ImageSettings {
        unpack_program: worker_program(),
        first_retry_delay: Duration::from_millis(1),
        ..ImageSettings::default()
    }
}

/// The worker, which cargo builds as an example beside the tests.
pub(crate) fn worker_program() -> PathBuf {
    let own = std::env::current_exe().expect("the path of the test");
    let build = own.parent().and_then(Path::parent).expect("a build directory");
    let program = build.join("examples/unpack");
    assert!(
        program.exists(),
        "{} is missing: cargo test without --lib builds it",
        program.display()
    );
    program
}

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    crate::digest::of(Algorithm::Sha256, bytes)
}

/// An error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
