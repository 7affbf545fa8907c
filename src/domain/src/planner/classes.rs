//! Classes of cache, memory bandwidth (RDT) and block I/O, which a container is put into by annotations. This runtime has
//! none, so one that asks for a class is refused instead of running without what it counts on.

use crate::refusal::Refusal;
use crate::spec::{ContainerSpec, PodSpec};

/// A kind of class and the annotations that ask for one.
struct Kind {
    name: &'static str,
    /// Of the container itself.
    container: &'static str,
    /// Of its pod: this with `container.` and the container's name for one of them, with `pod` for all.
    pod: &'static str,
}

const KINDS: [Kind; 2] = [
    Kind {
        name: "RDT",
        container: "io.kubernetes.cri.rdt-class",
        pod: "rdt.resources.beta.kubernetes.io/",
    },
    Kind {
        name: "block I/O",
        container: "io.kubernetes.cri.blockio-class",
        pod: "blockio.resources.beta.kubernetes.io/",
    },
];

/// Refuses a container that asks for a class. The nearest annotation counts, and an empty one asks for none.
pub(super) fn refuse(pod: &PodSpec, spec: &ContainerSpec) -> Result<(), Refusal> {
    for kind in KINDS {
        let of_pod = |rest: &str| pod.annotations.get(&format!("{}{rest}", kind.pod));
        let asked = (spec.annotations.get(kind.container))
            .or_else(|| of_pod(&format!("container.{}", spec.metadata.name)))
            .or_else(|| of_pod("pod"));
        if let Some(class) = asked.filter(|class| !class.is_empty()) {
            let text = format!("the {} class {class:?}: no such classes are configured", kind.name);
            return Err(Refusal::Unsupported(text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::tests::Case;

    fn refused(pod: &[(&str, &str)], container: &[(&str, &str)]) -> Option<String> {
        let all = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let mut case = Case::default();
        case.pod.annotations = all(pod);
        case.spec.annotations = all(container);
        case.spec.metadata.name = "main".to_owned();
        refuse(&case.pod, &case.spec).err().map(|refusal| refusal.to_string())
    }

    #[test]
    fn a_class_of_either_kind_is_refused_wherever_it_is_asked_for() {
        for (pod, container) in [
            (vec![], vec![("io.kubernetes.cri.rdt-class", "gold")]),
            (vec![("rdt.resources.beta.kubernetes.io/pod", "gold")], vec![]),
            (vec![("rdt.resources.beta.kubernetes.io/container.main", "gold")], vec![]),
            (vec![], vec![("io.kubernetes.cri.blockio-class", "gold")]),
            (vec![("blockio.resources.beta.kubernetes.io/pod", "gold")], vec![]),
            (vec![("blockio.resources.beta.kubernetes.io/container.main", "gold")], vec![]),
        ] {
            let refusal = refused(&pod, &container).unwrap();
            assert!(refusal.contains("class \"gold\""), "{refusal}");
        }
    }

    #[test]
    fn a_class_of_another_container_or_none_is_no_reason_to_refuse() {
        assert_eq!(refused(&[], &[]), None);
        assert_eq!(
            refused(&[("rdt.resources.beta.kubernetes.io/container.other", "gold")], &[]),
            None
        );
        let pod = [("blockio.resources.beta.kubernetes.io/pod", "gold")];
        assert_eq!(refused(&pod, &[("io.kubernetes.cri.blockio-class", "")]), None);
    }
}
