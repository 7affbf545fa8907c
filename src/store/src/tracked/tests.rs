use super::*;

#[derive(Debug, Clone, Serialize, serde::Deserialize)]
struct Counter(u32);

#[derive(Debug, thiserror::Error)]
#[error("enough")]
struct Enough;

impl Life for Counter {
    type Event = u32;
    type Refusal = Enough;
    fn apply(&self, event: u32) -> Result<Option<Self>, Enough> {
        if event > 9 {
            return Err(Enough);
        }
        Ok((event > self.0).then_some(Self(event)))
    }
    fn kind() -> &'static str {
        "counter"
    }
    fn identity(&self) -> &'static str {
        "c"
    }
    fn phase_name(&self) -> &'static str {
        "counting"
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_is_what_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("counter");
    let tracked = Tracked::create(path.clone(), Counter(1)).unwrap();
    tracked.advance(5).await.unwrap();
    assert_eq!(tracked.now().0, 5);
    assert_eq!(format::load::<Counter>(&path).unwrap().0, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_true_already_writes_nothing_and_a_refused_one_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("counter");
    let tracked = Tracked::create(path.clone(), Counter(5)).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(tracked.advance(3).await.unwrap().0, 5);
    assert!(matches!(tracked.advance(10).await, Err(AdvanceError::Refused(Enough))));
    assert_eq!(tracked.now().0, 5);
    assert!(!path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phase_that_cannot_be_written_is_not_published() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sub/counter");
    std::fs::create_dir_all(directory.path().join("sub")).unwrap();
    let tracked = Tracked::create(path, Counter(1)).unwrap();
    std::fs::remove_dir_all(directory.path().join("sub")).unwrap();
    assert!(matches!(tracked.advance(2).await, Err(AdvanceError::Write { .. })));
    assert_eq!(tracked.now().0, 1);
}

/// Notes the changes that it sees, and what readers see before and after it has each shown.
#[derive(Debug, Default)]
struct Notes(std::sync::Mutex<Vec<(u32, u32)>>);

impl Witness<Counter> for Notes {
    fn witness(&self, before: &Arc<Counter>, after: &Arc<Counter>, show: &dyn Fn()) {
        show();
        self.0.lock().unwrap().push((before.0, after.0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_sees_each_change_once_and_nothing_that_was_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let notes = Arc::new(Notes::default());
    let witness: Arc<dyn Witness<Counter>> = Arc::<Notes>::clone(&notes);
    let tracked =
        Tracked::create(directory.path().join("counter"), Counter(1)).unwrap().witnessed(witness);
    for event in [2, 2, 5] {
        tracked.advance(event).await.unwrap();
    }
    tracked.advance(10).await.unwrap_err();
    drop(directory);
    tracked.advance(6).await.unwrap_err();
    assert_eq!(*notes.0.lock().unwrap(), [(1, 2), (2, 5)]);
    assert_eq!(tracked.now().0, 5);
}
