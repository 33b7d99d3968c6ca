"""Makes two small sets of real data: of numbers, and of images with several labels.

usage: real_sets.py diabetes FILE.csv
       real_sets.py attributes FASHION_MNIST_DIR SPLIT FILE.npz

diabetes: 442 patients, ten measurements and how far the disease had gone a year later (Efron, Hastie, Johnstone and
Tibshirani 2004), as scikit-learn ships them, in their own units.
attributes: Fashion-MNIST's images ("train" or "t10k") as rows x, u8 [784], and as y, f32 [6], what follows from their class:
worn on the upper body, worn on the legs, a warm layer, footwear, a closed shoe, carried.
"""
import gzip, pathlib, sys
import numpy as np

CLASSES = {"upper": (0, 2, 3, 4, 6), "legs": (1, 3), "warm": (2, 4), "foot": (5, 7, 9), "closed": (7, 9), "carried": (8,)}


def diabetes(path):
    from sklearn.datasets import load_diabetes
    d = load_diabetes(scaled=False)
    rows = np.column_stack([d.data, d.target])
    np.savetxt(path, rows, "%.9g", ",", header=",".join(d.feature_names + ["progression"]), comments="")


def attributes(directory, split, path):
    def read(kind, head):
        return np.frombuffer(gzip.open(pathlib.Path(directory) / f"{split}-{kind}-ubyte.gz").read(), np.uint8)[head:]
    label = read("labels-idx1", 8)
    y = np.stack([np.isin(label, classes) for classes in CLASSES.values()], 1).astype(np.float32)
    np.savez(path, x=read("images-idx3", 16).reshape(-1, 784), y=y)


if __name__ == "__main__":
    {"diabetes": diabetes, "attributes": attributes}[sys.argv[1]](*sys.argv[2:])
