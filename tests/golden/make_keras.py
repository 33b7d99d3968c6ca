"""Networks as Keras saves them, with an input and what they make of it: tests/golden/keras/*.

usage: make_keras.py [DIR]        needs tensorflow with keras 3, and h5py

NAME.keras, NAME.h5, NAME.saved (a SavedModel) and NAME.pb (a frozen graph) are one network; NAME.data.h5 holds what its
inputs are, "in/<name>", and its outputs in order, "out0", ...
"""
import os
import pathlib
import shutil
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import h5py
import keras
import numpy as np
import tensorflow as tf
from keras import layers as L
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2


def windows():
    """Convolutions and pools with every padding."""
    x = keras.Input((9, 8, 3), name="pixels")
    a = L.Rescaling([0.5, 1.0, 2.0], offset=-0.1)(x)
    a = L.Conv2D(6, 3, padding="same", strides=2, activation="relu", groups=3)(a)
    a = L.BatchNormalization(scale=False)(a)
    b = L.DepthwiseConv2D((3, 2), padding="same", depth_multiplier=2)(a)
    b = L.SeparableConv2D(6, 3, padding="same", activation="gelu", use_bias=False)(b)
    b = L.PReLU()(b)
    c = L.ZeroPadding2D(((1, 0), (2, 1)))(a)
    c = L.Cropping2D(((0, 1), (1, 2)))(c)
    c = L.Conv2D(6, 3, dilation_rate=2, padding="same", activation="swish")(c)
    d = L.Average()([a, b, c])
    e = L.Conv2DTranspose(4, 3, strides=2, padding="same")(d)
    e = L.MaxPooling2D(2, padding="same")(e)
    e = L.AveragePooling2D(3, strides=1, padding="same")(e)
    f = L.UpSampling2D(2, interpolation="bilinear")(d)
    f = L.AveragePooling2D(2)(f)
    g = L.Concatenate()([e, f])
    g = L.Conv2D(5, 1, activation="softmax")(g)
    h = L.GlobalAveragePooling2D()(g)
    i = L.GlobalMaxPooling2D()(d)
    j = L.Flatten()(L.UpSampling2D((1, 2))(d))
    return keras.Model(x, [L.Concatenate()([h, i]), L.Dense(3, activation="hard_sigmoid")(j)])


def nested():
    """Models as layers, one of them called twice."""
    shared = keras.Sequential([keras.Input((4,)), L.Dense(4, activation="elu"), L.LeakyReLU(0.1), L.Dense(3)], name="shared")
    p, q = keras.Input((4,), name="p"), keras.Input((2, 2), name="q")
    inner_in = keras.Input((3,))
    inner = keras.Model(inner_in, L.Multiply()([inner_in, L.Dense(3, activation="sigmoid")(inner_in)]), name="gate")
    a, b = shared(p), shared(L.Reshape((-1,))(q))
    c = L.Subtract()([inner(a), L.Maximum()([a, b])])
    return keras.Model([p, q], [L.Minimum()([c, L.Softmax()(b)]), L.ReLU(max_value=1.0, negative_slope=0.2)(a)])


def sequence():
    """Recurrences and attention over embedded words."""
    words = keras.Input((6,), dtype="int32", name="words")
    x = L.Embedding(11, 5)(words)
    x = L.Bidirectional(L.LSTM(4, return_sequences=True))(x)
    x = L.LayerNormalization()(L.Add()([x, L.MultiHeadAttention(2, 3)(x, x)]))
    y, h, c = L.LSTM(4, return_state=True)(x)
    z = L.GRU(4, return_sequences=True)(x, initial_state=h)
    z = L.Conv1D(5, 3, padding="causal", dilation_rate=2)(z)
    z = L.TimeDistributed(L.Dense(3, activation="tanh"))(z)
    z = L.SimpleRNN(4, activation="relu")(z)
    w = L.Bidirectional(L.GRU(3, reset_after=False), merge_mode="ave")(L.Permute((1, 2))(x))
    return keras.Model(words, L.Concatenate()([y, c, z, w, L.GlobalMaxPooling1D()(L.RepeatVector(2)(y))]))


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "keras")
    out.mkdir(exist_ok=True)
    for name, make in {"windows": windows, "nested": nested, "sequence": sequence}.items():
        keras.utils.set_random_seed(7)
        keras.backend.clear_session()
        m = make()
        r = np.random.default_rng(3)
        for v in m.variables:
            if v.name in ("moving_mean", "moving_variance", "beta", "gamma", "bias", "alpha"):
                v.assign(r.uniform(0.2, 1.2, v.shape))
        inputs = [r.integers(0, 11, [2 if d is None else d for d in i.shape]).astype("int32") if i.dtype == "int32"
                  else r.normal(size=[2 if d is None else d for d in i.shape]).astype("float32") for i in m.inputs]
        outputs = m(inputs if len(inputs) > 1 else inputs[0])
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        m.save(out / f"{name}.keras")
        m.save(out / f"{name}.h5")
        if name != "sequence":  # whose loops are no graph of plain ops
            m.export(out / f"{name}.saved", verbose=False)
            shutil.rmtree(out / f"{name}.saved" / "assets", ignore_errors=True)
            (out / f"{name}.saved" / "fingerprint.pb").unlink(missing_ok=True)
        if name == "nested":
            spec = [tf.TensorSpec([None, *i.shape[1:]], i.dtype, name=i.name) for i in m.inputs]
            frozen = convert_variables_to_constants_v2(tf.function(lambda *x: m(list(x))).get_concrete_function(*spec))
            tf.io.write_graph(frozen.graph, str(out), f"{name}.pb", as_text=False)
        with h5py.File(out / f"{name}.data.h5", "w") as f:
            for i, v in zip(m.inputs, inputs):
                f[f"in/{i.name}"] = v
            for k, v in enumerate(outputs):
                f[f"out{k}"] = np.array(v)


if __name__ == "__main__":
    main()
