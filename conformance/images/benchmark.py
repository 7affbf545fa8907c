"""The two large images whose pull is measured: one of a few large layers, one of a single layer with very many files."""

import os
import random

from debian import Packages
from layer import Layer

LAYERS, FILES, FILE_SIZE = 8, 25, 2 << 20
# Packages of many small files.
MANY = ("python3-sympy", "python3-numpy", "libpython3.11-stdlib", "libpython3.11-minimal", "perl-modules-5.36", "libperl5.36",
        "python3-mpmath", "coreutils", "bash", "git", "vim-runtime")


def build_large_images(store, directory):
    """Tag both in the store."""
    layers = [store.keep_layer(big_layer(number)) for number in range(LAYERS)]
    store.tag(["bench/big:8"], layers, {"Cmd": ["sh"]})
    store.tag(["bench/many:1"], [store.keep_layer(many_layer(directory))], {"Cmd": ["sh"]}, docker=True)


def big_layer(number):
    """Half of it does not compress, half does well; the same bytes at every build."""
    source, layer = random.Random(number), Layer()
    words = [source.randbytes(6).hex() for _ in range(2000)]
    for file in range(FILES):
        if file % 2:
            content = source.randbytes(FILE_SIZE)
        else:
            content = " ".join(source.choices(words, k=FILE_SIZE // 13)).encode()
        layer.file(f"/data/{number}/{file}", content)
    return layer.pack()


def many_layer(directory):
    """Whole Debian packages, unpacked."""
    packages, layer = Packages(directory / "many"), Layer()
    packages.fetch(MANY)
    for name in MANY:
        tree = packages.trees / name
        for place, _, files in os.walk(tree):
            for file in files:
                path = os.path.join(place, file)
                inside = os.path.relpath(path, tree)
                if os.path.islink(path):
                    layer.symbolic_link(inside, os.readlink(path))
                else:
                    with open(path, "rb") as source:
                        layer.file(inside, source.read(), os.stat(path).st_mode & 0o7777)
    return layer.pack()
