//! Who is there: objects by id, by a unique beginning of the id, and by name.

use crate::ServiceError;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::hash::Hash;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What an index needs to know of its objects.
pub trait Indexed {
    /// The name that clients give and that is unique while the object is there.
    type Name: Clone + Eq + Hash + Debug;

    /// The full id.
    fn id(&self) -> &str;

    /// The name.
    fn name(&self) -> Self::Name;

    /// The error for an id that nobody has.
    fn absent(id: &str) -> ServiceError;
}

/// Objects of one kind. Every method takes a few instructions under a lock and never waits for anything else.
#[derive(Debug)]
pub struct Index<T: Indexed> {
    inner: Mutex<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T: Indexed> {
    by_id: BTreeMap<String, Arc<T>>,
    by_name: HashMap<T::Name, Arc<T>>,
}

impl<T: Indexed> Default for Index<T> {
    fn default() -> Self {
        Self { inner: Mutex::new(Inner { by_id: BTreeMap::new(), by_name: HashMap::new() }) }
    }
}

impl<T: Indexed> Index<T> {
    /// Adds an object.
    pub fn insert(&self, object: Arc<T>) {
        let mut inner = self.lock();
        inner.by_name.insert(object.name(), Arc::clone(&object));
        inner.by_id.insert(object.id().to_owned(), object);
    }

    /// Removes an object; its name is free unless another took it.
    pub fn remove(&self, object: &T) {
        let mut inner = self.lock();
        inner.by_id.remove(object.id());
        let name = object.name();
        if inner.by_name.get(&name).is_some_and(|found| found.id() == object.id()) {
            inner.by_name.remove(&name);
        }
    }

    /// The object of that id, or of the only id that begins so.
    ///
    /// # Errors
    /// If there is none, or more than one.
    pub fn find(&self, id: &str) -> Result<Arc<T>, ServiceError> {
        let inner = self.lock();
        if let Some(object) = inner.by_id.get(id) {
            return Ok(Arc::clone(object));
        }
        if id.is_empty() {
            return Err(T::absent(id));
        }
        let range = (Bound::Included(id.to_owned()), Bound::Unbounded);
        let mut matches = inner.by_id.range(range).take_while(|(key, _)| key.starts_with(id));
        match (matches.next(), matches.next()) {
            (Some((_, object)), None) => Ok(Arc::clone(object)),
            (Some(_), Some(_)) => Err(ServiceError::AmbiguousId(id.to_owned())),
            (None, _) => Err(T::absent(id)),
        }
    }

    /// The object of that name.
    pub fn named(&self, name: &T::Name) -> Option<Arc<T>> {
        self.lock().by_name.get(name).cloned()
    }

    /// All objects, by id.
    pub fn all(&self) -> Vec<Arc<T>> {
        self.lock().by_id.values().cloned().collect()
    }

    /// The objects that pass, by id. Asked under the lock: what is asked must not wait.
    pub fn filtered(&self, passes: impl Fn(&T) -> bool) -> Vec<Arc<T>> {
        self.lock().by_id.values().filter(|object| passes(object)).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        // Nothing under this lock can panic half-way through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of some records the one that `id` is the id of or the beginning of; all of them if it is empty.
///
/// # Errors
/// If it is the beginning of more than one.
pub(crate) fn narrowed<R>(
    records: Vec<Arc<R>>,
    id: &str,
    id_of: fn(&R) -> &str,
) -> Result<Vec<Arc<R>>, ServiceError> {
    if id.is_empty() {
        return Ok(records);
    }
    let fits = |record: &Arc<R>| id_of(record.as_ref()).starts_with(id);
    let found: Vec<_> = records.into_iter().filter(fits).collect();
    if found.len() > 1 { Err(ServiceError::AmbiguousId(id.to_owned())) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Thing(&'static str, &'static str);

    impl Indexed for Thing {
        type Name = &'static str;
        fn id(&self) -> &str {
            self.0
        }
        fn name(&self) -> &'static str {
            self.1
        }
        fn absent(id: &str) -> ServiceError {
            ServiceError::NoSuchPod(id.to_owned())
        }
    }

    #[test]
    fn a_unique_beginning_finds_and_an_ambiguous_one_is_said_to_be_so() {
        let index = Index::default();
        for thing in [Thing("abc", "x"), Thing("abd", "y"), Thing("b", "z")] {
            index.insert(Arc::new(thing));
        }
        assert_eq!(index.find("abc").unwrap().1, "x");
        assert_eq!(index.find("abd").unwrap().1, "y");
        assert!(matches!(index.find("ab"), Err(ServiceError::AmbiguousId(_))));
        for absent in ["", "c", "abcd"] {
            assert!(matches!(index.find(absent), Err(ServiceError::NoSuchPod(_))), "{absent}");
        }
    }

    #[test]
    fn a_name_taken_anew_is_not_freed_by_its_former_owner() {
        let index = Index::default();
        let first = Arc::new(Thing("1", "x"));
        index.insert(Arc::clone(&first));
        index.insert(Arc::new(Thing("2", "x")));
        index.remove(&first);
        assert_eq!(index.named(&"x").unwrap().0, "2");
    }
}
