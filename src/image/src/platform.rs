//! What this machine can run, in the words of image indexes.

use serde::Deserialize;
use std::fmt;

/// Operating system, architecture and variant by their Go names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) variant: String,
}

impl Platform {
    /// This machine's.
    pub(crate) fn own() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "aarch64" => ("arm64", "v8"),
            "arm" => ("arm", "v7"),
            "x86" => ("386", ""),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", ""),
            other => (other, ""),
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        }
    }

    /// Whether an image for that platform runs on this one.
    pub(crate) fn can_run(&self, offered: &Self) -> bool {
        self.os == offered.os
            && self.architecture == offered.architecture
            && self.runs_variant(&offered.variant)
    }

    /// How well an image fits that can run at all; higher is better.
    pub(crate) fn rank(&self, offered: &Self) -> u8 {
        match offered.variant.as_str() {
            exact if exact == self.variant => 9,
            "" => 8,
            variant => variant.bytes().last().map_or(0, |digit| digit.saturating_sub(b'0').min(7)),
        }
    }

    /// Later variants run images for earlier ones.
    fn runs_variant(&self, offered: &str) -> bool {
        match (self.architecture.as_str(), offered) {
            (_, "") => true,
            ("amd64", "v1") => true,
            ("arm64", "v8") => true,
            ("arm", "v5" | "v6" | "v7") => offered <= self.variant.as_str(),
            _ => false,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os.escape_default(), self.architecture.escape_default())?;
        if self.variant.is_empty() {
            Ok(())
        } else {
            write!(formatter, "/{}", self.variant.escape_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(os: &str, architecture: &str, variant: &str) -> Platform {
        Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        }
    }

    #[test]
    fn a_machine_runs_images_of_its_kind_and_of_earlier_variants() {
        let amd64 = platform("linux", "amd64", "");
        assert!(amd64.can_run(&platform("linux", "amd64", "")));
        assert!(amd64.can_run(&platform("linux", "amd64", "v1")));
        assert!(!amd64.can_run(&platform("linux", "amd64", "v3")));
        assert!(!amd64.can_run(&platform("windows", "amd64", "")));
        assert!(!amd64.can_run(&platform("unknown", "unknown", "")));
        let arm = platform("linux", "arm", "v7");
        assert!(arm.can_run(&platform("linux", "arm", "v6")));
        assert!(!arm.can_run(&platform("linux", "arm", "v8")));
        assert!(
            arm.rank(&platform("linux", "arm", "v7")) > arm.rank(&platform("linux", "arm", "v6"))
        );
    }
}
