//! The network configuration that is made from a template when the kubelet tells the pods' address ranges.
//!
//! It is for nodes where nothing else writes one: as long as there is a usable configuration and none of ours, nothing is
//! written. Once ours is there it is replaced whole when the ranges change, whatever lies beside it. Without a template nothing happens, which is what runtimes do
//! whose network is configured by somebody else.

use crate::Network;
use crate::conf::{ConfError, ConfigurationList, Loaded};
use crate::template::{self, PodRange, TemplateError};
use cringle_store::atomic;
use std::path::{Path, PathBuf};

/// The file that is ours, in the configuration directory.
const FILE: &str = "10-cringle.conflist";

/// What became of the ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generated {
    /// The configuration says them now.
    Written,
    /// It said them already.
    Unchanged,
    /// Nobody asked for a configuration to be made.
    NoTemplate,
    /// There is a configuration of somebody else's.
    Configured,
}

/// Why no configuration could be made.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The template can't be read.
    #[error("failed to read template \"{}\"", path.display())]
    Read {
        /// The template.
        path: PathBuf,
        /// The file system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The template is not understood.
    #[error("failed to fill template \"{}\"", path.display())]
    Fill {
        /// The template.
        path: PathBuf,
        /// What is not understood.
        #[source]
        source: TemplateError,
    },
    /// What comes out is no configuration.
    #[error("failed to use what template \"{}\" makes", path.display())]
    Use {
        /// The template.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ConfError,
    },
    /// The configuration can't be written.
    #[error("failed to write network configuration \"{}\"", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The file system's answer.
        #[source]
        source: std::io::Error,
    },
}

impl Network {
    /// Takes the pods' address ranges to the configuration. Blocks for a few small files.
    ///
    /// # Errors
    /// If there is a template and no configuration can be made of it; then the old one stays.
    pub fn use_ranges(&self, ranges: &[PodRange]) -> Result<Generated, GenerateError> {
        let Some(path) = &self.settings.conf_template else { return Ok(Generated::NoTemplate) };
        let done = generate(path, &self.settings.config_directory, ranges)?;
        if done == Generated::Written {
            // Not to wait for the watcher: the next pod has the new ranges.
            self.loaded.reread();
        }
        Ok(done)
    }
}

fn generate(
    template: &Path,
    directory: &Path,
    ranges: &[PodRange],
) -> Result<Generated, GenerateError> {
    let ours = directory.join(FILE);
    let old = std::fs::read_to_string(&ours).ok();
    if old.is_none() && !Loaded::read(directory).lists.is_empty() {
        return Ok(Generated::Configured);
    }
    let path = || template.to_owned();
    let text = std::fs::read_to_string(template)
        .map_err(|source| GenerateError::Read { path: path(), source })?;
    let filled = template::fill(&text, ranges)
        .map_err(|source| GenerateError::Fill { path: path(), source })?;
    ConfigurationList::parse(&filled)
        .map_err(|source| GenerateError::Use { path: path(), source })?;
    if old.as_ref() == Some(&filled) {
        return Ok(Generated::Unchanged);
    }
    std::fs::create_dir_all(directory)
        .and_then(|()| atomic::replace(&ours, filled.as_bytes()))
        .map_err(|source| GenerateError::Write { path: ours.clone(), source })?;
    Ok(Generated::Written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const TEMPLATE: &str = r#"{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"ptp","ipam":{
        "type":"host-local","ranges":[{{range $i, $one := .PodCIDRRanges}}{{if $i}},{{end}}[{"subnet":"{{$one}}"}]{{end}}]}}]}"#;

    fn range(text: &str) -> PodRange {
        PodRange {
            text: text.to_owned(),
            address: text.split('/').next().unwrap().parse().unwrap(),
        }
    }

    fn write(path: &Path, text: &str) {
        std::fs::File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn the_configuration_follows_the_ranges() {
        let place = tempfile::tempdir().unwrap();
        let (template, directory) = (place.path().join("template"), place.path().join("net.d"));
        write(&template, TEMPLATE);
        let one = [range("10.5.0.0/24")];
        assert_eq!(generate(&template, &directory, &one).unwrap(), Generated::Written);
        assert_eq!(generate(&template, &directory, &one).unwrap(), Generated::Unchanged);
        let two = [range("10.6.0.0/24"), range("fd00::/64")];
        assert_eq!(generate(&template, &directory, &two).unwrap(), Generated::Written);
        let loaded = Loaded::read(&directory);
        assert_eq!(loaded.lists[0].name, "pods");
        assert!(
            loaded.lists[0].text.contains(r#"[{"subnet":"10.6.0.0/24"}],[{"subnet":"fd00::/64"}]"#)
        );
        assert_eq!(loaded.lists.len(), 1);
    }

    #[test]
    fn a_configuration_of_somebody_else_stays_alone() {
        let place = tempfile::tempdir().unwrap();
        let template = place.path().join("template");
        write(&template, TEMPLATE);
        let foreign = r#"{"cniVersion":"1.0.0","name":"theirs","plugins":[{"type":"bridge"}]}"#;
        write(&place.path().join("05-theirs.conflist"), foreign);
        let done = generate(&template, place.path(), &[range("10.5.0.0/24")]).unwrap();
        assert_eq!(done, Generated::Configured);
        assert!(!place.path().join(FILE).exists());
    }

    #[test]
    fn a_template_that_makes_no_configuration_changes_nothing() {
        let place = tempfile::tempdir().unwrap();
        let (template, directory) = (place.path().join("template"), place.path().join("net.d"));
        write(&template, TEMPLATE);
        let one = [range("10.5.0.0/24")];
        generate(&template, &directory, &one).unwrap();
        for wrong in ["{{.Nothing}}", "{}", "", r#"{"name":"x","plugins":[]}"#] {
            write(&template, wrong);
            generate(&template, &directory, &one).unwrap_err();
        }
        std::fs::remove_file(&template).unwrap();
        generate(&template, &directory, &one).unwrap_err();
        assert_eq!(Loaded::read(&directory).lists[0].name, "pods");
    }
}
