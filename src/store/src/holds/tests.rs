use super::*;
use std::cell::RefCell;
use std::collections::BTreeSet;

const BOOT: &str = "this boot";

/// A host that things are taken from.
#[derive(Default)]
struct Host(RefCell<BTreeSet<u32>>);

/// A step at which the process dies.
#[derive(Debug)]
enum Stop {
    Died,
    Journal,
}

impl From<HoldsError> for Stop {
    fn from(_error: HoldsError) -> Self {
        Self::Journal
    }
}

/// Gives everything back that `release` can, and settles.
fn give_back(
    holds: &mut Holds<u32>,
    mut release: impl FnMut(u32) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let mut outcome = Ok(());
    while let Some(hold) = holds.newest().copied() {
        outcome = release(hold);
        if outcome.is_err() {
            break;
        }
        holds.released();
    }
    holds.settle(BOOT)?;
    outcome
}

/// Brings three things up and gives them back, dying at step `death`; answers whether it got to the end.
async fn life(path: &Path, host: &Host, death: usize) -> bool {
    let steps = RefCell::new(0);
    let step = || {
        *steps.borrow_mut() += 1;
        if *steps.borrow() == death { Err(Stop::Died) } else { Ok(()) }
    };
    let run = async {
        let mut holds = Holds::new(path.to_owned());
        step()?;
        holds.note([1, 2, 3], BOOT)?;
        for hold in [1u32, 2, 3] {
            step()?;
            holds
                .take(&hold, async {
                    step()?;
                    host.0.borrow_mut().insert(hold);
                    step()
                })
                .await?;
        }
        let mut died = false;
        while let Some(hold) = holds.newest().copied() {
            step()?;
            host.0.borrow_mut().remove(&hold);
            holds.released();
            died = step().is_err();
            if died {
                break;
            }
        }
        if died {
            return Err(Stop::Died);
        }
        holds.settle(BOOT).map_err(Stop::from)
    };
    run.await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_at_any_step_leaks_nothing_after_recovery() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("holds");
    for death in 1.. {
        let host = Host::default();
        let whole = life(&path, &host, death).await;
        if let Some(mut holds) = Holds::<u32>::load(path.clone(), BOOT).unwrap() {
            give_back(&mut holds, |hold| {
                host.0.borrow_mut().remove(&hold);
                Ok(())
            })
            .unwrap();
        }
        assert!(host.0.borrow().is_empty(), "death at step {death} leaked {:?}", host.0);
        assert!(!path.exists(), "death at step {death} left the journal");
        if whole {
            assert!(death > 10, "the scenario has more steps than {death}");
            return;
        }
    }
}

#[test]
fn what_will_not_go_stays_on_top_and_the_next_call_resumes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("holds");
    let mut holds = Holds::new(path.clone());
    holds.note([1u32, 2, 3], BOOT).unwrap();
    let stuck = give_back(&mut holds, |hold| if hold == 2 { Err(Stop::Died) } else { Ok(()) });
    assert!(matches!(stuck, Err(Stop::Died)));
    assert_eq!(Holds::<u32>::load(path.clone(), BOOT).unwrap().unwrap().noted(), [1, 2]);
    give_back(&mut holds, |_hold| Ok(())).unwrap();
    assert!(!path.exists());
}

#[test]
fn a_journal_of_another_boot_is_void() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("holds");
    Holds::new(path.clone()).note([1u32], "another boot").unwrap();
    assert!(Holds::<u32>::load(path, BOOT).unwrap().is_none());
}
