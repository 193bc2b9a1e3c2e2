//! Networks whose data lies in files beside them.

use std::fs;
use std::path::Path;

use modelhost_inference::external_data::{ExternalDataError, read_whole};
use proptest::prelude::*;
use prost::Message as _;
use tract_onnx::pb::StringStringEntryProto;
use tract_onnx::pb::tensor_proto::DataLocation;

use crate::onnx::linear;
use crate::values::{floats, run, to_floats};

/// `linear` with its weights in another file, as exporters write it.
fn with_data_outside(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut model = linear().model();
    let weights = &mut model.graph.as_mut().unwrap().initializer[0];
    weights.raw_data.clear();
    weights.data_location = Some(DataLocation::External as i32);
    let entry =
        |(key, value): &(&str, &str)| StringStringEntryProto { key: (*key).into(), value: (*value).into() };
    weights.external_data = entries.iter().map(entry).collect();
    model.encode_to_vec()
}

/// The weights of `linear`, behind some bytes of something else.
fn data(before: usize) -> Vec<u8> {
    let weights = [1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0].iter().flat_map(|value| value.to_le_bytes());
    vec![0xee; before].into_iter().chain(weights).collect()
}

/// A folder with the network and its data, and the outcome of reading it.
fn read(network: &[u8], files: &[(&str, &[u8])]) -> Result<Vec<u8>, ExternalDataError> {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), network, files);
    read_whole(&folder.path().join("model.onnx"))
}

fn write(folder: &Path, network: &[u8], files: &[(&str, &[u8])]) {
    fs::write(folder.join("model.onnx"), network).unwrap();
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn data_beside_a_network_becomes_part_of_it() {
    let cases = [
        (vec![("location", "model.onnx.data")], 0, "model.onnx.data"),
        (vec![("location", "model.onnx.data"), ("offset", "64"), ("length", "24")], 64, "model.onnx.data"),
        (vec![("location", "./weights/w.bin"), ("offset", "8")], 8, "weights/w.bin"),
    ];
    for (entries, before, file) in cases {
        let whole = read(&with_data_outside(&entries), &[(file, &data(before))]).unwrap();
        let outputs = run(&whole, vec![floats(&[1, 3], &[1.0, 1.0, 1.0])]).unwrap();
        assert_eq!(to_floats(&outputs[0]), [19.0, 32.0], "{entries:?}");
    }
}

#[test]
fn what_has_no_data_beside_it_stays_as_it_is() {
    let onnx = linear().build();
    assert_eq!(read(&onnx, &[]).unwrap(), onnx);
    assert_eq!(read(b"no network", &[]).unwrap(), b"no network");
}

#[test]
fn only_files_in_the_folder_are_read() {
    for location in ["../secret", "/etc/passwd", "a/../../secret", ""] {
        let error = read(&with_data_outside(&[("location", location)]), &[]).unwrap_err();
        assert!(matches!(error, ExternalDataError::Outside { .. }), "{location}: {error}");
        assert!(error.to_string().contains("within the folder"), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn symbolic_links_do_not_lead_out() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), data(0)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &with_data_outside(&[("location", "link/secret")]), &[]);
    std::os::unix::fs::symlink(outside.path(), folder.path().join("link")).unwrap();
    let error = read_whole(&folder.path().join("model.onnx")).unwrap_err();
    assert!(matches!(error, ExternalDataError::Outside { .. }), "{error}");
}

#[test]
fn places_that_a_file_does_not_have_are_refused() {
    let file = data(0);
    let refused = |entries: &[(&str, &str)]| {
        let entries = [&[("location", "d")], entries].concat();
        read(&with_data_outside(&entries), &[("d", &file)]).unwrap_err().to_string()
    };
    assert!(refused(&[("length", "25")]).contains("takes 25 bytes from byte 0"));
    assert!(refused(&[("offset", "1"), ("length", "24")]).contains("which has 24 bytes"));
    assert!(refused(&[("offset", "18446744073709551615"), ("length", "2")]).contains("takes 2 bytes"));
    assert!(refused(&[("offset", "-1")]).contains("expected a number"));
    assert!(refused(&[("length", "many")]).contains("expected a number"));
    let missing = read(&with_data_outside(&[("location", "d")]), &[]).unwrap_err();
    assert!(matches!(missing, ExternalDataError::Read { .. }), "{missing}");
}

#[test]
fn more_than_one_file_may_hold_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &with_data_outside(&[("location", "d")]), &[]);
    // Without a single block on the disk.
    fs::File::create(folder.path().join("d")).unwrap().set_len(3 << 30).unwrap();
    let error = read_whole(&folder.path().join("model.onnx")).unwrap_err();
    assert!(matches!(error, ExternalDataError::TooLarge { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_files_never_panic(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut network = with_data_outside(&[("location", "d"), ("offset", "0"), ("length", "24")]);
        for (index, byte) in changes {
            let at = index.index(network.len());
            network[at] = byte;
        }
        let _ = read(&network, &[("d", &data(0))]);
    }
}
