"""Writes the test cases for `examples/operator_conformance`: run by hand, with the packages named here.

    pip install onnx==1.23.2 onnxruntime==1.32.0 skl2onnx==1.20.0 scikit-learn pillow ml_dtypes
    python cases.py FOLDER

FOLDER/node are the cases of the package onnx, with its own answers. The others have the answers of ONNX Runtime:
opset (older operator sets, more attributes), ml (ai.onnx.ml), sklearn (exports), inf (infinite, extreme and NaN values),
max (integers beyond 32 bits).
"""

import os, sys, warnings
import numpy as np, onnx, onnxruntime as ort
from onnx import helper as h, numpy_helper as nh, TensorProto as T

warnings.filterwarnings("ignore")
OUT = sys.argv[1]
rng = np.random.default_rng(0)
NP2T = {
    np.dtype(k): v
    for k, v in {
        "float32": T.FLOAT,
        "float64": T.DOUBLE,
        "float16": T.FLOAT16,
        "int64": T.INT64,
        "int32": T.INT32,
        "uint8": T.UINT8,
        "int8": T.INT8,
        "bool": T.BOOL,
    }.items()
}


def save(kind, name, model, inputs):
    folder = os.path.join(OUT, kind, name)
    try:
        s = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        outs = s.run(None, {i.name: v for i, v in zip(s.get_inputs(), inputs)})
    except Exception as e:
        print("skip", name, str(e)[:200])
        return
    os.makedirs(os.path.join(folder, "test_data_set_0"), exist_ok=True)
    onnx.save(model, os.path.join(folder, "model.onnx"))
    for role, xs in (("input", inputs), ("output", outs)):
        for j, x in enumerate(xs):
            open(os.path.join(folder, "test_data_set_0", f"{role}_{j}.pb"), "wb").write(
                nh.from_array(np.asarray(x)).SerializeToString()
            )


def f(*s):
    return rng.standard_normal(s).astype(np.float32)


def single(op, inputs, opset, n_out=1, consts=(), domain="", **attrs):
    """inputs: arrays; those with index in consts are initializers"""
    names = [f"i{k}" if x is not None else "" for k, x in enumerate(inputs)]
    outs = [f"o{k}" for k in range(n_out)]
    node = h.make_node(op, names, outs, domain=domain, **attrs)
    gi, gin, vals = [], [], []
    for k, x in enumerate(inputs):
        if x is None:
            continue
        if k in consts:
            gi.append(nh.from_array(x, names[k]))
        else:
            gin.append(h.make_tensor_value_info(names[k], NP2T[x.dtype], x.shape))
            vals.append(x)
    g = h.make_graph([node], "g", gin, [h.make_empty_tensor_value_info(o) for o in outs], gi)
    imports = [h.make_opsetid("", opset)] + ([h.make_opsetid(domain, 3)] if domain else [])
    m = h.make_model(g, opset_imports=imports, ir_version=8)
    # declared output types from shape inference where possible
    try:
        m = onnx.shape_inference.infer_shapes(m)
    except Exception:
        pass
    return m, vals


KIND = "opset"
N = {}


def case(op, inputs, opsets, **kw):
    for v in opsets:
        k = N[op] = N.get(op, 0) + 1
        m, vals = single(op, inputs, v, **kw)
        save(KIND, f"{op}_{v}_{k}", m, vals)


OLD = (9, 11, 12, 13, 17, 18)
i64 = lambda *v: np.array(v, np.int64)
for op in ("Softmax", "LogSoftmax", "Hardmax"):
    for shape in ((3, 5), (2, 3, 4), (2, 3, 4, 2)):
        case(op, [f(*shape)], OLD)
        for ax in (0, 1, len(shape) - 1):
            case(op, [f(*shape)], OLD, axis=ax)
        for ax in (-1, -2):
            case(op, [f(*shape)], (11, 13, 17), axis=ax)
for op in (
    "ReduceSum",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceSumSquare",
):
    x = np.abs(f(2, 3, 4)) + 0.5
    olds = (9, 11, 12) if op == "ReduceSum" else (9, 11, 13, 17)
    new = (13, 17, 18) if op == "ReduceSum" else (18, 20)
    for keep in (0, 1):
        for axes in ([0], [1], [0, 2], [1, 2]):
            case(op, [x], olds, axes=axes, keepdims=keep)
        case(op, [x], [v for v in olds if v >= 11], axes=[-1], keepdims=keep)
        case(op, [x], olds, keepdims=keep)
        for axes in ([0], [-1], [0, 2]):
            case(op, [x, i64(*axes)], new, consts=(1,), keepdims=keep)
        case(op, [x], new, keepdims=keep)
for op in ("ArgMax", "ArgMin"):
    for dt in (np.float32, np.int32, np.float64):
        x = (f(4, 5, 3) * 10).astype(dt)
        for ax in (0, 1, 2):
            for keep in (0, 1):
                case(op, [x], OLD, axis=ax, keepdims=keep)
        x = np.array([[1, 3, 3, 0], [2, 2, 1, 2]], dt)
        case(op, [x], (9, 13, 17), axis=1, keepdims=1)
        case(op, [x], (13, 17), axis=1, keepdims=1, select_last_index=1)
for ax in ([0], [1, 2], [-1]):
    case("Unsqueeze", [f(3, 4)], (11, 12) if min(ax) < 0 else (9, 11), axes=ax)
    case("Unsqueeze", [f(3, 4), i64(*ax)], (13, 17, 21), consts=(1,))
for ax, s in (([0], (1, 3, 4)), ([1, 2], (3, 1, 1)), ([-1], (3, 1))):
    case("Squeeze", [f(*s)], (11, 12) if min(ax) < 0 else (9, 11), axes=ax)
    case("Squeeze", [f(*s), i64(*ax)], (13, 17, 21), consts=(1,))
case("Squeeze", [f(1, 3, 1, 2)], OLD)
for parts in ([2, 4], [1, 2, 3]):
    case("Split", [f(6, 4)], (9, 11), n_out=len(parts), axis=0, split=parts)
    case("Split", [f(6, 4), i64(*parts)], (13, 17), n_out=len(parts), axis=0, consts=(1,))
case("Split", [f(6, 4)], (9, 11, 13, 17), n_out=2, axis=1)
case("Split", [f(7, 4)], (18, 20), n_out=3, axis=0, num_outputs=3)
case("Slice", [f(5, 6)], (9,), starts=[1, 0], ends=[3, -1], axes=[0, 1])
for st, en, ax, sp in (
    ([1], [4], [0], [1]),
    ([-3], [2**31 - 1], [1], [1]),
    ([4], [0], [0], [-1]),
    ([0, 1], [5, 6], [0, 1], [2, 3]),
    ([-1], [-(2**31)], [1], [-2]),
    ([0], [100], [0], [1]),
):
    case("Slice", [f(5, 6), i64(*st), i64(*en), i64(*ax), i64(*sp)], (10, 11, 13, 17), consts=(1, 2, 3, 4))
case("Clip", [f(3, 4)], (9,), min=-0.5, max=0.5)
case("Clip", [f(3, 4)], (9,), min=-0.5)
for lo, hi in ((np.float32(-0.5), np.float32(0.5)), (None, np.float32(0.5)), (np.float32(-0.5), None)):
    lo, hi = (None if v is None else np.array(v, np.float32) for v in (lo, hi))
    case("Clip", [f(3, 4), lo, hi], (11, 12, 13, 17), consts=(1, 2))
case(
    "Clip",
    [(f(3, 4) * 5).astype(np.int32), np.array(-2, np.int32), np.array(3, np.int32)],
    (12, 13),
    consts=(1, 2),
)
case("Pad", [f(2, 3)], (9,), pads=[1, 0, 0, 2], mode="constant", value=1.5)
for mode in ("constant", "reflect", "edge"):
    case("Pad", [f(3, 4), i64(1, 2, 1, 0)], (11, 13, 17), consts=(1,), mode=mode)
    case(
        "Pad",
        [f(3, 4), i64(0, 2, 2, 1), np.array(2.5, np.float32)],
        (11, 13, 17, 18),
        consts=(1, 2),
        mode=mode,
    )
case(
    "Dropout",
    [f(3, 4)],
    (9, 10, 12, 13),
)
case("Dropout", [f(3, 4)], (9, 10), ratio=0.3)
for v in (9, 14, 15):
    case(
        "BatchNormalization",
        [f(2, 3, 4, 5), np.abs(f(3)), f(3), f(3), np.abs(f(3)) + 0.1],
        (v,),
        consts=(1, 2, 3, 4),
        epsilon=1e-3,
    )
    case(
        "BatchNormalization",
        [f(4, 3), np.abs(f(3)), f(3), f(3), np.abs(f(3)) + 0.1],
        (v,),
        consts=(1, 2, 3, 4),
    )
for k in (1, 2):
    for largest in (0, 1):
        for ax in (0, 1, -1):
            case("TopK", [f(4, 5), i64(k)], (11, 13, 17), n_out=2, consts=(1,), axis=ax, largest=largest)
case("TopK", [f(4, 5), i64(2)], (10,), n_out=2, consts=(1,), axis=1)
for a, b in ((np.int32, 7), (np.int64, 7), (np.float32, 3.0), (np.uint8, 9)):
    x = (np.abs(f(3, 4)) * 20 + 1).astype(a)
    y = (np.abs(f(3, 4)) * b + 1).astype(a)
    for op in ("Add", "Sub", "Mul", "Div"):
        case(op, [x, y], (9, 13, 14))
    for op in ("Add", "Sub", "Mul", "Div"):
        case(op, [x, y[:1]], (9, 13, 14), consts=(1,))
    for op in ("Add", "Sub", "Mul", "Div"):
        case(op, [x, y[:1, :1]], (9, 13, 14), consts=(0,))
    for op in ("Equal", "Greater", "Less"):
        case(op, [x, y], (9, 11, 13))
    for op in ("GreaterOrEqual", "LessOrEqual"):
        case(op, [x, y], (12, 16))
    for op in ("Max", "Min", "Sum", "Mean"):
        case(op, [x, y, x], (9, 12, 13))
x = (f(3, 4) * 20).astype(np.int32)
y = (f(3, 4) * 3).astype(np.int32)
y[y == 0] = -2
case("Div", [x, y], (9, 13))
case("Mod", [x, y], (10, 13))
case("Mod", [x, y], (10, 13), fmod=1)
case("Mod", [f(3, 4) * 9, f(3, 4)], (10, 13), fmod=1)
case("Div", [x.astype(np.int64), np.array([-3], np.int64)], (13,), consts=(1,))
case("Div", [x.astype(np.int64), np.array([2], np.int64)], (13,), consts=(1,))
case("Mod", [x.astype(np.int64), np.array([-3], np.int64)], (13,), consts=(1,))
case("Mod", [x.astype(np.int64), np.array([4], np.int64)], (13,), consts=(1,))
for frm in (np.float32, np.float64, np.int32, np.int64, np.uint8, np.int8, np.bool_, np.float16):
    for to in ("float32", "float64", "int32", "int64", "uint8", "int8", "bool", "float16"):
        x = (f(3, 4) * 3).astype(frm) if frm is not np.uint8 else (np.abs(f(3, 4)) * 3).astype(frm)
        if to == "uint8" and frm is not np.bool_:
            x = np.abs(x)
        case("Cast", [x], (9, 13, 19), to=NP2T[np.dtype(to)])
for trans in ((0, 0), (1, 0), (0, 1), (1, 1)):
    a = f(4, 3).T.copy() if trans[0] else f(4, 3)[:, :3]
    a = f(3, 4) if trans[0] else f(4, 3)
    b = f(5, 3) if trans[1] else f(3, 5)
    for c in (f(5), f(4, 5), f(1, 5), f(4, 1), np.array(1.5, np.float32)):
        case(
            "Gemm",
            [a, b, c],
            (9, 11, 13),
            consts=(1, 2),
            transA=trans[0],
            transB=trans[1],
            alpha=0.5,
            beta=2.0,
        )
        case("Gemm", [a, b, c], (11, 13), transA=trans[0], transB=trans[1])
    case("Gemm", [a, b], (11, 13), consts=(1,), transA=trans[0], transB=trans[1])
for sa, sb in (
    ((3, 4), (4, 5)),
    ((2, 3, 4), (4, 5)),
    ((2, 3, 4), (2, 4, 5)),
    ((1, 3, 4), (6, 4, 5)),
    ((4,), (4, 5)),
    ((3, 4), (4,)),
    ((4,), (4,)),
    ((2, 1, 3, 4), (5, 4, 2)),
):
    case("MatMul", [f(*sa), f(*sb)], (9, 13))
    case("MatMul", [f(*sa), f(*sb)], (13,), consts=(1,))
    case("MatMul", [f(*sa), f(*sb)], (13,), consts=(0,))
    case("MatMul", [f(*sa).astype(np.float64), f(*sb).astype(np.float64)], (13,))
for eq, s in (
    ("ij,jk->ik", ((2, 3), (3, 4))),
    ("bij,bjk->bik", ((2, 3, 4), (2, 4, 5))),
    ("ij->ji", ((2, 3),)),
    ("ij->i", ((2, 3),)),
    ("ii->i", ((3, 3),)),
    ("i,j->ij", ((3,), (4,))),
    ("bhid,bhjd->bhij", ((2, 2, 3, 4), (2, 2, 5, 4))),
    ("ij,ij->", ((2, 3), (2, 3))),
    ("...ij,...jk->...ik", ((2, 3, 4), (2, 4, 5))),
):
    case("Einsum", [f(*x) for x in s], (12, 13), equation=eq)
for g_, pads, strides, dil in (
    (1, [0] * 4, [1, 1], [1, 1]),
    (1, [1] * 4, [2, 2], [1, 1]),
    (2, [1, 0, 2, 1], [1, 2], [1, 1]),
    (1, [2] * 4, [1, 1], [2, 2]),
    (4, [1] * 4, [1, 1], [1, 1]),
):
    w = f(4, 4 // g_, 3, 3)
    case(
        "Conv",
        [f(2, 4, 7, 8), w, f(4)],
        (9, 11),
        consts=(1, 2),
        group=g_,
        pads=pads,
        strides=strides,
        dilations=dil,
    )
    case("Conv", [f(2, 4, 7, 8), w], (11,), consts=(1,), group=g_, pads=pads, strides=strides, dilations=dil)
    case("Conv", [f(2, 4, 7, 8), w], (11,), group=g_, pads=pads, strides=strides, dilations=dil)
    case(
        "ConvTranspose",
        [f(2, 4, 7, 8), w, f(4 // g_ * g_)],
        (11,),
        consts=(1, 2),
        group=g_,
        pads=pads,
        strides=strides,
        dilations=dil,
    )
case("Conv", [f(1, 3, 20), f(5, 3, 3)], (11,), consts=(1,), pads=[1, 1])
case("Conv", [f(1, 2, 5, 6, 7), f(3, 2, 2, 3, 3)], (11,), consts=(1,))
for ap in ("SAME_UPPER", "SAME_LOWER", "VALID"):
    case("Conv", [f(1, 2, 7, 8), f(3, 2, 3, 3)], (11,), consts=(1,), auto_pad=ap, strides=[2, 2])
    case("MaxPool", [f(1, 2, 7, 8)], (9, 11, 12), auto_pad=ap, kernel_shape=[3, 3], strides=[2, 2])
    case("AveragePool", [f(1, 2, 7, 8)], (9, 11), auto_pad=ap, kernel_shape=[3, 3], strides=[2, 2])
for ceil in (0, 1):
    for pads in ([0] * 4, [1, 1, 1, 1], [0, 1, 1, 0]):
        case(
            "MaxPool",
            [f(1, 2, 7, 8)],
            (10, 11, 12),
            kernel_shape=[3, 2],
            strides=[2, 2],
            pads=pads,
            ceil_mode=ceil,
        )
        for inc in (0, 1):
            case(
                "AveragePool",
                [f(1, 2, 7, 8)],
                (10, 11, 19),
                kernel_shape=[3, 2],
                strides=[2, 2],
                pads=pads,
                ceil_mode=ceil,
                count_include_pad=inc,
            )
case("MaxPool", [f(1, 2, 7, 8)], (10, 12), kernel_shape=[2, 2], dilations=[2, 2])
case("MaxPool", [f(1, 2, 7, 8)], (12,), n_out=2, kernel_shape=[2, 2])
for op in ("GlobalAveragePool", "GlobalMaxPool"):
    case(op, [f(2, 3, 4, 5)], (9, 11))
    case(op, [f(2, 3, 4)], (9,))
for (
    op
) in "Relu Sigmoid Tanh Exp Log Sqrt Abs Neg Floor Ceil Reciprocal Erf Sign Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh Softplus Softsign Identity Not IsNaN Round HardSwish Mish Gelu".split():
    vs = {"Round": (11, 22), "HardSwish": (14, 22), "Mish": (18, 22), "Gelu": (20,), "Erf": (9, 13)}.get(
        op, (9, 13, 22)
    )
    x = np.abs(f(3, 70)) + 0.01
    if op in ("Asin", "Acos", "Atanh"):
        x = np.clip(f(3, 70), -0.99, 0.99)
    elif op == "Acosh":
        x = x + 1
    elif op not in ("Log", "Sqrt"):
        x = f(3, 70) * 4
    if op == "Not":
        x = f(3, 70) > 0
    if op == "IsNaN":
        x[0, 0] = np.nan
    if op == "Round":
        x = np.array([[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.3]], np.float32)
    case(op, [x], vs)
for op, kw in (
    ("LeakyRelu", {}),
    ("LeakyRelu", dict(alpha=0.3)),
    ("Elu", {}),
    ("Elu", dict(alpha=0.3)),
    ("Selu", {}),
    ("Selu", dict(alpha=2.0, gamma=0.4)),
    ("HardSigmoid", {}),
    ("HardSigmoid", dict(alpha=0.3, beta=0.4)),
    ("Celu", dict(alpha=0.5)),
    ("ThresholdedRelu", dict(alpha=0.5)),
):
    case(op, [f(3, 40) * 3], {"Celu": (12,), "ThresholdedRelu": (10,)}.get(op, (9, 13, 22)), **kw)
case("PRelu", [f(2, 3, 4), f(3, 1)], (9, 16), consts=(1,))
case("PRelu", [f(2, 3, 4), f(1)], (9, 16), consts=(1,))
case("PRelu", [f(2, 3, 4), f(4)], (9, 16), consts=(1,))
for x, y in (
    (np.abs(f(3, 4)), np.float32(2)),
    (np.abs(f(3, 4)), f(3, 4)),
    (f(3, 4), np.float32(3)),
    (np.abs(f(3, 4)), np.float32(0.5)),
    (np.abs(f(3, 4)), np.float32(-1)),
    ((f(3, 4) * 4).astype(np.int32), np.int32(3)),
    ((f(3, 4) * 4).astype(np.int64), np.int64(2)),
    (f(3, 4), np.int64(2)),
    (f(3, 4), np.int32(3)),
):
    y = np.asarray(y)
    case("Pow", [x, y], (12, 13, 15), consts=(1,))
    case("Pow", [x, y], (13,))
    case("Pow", [x, y], (13,), consts=(0,))
for ax in (0, 1, -1):
    idx = rng.integers(0, 3, (2, 2))
    case("Gather", [f(3, 4, 3), idx], (9, 11, 13))
    case("Gather", [f(4, 4, 4), idx], (11, 13), axis=ax)
    case("Gather", [f(4, 4, 4), idx], (11, 13), axis=ax, consts=(0,))
    case("Gather", [f(4, 4, 4), idx], (11, 13), axis=ax, consts=(1,))
    case("Gather", [f(4, 4, 4), np.array(-1, np.int64)], (11, 13), axis=ax, consts=(1,))
    case("Gather", [f(4, 4, 4), np.array(-2, np.int64)], (11, 13), axis=ax)
    case("Gather", [f(4, 4, 4), idx.astype(np.int32) - 3], (13,), axis=ax)
    case("GatherElements", [f(3, 3), rng.integers(-3, 3, (2, 3))], (11, 13), axis=ax if ax < 2 else 0)
    case("Concat", [f(3, 3), f(3, 3)], (9, 11, 13), axis=ax)
    case("CumSum", [f(3, 4, 2), np.array(ax, np.int64)], (11, 14), consts=(1,))
    case("CumSum", [f(3, 4, 2), np.array(ax, np.int64)], (11, 14), consts=(1,), exclusive=1)
    case("CumSum", [f(3, 4, 2), np.array(ax, np.int64)], (11,), consts=(1,), reverse=1, exclusive=1)
    case(
        "OneHot",
        [rng.integers(-3, 3, (2, 3)), i64(3), np.array([0, 1], np.float32)],
        (9, 11),
        consts=(1, 2),
        axis=ax,
    )
    case("LpNormalization", [f(3, 4)], (9,), axis=ax if ax < 1 else 1, p=2)
    case("LpNormalization", [f(3, 4)], (9,), axis=ax if ax < 1 else 1, p=1)
case("Reshape", [f(2, 3, 4), i64(0, -1)], (9, 13, 14), consts=(1,))
case("Reshape", [f(2, 3, 4), i64(4, 6)], (9, 13), consts=(1,))
case("Reshape", [f(2, 3, 4), i64(-1)], (13,), consts=(1,))
case("Reshape", [f(0, 3), i64(0, 3)], (14,), consts=(1,), allowzero=1)
for axis in (0, 1, 2):
    case("Flatten", [f(2, 3, 4)], (9, 11, 13), axis=axis)
case("Flatten", [f(2, 3, 4)], (11, 13), axis=-1)
case("Transpose", [f(2, 3, 4)], (9, 13))
case("Transpose", [f(2, 3, 4)], (9, 13), perm=[1, 0, 2])
case("Expand", [f(3, 1), i64(2, 1, 6)], (9, 13), consts=(1,))
case("Expand", [f(3, 1), i64(3, 4)], (13,), consts=(1,))
case("Tile", [f(2, 3), i64(2, 3)], (9, 13), consts=(1,))
case("Where", [f(3, 4) > 0, f(3, 4), f(4)], (9, 16))
case("Where", [f(3, 1) > 0, f(1, 4), np.array(0, np.float32)], (9, 16), consts=(2,))
case("Where", [f(3, 4) > 0, i64(1), i64(2)], (9,), consts=(1, 2))
for op in ("And", "Or", "Xor"):
    case(op, [f(3, 4) > 0, f(4) > 0], (9,))
case("Shape", [f(2, 3, 4)], (9, 13, 15))
case("Shape", [f(2, 3, 4)], (15,), start=1, end=-1)
case("Size", [f(2, 3)], (9, 13))
case("ConstantOfShape", [i64(2, 3)], (9,), value=nh.from_array(np.array([1.5], np.float32)))
case("ConstantOfShape", [i64(2, 3)], (9,), consts=(0,))
case("Range", [np.array(0, np.int64), np.array(5, np.int64), np.array(2, np.int64)], (11,), consts=(0, 1, 2))
case("LayerNormalization", [f(2, 3, 8), f(8), f(8)], (17,), consts=(1, 2))
case("LayerNormalization", [f(2, 3, 8), f(3, 8), f(3, 8)], (17,), consts=(1, 2), axis=1, epsilon=1e-3)
case("LayerNormalization", [f(2, 3, 8), f(8)], (17,), consts=(1,))
case("InstanceNormalization", [f(2, 3, 4, 5), f(3), f(3)], (9,), consts=(1, 2))
case("LRN", [f(2, 6, 4, 4)], (9, 13), size=3)
case("LRN", [f(2, 6, 4, 4)], (9,), size=5, alpha=0.01, beta=0.5, bias=2.0)
case("MeanVarianceNormalization", [f(2, 3, 4, 5)], (9, 13))
case("Trilu", [f(4, 5)], (14,))
case("Trilu", [f(4, 5), np.array(1, np.int64)], (14,), consts=(1,), upper=0)
case("EyeLike", [f(3, 4)], (9,))
case("EyeLike", [f(3, 4)], (9,), k=1)
case("DepthToSpace", [f(1, 8, 2, 3)], (9, 11, 13), blocksize=2)
case("DepthToSpace", [f(1, 8, 2, 3)], (11, 13), blocksize=2, mode="CRD")
case("SpaceToDepth", [f(1, 2, 4, 6)], (9, 13), blocksize=2)
for mode in ("nearest", "linear"):
    for ct in ("asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel"):
        for nm in (
            ("floor", "round_prefer_floor", "ceil", "round_prefer_ceil")
            if mode == "nearest"
            else ("round_prefer_floor",)
        ):
            case(
                "Resize",
                [f(1, 2, 4, 5), np.array([], np.float32), np.array([1, 1, 2, 2], np.float32)],
                (11, 13, 18),
                consts=(1, 2),
                mode=mode,
                coordinate_transformation_mode=ct,
                nearest_mode=nm,
            )
            case(
                "Resize",
                [f(1, 2, 4, 5), np.array([], np.float32), np.array([1, 1, 0.6, 1.5], np.float32)],
                (11, 13),
                consts=(1, 2),
                mode=mode,
                coordinate_transformation_mode=ct,
                nearest_mode=nm,
            )
            case(
                "Resize",
                [f(1, 2, 4, 5), None, None, i64(1, 2, 7, 3)],
                (13, 18),
                consts=(3,),
                mode=mode,
                coordinate_transformation_mode=ct,
                nearest_mode=nm,
            )
case("Resize", [f(1, 2, 4, 5), np.array([1, 1, 2, 2], np.float32)], (10,), consts=(1,), mode="nearest")
case("Upsample", [f(1, 2, 4, 5), np.array([1, 1, 2, 2], np.float32)], (9,), consts=(1,), mode="nearest")
case("Upsample", [f(1, 2, 4, 5), np.array([1, 1, 2, 2], np.float32)], (9,), consts=(1,), mode="linear")
for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
    for d in ("forward", "reverse", "bidirectional"):
        nd = 2 if d == "bidirectional" else 1
        W, R, B = f(nd, gates * 5, 3), f(nd, gates * 5, 5), f(nd, gates * 10)
        kw = dict(linear_before_reset=1) if op == "GRU" else {}
        for v in (9, 14):
            case(
                op,
                [f(4, 2, 3), W, R, B],
                (v,),
                consts=(1, 2, 3),
                n_out=3 if op == "LSTM" else 2,
                hidden_size=5,
                direction=d,
            )
            case(op, [f(4, 2, 3), W, R], (v,), consts=(1, 2), hidden_size=5, direction=d, **kw)
            case(
                op,
                [f(4, 2, 3), W, R, B, None, f(nd, 2, 5)] + ([f(nd, 2, 5)] if op == "LSTM" else []),
                (v,),
                consts=(1, 2, 3),
                n_out=3 if op == "LSTM" else 2,
                hidden_size=5,
                direction=d,
                **kw,
            )
ml = "ai.onnx.ml"


def mlcase(op, inputs, n_out=1, **kw):
    k = N[op] = N.get(op, 0) + 1
    m, vals = single(op, inputs, 17, n_out=n_out, domain=ml, **kw)
    save("ml", f"{op}_{k}", m, vals)


for norm in ("MAX", "L1", "L2"):
    mlcase("Normalizer", [f(4, 3)], norm=norm)
for post in ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"):
    for lab in ([0, 1], [0, 1, 2], [3, 7], [5, 2, 9]):
        n = len(lab)
        mlcase(
            "LinearClassifier",
            [f(20, 3)],
            n_out=2,
            coefficients=list(map(float, f(n * 3))),
            intercepts=list(map(float, f(n))),
            classlabels_ints=lab,
            multi_class=1,
            post_transform=post,
        )
        if n == 2:
            mlcase(
                "LinearClassifier",
                [f(20, 3)],
                n_out=2,
                coefficients=list(map(float, f(3))),
                intercepts=list(map(float, f(1))),
                classlabels_ints=lab,
                multi_class=0,
                post_transform=post,
            )
        if n == 2:
            mlcase(
                "LinearClassifier",
                [f(20, 3)],
                n_out=2,
                coefficients=list(map(float, f(6))),
                intercepts=list(map(float, f(2))),
                classlabels_ints=lab,
                multi_class=0,
                post_transform=post,
            )
    for t in (1, 2):
        mlcase(
            "LinearRegressor",
            [f(6, 3)],
            coefficients=list(map(float, f(3 * t))),
            intercepts=list(map(float, f(t))),
            targets=t,
            post_transform=post,
        )
mlcase("Scaler", [f(4, 3)], offset=[1.0, 2.0, 3.0], scale=[0.5, 0.2, 0.1])
mlcase("Binarizer", [f(4, 3)], threshold=0.2)
mlcase(
    "Imputer",
    [np.where(f(4, 3) > 0, f(4, 3), np.nan).astype(np.float32)],
    imputed_value_floats=[1.0, 2.0, 3.0],
    replaced_value_float=float("nan"),
)
mlcase("FeatureVectorizer", [f(4, 2), f(4, 3)], inputdimensions=[2, 3])
mlcase("ArrayFeatureExtractor", [f(4, 5), i64(0, 3)], consts=(1,))

# ---- scikit-learn pipelines
from sklearn import (
    datasets,
    linear_model as lm,
    neural_network as nn,
    naive_bayes as nb,
    neighbors,
    cluster,
    decomposition,
    discriminant_analysis as da,
    preprocessing as pp,
    pipeline,
    svm,
    tree,
    ensemble,
)
from skl2onnx import to_onnx

for dname, (X, y) in (
    ("iris", datasets.load_iris(return_X_y=True)),
    ("digits", datasets.load_digits(return_X_y=True)),
    ("cancer", datasets.load_breast_cancer(return_X_y=True)),
    (
        "cancer_pm",
        (lambda d: (d[0], np.where(d[1] == 1, 7, -3)))(datasets.load_breast_cancer(return_X_y=True)),
    ),
):
    X = X.astype(np.float32)
    Xp = X / X.max()
    rows = np.concatenate([np.where(y == c)[0][:12] for c in np.unique(y)])
    for name, est, D in (
        ("LogisticRegression", lm.LogisticRegression(max_iter=200), X),
        ("MLP", nn.MLPClassifier((20, 10), max_iter=60, random_state=0), Xp),
        ("MLP_logistic", nn.MLPClassifier((9,), activation="logistic", max_iter=60, random_state=0), Xp),
        ("MLP_tanh", nn.MLPClassifier((9,), activation="tanh", max_iter=60, random_state=0), Xp),
        ("GaussianNB", nb.GaussianNB(), X + 0),
        ("BernoulliNB", nb.BernoulliNB(), Xp),
        ("MultinomialNB", nb.MultinomialNB(), Xp),
        ("KMeans", cluster.KMeans(3, n_init=1, random_state=0), X),
        ("KNN", neighbors.KNeighborsClassifier(3), X),
        ("KNNReg", neighbors.KNeighborsRegressor(3), X),
        ("Ridge", lm.Ridge(), X),
        ("LinearRegression", lm.LinearRegression(), X),
        ("PCA", decomposition.PCA(2), X),
        ("LDA", da.LinearDiscriminantAnalysis(), X),
        ("SGD", lm.SGDClassifier(loss="log_loss", random_state=0), Xp),
        ("Normalizer+LR", pipeline.make_pipeline(pp.Normalizer(), lm.LogisticRegression()), X),
        ("MinMax+LR", pipeline.make_pipeline(pp.MinMaxScaler(), lm.LogisticRegression()), X),
        (
            "MaxAbs+MLP",
            pipeline.make_pipeline(pp.MaxAbsScaler(), nn.MLPClassifier((9,), max_iter=60, random_state=0)),
            X,
        ),
        ("Poly+Ridge", pipeline.make_pipeline(pp.PolynomialFeatures(2), lm.Ridge()), Xp[:, :4]),
        ("Binarizer+BNB", pipeline.make_pipeline(pp.Binarizer(threshold=0.2), nb.BernoulliNB()), Xp),
        ("MLPReg", nn.MLPRegressor(hidden_layer_sizes=(9,), max_iter=60, random_state=0), Xp),
    ):
        try:
            est.fit(D, y)
            opts = {id(est): {"zipmap": False}} if hasattr(est, "predict_proba") else None
            for v in (13, 17, 21):
                m = to_onnx(est, D[:1], options=opts, target_opset={"": v, "ai.onnx.ml": 3})
                save("sklearn", f"{name}_{dname}_{v}", m, [D[rows]])
        except Exception as e:
            print("skip", name, dname, str(e)[:120].replace("\n", " "))


# ---- infinite and extreme values
KIND = "inf"
ninf = np.float32(-np.inf)
inf = np.float32(np.inf)
nan = np.float32(np.nan)
x = np.array(
    [
        [ninf, ninf, ninf, ninf, ninf],
        [1, 2, ninf, 4, 0],
        [inf, 1, 2, 3, 4],
        [inf, inf, inf, inf, inf],
        [ninf, inf, 0, 1, 2],
    ],
    np.float32,
)
for op in ("ReduceMax", "ReduceMin"):
    case(op, [x], (13, 17), axes=[1], keepdims=0)
    case(op, [x], (13, 17), axes=[0], keepdims=0)
    case(op, [x[:1]], (13,), keepdims=0)
    case(op, [x[3:4]], (13,), keepdims=0)
for op in ("ArgMax", "ArgMin"):
    case(op, [x], (13, 17), axis=1)
for op in ("Softmax", "LogSoftmax"):
    case(op, [x[1:2]], (11, 13), axis=1)
for op in ("Max", "Min", "Add", "Mul"):
    case(op, [x, x[::-1].copy()], (13,))
for op in "Relu Sigmoid Tanh Exp Sqrt Abs Neg Floor Erf HardSigmoid LeakyRelu Softplus Elu".split():
    case(op, [np.tile(x, (1, 8))], (13,))
y = np.array([[nan, 1, -1, nan, 0] * 8], np.float32)
for op in "Relu Sigmoid Tanh Exp Abs Neg Erf HardSigmoid LeakyRelu Softplus Elu".split():
    case(op, [y], (13,))
case("Clip", [y, np.array(-0.5, np.float32), np.array(0.5, np.float32)], (13,), consts=(1, 2))
for op in ("Max", "Min"):
    case(op, [y, -y[:, ::-1].copy()], (13,))
case("MaxPool", [np.full((1, 1, 4, 4), ninf, np.float32)], (12,), kernel_shape=[2, 2])
case("GlobalMaxPool", [np.full((1, 1, 4, 4), ninf, np.float32)], (9,))
case("TopK", [x, i64(2)], (11,), consts=(1,), n_out=2)
case("ReduceLogSumExp", [np.array([[1000.0, 1001.0], [-1000, -1001]], np.float32)], (13,), axes=[1])
case("ReduceL2", [np.array([[1e20, 1e20]], np.float32)], (13,), axes=[1])
case("Softmax", [np.array([[1000.0, 1001.0], [-1000, -1001]], np.float32)], (13,), axis=1)
case("LogSoftmax", [np.array([[1000.0, 1001.0], [-1000, -1001]], np.float32)], (13,), axis=1)
case("Softplus", [np.array([[1000.0, -1001.0]], np.float32)], (13,))
case("LogSoftmax", [np.array([[100.0, 0, -200]], np.float32)], (13,), axis=1)
case("Sigmoid", [np.array([[100.0, -100, -90, 90]], np.float32)], (13,))

# ---- integers beyond 32 bits
KIND = "max"
M = 2**63 - 1
case("Slice", [f(5, 6), i64(1), i64(M), i64(1)], (10, 13), consts=(1, 2, 3))
case("Slice", [f(5, 6), i64(1), i64(M), i64(1), i64(2)], (10, 13), consts=(1, 2, 3, 4))
case("Slice", [f(5, 6), i64(-1), i64(-M), i64(1), i64(-1)], (10, 13), consts=(1, 2, 3, 4))
case("Slice", [f(5, 6), i64(0), i64(2**32), i64(0), i64(1)], (13,), consts=(1, 2, 3, 4))
case("Slice", [f(5, 6)], (9,), starts=[1], ends=[M], axes=[1])
case("Slice", [f(5, 6)], (9,), starts=[1], ends=[2**31 - 1], axes=[1])
big = np.array([2**40, -(2**40), 3], np.int64)
case("Add", [big, i64(1, 2**35, 3)], (13,), consts=(1,))
case("Mul", [big, i64(2, 2, 2)], (13,), consts=(1,))
case("Equal", [big, i64(0, 0, 3)], (13,), consts=(1,))
case("Greater", [big, i64(2**33, 0, 3)], (13,), consts=(1,))
case("Gather", [big, i64(0, 1)], (13,), consts=(1,))
case("Where", [np.array([True, False, True]), big, i64(2**34)], (16,), consts=(1, 2))
case("Concat", [big, i64(2**36)], (13,), consts=(1,), axis=0)
case("Cast", [big], (13,), to=T.DOUBLE)
case("ReduceSum", [big, i64(0)], (13,), consts=(1,))
case("Mod", [big, i64(7, 7, 7)], (13,), consts=(1,))
case("Div", [big, i64(7, 2**33, 2)], (13,), consts=(1,))
case("Expand", [big, i64(2, 3)], (13,), consts=(1,))
case("Max", [big, i64(2**33)], (13,), consts=(1,))
case("Reshape", [big, i64(1, 3)], (13,), consts=(1,))
case("Unsqueeze", [big, i64(0)], (13,), consts=(1,))
case("Sub", [big, i64(2**34)], (13,), consts=(1,))
case("Min", [big, i64(2**33)], (13,), consts=(1,))
case("Neg", [big], (13,))
case("Abs", [big], (13,))
case("ArgMax", [big], (13,))
case("Transpose", [big.reshape(1, 3)], (13,))
case("Tile", [big, i64(2)], (13,), consts=(1,))
case("CumSum", [big, i64(0)], (14,), consts=(1,))
case("Pad", [big, i64(1, 1)], (13,), consts=(1,))
case("OneHot", [i64(0, 2), i64(3), i64(2**40, -(2**40))], (11,), consts=(1, 2))
case("ConstantOfShape", [i64(2)], (9,), consts=(0,), value=nh.from_array(i64(2**40)))
case("Clip", [big, np.array(-(2**33), np.int64), np.array(2**33, np.int64)], (13,), consts=(1, 2))
case("TopK", [big, i64(2)], (11,), consts=(1,), n_out=2)
case("GatherElements", [big, i64(0, 1, 0)], (13,), axis=0)
case("Identity", [big], (13,))
case("Squeeze", [big.reshape(1, 3), i64(0)], (13,), consts=(1,))
case("Split", [np.tile(big, 2), i64(2, 4)], (13,), consts=(1,), n_out=2)
case("Less", [big, i64(2**33)], (13,), consts=(1,))
case("Pow", [i64(2**20, 3), np.array(2, np.int64)], (13,), consts=(1,))
case(
    "Range",
    [i64(2**40)[0].reshape(()), i64(2**40 + 5)[0].reshape(()), i64(2)[0].reshape(())],
    (11,),
    consts=(0, 1, 2),
)
case("Trilu", [big.reshape(1, 3)], (14,))
case("Slice", [big, i64(0), i64(2)], (13,), consts=(1, 2))
case("Sign", [big], (13,))
case("Flatten", [big.reshape(1, 3)], (13,))
case("ScatterElements", [big, i64(0, 1), i64(2**41, 5)], (13,), axis=0)
case("Gather", [big, i64(0, 2)], (13,), consts=(0,))
case("Concat", [i64(2**36), big], (13,), consts=(0, 1), axis=0)


# ---- the package's own cases
import argparse, types
import onnx.backend.test.case.node as node_cases
import onnx.backend.test.cmd_tools as tools

for one in node_cases.collect_testcases(None):
    tools.model_test = types.SimpleNamespace(collect_testcases=lambda: [one])
    try:
        tools.generate_data(argparse.Namespace(output=OUT))
    except Exception as e:
        print("skip", one.name, e)
