"""A servable in a C++ process that knows TensorFlow's C API and nothing of Python: what TensorFlow Serving will do."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import scann
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from dpsr.indexing.corpus import embed_items
from dpsr.indexing.dense.ann import Index
from dpsr.indexing.servable import dense_servable
from dpsr.ops_cc import library

from .conftest import K, Shop

CXX = shutil.which(os.environ.get("CXX", "g++"))
TENSORFLOW = Path(tf.__file__).parent
LIBRARIES = [
    TENSORFLOW / "libtensorflow_framework.so.2",
    TENSORFLOW / "libtensorflow_cc.so.2",
    Path(scann.__file__).parent / "scann_ops" / "cc" / "_scann_ops.so",
    library.LIBRARY,
]
QUERIES = ["red shoe", "手机 case", "", "naïve 4.5 kg lamp", "zzz unheard-of"]

pytestmark = pytest.mark.skipif(CXX is None, reason="needs g++, or another compiler in CXX")


@pytest.fixture(scope="module")
def smoke_test(tmp_path_factory: pytest.TempPathFactory) -> Path:
    binary = tmp_path_factory.mktemp("smoke") / "smoke_test"
    source = Path(__file__).with_name("smoke_test.cc")
    flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-isystem", tf.sysconfig.get_include()]
    subprocess.run([CXX, *flags, str(source), "-o", str(binary), "-ldl"], check=True)
    return binary


def signature_tensors(servable: Path) -> list[str]:
    model = saved_model_pb2.SavedModel.FromString((servable / "saved_model.pb").read_bytes())
    signature = model.meta_graphs[0].signature_def["serving_default"]
    return [signature.inputs["query"].name, *(signature.outputs[name].name for name in ("item_id", "score", "head"))]


@pytest.mark.parametrize("regime", [{}, {"exact_below": 0}, {"exact_below": 0, "tree_from": 0}], ids=str)
def test_cpp_answers_as_python_does(regime: dict, smoke_test: Path, shop: Shop, tmp_path: Path) -> None:
    vectors = embed_items(shop.model, shop.dataset, progress=False)
    servable = tmp_path / "1"
    dense_servable(shop.model, shop.dataset, Index.build(vectors, K, queries=vectors[:50], **regime)).save(servable)

    command = [str(smoke_test), *map(str, LIBRARIES), str(servable), *signature_tensors(servable)]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1", "PATH": os.environ["PATH"]}
    texts = "".join(f"{query}\n" for query in QUERIES)
    done = subprocess.run(command, input=texts.encode(), env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()

    loaded = tf.saved_model.load(str(servable))
    expected = {
        name: tensor.numpy()
        for name, tensor in loaded.signatures["serving_default"](query=tf.constant(QUERIES)).items()
    }
    lines = [line.split(b"\t") for line in done.stdout.splitlines()]
    assert [int(line[0]) for line in lines] == np.repeat(np.arange(len(QUERIES)), K).tolist()
    ids = [line[1] if expected["item_id"].dtype == object else int(line[1]) for line in lines]
    assert ids == expected["item_id"].ravel().tolist()
    np.testing.assert_allclose([float(line[2]) for line in lines], expected["score"].ravel(), rtol=1e-6)
    assert [int(line[3]) for line in lines] == expected["head"].ravel().tolist()
