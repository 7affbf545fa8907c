//! Hashing content into digests.

use cringle_domain::reference::{Algorithm, Digest};
use sha2::{Digest as _, Sha256, Sha512};

/// A digest in the making.
#[derive(Debug, Clone)]
pub(crate) enum Hash {
    Sha256(Sha256),
    Sha512(Box<Sha512>),
}

impl Hash {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Box::new(Sha512::new())),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        let digest = match self {
            Self::Sha256(hash) => Digest::from_bytes(Algorithm::Sha256, &hash.finalize()),
            Self::Sha512(hash) => Digest::from_bytes(Algorithm::Sha512, &hash.finalize()),
        };
        #[expect(
            clippy::expect_used,
            reason = "a hash function makes as many bytes as its digest has"
        )]
        digest.expect("the length of a hash is that of its digest")
    }
}

/// The digest of some bytes.
pub(crate) fn of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut hash = Hash::new(algorithm);
    hash.update(bytes);
    hash.finish()
}

/// The algorithm of an expected digest, or what everyone uses.
pub(crate) fn algorithm_of(digest: Option<&Digest>) -> Algorithm {
    digest.map_or(Algorithm::Sha256, Digest::algorithm)
}
