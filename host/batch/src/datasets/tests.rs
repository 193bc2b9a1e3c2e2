//! What jobs and tables rely on: publishing, holding, reading.

use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::DataType;
use jiff::Timestamp;
use modelhost_registry::Registry;
use object_store::ObjectStoreExt as _;

use super::*;

struct Desk {
    folder: TempDir,
    datasets: Arc<Datasets>,
}

impl Desk {
    async fn new() -> Desk {
        Desk::at(TempDir::new().unwrap()).await
    }

    async fn at(folder: TempDir) -> Desk {
        let registry = Arc::new(Registry::open(folder.path()).unwrap());
        let settings = BatchSettings { threads: 2, ..BatchSettings::default() };
        let work = Work::start(&settings).unwrap();
        let datasets = Datasets::open(registry, &settings, work).await.unwrap();
        Desk { folder, datasets }
    }

    /// What a job publishes: files of its own in the data folder.
    fn new_version(&self, job: Option<&str>, texts: &[&str]) -> NewVersion {
        let file = |(index, text): (usize, &&str)| {
            let path = self.folder.path().join(format!("part-{index}.csv"));
            fs::write(&path, text).unwrap();
            let rows = text.lines().count() as u64 - 1;
            let origin = Origin::Local { path, digest: None };
            NewFile { name: format!("part-{index}.csv"), rows, bytes: text.len() as u64, origin }
        };
        let column = Column { name: "n".to_owned(), data_type: DataType::Int64, nullable: true };
        let lineage = job.map(|job| Lineage {
            input: "input@1".parse().unwrap(),
            model: "m".parse().unwrap(),
            model_version: VersionNumber(1),
            model_digest: Digest::of(b"m"),
            job: job.to_owned(),
            by: None,
            began: None,
            time: Timestamp::now(),
        });
        NewVersion {
            name: "output".parse().unwrap(),
            by: None,
            format: DataFormat::Csv,
            schema: DatasetSchema { columns: vec![column] },
            card: DatasetCard::default(),
            lineage,
            files: texts.iter().enumerate().map(file).collect(),
        }
    }

    fn stored(&self) -> usize {
        self.folder.path().join(FOLDER).read_dir().unwrap().count()
    }
}

#[tokio::test]
async fn a_job_may_publish_again_what_it_published() {
    let desk = Desk::new().await;
    let datasets = &desk.datasets;
    let first = datasets.commit_version(desk.new_version(Some("1"), &["n\n1\n2\n", "n\n3\n"])).await.unwrap();
    assert!(first.created);
    assert_eq!((first.version.rows, first.version.bytes, first.version.files.len()), (3, 10, 2));
    let again = datasets.commit_version(desk.new_version(Some("1"), &["n\n1\n2\n", "n\n3\n"])).await.unwrap();
    assert!(!again.created);
    assert_eq!(again.version, first.version);
    // Another job that makes the same makes another version, of the same files.
    let other = datasets.commit_version(desk.new_version(Some("2"), &["n\n1\n2\n", "n\n3\n"])).await.unwrap();
    assert!(other.created && other.version.number == VersionNumber(2));
    assert_eq!(desk.stored(), 2);
    assert!(desk.folder.path().join("part-0.csv").exists());
}

#[tokio::test]
async fn what_does_not_fit_together_is_not_published() {
    let desk = Desk::new().await;
    let new = || desk.new_version(None, &["n\n1\n"]);
    let sensitive = DatasetCard { sensitive_columns: ["x".to_owned()].into(), ..DatasetCard::default() };
    let columnless = DatasetSchema { columns: Vec::new() };
    let missing = Origin::Local { path: desk.folder.path().join("missing"), digest: None };
    let mut without_file = new();
    without_file.files[0].origin = missing;
    for wrong in [
        NewVersion { card: sensitive, ..new() },
        NewVersion { schema: columnless, ..new() },
        NewVersion { files: Vec::new(), ..new() },
        without_file,
    ] {
        assert!(desk.datasets.commit_version(wrong).await.is_err());
    }
    assert_eq!(desk.stored(), 0);
    assert!(desk.datasets.all().unwrap().is_empty());
}

#[tokio::test]
async fn files_stay_where_the_record_may_be_there_after_a_restart() {
    let desk = Desk::new().await;
    let Desk { folder, datasets } = &desk;
    // No room for the line, and no way to take it back: whether it is there is not known.
    replace_with_a_full_device(&folder.path().join("journal.jsonl"));
    let refused = datasets.commit_version(desk.new_version(None, &["n\n1\n"])).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::StorageFull, "{refused}");
    assert_eq!(desk.stored(), 1);
    let refused = datasets.commit_version(desk.new_version(None, &["n\n2\n"])).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unavailable, "{refused}");
    let Desk { folder, datasets } = desk;
    drop(datasets);
    let reopened = Desk::at(folder).await;
    assert_eq!(reopened.stored(), 0, "it was not there");
}

/// Everything that is written to a file that this process has open fails from now on.
fn replace_with_a_full_device(path: &Path) {
    let path = path.canonicalize().unwrap();
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let open: Vec<PathBuf> =
        descriptors.filter(|link| fs::read_link(link).is_ok_and(|target| target == path)).collect();
    assert_eq!(open.len(), 1, "{open:?}");
    let number = open[0].file_name().unwrap().to_str().unwrap().parse().unwrap();
    let full = fs::File::options().append(true).open("/dev/full").unwrap();
    // SAFETY: the descriptor is open, in the journal of this test alone, and is not closed here.
    let mut descriptor = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
    rustix::io::dup2(&full, &mut descriptor).unwrap();
}

#[tokio::test]
async fn what_is_held_is_not_deleted() {
    let desk = Desk::new().await;
    let datasets = &desk.datasets;
    let version = datasets.commit_version(desk.new_version(None, &["n\n1\n"])).await.unwrap().version;
    let hold = datasets.hold(&version, "job 7").unwrap();
    let refused = datasets.delete(version.name.clone(), version.number).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert_eq!(refused.message, "version 1 of dataset \"output\" is needed by job 7");
    drop(hold);
    datasets.delete(version.name.clone(), version.number).await.unwrap();
    assert_eq!(datasets.hold(&version, "job 8").err().map(|error| error.code), Some(ErrorCode::NotFound));
    assert_eq!(desk.stored(), 0);
    assert!(datasets.table_provider(&version).is_ok(), "what it says is found when it is read");
}

#[tokio::test]
async fn files_and_tables_are_read_in_their_order() {
    let desk = Desk::new().await;
    let datasets = &desk.datasets;
    let texts: Vec<String> = (0..20).map(|file| format!("n\n{file}\n")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let version = datasets.commit_version(desk.new_version(None, &texts)).await.unwrap().version;
    let files = datasets.files(&version).unwrap();
    for (file, text) in files.iter().zip(&texts) {
        let bytes = file.store.get(&file.path).await.unwrap().bytes().await.unwrap();
        assert_eq!(bytes, text.as_bytes());
        assert_eq!(file.store.head(&file.path).await.unwrap().size, file.file.bytes);
        assert_eq!(file.store.get_range(&file.path, 2..3).await.unwrap(), text.as_bytes()[2..3]);
    }
    let preview = datasets.preview(&version, 20).await.unwrap();
    let rows: Vec<serde_json::Value> = serde_json::from_str(preview.get()).unwrap();
    let numbers: Vec<i64> = rows.iter().map(|row| row["n"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    let session = datasets.session();
    session.register_table("t", datasets.table_provider(&version).unwrap()).unwrap();
    let sum = session.sql("SELECT sum(n) AS sum FROM t").await.unwrap().collect().await.unwrap();
    let sum = arrow::util::display::array_value_to_string(sum[0].column(0), 0).unwrap();
    assert_eq!(sum, "190");
}

#[tokio::test]
async fn a_check_finds_what_was_damaged() {
    let desk = Desk::new().await;
    let one = desk.datasets.commit_version(desk.new_version(None, &["n\n1\n"])).await.unwrap().version;
    let two = desk.datasets.commit_version(desk.new_version(None, &["n\n2\n"])).await.unwrap().version;
    let Desk { folder, datasets } = desk;
    drop(datasets);
    let check = || {
        let records = Registry::check(folder.path()).unwrap().records;
        check_datasets(folder.path(), &records).unwrap()
    };
    let sound = check();
    assert_eq!((sound.versions, sound.files, sound.findings.len(), sound.notes.len()), (2, 2, 0, 0));
    let path = |version: &DatasetVersion| {
        let FileLocation::Stored { digest } = &version.files[0].location else { panic!("{version:?}") };
        folder.path().join(FOLDER).join(stored_name(digest, DataFormat::Csv))
    };
    fs::write(path(&one), "n\n9\n").unwrap();
    fs::remove_file(path(&two)).unwrap();
    fs::write(folder.path().join(FOLDER).join("stray"), "").unwrap();
    let damaged = check();
    assert_eq!((damaged.findings.len(), damaged.notes.len()), (2, 1), "{damaged:?}");
    assert!(
        damaged.findings[0].starts_with("dataset output@1: ") && damaged.findings[0].contains("is damaged")
    );
}
