//! Images as volumes of a container: found, and looked into before anything is made.
//!
//! They are mounted by the shim, inside the container alone. Their layers stay as long as the container, by the note of its
//! writable layer.

use super::account;
use crate::{Service, ServiceError};
use cringle_domain::image::{Image, ImageRecord};
use cringle_domain::mounts::{ImageVolume, MountRequest};
use cringle_domain::reference::Digest;
use cringle_kernel::path::Links;
use std::path::PathBuf;
use std::sync::Arc;

/// The images that a container has for volumes, in the order of its mounts.
#[derive(Debug, Default)]
pub(crate) struct ImageVolumes {
    images: Vec<Arc<Image>>,
    /// The layers of each, at least two, the topmost first.
    pub(crate) layers: Vec<Vec<PathBuf>>,
}

impl ImageVolumes {
    /// What is recorded of them.
    pub(super) fn recorded(&self) -> Vec<Digest> {
        self.images.iter().map(|image| image.record.id.clone()).collect()
    }

    /// The images, to be kept.
    pub(super) fn records(&self) -> Vec<Arc<ImageRecord>> {
        self.images.iter().map(|image| Arc::clone(&image.record)).collect()
    }
}

impl Service {
    /// Finds the images of these mounts, and what is meant of each.
    ///
    /// # Errors
    /// If one is not here, or has nothing at the path that is asked for.
    pub(super) fn image_volumes(
        &self,
        mounts: &[MountRequest],
    ) -> Result<ImageVolumes, ServiceError> {
        let mut volumes = ImageVolumes::default();
        for volume in mounts.iter().filter_map(|mount| mount.image.as_ref()) {
            let reference = &volume.image.reference;
            let image = self
                .images
                .resolve(reference)
                .ok_or_else(|| ServiceError::NoSuchVolumeImage(reference.clone()))?;
            let layers = self.images.volume_directories(&image.record);
            look_at_part(volume, &layers)?;
            volumes.images.push(image);
            volumes.layers.push(layers);
        }
        Ok(volumes)
    }
}

fn look_at_part(volume: &ImageVolume, layers: &[PathBuf]) -> Result<(), ServiceError> {
    if volume.sub_path.as_os_str().is_empty() {
        return Ok(());
    }
    let root = account::view(layers);
    let found = root.and_then(|root| root.place(&volume.sub_path, Links::Follow));
    found.map(drop).map_err(|source| ServiceError::VolumeOfImage {
        image: volume.image.reference.clone(),
        sub_path: volume.sub_path.clone(),
        source,
    })
}
