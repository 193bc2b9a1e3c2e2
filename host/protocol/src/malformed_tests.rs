//! Requests that must be refused, each with the words that its message must hold, and requests at the edge
//! that must be accepted.

use bytes::Bytes;
use modelhost_core::{Datatype, Tensor};

use crate::{InferRequest, decode_json_request};

/// A request with one input named "x", whose remaining fields are given.
fn request(fields: &str) -> String {
    format!(r#"{{"inputs":[{{"name":"x",{fields}}}]}}"#)
}

fn input(datatype: &str, shape: &str, data: &str) -> String {
    request(&format!(r#""shape":{shape},"datatype":"{datatype}","data":{data}"#))
}

fn decode(datatype: &str, shape: &str, data: &str) -> Tensor {
    let body = input(datatype, shape, data);
    let mut request = decode_json_request(body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error}"));
    request.inputs.remove(0).1
}

#[track_caller]
fn refused(body: impl AsRef<[u8]>, words: &[&str]) {
    let body = body.as_ref();
    let shown = String::from_utf8_lossy(body).chars().take(200).collect::<String>();
    let message = match decode_json_request(body) {
        Ok(request) => panic!("{shown} was accepted as {request:?}"),
        Err(error) => error.to_string(),
    };
    for word in words {
        assert!(message.contains(word), "{shown}: {message:?} does not say {word:?}");
    }
    assert!(message.len() < 700, "{shown}: the message is {} bytes long", message.len());
}

#[test]
fn bodies_that_are_no_request() {
    refused("", &["empty"]);
    refused(" ", &["not an inference request"]);
    refused("null", &["expected an object"]);
    refused("[]", &["expected an object"]);
    refused(r#"[null,null,[]]"#, &["expected an object"]);
    refused("{}", &["missing field `inputs`"]);
    refused(r#"{"inputs":null}"#, &["null"]);
    refused(r#"{"inputs":{}}"#, &["expected an array"]);
    refused(r#"{"inputs":[["x",[1],"FP32"]]}"#, &["expected an object"]);
    refused(r#"{"inputs":[]"#, &["EOF"]);
    refused(r#"{"inputs":[]}}"#, &["trailing"]);
    refused(r#"{"inputs":[]} x"#, &["trailing"]);
    refused(b"{\"inputs\":[]}\0", &["trailing"]);
    refused(r#"{"inputs":[],}"#, &["trailing comma"]);
    refused(b"{\"inputs\":[\xff]}", &["not UTF-8 from byte 11"]);
    refused(b"{\"ignored\":\"\xc3\x28\",\"inputs\":[]}", &["not UTF-8"]);
    refused(r#"{"inputs":[],"inputs":[]}"#, &["duplicate field `inputs`"]);
    refused(r#"{"id":7,"inputs":[]}"#, &["integer `7`", "string"]);
    refused("[".repeat(1_000_000), &["expected an object"]);
    let one = r#"{"name":"x","shape":[0],"datatype":"INT8","data":[]}"#;
    refused(format!(r#"{{"inputs":[{}]}}"#, vec![one; 1025].join(",")), &["at most 1024"]);
    refused(
        format!(r#"{{"inputs":[],"outputs":[{}]}}"#, vec![r#"{"name":"y"}"#; 1025].join(",")),
        &["at most 1024"],
    );
}

#[test]
fn tensors_that_lack_something() {
    refused(r#"{"inputs":[{}]}"#, &["missing field `name`"]);
    refused(request(r#""datatype":"FP32","data":[1]"#), &["missing field `shape`"]);
    refused(request(r#""shape":[1],"data":[1]"#), &["missing field `datatype`"]);
    refused(request(r#""shape":[1],"datatype":"FP32""#), &["\"x\"", "no data"]);
    refused(request(r#""shape":[1],"datatype":"FP32","data":null"#), &["\"x\"", "no data"]);
    refused(request(r#""shape":[1],"datatype":"FP32","data":[1],"data":[1]"#), &["duplicate field `data`"]);
    refused(request(r#""name":"y","shape":[1],"datatype":"FP32","data":[1]"#), &["duplicate field `name`"]);
    refused(r#"{"inputs":[{"name":1,"shape":[1],"datatype":"FP32","data":[1]}]}"#, &["string"]);
}

#[test]
fn datatypes_that_are_not_known_or_have_no_json_form() {
    refused(input("FLOAT", "[1]", "[1]"), &["\"x\"", "\"FLOAT\"", "FP32"]);
    refused(input("fp32", "[1]", "[1]"), &["\"fp32\""]);
    refused(input("", "[1]", "[1]"), &["datatype \"\""]);
    refused(input("FP16", "[1]", "[1]"), &["\"x\"", "FP16", "binary only"]);
    refused(input("BF16", "[1]", "[1]"), &["\"x\"", "BF16", "binary only"]);
    refused(input(&"A".repeat(100_000), "[1]", "[1]"), &["AAAA…"]);
}

#[test]
fn shapes_that_are_none() {
    for shape in
        ["[-1]", "[1.0]", "[0.5]", "[\"1\"]", "[true]", "[null]", "5", "\"[1]\"", "{}", "[[1]]", "[1e0]"]
    {
        refused(input("FP32", shape, "[1]"), &["\"x\"", "shape", "whole numbers"]);
    }
    refused(input("FP32", "[18446744073709551616]", "[1]"), &["whole numbers"]);
    refused(input("FP32", &format!("[{}1]", "1,".repeat(16)), "[1]"), &["at most 16"]);
}

#[test]
fn shapes_that_the_data_does_not_have() {
    refused(input("FP32", "[3]", "[1]"), &["\"x\"", "1 elements", "[3]", "takes 3"]);
    refused(input("FP32", "[1]", "[1,2]"), &["more than 1 elements"]);
    refused(input("FP32", "[1]", "[]"), &["0 elements"]);
    refused(input("FP32", "[]", "[]"), &["0 elements"]);
    refused(input("FP32", "[0]", "[1]"), &["more than 0 elements"]);
    refused(input("FP32", "[1000000000000]", "[1]"), &["1 elements", "1000000000000"]);
    refused(input("FP64", "[4611686018427387904]", "[1]"), &["1 elements"]);
    refused(input("FP32", "[4294967296,4294967296]", "[1]"), &["too many elements"]);
    refused(input("BYTES", "[2]", r#"["a"]"#), &["1 elements"]);
}

#[test]
fn nesting_that_the_shape_does_not_have() {
    refused(input("INT8", "[2,2]", "[[1,2],[3]]"), &["dimension 1", "1 items", "takes 2"]);
    refused(input("INT8", "[2,2]", "[[1,2],[3,4,5]]"), &["dimension 1", "more than 2 items"]);
    refused(input("INT8", "[2,2]", "[[1,2]]"), &["dimension 0", "1 items"]);
    refused(input("INT8", "[2,2]", "[[1,2],[3,4],[5,6]]"), &["dimension 0", "more than 2 items"]);
    refused(input("INT8", "[2,2]", "[[1,2],3,4]"), &["element 2", "outside"]);
    refused(input("INT8", "[2,2]", "[1,2,[3,4]]"), &["array at element 2"]);
    refused(input("INT8", "[2,2]", "[[1,2],[3,[4]]]"), &["array at element 3"]);
    refused(input("INT8", "[2,2]", "[[[1,2],[3,4]]]"), &["array at element 0"]);
    refused(input("INT8", "[4]", "[[1,2,3,4]]"), &["array at element 0"]);
    refused(input("INT8", "[]", "[[1]]"), &["array at element 0"]);
    refused(input("INT8", "[1,1]", &format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))), &["\"x\""]);
    refused(input("INT8", "[0,2]", "[[]]"), &["more than 0 items"]);
}

#[test]
fn data_that_is_no_array() {
    for data in ["1", "\"1\"", "true", "{}", "{\"0\":1}"] {
        refused(input("FP32", "[1]", data), &["\"x\"", "expected an array"]);
    }
}

#[test]
fn elements_that_the_datatype_does_not_have() {
    let cases = [
        ("UINT8", "300", "0 to 255"),
        ("UINT8", "-1", "0 to 255"),
        ("UINT8", "3.0", "without fraction"),
        ("UINT8", "1e2", "without fraction or exponent"),
        ("INT8", "128", "-128 to 127"),
        ("UINT16", "65536", "0 to 65535"),
        ("INT16", "-32769", "-32768 to 32767"),
        ("UINT32", "4294967296", "0 to 4294967295"),
        ("INT32", "2147483648", "-2147483648 to 2147483647"),
        ("UINT64", "18446744073709551616", "0 to 18446744073709551615"),
        ("INT64", "9223372036854775808", "to 9223372036854775807"),
        ("INT64", "true", "integers"),
        ("INT64", "\"1\"", "integers"),
        ("INT64", "null", "integers"),
        ("INT64", "{\"a\":1}", "integers"),
        ("FP32", "1e39", "FP32 takes numbers"),
        ("FP32", "-1e400", "FP32 takes numbers"),
        ("FP64", "1e400", "FP64 takes numbers"),
        ("FP64", "true", "FP64 takes numbers"),
        ("FP64", "\"1\"", "FP64 takes numbers"),
        ("FP64", "null", "FP64 takes numbers"),
        ("BOOL", "1", "true or false"),
        ("BOOL", "0.0", "true or false"),
        ("BOOL", "\"true\"", "true or false"),
        ("BYTES", "1", "strings"),
        ("BYTES", "null", "strings"),
        ("BYTES", r#""\ud800""#, "Unicode"),
    ];
    for (datatype, element, expectation) in cases {
        let good = match datatype {
            "BOOL" => "true",
            "BYTES" => "\"\"",
            _ => "1",
        };
        let body = input(datatype, "[3]", &format!("[{good}, {element} ,{good}]"));
        let found = element.split('}').next().unwrap_or(element);
        refused(&body, &["\"x\"", "element 1", datatype, found, expectation]);
    }
    for literal in ["NaN", "Infinity", "-Infinity", "nan", "01", "+1", "1.", ".5", "0x1", "1_0", "'a'"] {
        refused(input("FP32", "[1]", &format!("[{literal}]")), &["not an inference request"]);
    }
}

#[test]
fn messages_stay_short() {
    refused(input("INT8", "[1]", &format!("[\"{}\"]", "ü".repeat(100_000))), &["…"]);
    refused(input("INT8", &format!("[{}]", "x".repeat(3)), "[1]"), &[]);
    let long_name = "n".repeat(100_000);
    refused(
        format!(r#"{{"inputs":[{{"name":"{long_name}","shape":[1],"datatype":"INT8","data":[]}}]}}"#),
        &["…"],
    );
}

#[test]
fn parameters_are_strings_numbers_or_booleans() {
    for value in ["null", "[]", "{}", "[1]"] {
        refused(format!(r#"{{"parameters":{{"p":{value}}},"inputs":[]}}"#), &["parameter"]);
    }
    refused(r#"{"parameters":[],"inputs":[]}"#, &["object of parameters"]);
    refused(r#"{"parameters":{"p":1,"p":2},"inputs":[]}"#, &["\"p\"", "more than once"]);
    refused(r#"{"parameters":{"p":9223372036854775808},"inputs":[]}"#, &["9223372036854775808"]);
    let many: Vec<String> = (0..300).map(|index| format!(r#""p{index}":1"#)).collect();
    refused(format!(r#"{{"parameters":{{{}}},"inputs":[]}}"#, many.join(",")), &["more than 256"]);
    for timeout in ["0", "-5", "1.5", "\"1\"", "true"] {
        refused(
            format!(r#"{{"parameters":{{"timeout":{timeout}}},"inputs":[]}}"#),
            &["timeout", "microseconds"],
        );
    }
}

fn decode_binary(json: &str, binary: &[u8], json_bytes: Option<usize>) -> Result<InferRequest, String> {
    let body = Bytes::from([json.as_bytes(), binary].concat());
    crate::decode_request(&body, json_bytes).map_err(|error| error.to_string())
}

#[test]
fn binary_tensors_are_slices_of_the_body() {
    let json = r#"{"inputs":[
        {"name":"a","shape":[2],"datatype":"FP16","parameters":{"binary_data_size":4}},
        {"name":"b","shape":[1],"datatype":"INT8","data":[5]},
        {"name":"c","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":6}},
        {"name":"d","shape":[0,7],"datatype":"FP64","parameters":{"binary_data_size":0}}],
        "parameters":{"binary_data_output":true},
        "outputs":[{"name":"y","parameters":{"binary_data":false}},{"name":"z"}]}"#;
    let body = Bytes::from([json.as_bytes(), b"\x01\x02\x03\x04", b"\x02\0\0\0\xff\xfe"].concat());
    let request = crate::decode_request(&body, Some(json.len())).unwrap();
    let data: Vec<&[u8]> = request.inputs.iter().map(|(_, tensor)| tensor.data().as_ref()).collect();
    assert_eq!(data, [&[1, 2, 3, 4][..], &[5], &[2, 0, 0, 0, 255, 254], &[]]);
    assert_eq!(data[0].as_ptr(), body[json.len()..].as_ptr());
    assert!(request.binary_output && request.parameters.is_empty());
    assert_eq!(request.outputs.iter().map(|output| output.binary).collect::<Vec<_>>(), [Some(false), None]);
}

#[test]
fn binary_tensors_that_do_not_fit() {
    let json = |fields: &str| request(&format!(r#""shape":[1],"datatype":"FP32",{fields}"#));
    let sized = |size: &str| json(&format!(r#""parameters":{{"binary_data_size":{size}}}"#));
    let refused = |json: &str, binary: &[u8], json_bytes: Option<usize>, words: &[&str]| {
        let message = decode_binary(json, binary, json_bytes).unwrap_err();
        for word in words {
            assert!(message.contains(word), "{json}: {message:?} does not say {word:?}");
        }
    };
    let four = sized("4");
    refused(&four, &[0; 4], None, &["trailing"]);
    refused(&four, &[], None, &["\"x\"", "expected the header Inference-Header-Content-Length"]);
    refused(&four, &[0; 3], Some(four.len()), &["\"x\"", "binary_data_size 4", "only 3"]);
    refused(&four, &[0; 9], Some(four.len()), &["5 bytes", "expected none"]);
    refused(
        &four,
        &[0; 4],
        Some(four.len() + 5),
        &["Inference-Header-Content-Length says", "no more can be JSON"],
    );
    refused(&four, &[0; 4], Some(4), &["not an inference request"]);
    for size in ["-1", "1.5", "true", "\"4\"", "-9223372036854775808"] {
        let json = sized(size);
        refused(&json, &[0; 4], Some(json.len()), &["\"x\"", "whole number from 0 up"]);
    }
    let huge = sized("9223372036854775807");
    refused(&huge, &[0; 4], Some(huge.len()), &["only 4"]);
    let other = sized("8");
    refused(&other, &[0; 8], Some(other.len()), &["\"x\"", "takes 4 bytes", "8 were given"]);
    let twice = json(r#""data":[1],"parameters":{"binary_data_size":4}"#);
    refused(&twice, &[0; 4], Some(twice.len()), &["\"x\"", "both"]);
    let cut_off = request(r#""shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":4}"#);
    refused(&cut_off, &[9, 0, 0, 0], Some(cut_off.len()), &["\"x\"", "cut off"]);
    let flag = r#"{"parameters":{"binary_data_output":1},"inputs":[]}"#;
    refused(flag, &[], None, &["\"binary_data_output\"", "true or false"]);
}

#[test]
fn what_is_part_of_a_json_text_has_no_binary_answer() {
    refused(r#"{"parameters":{"binary_data_output":true},"inputs":[]}"#, &["binary", "JSON"]);
    refused(
        r#"{"inputs":[],"outputs":[{"name":"y","parameters":{"binary_data":true}}]}"#,
        &["binary", "JSON"],
    );
}

#[test]
fn a_whole_request() {
    let body = r#" {"model_name":"m","id":"a\"b","ignored":{"x":[1,{"y":null}]},
        "parameters":{"text":"t","whole":-3,"real":1.5,"yes":true,"timeout":2500,"binary_data_output":false},
        "inputs":[{"data":[[1,2],[3,4]],"extra":1,"datatype":"INT16","shape":[2,2],"name":"x"},
                  {"name":"y","shape":[1],"datatype":"BYTES","parameters":{"content_type":"str"},"data":["z"]}],
        "outputs":[{"name":"b"},{"name":"a","parameters":{"binary_data":false}}]} "#;
    let request = decode_json_request(body.as_bytes()).unwrap();
    assert_eq!(request.id.as_deref(), Some("a\"b"));
    assert_eq!(request.timeout, Some(std::time::Duration::from_micros(2500)));
    let names: Vec<&str> = request.parameters.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["text", "whole", "real", "yes"]);
    let names: Vec<&str> = request.outputs.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(names, ["b", "a"]);
    let (name, tensor) = &request.inputs[0];
    assert_eq!((name.as_str(), tensor.datatype(), tensor.shape()), ("x", Datatype::Int16, &[2, 2][..]));
    assert_eq!(tensor.data().as_ref(), [1, 0, 2, 0, 3, 0, 4, 0]);
    assert_eq!(request.inputs[1].1.bytes_elements().collect::<Vec<_>>(), [b"z"]);
}

#[test]
fn values_at_the_edge() {
    let uint64 = decode("UINT64", "[2]", "[18446744073709551615,9007199254740993]");
    assert_eq!(uint64.data()[..8], u64::MAX.to_le_bytes());
    assert_eq!(uint64.data()[8..], 9_007_199_254_740_993_u64.to_le_bytes());
    assert_eq!(decode("INT64", "[1]", "[-9223372036854775808]").data()[..], i64::MIN.to_le_bytes());
    assert_eq!(
        decode("FP32", "[2]", "[1,-0.0]").data()[..],
        [1_f32.to_le_bytes(), (-0_f32).to_le_bytes()].concat()
    );
    // Rounded once: by way of FP64 this one would become 1.
    assert_eq!(decode("FP32", "[1]", "[1.00000005960464484]").data()[..], 1.000_000_1_f32.to_le_bytes());
    assert_eq!(decode("FP64", "[1]", "[1e-400]").data()[..], 0_f64.to_le_bytes());
    assert_eq!(decode("FP64", "[]", "[2.5E+1]").data()[..], 25_f64.to_le_bytes());
    assert_eq!(decode("BOOL", "[1,2]", " [ [ true , false ] ] ").data()[..], [1, 0]);
    assert_eq!(decode("FP32", "[2,0]", "[[],[]]").elements(), 0);
    assert_eq!(decode("FP32", "[2,0]", "[]").elements(), 0);
    assert_eq!(decode("FP32", "[0,3]", "[]").elements(), 0);
    assert_eq!(decode("INT8", "[2,1,2]", "[1,2,3,4]"), decode("INT8", "[2,1,2]", "[[[1,2]],[[3,4]]]"));
    let texts = decode("BYTES", "[5]", r#"["","a,]b","\"\\","\ud83d\ude00\n","zw\u00f6lf]["]"#);
    let texts: Vec<&[u8]> = texts.bytes_elements().collect();
    assert_eq!(texts, ["", "a,]b", "\"\\", "😀\n", "zwölf]["].map(str::as_bytes));
}
