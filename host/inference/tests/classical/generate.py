"""Writes the cases of the test `classical`: exports of scikit-learn, XGBoost and LightGBM, answered by ONNX Runtime.

    pip install scikit-learn==1.9.1 skl2onnx==1.20.0 onnxmltools==1.16.0 onnx==1.23.2 onnxruntime==1.32.0 \
        xgboost==3.2.0 lightgbm==4.7.0 pandas
    python generate.py cases          # the committed cases, few trees each
    python generate.py FOLDER --big   # the large models of the speed comparison

Each case is two files: NAME.onnx, and NAME.data, which is an ONNX GraphProto whose initialisers are the inputs and the
outputs of one run, by their names. A ZipMap's list of maps is written as what modelhost answers in its place: a
tensor [rows, classes] of the maps' values, in the order of the labels.
"""

import json
import os
import sys
import tempfile
import warnings

import numpy as np
import onnx
import onnxruntime as ort
import pandas as pd
from lightgbm import LGBMClassifier, LGBMRanker, LGBMRegressor
from onnx import numpy_helper
from onnxmltools import convert_lightgbm, convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType as OnnxmltoolsFloats
from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm as lightgbm_converter
from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost as xgboost_converter
from skl2onnx import to_onnx, update_registered_converter
from skl2onnx.common import _container as container
from skl2onnx.common.data_types import (
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)
from skl2onnx.common.shape_calculator import (
    calculate_linear_classifier_output_shapes,
    calculate_linear_regressor_output_shapes,
)
from sklearn import datasets
from sklearn.base import is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA, FastICA, IncrementalPCA, KernelPCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    RandomTreesEmbedding,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_selection import SelectFromModel, SelectKBest, VarianceThreshold
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.kernel_approximation import Nystroem, RBFSampler
from sklearn.linear_model import (
    ARDRegression,
    BayesianRidge,
    ElasticNet,
    GammaRegressor,
    HuberRegressor,
    Lars,
    Lasso,
    LassoLars,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    MultiTaskLasso,
    PassiveAggressiveClassifier,
    Perceptron,
    PoissonRegressor,
    QuantileRegressor,
    RANSACRegressor,
    Ridge,
    RidgeClassifier,
    RidgeCV,
    SGDClassifier,
    SGDOneClassSVM,
    SGDRegressor,
    TheilSenRegressor,
    TweedieRegressor,
)
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier, MultiOutputRegressor, RegressorChain
from sklearn.naive_bayes import BernoulliNB, CategoricalNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import (
    KNeighborsClassifier,
    KNeighborsRegressor,
    KNeighborsTransformer,
    LocalOutlierFactor,
    NearestNeighbors,
    NeighborhoodComponentsAnalysis,
    RadiusNeighborsClassifier,
    RadiusNeighborsRegressor,
)
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    LabelBinarizer,
    LabelEncoder,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import SVC, SVR, LinearSVC, LinearSVR, NuSVC, NuSVR, OneClassSVM
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor
from xgboost import XGBClassifier, XGBRanker, XGBRegressor, XGBRFClassifier, XGBRFRegressor

warnings.filterwarnings("ignore")
FOLDER = sys.argv[1]
ONLY = [argument for argument in sys.argv[2:] if not argument.startswith("--")]
ROWS = 24
failures = []

for model, name, shape, convert, options in [
    (XGBClassifier, "XGBClassifier", calculate_linear_classifier_output_shapes, xgboost_converter,
     {"nocl": [True, False], "zipmap": [True, False, "columns"]}),
    (XGBRegressor, "XGBRegressor", calculate_linear_regressor_output_shapes, xgboost_converter, {}),
    (LGBMClassifier, "LGBMClassifier", calculate_linear_classifier_output_shapes, lightgbm_converter,
     {"nocl": [True, False], "zipmap": [True, False, "columns"]}),
    (LGBMRegressor, "LGBMRegressor", calculate_linear_regressor_output_shapes, lightgbm_converter, {}),
]:
    update_registered_converter(model, name, shape, convert, options=options)


def plain(value):
    """Numbers of Python: the converter of HistGradientBoosting gives numpy's and booleans, which onnx does not take."""
    if isinstance(value, (list, np.ndarray)):
        return [plain(element) for element in value]
    number = value.item() if isinstance(value, np.generic) else value
    return int(number) if isinstance(number, bool) else number


make_node = container.make_node
container.make_node = lambda *names, **attributes: make_node(
    *names, **{name: plain(value) for name, value in attributes.items()}
)


# ---- data


def numbers(load, dtype=np.float32):
    data = load()
    return data.data.astype(dtype), data.target


def sample(x, y):
    """Rows of every class, in a fixed order that is not sorted by class."""
    rng = np.random.default_rng(7)
    classes = np.unique(y) if len(np.unique(y)) <= 10 else [None]
    picked = []
    for one in classes:
        here = np.flatnonzero(y == one) if one is not None else np.arange(len(y))
        picked.extend(rng.choice(here, min(len(here), -(-ROWS // len(classes))), replace=False))
    rng.shuffle(picked)
    return x[picked[:ROWS]]


IRIS = numbers(datasets.load_iris)
WINE = numbers(datasets.load_wine)
CANCER = numbers(datasets.load_breast_cancer)
DIABETES = numbers(datasets.load_diabetes)
DIGITS = tuple(part[:600] for part in numbers(datasets.load_digits))
IRIS_NAMES = (IRIS[0], np.array(["setosa", "versicolor", "virginica"])[IRIS[1]])
CANCER_NAMES = (CANCER[0], np.array(["malignant", "benign"])[CANCER[1]])
IRIS_ODD = (IRIS[0], np.array([-3, 40, 7])[IRIS[1]])
CANCER_ODD = (CANCER[0], np.array([5, -2])[CANCER[1]])
ONE_TARGET = (DIABETES[0], DIABETES[1].astype(np.float32))
TWO_TARGETS = (DIABETES[0], np.stack([DIABETES[1], DIABETES[1][::-1]], 1).astype(np.float32))
TWO_CLASSES_BY_ROW = (IRIS[0], np.stack([IRIS[1] > 0, IRIS[1] > 1], 1).astype(np.int64))


def with_missing(data):
    x = data[0].copy()
    x[np.random.default_rng(3).random(x.shape) < 0.15] = np.nan
    return x, data[1]


def census():
    """A table of texts and numbers, made up by a formula."""
    rng = np.random.default_rng(11)
    n = 300
    table = pd.DataFrame({
        "colour": rng.choice(["red", "green", "blue", "ultramarine"], n),
        "city": rng.choice(["Bern", "Zürich", "Genève"], n),
        "age": rng.integers(18, 90, n).astype(np.float32),
        "weight": rng.normal(70, 12, n).astype(np.float32),
        "children": rng.integers(0, 5, n).astype(np.int64),
    })
    score = (table.colour == "red") * 2.0 + (table.city == "Bern") + table.age / 40 - table.children / 2
    return table, (score > score.median()).astype(int).to_numpy()


# ---- writing


def as_tensor(value):
    if isinstance(value, list):  # ZipMap
        return np.array([[row[key] for key in sorted(row)] for row in value], np.float32)
    return value


def write(name, model, inputs):
    if not isinstance(model, onnx.ModelProto):
        raise ValueError("no model")
    model.doc_string = ""
    session_options = ort.SessionOptions()
    session_options.intra_op_num_threads = 1
    session_options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), session_options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, map(as_tensor, session.run(names, inputs))))
    data = onnx.GraphProto()
    for key, value in list(inputs.items()) + list(outputs.items()):
        data.initializer.append(numpy_helper.from_array(np.asarray(value), key))
    onnx.save(model, os.path.join(FOLDER, f"{name}.onnx"))
    with open(os.path.join(FOLDER, f"{name}.data"), "wb") as file:
        file.write(data.SerializeToString())


def attempt(name, make):
    if ONLY and not any(part in name for part in ONLY):
        return
    try:
        make()
    except Exception as error:
        failures.append(name)
        print(f"not converted: {name}: {type(error).__name__} {str(error).strip()[:160]}")


def case(name, estimator, data, dtype=np.float32, fit_dtype=None, options=None, opset=None, rows=None, **arguments):
    """An estimator on a table of numbers."""

    def make():
        x, y = data
        estimator.fit(x.astype(fit_dtype or dtype), y)
        types = {np.float32: FloatTensorType, np.float64: DoubleTensorType, np.int64: Int64TensorType}
        chosen = dict(options or {})
        if is_classifier(estimator) and "zipmap" not in chosen and options is not False:
            chosen["zipmap"] = False
        ids = {id(estimator): chosen} if chosen else None
        model = to_onnx(
            estimator,
            initial_types=[("X", types[dtype]([None, x.shape[1]]))],
            options=ids,
            target_opset=opset or {"": 18, "ai.onnx.ml": 3},
            **arguments,
        )
        one_column = y if np.ndim(y) == 1 else np.arange(len(y))
        write(name, model, {"X": (rows if rows is not None else sample(x, one_column)).astype(dtype)})

    attempt(name, make)


def as_regressor(ranker):
    """onnxmltools knows no ranker of XGBoost. Its trees give a score as those of a regressor do."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "ranker.json")
        ranker.save_model(path)
        with open(path) as file:
            saved = json.load(file)
        attributes = saved["learner"]["attributes"]
        attributes["scikit_learn"] = attributes["scikit_learn"].replace("ranker", "regressor")
        with open(path, "w") as file:
            json.dump(saved, file)
        regressor = XGBRegressor()
        regressor.load_model(path)
    return regressor


def boosted(name, convert, estimator, data, opset=15, zipmap=False, **arguments):
    """XGBoost and LightGBM by onnxmltools' own functions."""

    def make():
        x, y = data
        estimator.fit(x, y, **arguments)
        extra = {"zipmap": zipmap} if convert is convert_lightgbm else {}
        model = convert(
            estimator, initial_types=[("X", OnnxmltoolsFloats([None, x.shape[1]]))], target_opset=opset, **extra
        )
        write(name, model, {"X": sample(x, y)})

    attempt(name, make)


def table_case(name, estimator, opset=None, columns=None, options=None):
    """An estimator on a table with a column of its own for each input."""

    def make():
        table, y = census()
        chosen = table[columns] if columns else table
        estimator.fit(chosen, y)
        kinds = {"O": StringTensorType, "f": FloatTensorType, "i": Int64TensorType}
        kind = lambda column: kinds.get(chosen[column].dtype.kind, StringTensorType)
        types = [(column, kind(column)([None, 1])) for column in chosen.columns]
        if options is None:
            ids = {id(estimator): {"zipmap": False}} if is_classifier(estimator) else None
        else:
            ids = {id(estimator): options}
        model = to_onnx(estimator, initial_types=types, options=ids, target_opset=opset or {"": 18, "ai.onnx.ml": 3})
        head = chosen.head(ROWS)
        as_column = lambda series: series.to_numpy().astype(object if series.dtype.kind not in "fi" else series.dtype)
        write(name, model, {column: as_column(head[column]).reshape(-1, 1) for column in chosen.columns})

    attempt(name, make)


def text_case(name, estimator, unseen, dtype=object):
    """An estimator on a matrix of texts."""

    def make():
        table, y = census()
        x = table[["colour", "city"]].to_numpy(dtype=object)
        estimator.fit(x, y)
        model = to_onnx(
            estimator,
            initial_types=[("X", StringTensorType([None, 2]))],
            options={id(estimator): {"zipmap": False}} if is_classifier(estimator) else None,
            target_opset={"": 18, "ai.onnx.ml": 3},
        )
        rows = x[:ROWS].copy()
        if unseen:
            rows[3, 0] = "never seen"
            rows[4, 1] = ""
        write(name, model, {"X": rows})

    attempt(name, make)


# ---- cases


def trees():
    for name, data in {"iris": IRIS, "cancer": CANCER, "digits": DIGITS, "iris-names": IRIS_NAMES,
                       "cancer-names": CANCER_NAMES, "iris-odd-labels": IRIS_ODD, "cancer-odd-labels": CANCER_ODD}.items():
        case(f"tree-{name}", DecisionTreeClassifier(max_depth=5, random_state=0), data)
        case(f"forest-{name}", RandomForestClassifier(7, max_depth=5, random_state=0), data)
        case(f"extra-trees-{name}", ExtraTreesClassifier(5, max_depth=5, random_state=0), data)
        case(f"gradient-boosting-{name}", GradientBoostingClassifier(n_estimators=5, max_depth=3, random_state=0), data)
        case(f"hist-gradient-boosting-{name}",
             HistGradientBoostingClassifier(max_iter=4, max_depth=3, random_state=0), data)
        case(f"ada-boost-{name}", AdaBoostClassifier(DecisionTreeClassifier(max_depth=2), n_estimators=4, random_state=0),
             data)
        boosted(f"xgboost-{name}", convert_xgboost, XGBClassifier(n_estimators=5, max_depth=4), data)
        boosted(f"lightgbm-{name}", convert_lightgbm, LGBMClassifier(n_estimators=5, num_leaves=9, verbose=-1), data)
        case(f"pipeline-xgboost-{name}", XGBClassifier(n_estimators=4, max_depth=3), data)
        case(f"pipeline-lightgbm-{name}", LGBMClassifier(n_estimators=4, num_leaves=6, verbose=-1), data)
    for name, data in {"iris": IRIS, "cancer": CANCER}.items():
        case(f"extra-tree-{name}", ExtraTreeClassifier(max_depth=6, random_state=0), data)
        case(f"tree-double-{name}", DecisionTreeClassifier(max_depth=6, random_state=0), data, np.float64)
        case(f"forest-double-{name}", RandomForestClassifier(5, max_depth=5, random_state=0), data, np.float64)
        case(f"gradient-boosting-double-{name}",
             GradientBoostingClassifier(n_estimators=5, max_depth=3, random_state=0), data, np.float64)
        case(f"tree-integers-{name}", DecisionTreeClassifier(max_depth=6, random_state=0), data, np.int64)
        case(f"forest-integers-{name}", RandomForestClassifier(5, max_depth=5, random_state=0), data, np.int64)
        case(f"forest-raw-scores-{name}", RandomForestClassifier(5, max_depth=4, random_state=0), data,
             options={"zipmap": False, "raw_scores": True})
        case(f"gradient-boosting-raw-scores-{name}", GradientBoostingClassifier(n_estimators=4, random_state=0), data,
             options={"zipmap": False, "raw_scores": True})
        case(f"hist-gradient-boosting-missing-{name}",
             HistGradientBoostingClassifier(max_iter=4, max_depth=3, random_state=0), with_missing(data))
        boosted(f"xgboost-missing-{name}", convert_xgboost, XGBClassifier(n_estimators=5, max_depth=4), with_missing(data))
        boosted(f"lightgbm-missing-{name}", convert_lightgbm, LGBMClassifier(n_estimators=5, num_leaves=9, verbose=-1),
                with_missing(data))
        boosted(f"lightgbm-zipmap-{name}", convert_lightgbm, LGBMClassifier(n_estimators=5, num_leaves=9, verbose=-1),
                data, zipmap=True)
        boosted(f"xgboost-forest-{name}", convert_xgboost, XGBRFClassifier(n_estimators=5, max_depth=4), data)
        boosted(f"lightgbm-rf-{name}", convert_lightgbm,
                LGBMClassifier(boosting_type="rf", bagging_freq=1, bagging_fraction=0.7, n_estimators=4, verbose=-1), data)
        boosted(f"lightgbm-dart-{name}", convert_lightgbm,
                LGBMClassifier(boosting_type="dart", n_estimators=5, num_leaves=7, verbose=-1), data)
        boosted(f"xgboost-dart-{name}", convert_xgboost, XGBClassifier(booster="dart", n_estimators=4, max_depth=3), data)
        boosted(f"xgboost-linear-{name}", convert_xgboost, XGBClassifier(booster="gblinear", n_estimators=4), data)
        for opset in (11, 21):
            case(f"forest-opset-{opset}-{name}", RandomForestClassifier(5, max_depth=4, random_state=0), data,
                 opset={"": opset, "ai.onnx.ml": 1 if opset == 11 else 3})
        case(f"forest-ml-5-{name}", RandomForestClassifier(5, max_depth=4, random_state=0), data,
             opset={"": 21, "ai.onnx.ml": 5})
        case(f"isolation-forest-{name}", IsolationForest(n_estimators=6, max_samples=64, random_state=0), data, options=False)
    boosted("xgboost-softmax-iris", convert_xgboost, XGBClassifier(objective="multi:softmax", n_estimators=4, max_depth=3), IRIS)
    boosted("xgboost-hinge-cancer", convert_xgboost, XGBClassifier(objective="binary:hinge", n_estimators=4, max_depth=3), CANCER)
    boosted("xgboost-logitraw-cancer", convert_xgboost, XGBClassifier(objective="binary:logitraw", n_estimators=4, max_depth=3), CANCER)
    boosted("xgboost-early-stopping-iris", convert_xgboost,
            XGBClassifier(n_estimators=12, max_depth=3, early_stopping_rounds=2), IRIS, eval_set=[IRIS], verbose=False)
    boosted("lightgbm-ova-iris", convert_lightgbm,
            LGBMClassifier(objective="multiclassova", n_estimators=4, num_leaves=6, verbose=-1), IRIS)
    case("trees-embedding-iris", RandomTreesEmbedding(n_estimators=3, max_depth=3, random_state=0), IRIS, options=False)
    case("tree-path-iris", DecisionTreeClassifier(max_depth=4, random_state=0), IRIS,
         options={"zipmap": False, "decision_path": True, "decision_leaf": True})
    case("forest-two-outputs", RandomForestClassifier(4, max_depth=4, random_state=0), TWO_CLASSES_BY_ROW)


def tree_regressors():
    data = ONE_TARGET
    for suffix, dtype in {"": np.float32, "-double": np.float64}.items():
        case(f"tree-regressor{suffix}", DecisionTreeRegressor(max_depth=6, random_state=0), data, dtype)
        case(f"forest-regressor{suffix}", RandomForestRegressor(6, max_depth=6, random_state=0), data, dtype)
        case(f"extra-trees-regressor{suffix}", ExtraTreesRegressor(5, max_depth=6, random_state=0), data, dtype)
        case(f"gradient-boosting-regressor{suffix}",
             GradientBoostingRegressor(n_estimators=8, max_depth=3, random_state=0), data, dtype)
        case(f"hist-gradient-boosting-regressor{suffix}",
             HistGradientBoostingRegressor(max_iter=6, max_depth=4, random_state=0), data, dtype)
        case(f"ada-boost-regressor{suffix}", AdaBoostRegressor(n_estimators=5, random_state=0), data, dtype)
        case(f"bagging-regressor{suffix}", BaggingRegressor(n_estimators=4, max_samples=0.3, random_state=0), data, dtype)
    case("extra-tree-regressor", ExtraTreeRegressor(max_depth=6, random_state=0), data)
    case("tree-two-targets", DecisionTreeRegressor(max_depth=5, random_state=0), TWO_TARGETS)
    case("forest-two-targets", RandomForestRegressor(4, max_depth=5, random_state=0), TWO_TARGETS)
    case("hist-gradient-boosting-regressor-missing", HistGradientBoostingRegressor(max_iter=5, random_state=0, max_depth=4),
         with_missing(data))
    case("hist-gradient-boosting-poisson",
         HistGradientBoostingRegressor(loss="poisson", max_iter=4, max_depth=4, random_state=0), data)
    positive = (data[0], data[1] / data[1].max())
    for objective in ("reg:squarederror", "reg:logistic", "reg:gamma", "count:poisson", "reg:tweedie", "reg:absoluteerror",
                      "reg:pseudohubererror", "reg:squaredlogerror"):
        boosted("xgboost-regressor-" + objective.replace(":", "-"), convert_xgboost,
                XGBRegressor(objective=objective, n_estimators=6, max_depth=4), positive)
    for objective in ("regression", "regression_l1", "huber", "fair", "poisson", "quantile", "mape", "gamma", "tweedie",
                      "cross_entropy"):
        boosted(f"lightgbm-regressor-{objective}", convert_lightgbm,
                LGBMRegressor(objective=objective, n_estimators=6, num_leaves=9, verbose=-1), positive)
    boosted("xgboost-regressor-base-score", convert_xgboost,
            XGBRegressor(n_estimators=6, max_depth=4, base_score=152.0), data)
    boosted("xgboost-regressor-missing", convert_xgboost, XGBRegressor(n_estimators=6, max_depth=4), with_missing(data))
    boosted("lightgbm-regressor-missing", convert_lightgbm, LGBMRegressor(n_estimators=6, num_leaves=9, verbose=-1),
            with_missing(data))
    boosted("xgboost-regressor-two-targets", convert_xgboost, XGBRegressor(n_estimators=4, max_depth=4), TWO_TARGETS)
    boosted("xgboost-regressor-forest", convert_xgboost, XGBRFRegressor(n_estimators=5, max_depth=4), data)
    boosted("xgboost-regressor-linear", convert_xgboost, XGBRegressor(booster="gblinear", n_estimators=4), data)
    boosted("xgboost-regressor-dart", convert_xgboost, XGBRegressor(booster="dart", n_estimators=5, max_depth=3), data)
    groups = {"group": [42] * 10 + [22]}
    ranks = (data[0], np.digitize(data[1], np.quantile(data[1], [0.25, 0.5, 0.75])))
    boosted("xgboost-ranker", lambda ranker, **options: convert_xgboost(as_regressor(ranker), **options),
            XGBRanker(n_estimators=6, max_depth=4), ranks, **groups)
    boosted("lightgbm-ranker", convert_lightgbm, LGBMRanker(n_estimators=6, num_leaves=9, verbose=-1), ranks, **groups)
    categories = (np.floor(np.abs(data[0] * 50)).astype(np.float32), data[1])
    boosted("lightgbm-regressor-categories", convert_lightgbm,
            LGBMRegressor(n_estimators=5, num_leaves=9, verbose=-1, min_data_per_group=5, cat_smooth=1),
            categories, categorical_feature=[0, 2])
    case("pipeline-xgboost-regressor", XGBRegressor(n_estimators=5, max_depth=4), data)
    case("pipeline-lightgbm-regressor", LGBMRegressor(n_estimators=5, num_leaves=9, verbose=-1), data)
    boosted("lightgbm-regressor-large-split", convert_lightgbm,
            LGBMRegressor(n_estimators=30, num_leaves=5, verbose=-1), data)


def linear():
    for name, data in {"iris": IRIS, "cancer": CANCER, "wine": WINE, "iris-names": IRIS_NAMES,
                       "cancer-names": CANCER_NAMES, "cancer-odd-labels": CANCER_ODD}.items():
        scaled = lambda estimator: make_pipeline(StandardScaler(), estimator)
        case(f"logistic-{name}", LogisticRegression(max_iter=300), data)
        case(f"scaled-logistic-{name}", scaled(LogisticRegression()), data)
        case(f"logistic-ovr-{name}", OneVsRestClassifier(LogisticRegression(max_iter=100)), data)
        case(f"linear-svc-{name}", LinearSVC(max_iter=200), data, options=False)
        case(f"sgd-hinge-{name}", scaled(SGDClassifier(random_state=0)), data)
        case(f"sgd-log-{name}", scaled(SGDClassifier(loss="log_loss", random_state=0)), data)
        case(f"sgd-huber-{name}", scaled(SGDClassifier(loss="modified_huber", random_state=0)), data)
        case(f"ridge-classifier-{name}", scaled(RidgeClassifier()), data)
        case(f"perceptron-{name}", scaled(Perceptron(random_state=0)), data)
        case(f"lda-{name}", LinearDiscriminantAnalysis(), data)
        case(f"qda-{name}", QuadraticDiscriminantAnalysis(reg_param=0.1), data)
        case(f"mlp-{name}", scaled(MLPClassifier((12,), max_iter=150, random_state=0)), data)
    case("passive-aggressive-iris", PassiveAggressiveClassifier(random_state=0), IRIS)
    case("logistic-cv-iris", LogisticRegressionCV(Cs=3, cv=3, max_iter=100), IRIS)
    case("logistic-double-iris", LogisticRegression(max_iter=200), IRIS, np.float64)
    case("logistic-double-cancer", LogisticRegression(max_iter=200), CANCER, np.float64)
    case("logistic-integers-iris", LogisticRegression(max_iter=200), IRIS, np.int64)
    case("logistic-raw-scores-cancer", LogisticRegression(max_iter=200), CANCER, options={"zipmap": False, "raw_scores": True})
    case("logistic-raw-scores-iris", LogisticRegression(max_iter=200), IRIS, options={"zipmap": False, "raw_scores": True})
    case("logistic-digits", LogisticRegression(max_iter=100), DIGITS)
    case("mlp-digits", MLPClassifier((24, 16), max_iter=60, random_state=0), DIGITS)
    case("mlp-tanh-iris", MLPClassifier((8,), activation="tanh", max_iter=200, random_state=0), IRIS)
    case("mlp-logistic-iris", MLPClassifier((8,), activation="logistic", max_iter=200, random_state=0), IRIS)
    for zipmap in (True, "columns"):
        for name, data in {"iris": IRIS, "cancer": CANCER, "iris-names": IRIS_NAMES, "cancer-odd-labels": CANCER_ODD}.items():
            case(f"logistic-zipmap-{zipmap}-{name}".lower(), LogisticRegression(max_iter=100), data, options={"zipmap": zipmap})
            case(f"forest-zipmap-{zipmap}-{name}".lower(), RandomForestClassifier(3, max_depth=3, random_state=0), data,
                 options={"zipmap": zipmap})
    data = ONE_TARGET
    for suffix, dtype in {"": np.float32, "-double": np.float64}.items():
        for estimator in (LinearRegression(), Ridge(), Lasso(), ElasticNet(), SGDRegressor(random_state=0), LinearSVR(),
                          BayesianRidge(), HuberRegressor(), Lars(), LassoLars()):
            name = type(estimator).__name__.lower()
            case(f"regressor-{name}{suffix}", estimator, data, dtype)
    for estimator in (ARDRegression(), RidgeCV(), QuantileRegressor(), PoissonRegressor(), GammaRegressor(), TweedieRegressor(),
                      RANSACRegressor(random_state=0), TheilSenRegressor(random_state=0, max_subpopulation=50),
                      PLSRegression(2)):
        case(f"regressor-{type(estimator).__name__.lower()}", estimator, data)
    case("regressor-linear-integers", LinearRegression(), data, np.int64)
    case("regressor-mlp", make_pipeline(StandardScaler(), MLPRegressor(hidden_layer_sizes=(12,), max_iter=200, random_state=0)), data)
    case("regressor-linear-two-targets", LinearRegression(), TWO_TARGETS)
    case("regressor-multitask-lasso", MultiTaskLasso(), TWO_TARGETS)
    case("regressor-log-target", TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1), data)


def svms():
    for name, data in {"iris": IRIS, "cancer": CANCER, "iris-names": IRIS_NAMES, "cancer-names": CANCER_NAMES,
                       "cancer-odd-labels": CANCER_ODD}.items():
        small = (data[0][::3], data[1][::3])
        for kernel in ("rbf", "linear", "poly", "sigmoid"):
            for probability in (False, True):
                suffix = "-probability" if probability else ""
                svc = SVC(kernel=kernel, probability=probability, C=2.0, random_state=0, max_iter=2000)
                case(f"svc-{kernel}{suffix}-{name}", make_pipeline(StandardScaler(), svc), small,
                     rows=sample(*data))
        case(f"nu-svc-{name}", make_pipeline(StandardScaler(), NuSVC(nu=0.2, probability=True, random_state=0)), small)
        case(f"svc-ovo-{name}", make_pipeline(StandardScaler(), SVC(decision_function_shape="ovo")), small)
        case(f"svc-raw-scores-{name}", SVC(C=2.0), small, options={"zipmap": False, "raw_scores": True})
    case("svc-probability-digits", SVC(probability=True, C=2.0, random_state=0), (DIGITS[0][:150], DIGITS[1][:150]))
    case("svc-digits", SVC(C=2.0), (DIGITS[0][:150], DIGITS[1][:150]))
    case("svc-double-iris", SVC(probability=True, random_state=0), IRIS, np.float64)
    data = (ONE_TARGET[0][::4], ONE_TARGET[1][::4])
    for kernel in ("rbf", "linear", "poly", "sigmoid"):
        case(f"svr-{kernel}", SVR(kernel=kernel, C=50.0, max_iter=3000), data)
        case(f"one-class-svm-{kernel}", OneClassSVM(kernel=kernel, nu=0.2), (IRIS[0][::3], IRIS[1][::3]), options=False)
    case("nu-svr", NuSVR(C=20.0), data)
    case("sgd-one-class-svm", SGDOneClassSVM(random_state=0), IRIS, options=False)


def preparation():
    for estimator in (StandardScaler(), MinMaxScaler(), MaxAbsScaler(), RobustScaler(), Normalizer("l1"), Normalizer("l2"),
                      Normalizer("max"), Binarizer(threshold=1.5), PolynomialFeatures(2), PCA(2), IncrementalPCA(2),
                      TruncatedSVD(2), KBinsDiscretizer(3, encode="ordinal"), KBinsDiscretizer(3, encode="onehot-dense"),
                      PowerTransformer(), QuantileTransformer(n_quantiles=20), VarianceThreshold(0.3), SelectKBest(k=2),
                      SelectFromModel(RandomForestClassifier(3, random_state=0)), FastICA(2, random_state=0),
                      KernelPCA(2, kernel="rbf"), Nystroem(n_components=5, random_state=0),
                      RBFSampler(n_components=6, random_state=0), SplineTransformer(),
                      NeighborhoodComponentsAnalysis(2, random_state=0, max_iter=5)):
        name = type(estimator).__name__.lower()
        if name in ("normalizer",):
            name += "-" + estimator.norm
        if name == "kbinsdiscretizer":
            name += "-" + estimator.encode
        case(f"prepare-{name}", estimator, IRIS, options=False)
        case(f"prepare-{name}-double", estimator, IRIS, np.float64, options=False)
    for estimator in (StandardScaler(with_mean=False), StandardScaler(with_std=False), MinMaxScaler((-1, 2), clip=True)):
        case(f"prepare-{type(estimator).__name__.lower()}-part-{len(str(estimator))}", estimator, IRIS, options=False)
    case("prepare-standardscaler-integers", StandardScaler(), IRIS, np.int64, options=False)
    case("prepare-cast", FunctionTransformer(), IRIS, options=False)
    missing = with_missing(IRIS)
    for strategy in ("mean", "median", "most_frequent", "constant"):
        case(f"impute-{strategy}", make_pipeline(SimpleImputer(strategy=strategy), LogisticRegression()), missing)
        case(f"impute-{strategy}-double", SimpleImputer(strategy=strategy), missing, np.float64, options=False)
    case("impute-knn", KNNImputer(n_neighbors=3), missing, options=False)
    integers = (IRIS[0].astype(np.int64), IRIS[1])
    case("impute-integers", SimpleImputer(missing_values=0, strategy="most_frequent"), integers, np.int64, options=False)
    case("impute-indicator", SimpleImputer(add_indicator=True), missing, options=False)
    case("one-hot-integers", OneHotEncoder(handle_unknown="ignore", sparse_output=False), integers, np.int64, options=False)
    case("one-hot-floats", OneHotEncoder(handle_unknown="ignore", sparse_output=False),
         (np.floor(IRIS[0]), IRIS[1]), options=False)
    case("ordinal-integers", OrdinalEncoder(), integers, np.int64, options=False)
    case("ordinal-floats", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
         (np.floor(IRIS[0]), IRIS[1]), options=False)
    case("union-iris", make_pipeline(FeatureUnion([("scale", StandardScaler()), ("reduce", PCA(2))]), LogisticRegression()), IRIS)
    text_case("one-hot-texts", OneHotEncoder(handle_unknown="ignore", sparse_output=False), True)
    text_case("one-hot-texts-drop", OneHotEncoder(drop="first", sparse_output=False), False)
    text_case("ordinal-texts", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), True)
    text_case("ordinal-texts-known", OrdinalEncoder(), False)
    text_case("one-hot-logistic", make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()), True)
    text_case("ordinal-forest", make_pipeline(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
                                              RandomForestClassifier(4, max_depth=4, random_state=0)), True)
    text_case("impute-texts", SimpleImputer(strategy="most_frequent", missing_values=""), False)
    text_case("target-encoder", TargetEncoder(target_type="binary", random_state=0), False)
    columns = lambda numbers_first: ColumnTransformer([
        ("texts", OneHotEncoder(handle_unknown="ignore"), ["colour", "city"]),
        ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "weight"]),
    ] if not numbers_first else [
        ("numbers", StandardScaler(), ["age", "weight", "children"]),
        ("texts", OrdinalEncoder(), ["colour", "city"]),
    ])
    table_case("table-logistic", make_pipeline(columns(False), LogisticRegression()), columns=["colour", "city", "age", "weight"])
    table_case("table-forest", make_pipeline(columns(True), RandomForestClassifier(4, max_depth=4, random_state=0)))
    table_case("table-zipmap", make_pipeline(columns(True), LogisticRegression()), options={"zipmap": True})
    table_case("table-xgboost", make_pipeline(columns(True), XGBClassifier(n_estimators=4, max_depth=3)))
    table_case("table-lightgbm", make_pipeline(columns(False), LGBMClassifier(n_estimators=4, num_leaves=5, verbose=-1)),
               columns=["colour", "city", "age", "weight"])
    table_case("table-gradient-boosting",
               make_pipeline(columns(True), GradientBoostingClassifier(n_estimators=4, random_state=0)))
    table_case("table-passthrough", make_pipeline(ColumnTransformer([
        ("texts", OneHotEncoder(handle_unknown="ignore"), ["colour"]), ("rest", "passthrough", ["age", "weight"]),
    ]), LogisticRegression()), columns=["colour", "age", "weight"])


def compositions():
    forest = lambda: RandomForestClassifier(3, max_depth=3, random_state=0)
    logistic = lambda: LogisticRegression(max_iter=200)
    for name, data in {"iris": IRIS, "cancer": CANCER, "iris-names": IRIS_NAMES, "cancer-names": CANCER_NAMES}.items():
        case(f"calibrated-sigmoid-{name}", CalibratedClassifierCV(LinearSVC(max_iter=100), cv=2), data)
        case(f"calibrated-isotonic-{name}", CalibratedClassifierCV(forest(), method="isotonic", cv=2), data)
        case(f"voting-soft-{name}", VotingClassifier([("a", forest()), ("b", logistic())], voting="soft", flatten_transform=False), data)
        case(f"voting-hard-{name}", VotingClassifier([("a", forest()), ("b", logistic()), ("c", GaussianNB())], flatten_transform=False), data)
        case(f"bagging-{name}", BaggingClassifier(DecisionTreeClassifier(max_depth=3), n_estimators=3, random_state=0), data)
        case(f"bagging-logistic-{name}", BaggingClassifier(logistic(), n_estimators=3, random_state=0, max_features=0.5), data)
        case(f"stacking-{name}", StackingClassifier([("a", forest()), ("b", logistic())], cv=2), data)
        case(f"ovr-forest-{name}", OneVsRestClassifier(forest()), data)
        case(f"ovo-logistic-{name}", OneVsOneClassifier(logistic()), data)
        case(f"grid-search-{name}", GridSearchCV(logistic(), {"C": [0.5, 1.0]}, cv=2), data)
        case(f"gaussian-nb-{name}", GaussianNB(), data)
        case(f"bernoulli-nb-{name}", BernoulliNB(binarize=2.0), data)
        case(f"multinomial-nb-{name}", MultinomialNB(), data)
        case(f"complement-nb-{name}", ComplementNB(), data)
        case(f"knn-{name}", KNeighborsClassifier(3), (data[0][::2], data[1][::2]))
        case(f"knn-distance-{name}", KNeighborsClassifier(4, weights="distance"), (data[0][::2], data[1][::2]),
             rows=data[0][1::2][:ROWS])
    case("output-code-iris", OutputCodeClassifier(logistic(), random_state=0), IRIS)
    case("categorical-nb", CategoricalNB(), (np.floor(IRIS[0]).astype(np.int64), IRIS[1]), np.int64)
    case("chain", ClassifierChain(logistic()), TWO_CLASSES_BY_ROW)
    case("multi-output", MultiOutputClassifier(logistic()), TWO_CLASSES_BY_ROW)
    case("multi-output-regressor", MultiOutputRegressor(Ridge()), TWO_TARGETS)
    case("regressor-chain", RegressorChain(Ridge()), TWO_TARGETS)
    case("voting-regressor", VotingRegressor([("a", Ridge()), ("b", DecisionTreeRegressor(max_depth=3))]), ONE_TARGET)
    case("stacking-regressor",
         StackingRegressor([("a", Ridge()), ("b", RandomForestRegressor(3, max_depth=3, random_state=0))], cv=2), ONE_TARGET)
    few = (ONE_TARGET[0][::3], ONE_TARGET[1][::3])
    for weights in ("uniform", "distance"):
        case(f"knn-regressor-{weights}", KNeighborsRegressor(3, weights=weights), few, rows=ONE_TARGET[0][1::3][:ROWS])
    case("knn-regressor-double", KNeighborsRegressor(3), few, np.float64)
    case("knn-manhattan", KNeighborsRegressor(3, metric="manhattan"), few)
    case("knn-digits", KNeighborsClassifier(5), (DIGITS[0][:200], DIGITS[1][:200]), rows=DIGITS[0][300:300 + ROWS])
    # skl2onnx writes the index -1 for each neighbour that a row has not: ONNX Runtime refuses it. So every row has all.
    case("radius-neighbors-all", RadiusNeighborsClassifier(100.0), IRIS)
    case("radius-neighbors-regressor-all", RadiusNeighborsRegressor(100.0), (IRIS[0], IRIS[1].astype(np.float32)))
    case("radius-neighbors", RadiusNeighborsClassifier(3.0), IRIS)
    case("radius-neighbors-regressor", RadiusNeighborsRegressor(3.0), (IRIS[0], IRIS[1].astype(np.float32)))
    case("nearest-neighbors", NearestNeighbors(n_neighbors=2), IRIS, options=False)
    case("knn-transformer", KNeighborsTransformer(n_neighbors=2), IRIS, options=False)
    case("local-outlier-factor", LocalOutlierFactor(n_neighbors=5, novelty=True), (IRIS[0][::3], IRIS[1][::3]), options=False)
    case("kmeans", KMeans(3, random_state=0), IRIS, options=False)
    case("kmeans-double", KMeans(3, random_state=0), IRIS, np.float64, options=False)
    case("mini-batch-kmeans", MiniBatchKMeans(3, random_state=0), IRIS, options=False)
    case("gaussian-mixture", GaussianMixture(3, random_state=0), IRIS, options=False)
    case("gaussian-mixture-diag", GaussianMixture(3, covariance_type="diag", random_state=0), IRIS, options=False)
    case("bayesian-mixture", BayesianGaussianMixture(n_components=3, random_state=0), IRIS, options=False)
    kernel = ConstantKernel(1.0) * RBF(1.0)
    case("gaussian-process", GaussianProcessRegressor(kernel, alpha=0.1), (few[0][:40], few[1][:40]))
    case("gaussian-process-classifier", GaussianProcessClassifier(kernel), (CANCER[0][:60], CANCER[1][:60]))


def label_cases():
    def label_encoder():
        encoder = LabelEncoder().fit(["red", "green", "blue"])
        model = to_onnx(encoder, initial_types=[("X", StringTensorType([None]))], target_opset={"": 18, "ai.onnx.ml": 3})
        write("label-encoder-texts", model, {"X": np.array(["blue", "red", "green", "red"], object)})

    def label_binarizer():
        encoder = LabelBinarizer().fit([3, 5, 9])
        model = to_onnx(encoder, initial_types=[("X", Int64TensorType([None, 1]))], target_opset={"": 18, "ai.onnx.ml": 3})
        write("label-binarizer", model, {"X": np.array([[3], [9], [5], [4]], np.int64)})

    attempt("label-encoder-texts", label_encoder)
    attempt("label-binarizer", label_binarizer)


def big():
    x, y = datasets.make_classification(4000, 30, n_informative=20, n_classes=10, random_state=0)
    ten = (x.astype(np.float32), y)
    x, y = datasets.make_classification(4000, 30, n_informative=12, random_state=0)
    two = (x.astype(np.float32), y)
    x, y = datasets.make_regression(4000, 30, noise=3.0, random_state=0)
    line = (x.astype(np.float32), y.astype(np.float32))
    global ROWS
    ROWS = 1000
    case("big-forest-2", RandomForestClassifier(100, random_state=0), two)
    case("big-forest-10", RandomForestClassifier(100, random_state=0), ten)
    case("big-forest-10-shallow", RandomForestClassifier(100, max_depth=8, random_state=0), ten)
    case("big-forest-regressor", RandomForestRegressor(100, random_state=0, max_depth=12), line)
    case("big-gradient-boosting-2", GradientBoostingClassifier(n_estimators=100, random_state=0), two)
    boosted("big-xgboost-2", convert_xgboost, XGBClassifier(n_estimators=100), two)
    boosted("big-xgboost-10", convert_xgboost, XGBClassifier(n_estimators=100), ten)
    boosted("big-xgboost-regressor", convert_xgboost, XGBRegressor(n_estimators=100), line)
    boosted("big-lightgbm-2", convert_lightgbm, LGBMClassifier(n_estimators=100, verbose=-1), two)
    boosted("big-lightgbm-10", convert_lightgbm, LGBMClassifier(n_estimators=100, verbose=-1), ten)
    boosted("big-lightgbm-regressor", convert_lightgbm, LGBMRegressor(n_estimators=100, verbose=-1), line)
    case("big-hist-gradient-boosting", HistGradientBoostingClassifier(max_iter=100, random_state=0), two)
    case("big-isolation-forest", IsolationForest(n_estimators=100, random_state=0), two, options=False)
    case("big-forest-2-double", RandomForestClassifier(100, random_state=0), two, np.float64)
    case("big-svc-10", SVC(probability=False), (ten[0][:1000], ten[1][:1000]))
    case("big-svc-2-probability", SVC(probability=True, random_state=0), (two[0][:1000], two[1][:1000]))
    case("big-svr", SVR(), (line[0][:1000], line[1][:1000]))
    case("big-logistic-10", make_pipeline(StandardScaler(), LogisticRegression()), ten)
    case("big-knn-10", KNeighborsClassifier(5), (ten[0][:1000], ten[1][:1000]))


os.makedirs(FOLDER, exist_ok=True)
if "--big" in sys.argv:
    big()
else:
    for family in (trees, tree_regressors, linear, svms, preparation, compositions, label_cases):
        family()
print(f"{len(failures)} were not converted")
