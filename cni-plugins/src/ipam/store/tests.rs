use super::*;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_lease_is_a_file_that_others_understand() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("net");
    let mut cache = LeaseCache::default();
    let mut leases = Leases::lock(&directory, &mut cache).unwrap();
    assert_eq!(leases.take(address("10.0.0.2"), "c1", "eth0").unwrap(), Taking::Done);
    assert_eq!(leases.take(address("10.0.0.2"), "c2", "eth0").unwrap(), Taking::TakenAlready);
    leases.note_last(0, address("10.0.0.2")).unwrap();
    assert_eq!(fs::read_to_string(directory.join("10.0.0.2")).unwrap(), "c1\r\neth0");
    assert_eq!(fs::read_to_string(directory.join("last_reserved_ip.0")).unwrap(), "10.0.0.2");
    assert_eq!(leases.last(0), Some(address("10.0.0.2")));
}

#[test]
fn leases_of_others_and_old_ones_without_an_interface_are_found() {
    let root = tempfile::tempdir().unwrap();
    File::create(root.path().join("10.0.0.3")).unwrap().write_all(b"  old-style \n").unwrap();
    File::create(root.path().join("10.0.0.4")).unwrap().write_all(b"c1\r\neth1").unwrap();
    File::create(root.path().join("unrelated")).unwrap();
    let mut cache = LeaseCache::default();
    let leases = Leases::lock(root.path(), &mut cache).unwrap();
    assert_eq!(leases.of("old-style", "eth0"), [address("10.0.0.3")]);
    assert_eq!(leases.of("c1", "eth1"), [address("10.0.0.4")]);
    assert!(leases.of("c1", "eth0").is_empty());
}

#[test]
fn an_empty_file_is_freed_once_it_is_old() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("10.0.0.3");
    let file = File::create(&path).unwrap();
    let mut cache = LeaseCache::default();
    assert!(Leases::lock(root.path(), &mut cache).unwrap().is_taken(address("10.0.0.3")));
    file.set_modified(SystemTime::now() - Duration::from_secs(120)).unwrap();
    let mut cache = LeaseCache::default();
    assert!(!Leases::lock(root.path(), &mut cache).unwrap().is_taken(address("10.0.0.3")));
    assert!(!path.exists());
}

#[test]
fn what_another_process_changes_is_seen_at_the_next_lock() {
    let root = tempfile::tempdir().unwrap();
    let (mut ours, mut theirs) = (LeaseCache::default(), LeaseCache::default());
    Leases::lock(root.path(), &mut ours).unwrap().take(address("10.0.0.2"), "c1", "eth0").unwrap();
    Leases::lock(root.path(), &mut theirs)
        .unwrap()
        .take(address("10.0.0.3"), "c2", "eth0")
        .unwrap();
    let leases = Leases::lock(root.path(), &mut ours).unwrap();
    assert!(leases.is_taken(address("10.0.0.2")) && leases.is_taken(address("10.0.0.3")));
}

#[test]
fn a_lease_that_changed_hands_is_not_released() {
    let root = tempfile::tempdir().unwrap();
    let mut cache = LeaseCache::default();
    let mut leases = Leases::lock(root.path(), &mut cache).unwrap();
    leases.take(address("10.0.0.2"), "c1", "eth0").unwrap();
    let path = root.path().join("10.0.0.2");
    File::create(&path).unwrap().write_all(b"other\r\neth0").unwrap();
    leases.release(address("10.0.0.2")).unwrap();
    assert!(path.exists());
    leases.release(address("10.0.0.2")).unwrap();
}

#[test]
fn the_note_of_the_last_address_is_exact_also_when_it_gets_shorter() {
    let root = tempfile::tempdir().unwrap();
    let mut cache = LeaseCache::default();
    let leases = Leases::lock(root.path(), &mut cache).unwrap();
    for text in ["10.0.0.200", "10.0.0.2", "fd00::1234", "10.0.0.31"] {
        leases.note_last(0, address(text)).unwrap();
        assert_eq!(fs::read_to_string(root.path().join("last_reserved_ip.0")).unwrap(), text);
    }
}
