//! A disk without room: a small file system in memory is mounted as the data folder. Only who may mount can run this;
//! for others it fails, unless they say that it is to be left out.

use modelhost_tests::folder;
use modelhost_tests::host::{Setup, wait_until};
use modelhost_tests::small_disk::SmallDisk;

use super::{CSV, put, put_plain, stored};

const BYTES: usize = 24 << 20;

#[test]
fn a_full_disk_is_said_and_nothing_is_half_there() {
    let setup = Setup::new();
    if std::env::var_os("MODELHOST_TEST_WITHOUT_MOUNT").is_some() {
        println!("NOT RUN: MODELHOST_TEST_WITHOUT_MOUNT is set, so that nothing is known about full disks");
        return;
    }
    let disk = SmallDisk::mount(setup.data_dir(), BYTES).expect(
        "a file system can be mounted (as root, or in a user namespace: unshare -rm), or MODELHOST_TEST_WITHOUT_MOUNT is set",
    );
    let host = setup.start();
    put(&host, "well", &[("income.csv", CSV)]).expect(201);
    let before = folder::listing(&host.data_dir());
    let rows = "1234567,some text that takes room\n".repeat(BYTES / 32);
    let large = format!("a,b\n{rows}");
    let refused = put_plain(&host, "new", &[("large.csv", large.as_bytes())]);
    assert!(refused.error(507).contains("no room left"), "{}", refused.text());
    wait_until("nothing is left", || folder::listing(&host.data_dir()) == before);
    host.get("/v1/datasets/new").error(404);
    // There is room for less and less, until there is none for the file, or for the record.
    let filler = host.data_dir().join("filler");
    let mut outcomes = Vec::new();
    for left in (0..80).rev().step_by(8) {
        disk.fill_all_but(&filler, left << 10);
        let answer = put_plain(&host, &format!("d{left}"), &[("income.csv", CSV)]);
        outcomes.push(answer.status);
        std::fs::remove_file(&filler).unwrap();
        if answer.status != 201 {
            break;
        }
    }
    assert_eq!(outcomes.last(), Some(&507), "{outcomes:?}");
    host.get("/v1/datasets/well/versions/1/preview").expect(200);
    let setup = host.stop();
    let checked = setup.check(&[]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    let host = setup.start();
    assert_eq!(stored(&host).len(), 1, "all of them have the same file");
    assert_eq!(folder::names(&host.data_dir().join("staging")), Vec::<String>::new());
    put_plain(&host, "after", &[("income.csv", CSV)]).expect(201);
    drop(host);
}
