//! Devices of the Container Device Interface: what a container that names some gets, and what is known of them.

use crate::{Service, ServiceError};
use cringle_cdi::{Catalog, Report};
use cringle_domain::cdi::DeviceName;
use oci_spec::runtime::Spec;
use std::path::PathBuf;

/// Where files of devices are, if they are used at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CdiFiles {
    /// They are not.
    Off,
    /// In these directories, of which the last has the last word.
    In(Vec<PathBuf>),
}

impl CdiFiles {
    /// Their catalogue.
    pub(crate) fn catalog(&self) -> Option<Catalog> {
        match self {
            Self::Off => None,
            Self::In(directories) => Some(Catalog::new(directories.clone())),
        }
    }
}

impl Service {
    /// Gives the container of this specification these devices. Reads files, so it may wait for a disk. After an error the
    /// specification is of no use.
    ///
    /// # Errors
    /// A device that is not described, or that this host can't give; or all, if devices of this kind are off.
    pub fn apply_cdi(&self, names: &[DeviceName], spec: &mut Spec) -> Result<(), ServiceError> {
        let Some(first) = names.first() else { return Ok(()) };
        let catalog = self.cdi.as_ref().ok_or_else(|| ServiceError::CdiOff(first.clone()))?;
        Ok(catalog.apply(names, spec)?)
    }

    /// Where files of devices are looked for, which devices they describe now, and what is wrong with them; nothing if they
    /// are off. Reads files.
    #[must_use]
    pub fn cdi_report(&self) -> Option<(&[PathBuf], Report)> {
        self.cdi.as_ref().map(|catalog| (catalog.directories(), catalog.report()))
    }
}
