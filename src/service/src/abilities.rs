//! What this host can do of what clients ask about. The kernel was asked at the start, call by call; its version says nothing.

use crate::{Service, ServiceError};
use cringle_domain::mounts::{Access, MountRequest, Restrictions};
use cringle_domain::refusal::Refusal;
use cringle_kernel::features::Feature;

/// What the kernel must be able to do: without one of these no image is unpacked or no container is made.
pub const NEEDED: [Feature; 5] = [
    Feature::OpenInRoot,
    Feature::MountApi,
    Feature::MountAttributes,
    Feature::Pidfd,
    Feature::CloseRange,
];

impl Service {
    /// Whether containers can be made at all.
    ///
    /// # Errors
    /// What the kernel lacks for it.
    pub fn can_run(&self) -> Result<(), String> {
        lacking(&NEEDED, |feature| self.host.features.has(feature))
    }

    /// Whether mounts, with all below them, can be made read-only, and a mount can be kept from programs, devices and
    /// set-uid bits.
    ///
    /// # Errors
    /// What the kernel lacks for it.
    pub fn can_restrict_mounts(&self) -> Result<(), String> {
        lacking(&[Feature::MountAttributes], |feature| self.host.features.has(feature))
    }

    /// Refuses mounts that this kernel can't make as they are asked for.
    pub(crate) fn require_mounts(&self, mounts: &[MountRequest]) -> Result<(), ServiceError> {
        self.can_restrict_mounts().or_else(|reason| without_attributes(mounts, reason))
    }
}

fn lacking(needed: &[Feature], has: impl Fn(Feature) -> bool) -> Result<(), String> {
    let missing: Vec<&str> =
        needed.iter().filter(|feature| !has(**feature)).map(|feature| feature.name()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("the kernel has no {}", missing.join(", ")))
}

fn without_attributes(mounts: &[MountRequest], reason: String) -> Result<(), ServiceError> {
    for mount in mounts {
        if mount.access == Access::RecursiveReadOnly {
            return Err(ServiceError::NoRecursiveReadOnly {
                path: mount.container_path.clone(),
                reason,
            });
        }
        if mount.restrictions != Restrictions::NONE {
            let words: Vec<&str> = mount.restrictions.words().collect();
            let what = format!("mount option \"{}\" on this host ({reason})", words.join(","));
            return Err(Refusal::Unsupported(what).into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cringle_domain::mounts::Propagation;

    fn mount(access: Access, restrictions: Restrictions) -> MountRequest {
        MountRequest {
            host_path: "/host".into(),
            container_path: "/data".into(),
            access,
            propagation: Propagation::Private,
            restrictions,
            relabel: false,
            mapping: None,
            image: None,
        }
    }

    #[test]
    fn what_the_kernel_lacks_is_named_and_nothing_else_is() {
        assert_eq!(lacking(&NEEDED, |_| true), Ok(()));
        assert_eq!(lacking(&NEEDED, |feature| !NEEDED.contains(&feature)), {
            Err("the kernel has no openat2, mount-api, mount-setattr, pidfd, close-range"
                .to_owned())
        });
        let old = lacking(&NEEDED, |feature| feature != Feature::MountAttributes);
        assert_eq!(old, Err("the kernel has no mount-setattr".to_owned()));
    }

    #[test]
    fn without_attributes_of_mounts_only_those_that_need_them_are_refused() {
        let plain = mount(Access::ReadOnly, Restrictions::NONE);
        let reason = || "why".to_owned();
        without_attributes(std::slice::from_ref(&plain), reason()).unwrap();
        let recursive = mount(Access::RecursiveReadOnly, Restrictions::NONE);
        let refused = without_attributes(&[plain.clone(), recursive], reason());
        let is_named =
            |error: &ServiceError| matches!(error, ServiceError::NoRecursiveReadOnly { .. });
        assert!(refused.as_ref().is_err_and(is_named), "{refused:?}");
        let restricted = mount(Access::ReadWrite, Restrictions::ALL);
        let refused = without_attributes(&[restricted], reason());
        assert!(matches!(refused, Err(ServiceError::Refused(Refusal::Unsupported(_)))));
    }
}
