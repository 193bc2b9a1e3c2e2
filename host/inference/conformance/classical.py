"""Writes more test cases for `examples/operator_conformance`: single operators of ai.onnx.ml and casts of texts, with
attributes drawn at random, answered by ONNX Runtime. Run by hand, with the packages named here.

    pip install onnx==1.23.2 onnxruntime==1.32.0 numpy
    python classical.py FOLDER
"""

import os
import random
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto as T
from onnx import helper, numpy_helper

OUT = sys.argv[1]
ML = "ai.onnx.ml"
pick = random.Random(1)
rng = np.random.default_rng(1)
KINDS = {"float32": T.FLOAT, "float64": T.DOUBLE, "int64": T.INT64, "int32": T.INT32, "object": T.STRING, "bool": T.BOOL}
POST = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"]
counts, skipped = {}, {}
ort.set_default_logger_severity(4)


def floats(*shape, scale=1.0):
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def listed(array):
    return [float(value) for value in np.ravel(array)]


def case(operator, inputs, outputs=1, constants=(), domain=ML, version=3, default=18, **attributes):
    number = counts[operator] = counts.get(operator, 0) + 1
    names = [f"i{index}" for index in range(len(inputs))]
    results = [f"o{index}" for index in range(outputs)]
    node = helper.make_node(operator, names, results, domain=domain, **attributes)
    made = [numpy_helper.from_array(inputs[index], names[index]) for index in constants]
    given = [(name, value) for index, (name, value) in enumerate(zip(names, inputs)) if index not in constants]
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(name, KINDS[value.dtype.name], value.shape) for name, value in given],
        [helper.make_empty_tensor_value_info(name) for name in results],
        made,
    )
    imports = [helper.make_opsetid("", default), helper.make_opsetid(ML, version)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    try:
        session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        answers = session.run(None, dict(given))
    except Exception as error:
        skipped.setdefault(f"{operator}: {str(error)[:150]}", []).append(number)
        return
    folder = os.path.join(OUT, f"{operator}_{number}")
    os.makedirs(os.path.join(folder, "test_data_set_0"), exist_ok=True)
    onnx.save(model, os.path.join(folder, "model.onnx"))
    for role, values in (("input", [value for _, value in given]), ("output", answers)):
        for index, value in enumerate(values):
            if isinstance(value, list):  # ZipMap's maps
                value = np.array([[row[key] for key in row] for row in value], np.float32)
            with open(os.path.join(folder, "test_data_set_0", f"{role}_{index}.pb"), "wb") as file:
                file.write(numpy_helper.from_array(np.asarray(value)).SerializeToString())


# ---- trees


MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]


def forest(trees, depth, features, modes, targets_of_leaf, prefix, weight):
    """Arrays of random trees whose thresholds are often hit exactly."""
    lists = {name: [] for name in ("treeids", "nodeids", "modes", "featureids", "values", "truenodeids", "falsenodeids",
                                   "missing_value_tracks_true")}
    leaves = {name: [] for name in ("treeids", "nodeids", "ids", "weights")}
    for tree in range(trees):
        nodes = []

        def grow(level):
            here = len(nodes)
            nodes.append(None)
            if level == 0 or (level < depth and pick.random() < 0.2):
                nodes[here] = ("LEAF", 0, 0.0, 0, 0)
                for target in targets_of_leaf(tree):
                    leaves["treeids"].append(tree)
                    leaves["nodeids"].append(here)
                    leaves["ids"].append(target)
                    leaves["weights"].append(weight())
            else:
                mode = pick.choice(modes)
                yes = grow(level - 1)
                no = grow(level - 1)
                nodes[here] = (mode, pick.randrange(features), float(pick.randrange(-2, 3)) / 2, yes, no)
            return here

        grow(depth)
        for number, (mode, feature, value, yes, no) in enumerate(nodes):
            row = (tree, number, mode, feature, value, yes, no, pick.randrange(2))
            for name, entry in zip(lists, row):
                lists[name].append(entry)
    arrays = {f"nodes_{name}": entries for name, entries in lists.items()}
    arrays.update({f"{prefix}_{name}": entries for name, entries in leaves.items()})
    return arrays


def rows(count, features, dtype=np.float32, missing=False):
    """Numbers of which many are thresholds."""
    x = np.where(rng.random((count, features)) < 0.5, rng.integers(-3, 4, (count, features)) / 2,
                 rng.standard_normal((count, features)))
    if missing:
        x[rng.random(x.shape) < 0.2] = np.nan
    if np.issubdtype(dtype, np.floating) and pick.random() < 0.3:
        x[rng.random(x.shape) < 0.1] = np.inf
        x[rng.random(x.shape) < 0.1] = -np.inf
    return np.nan_to_num(x, nan=0, posinf=9, neginf=-9).astype(dtype) if np.issubdtype(dtype, np.integer) else x.astype(dtype)


def doubled(attributes, names):
    """The same numbers, not rounded, as tensors of FP64."""
    for name in names:
        if name in attributes:
            values = np.array(attributes.pop(name), np.float64)
            attributes[f"{name}_as_tensor"] = numpy_helper.from_array(values + values * 1e-9, name)
    return attributes


def tree_cases():
    for round_ in range(500):
        dtype = pick.choice([np.float32] * 5 + [np.float64, np.float64, np.int64, np.int32])
        features = pick.choice([1, 3, 5])
        modes = pick.choice([MODES[:1]] * 4 + [[mode] for mode in MODES[1:]] + [MODES])
        classes = pick.choice([1, 2, 2, 2, 3, 5])
        sparse = pick.choice(["all", "some", "tree", "one"])
        one = pick.randrange(classes)
        targets = {
            "all": lambda tree: range(classes),
            "some": lambda tree: [target for target in range(classes) if pick.random() < 0.5] or [0],
            "tree": lambda tree: [tree % classes],
            "one": lambda tree: [one],
        }[sparse]
        positive = pick.random() < 0.5
        weight = lambda: abs(float(floats())) * 0.3 if positive else float(floats())
        labels = {"classlabels_int64s": pick.sample(range(-5, 20), classes)}
        if classes > 1 and pick.random() < 0.4:  # with one text ONNX Runtime ends the process
            labels = {"classlabels_strings": [f"class {number}" for number in range(classes)]}
        arrays = forest(pick.choice([1, 2, 9, 20]), pick.choice([0, 1, 3, 6]), features, modes, targets, "class", weight)
        if pick.random() < 0.4:
            del arrays["nodes_missing_value_tracks_true"]
        if pick.random() < 0.5:
            arrays["base_values"] = listed(floats(classes if classes != 2 else pick.choice([1, 2])))
        if dtype == np.float64 and pick.random() < 0.5:
            doubled(arrays, ["nodes_values", "class_weights", "base_values"])
        x = rows(pick.choice([1, 7, 20, 150]), features, dtype, pick.random() < 0.4)
        case("TreeEnsembleClassifier", [x], 2, post_transform=pick.choice(POST), **labels, **arrays)
    for round_ in range(400):
        dtype = pick.choice([np.float32] * 5 + [np.float64, np.float64])
        features = pick.choice([1, 3, 5])
        modes = pick.choice([MODES[:1]] * 4 + [[mode] for mode in MODES[1:]] + [MODES])
        count = pick.choice([1, 1, 1, 2, 3, 7])
        sparse = pick.choice(["all", "all", "some", "tree", "one"])
        one = pick.randrange(count)
        targets = {
            "all": lambda tree: range(count),
            "some": lambda tree: [target for target in range(count) if pick.random() < 0.5] or [0],
            "tree": lambda tree: [tree % count],
            "one": lambda tree: [one],
        }[sparse]
        weight = lambda: float(floats())
        arrays = forest(pick.choice([1, 2, 9, 20]), pick.choice([0, 1, 3, 6]), features, modes, targets, "target", weight)
        if pick.random() < 0.4:
            del arrays["nodes_missing_value_tracks_true"]
        if pick.random() < 0.5:
            arrays["base_values"] = listed(floats(count))
        if dtype == np.float64 and pick.random() < 0.5:
            doubled(arrays, ["nodes_values", "target_weights", "base_values"])
        x = rows(pick.choice([1, 7, 20, 150]), features, dtype, pick.random() < 0.4)
        case("TreeEnsembleRegressor", [x], n_targets=count, post_transform=pick.choice(["NONE"] * 4 + POST),
             aggregate_function=pick.choice(["SUM", "AVERAGE", "MIN", "MAX"]), **arrays)
    for order in (0, 1):  # two weights for the only target
        arrays = forest(3, 3, 2, MODES[:1], lambda tree: [0, 0], "target", lambda: float(floats()))
        case("TreeEnsembleRegressor", [rows(20, 2)], n_targets=1, **arrays)


def newest_tree_cases():
    for round_ in range(300):
        dtype = pick.choice([np.float32, np.float32, np.float64])
        features, count = pick.choice([1, 3, 5]), pick.choice([1, 1, 2, 4])
        modes = pick.choice([[0], [0], [1], [2], [3], [4], [5], [6], [0, 6], list(range(7))])
        lists = {name: [] for name in ("featureids", "modes", "splits", "truenodeids", "trueleafs", "falsenodeids",
                                       "falseleafs", "missing_value_tracks_true")}
        leaf_targets, leaf_weights, members, roots = [], [], [], []

        def leaf():
            leaf_targets.append(pick.randrange(count))
            leaf_weights.append(float(floats()))
            return len(leaf_targets) - 1

        def grow(level):
            here = len(lists["modes"])
            mode = pick.choice(modes)
            row = (pick.randrange(features), mode, float(pick.randrange(-2, 3)) / 2, 0, 0, 0, 0, pick.randrange(2))
            for name, entry in zip(lists, row):
                lists[name].append(entry)
            if mode == 6:
                members.extend(list(map(float, pick.sample(range(1, 40), pick.randrange(1, 4)))) + [float("nan")])
            for side in ("true", "false"):
                is_leaf = level <= 1 or pick.random() < 0.2
                lists[f"{side}leafs"][here] = int(is_leaf)
                lists[f"{side}nodeids"][here] = leaf() if is_leaf else grow(level - 1)
            return here

        for tree in range(pick.choice([1, 3, 10])):
            roots.append(grow(pick.choice([1, 3, 5])))
        arrays = {f"nodes_{name}": entries for name, entries in lists.items()}
        arrays["nodes_modes"] = numpy_helper.from_array(np.array(arrays["nodes_modes"], np.uint8), "modes")
        arrays["nodes_splits"] = numpy_helper.from_array(np.array(arrays["nodes_splits"], dtype), "splits")
        if pick.random() < 0.4:
            del arrays["nodes_missing_value_tracks_true"]
        if members:
            arrays["membership_values"] = numpy_helper.from_array(np.array(members, dtype), "members")
        x = rows(pick.choice([1, 7, 20, 150]), features, dtype, pick.random() < 0.4)
        if 6 in modes:  # members are whole numbers; of others ONNX Runtime drops the fraction
            x = np.where(np.isnan(x), x, rng.integers(0, 41, x.shape)).astype(dtype)
        case("TreeEnsemble", [x], version=5,
             n_targets=count, aggregate_function=pick.randrange(4), post_transform=pick.choice([0, 0, 0, 1, 2, 3, 4]),
             tree_roots=roots, leaf_targetids=leaf_targets,
             leaf_weights=numpy_helper.from_array(np.array(leaf_weights, dtype), "weights"), **arrays)


# ---- linear models and support vectors


def linear_cases():
    for post in POST:
        for classes in (2, 3, 6):
            for columns in (1, 4, 40):
                for names in (False, True):
                    for scores in {classes, 1 if classes == 2 else classes}:
                        for dtype in (np.float32, np.float64, np.int64):
                            labels = {"classlabels_strings": [f"c{n}" for n in range(classes)]} if names else {
                                "classlabels_ints": pick.sample(range(-5, 20), classes)}
                            case("LinearClassifier", [floats(pick.choice([1, 9]), columns, scale=3).astype(dtype)], 2,
                                 coefficients=listed(floats(scores * columns)), intercepts=listed(floats(scores)),
                                 post_transform=post, multi_class=pick.randrange(2), **labels)
        for targets in (1, 2, 5):
            for columns in (1, 4, 40):
                case("LinearRegressor", [floats(pick.choice([1, 9]), columns)], coefficients=listed(floats(targets * columns)),
                     targets=targets, post_transform=post,
                     **({"intercepts": listed(floats(targets))} if pick.random() < 0.8 else {}))


def support_vector_cases():
    for kernel in ("LINEAR", "POLY", "RBF", "SIGMOID"):
        for round_ in range(40):
            columns, classes = pick.choice([1, 3, 20]), pick.choice([2, 2, 3, 5])
            parameters = [abs(float(floats())) + 0.1, float(floats()), float(pick.choice([2, 3, 4, 2.5]))]
            if kernel == "POLY" and parameters[2] == 2.5:
                parameters[1] = 50.0
            labels = {"classlabels_strings": [f"c{n}" for n in range(classes)]} if pick.random() < 0.4 else {
                "classlabels_ints": pick.sample(range(-5, 20), classes)}
            counts_ = [pick.randrange(1, 6) for _ in range(classes)]
            vectors, pairs = sum(counts_), classes * (classes - 1) // 2
            probability = {"prob_a": listed(-abs(floats(pairs)) - 0.5), "prob_b": listed(floats(pairs))}
            case("SVMClassifier", [floats(pick.choice([1, 9, 70]), columns).astype(pick.choice([np.float32, np.float64]))], 2,
                 kernel_type=kernel, kernel_params=parameters, vectors_per_class=counts_,
                 support_vectors=listed(floats(vectors * columns)), coefficients=listed(floats((classes - 1) * vectors)),
                 rho=listed(floats(pairs)), post_transform=pick.choice(["NONE"] * 3 + POST), **labels,
                 **(probability if pick.random() < 0.5 else {}))
            supports = pick.randrange(1, 12)
            case("SVMRegressor", [floats(pick.choice([1, 9, 70]), columns)], kernel_type=kernel, kernel_params=parameters,
                 n_supports=supports, support_vectors=listed(floats(supports * columns)), coefficients=listed(floats(supports)),
                 rho=listed(floats(1)), one_class=pick.randrange(2))
    for round_ in range(60):  # without support vectors
        columns, classes = pick.choice([1, 3, 20]), pick.choice([2, 2, 3, 5])
        sign = pick.choice([abs, lambda values: values])
        case("SVMClassifier", [floats(9, columns)], 2, kernel_type="LINEAR", kernel_params=[0.0, 0.0, 0.0],
             coefficients=listed(sign(floats(classes * columns))), rho=listed(floats(1)),
             classlabels_ints=pick.sample(range(-5, 20), classes), post_transform=pick.choice(POST))
        case("SVMRegressor", [floats(9, columns)], kernel_type="LINEAR", kernel_params=[0.0, 0.0, 0.0], n_supports=0,
             coefficients=listed(floats(columns)), rho=listed(floats(1)), one_class=pick.randrange(2))


# ---- tables


def table_cases():
    for dtype in (np.float32, np.float64, np.int64, np.int32):
        for shape in ((1, 3), (9, 3), (3,)):
            x = (floats(*shape) * 5).astype(dtype)
            zero = np.zeros_like(x)
            for values in (x, zero, -abs(x)):
                for norm in ("MAX", "L1", "L2"):
                    case("Normalizer", [values], norm=norm)
                case("Scaler", [values], offset=[1.5, -2.0, 3.0], scale=[0.5, 0.2, 0.1])
                case("Scaler", [values], offset=[1.5], scale=[0.5])
        x = (floats(9, 4) * 5).astype(dtype)
        case("FeatureVectorizer", [x, x[:, :2].astype(dtype)], inputdimensions=[4, 2])
        for indices in ([0], [3, 1, 1], [2, 0, 3, 1]):
            case("ArrayFeatureExtractor", [x, np.array(indices, np.int64)], constants=(1,))
            case("ArrayFeatureExtractor", [x[0], np.array(indices, np.int64)], constants=(0,))
            case("ArrayFeatureExtractor", [x[0], np.array([indices], np.int64)], constants=(0,))
            case("ArrayFeatureExtractor", [x.reshape(3, 3, 4), np.array(indices, np.int64)], constants=(1,))
        case("OneHotEncoder", [np.floor(x).astype(dtype)], cats_int64s=[-3, 0, 2, 7, 2])
        case("OneHotEncoder", [np.floor(x[:, 0]).astype(dtype)], cats_int64s=list(range(-30, 30)), zeros=0)
    words = np.array([["a", "b", "é", ""], ["c", "a", "a", "B"]], object)
    for indices in ([0], [3, 1, 1]):
        case("ArrayFeatureExtractor", [words, np.array(indices, np.int64)], constants=(1,))
        case("ArrayFeatureExtractor", [words[0], np.array(indices, np.int64)], constants=(0,))
    case("OneHotEncoder", [words], cats_strings=["a", "b", "é", "a"])
    case("OneHotEncoder", [words[:, 0]], cats_strings=["a", "c"], zeros=0)
    case("Binarizer", [floats(5, 3)], threshold=0.2)
    case("Binarizer", [floats(5, 3)])
    case("Binarizer", [np.array([[0.2, np.nan, np.inf, -np.inf, 0.0]], np.float32)], threshold=0.2)
    case("Binarizer", [floats(4)], threshold=-0.5)
    case("Binarizer", [floats(2, 3, 2)], threshold=-0.5)
    for shape in ((9, 3), (1, 3), (3,)):
        x = np.where(rng.random(shape) < 0.4, np.nan, floats(*shape)).astype(np.float32)
        case("Imputer", [x], imputed_value_floats=[1.0, 2.0, 3.0], replaced_value_float=float("nan"))
        case("Imputer", [x], imputed_value_floats=[7.0], replaced_value_float=float("nan"))
        whole = rng.integers(0, 3, shape)
        case("Imputer", [whole.astype(np.float32)], imputed_value_floats=[1.5, 2.5, 3.5], replaced_value_float=1.0)
        case("Imputer", [whole], imputed_value_int64s=[10, 20, 30], replaced_value_int64=1)
        case("Imputer", [whole], imputed_value_int64s=[10], replaced_value_int64=2)
    for classes in (2, 3, 5):
        case("ZipMap", [floats(7, classes)], classlabels_int64s=list(range(classes)))
        case("ZipMap", [floats(1, classes)], classlabels_strings=[f"c{n}" for n in range(classes)])
        case("ZipMap", [floats(7, classes)], classlabels_int64s=[10 * n for n in range(classes)])


# ---- texts and labels


def label_cases():
    samples = {
        "strings": (["a", "b", "zwölf", "", "a"], np.array([["a", "x"], ["", "zwölf"]], object), "s", "default_string"),
        "int64s": ([1, -7, 2**40, 0, 1], np.array([[1, 5], [2**40, -7]], np.int64), 9, "default_int64"),
        "floats": ([0.5, -0.0, 3.0, float("nan"), 0.5], np.array([[0.5, 0.0], [np.nan, 8.0]], np.float32), 2.5, "default_float"),
    }
    for key, (keys, x, _, _) in samples.items():
        for value, (values, _, default, default_name) in samples.items():
            for version in (2, 4):
                case("LabelEncoder", [x], version=version, **{f"keys_{key}": keys, f"values_{value}": values})
                case("LabelEncoder", [x[0]], version=version,
                     **{f"keys_{key}": keys, f"values_{value}": values, default_name: default})
    kinds = {"object": ["a", "b", "é"], "int64": [3, -1, 7], "float32": [1.5, np.nan, 0.0], "float64": [2.5, np.nan, 1.0]}
    proto = lambda name, kind, values: helper.make_tensor(name, KINDS[kind], [len(values)], values)
    for key, keys in kinds.items():
        for value, values in kinds.items():
            for default in (True, False):
                extra = {"default_tensor": proto("d", value, values[:1])} if default else {}
                case("LabelEncoder", [np.array(keys[::-1] + keys[:1] + [keys[0]], key)], version=4,
                     keys_tensor=proto("k", key, keys), values_tensor=proto("v", value, values), **extra)
                case("LabelEncoder", [np.array([kinds[key][0], {"object": "zz"}.get(key, 99)], key)], version=4,
                     keys_tensor=proto("k", key, keys), values_tensor=proto("v", value, values), **extra)
    words = np.array([["a", "b"], ["x", "a"]], object)
    numbers = np.array([[0, 1], [5, -1]], np.int64)
    for x in (words, words[0], numbers, numbers[0]):
        case("LabelEncoder", [x], version=1, classes_strings=["a", "b", "a"], default_int64=-9, default_string="none")
        case("CategoryMapper", [x], version=1, cats_strings=["a", "b", "a"], cats_int64s=[0, 5, 7], default_int64=-9)
        case("CategoryMapper", [x], version=1, cats_strings=["a", "b"], cats_int64s=[5, -1], default_string="none")
    cast = lambda x, to: case("Cast", [x], domain="", to=to)
    numbers = np.array([0.1, 1, -2.5, 1e10, 1e-5, 123456.789, np.nan, np.inf, -np.inf, 16777217, 3.14159274, 1e8, -0.0])
    for dtype in (np.float32, np.float64):
        cast(numbers.astype(dtype), T.STRING)
        cast((rng.standard_normal(40) * 10.0 ** rng.integers(-20, 20, 40)).astype(dtype), T.STRING)
        cast(rng.standard_normal((3, 4)).astype(dtype), T.STRING)
    for dtype in (np.int64, np.int32, np.bool_):
        cast(np.array([[0, 1, -5, 2**30]]).astype(dtype), T.STRING)
    for to in (T.FLOAT, T.DOUBLE):
        cast(np.array([["1.5", "-2", "1e3", "0.1"], ["INF", "-INF", "NaN", " 7"]], object), to)
    for to in (T.INT64, T.INT32):
        cast(np.array(["15", "-2", "0", "2147483647", "+3"], object), to)


# ---- reductions


def reduction_cases():
    for operator in ("ReduceMax", "ReduceMin", "ReduceLogSumExp"):
        for dtype in (np.float32, np.float64, np.int64, np.int32):
            if operator == "ReduceLogSumExp" and np.issubdtype(dtype, np.integer):
                continue
            for extreme in (0, 1, 2, 3):
                x = (floats(3, 4, 5) * 10).astype(dtype)
                if extreme and np.issubdtype(dtype, np.floating):
                    chosen = [[np.inf], [-np.inf], [np.inf, -np.inf, 500.0, -500.0]][extreme - 1]
                    x = np.where(rng.random(x.shape) < (1.0 if extreme == 2 else 0.4), rng.choice(chosen, x.shape), x).astype(dtype)
                for keep in (0, 1):
                    for axes in ([0], [1], [-1], [0, 2], [1, 2], [0, 1, 2]):
                        case(operator, [x], domain="", default=pick.choice([11, 13, 17]), axes=axes, keepdims=keep)
                        case(operator, [x, np.array(axes, np.int64)], domain="", default=pick.choice([18, 20]), constants=(1,),
                             keepdims=keep)
                    case(operator, [x], domain="", default=pick.choice([13, 18]), keepdims=keep)
    for operator in ("ArgMax", "ArgMin"):
        for dtype in (np.float32, np.float64):
            for shape in ((6, 4), (3, 4, 5), (7,)):
                x = rng.integers(-3, 3, shape).astype(dtype)  # many are equal
                x[rng.random(shape) < 0.1] = np.inf
                for axis in (0, -1, len(shape) // 2):
                    for keep in (0, 1):
                        for last in (0, 1):
                            case(operator, [x], domain="", default=pick.choice([12, 13, 18]), axis=axis, keepdims=keep,
                                 select_last_index=last)
    for dtype in (np.float32, np.float64):
        case("Sigmoid", [floats(4, 5, scale=20).astype(dtype)], domain="")
        case("Sigmoid", [np.array([np.inf, -np.inf, 0, 1e30, -1e30], dtype)], domain="")


for family in (reduction_cases, tree_cases, newest_tree_cases, linear_cases, support_vector_cases, table_cases, label_cases):
    family()
for reason, numbers in skipped.items():
    print(len(numbers), "without an answer:", reason)
print(sum(counts.values()), "cases:", counts)
