//! The reader keeps the valid beginning of whatever it is given, and says what is wrong with the rest.

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn entry(sequence: u64) -> Entry {
    Entry {
        format: 1,
        sequence,
        time: Timestamp::UNIX_EPOCH,
        model: Some("income".parse().unwrap()),
        generation: sequence,
        change: Change::AliasSet { alias: "champion".parse().unwrap(), version: VersionNumber(sequence) },
    }
}

fn lines(count: u64) -> Vec<u8> {
    (1..=count).flat_map(|sequence| sealed::seal(&entry(sequence))).collect()
}

fn sequences(scan: &Scan) -> Vec<u64> {
    scan.entries.iter().map(|placed| placed.entry.sequence).collect()
}

#[test]
fn what_is_appended_is_read_again() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("journal.jsonl");
    let mut journal = Journal::open(path.clone(), 0).unwrap();
    let offsets: Vec<u64> = (1..=3).map(|sequence| journal.append(&entry(sequence)).unwrap()).collect();
    let found = scan(&read_from(&path, 0).unwrap(), 0);
    assert_eq!(sequences(&found), [1, 2, 3]);
    assert_eq!(found.entries.iter().map(|placed| placed.offset).collect::<Vec<_>>(), offsets);
    assert_eq!((found.torn_bytes, found.damage.len()), (0, 0));
    let tail = scan(&read_from(&path, offsets[1]).unwrap(), offsets[1]);
    assert_eq!(sequences(&tail), [2, 3]);
    assert_eq!(tail.intact_length, found.intact_length);
}

#[test]
fn a_torn_line_is_cut_off_and_the_next_one_takes_its_place() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("journal.jsonl");
    let whole = lines(2);
    for cut in 1..sealed::seal(&entry(2)).len() {
        std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        let found = scan(&read_from(&path, 0).unwrap(), 0);
        assert_eq!(sequences(&found), [1], "cut by {cut}");
        assert!(found.damage.is_empty());
        let mut journal = Journal::open(path.clone(), found.intact_length).unwrap();
        journal.append(&entry(2)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), whole);
    }
}

#[test]
fn damage_before_the_end_is_not_taken_for_a_torn_line() {
    let mut bytes = lines(3);
    let second = sealed::seal(&entry(1)).len() + 5;
    bytes[second] ^= 1;
    let found = scan(&bytes, 0);
    assert_eq!(sequences(&found), [1, 3]);
    assert_eq!(found.damage.len(), 2, "{:?}", found.damage);
    assert!(matches!(found.sound(), Err(RegistryError::Corrupt(_))));
}

#[test]
fn a_missing_line_is_damage() {
    let mut bytes = lines(1);
    bytes.extend(sealed::seal(&entry(3)));
    assert_eq!(scan(&bytes, 0).damage.len(), 1);
}

#[test]
fn a_newer_format_is_named_and_never_cut_off() {
    let mut bytes = lines(1);
    bytes.extend(sealed::seal(&serde_json::json!({"format": 5, "sequence": 2, "change": "unheard of"})));
    let found = scan(&bytes, 0);
    assert_eq!(found.intact_length, bytes.len() as u64);
    assert!(matches!(found.sound(), Err(RegistryError::NewerFormat { found: 5, known: 4, .. })));
}

#[test]
fn a_stopped_journal_refuses() {
    let folder = TempDir::new().unwrap();
    let mut journal = Journal::open(folder.path().join("journal.jsonl"), 0).unwrap();
    journal.stop();
    assert!(matches!(journal.append(&entry(1)), Err(RegistryError::Stopped)));
}

#[test]
fn a_failed_write_stops_or_takes_back() {
    // Every write to this device fails with "no space left", and it cannot be truncated.
    let file = File::options().append(true).open("/dev/full").unwrap();
    let mut journal = Journal { file, path: "/dev/full".into(), length: 0, stopped: false };
    assert!(matches!(journal.append(&entry(1)), Err(RegistryError::Io { .. })));
    assert!(journal.is_stopped());
    assert!(matches!(journal.append(&entry(1)), Err(RegistryError::Stopped)));
}

proptest! {
    #[test]
    fn any_bytes_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let found = scan(&bytes, 0);
        prop_assert_eq!(found.intact_length + found.torn_bytes, bytes.len() as u64);
        prop_assert!(found.entries.is_empty());
    }

    #[test]
    fn the_valid_beginning_is_kept(
        count in 0_u64..6,
        cut in 0_usize..400,
        garbage in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let whole = lines(count);
        let kept = whole.len().saturating_sub(cut);
        let mut bytes = whole[..kept].to_vec();
        bytes.extend(&garbage);
        let found = scan(&bytes, 0);
        let complete = whole[..kept].iter().filter(|byte| **byte == b'\n').count() as u64;
        // Garbage may by chance complete the line that was cut, by its first bytes.
        prop_assert!(found.entries.len() as u64 >= complete && found.entries.len() as u64 <= complete + 1);
        let expected: Vec<u64> = (1..=found.entries.len() as u64).collect();
        prop_assert_eq!(sequences(&found), expected);
        prop_assert!(found.damage.is_empty());
    }
}
