"""ONNX Runtime and sentence-transformers, in a process of their own: a request a line in JSON, an answer alike.

Imports nothing of dpsr, so that the peers may live in another environment (``--peers``).
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np

OPSET, CONTRIBUTED = 17, "com.microsoft"


def onnx_model(weights: dict[str, np.ndarray], heads: int, epsilon: float, blocks: int) -> Any:
    """The encoder with mean pooling, of ONNX Runtime's fused operators; ids int64 [B, S] without padding."""
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[Any] = []

    def add(kind: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], domain=domain, **attributes))
        return output

    def norm(hidden: str, name: str) -> str:
        scale, offset = f"{name}_scale", f"{name}_offset"
        return add("LayerNormalization", [hidden, scale, offset], f"{name}_normed", axis=-1, epsilon=epsilon)

    def skip_norm(hidden: str, skip: str, bias: str, name: str) -> str:
        inputs = [hidden, skip, f"{name}_scale", f"{name}_offset", bias]
        return add("SkipLayerNormalization", inputs, f"{name}_normed", CONTRIBUTED, epsilon=epsilon)

    weights = dict(weights)
    weights["positions"] = weights["positions"] + weights.pop("type_embedding")
    weights |= {"zero": np.int64(0), "one": np.int64(1)}
    words = add("Gather", ["words", "ids"], "embedded")
    length = add("Gather", [add("Shape", ["ids"], "sizes"), "one"], "length")
    places = add("Range", ["zero", length, "one"], "places")
    hidden = add("Add", [words, add("Gather", ["positions", places], "placed")], "summed")
    hidden = norm(hidden, "embedding")
    for block in range(blocks):
        b = f"{block}."
        inputs = [hidden, f"{b}qkv_kernel", f"{b}qkv_bias"]
        attended = add("Attention", inputs, f"{b}attended", CONTRIBUTED, num_heads=heads)
        attended = add("MatMul", [attended, f"{b}attention_kernel"], f"{b}attention")
        hidden = skip_norm(attended, hidden, f"{b}attention_bias", f"{b}attention")
        inner = add("MatMul", [hidden, f"{b}intermediate_kernel"], f"{b}inner")
        inner = add("BiasGelu", [inner, f"{b}intermediate_bias"], f"{b}activated", CONTRIBUTED)
        fed = add("MatMul", [inner, f"{b}output_kernel"], f"{b}fed")
        hidden = skip_norm(fed, hidden, f"{b}output_bias", f"{b}output")
    add("ReduceMean", [hidden], "vectors", axes=[1], keepdims=0)
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["B", "S"])],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["B", weights["words"].shape[1]])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIBUTED, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def seconds(work: Callable[[], Any]) -> float:
    """Processor time, which other processes on the machine do not change."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


class Sessions:
    """ONNX Runtime on one thread, float32 and dynamic int8 (weights by channel) of the same weights."""

    def __init__(self, weights: str, heads: int, epsilon: float, blocks: int) -> None:
        import onnx
        import onnxruntime
        from onnxruntime.quantization import QuantType, quantize_dynamic

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        with np.load(weights) as arrays:
            model = onnx_model(dict(arrays), heads, epsilon, blocks)
        self.sessions = {}
        with tempfile.TemporaryDirectory() as folder:
            exact, quantised = Path(folder, "float32.onnx"), Path(folder, "int8.onnx")
            onnx.save(model, str(exact))
            quantize_dynamic(
                exact,
                quantised,
                per_channel=True,
                weight_type=QuantType.QInt8,
                extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},  # of contributed operators' outputs
            )
            for name, path in (("float32", exact), ("int8", quantised)):
                self.sessions[name] = onnxruntime.InferenceSession(
                    str(path), options, providers=["CPUExecutionProvider"]
                )

    def vector(self, precision: str, tokens: list[int]) -> np.ndarray:
        return self.sessions[precision].run(None, {"ids": np.array([tokens], np.int64)})[0][0]

    def seconds(self, precision: str, texts: list[list[int]]) -> float:
        """Of one text, the mean."""
        ids = [np.array([tokens], np.int64) for tokens in texts]
        session = self.sessions[precision]
        return seconds(lambda: [session.run(None, {"ids": each}) for each in ids]) / len(ids)


class Trainer:
    """sentence-transformers on pairs of texts: its in-batch softmax, AdamW, clipped gradients, as its ``fit``."""

    def __init__(self, folder: str, threads: int) -> None:
        import torch
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.losses import MultipleNegativesRankingLoss

        torch.set_num_threads(threads)
        self._model = SentenceTransformer(folder, device="cpu")
        self._loss = MultipleNegativesRankingLoss(self._model)
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=2e-5, weight_decay=0.01)

    def loss(self, pairs: list[list[str]]) -> float:
        """Of one batch, without dropout."""
        import torch

        self._model.eval()
        with torch.no_grad():
            return float(self._of(pairs))

    def steps(self, batches: list[list[list[str]]]) -> None:
        import torch

        self._model.train()
        for pairs in batches:
            self._of(pairs).backward()
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
            self._optimizer.step()
            self._optimizer.zero_grad()

    def _of(self, pairs: list[list[str]]) -> Any:
        return self._loss([self._model.tokenize([pair[side] for pair in pairs]) for side in (0, 1)], None)


class Peers:
    def __init__(self) -> None:
        self._sessions: dict[str, Sessions] = {}
        self._sentence_transformer: Any = None
        self._trainer: Any = None

    def load(self, name: str, weights: str, heads: int, epsilon: float, blocks: int) -> list[str]:
        self._sessions[name] = Sessions(weights, heads, epsilon, blocks)
        return list(self._sessions[name].sessions)

    def vectors(self, name: str, tokens: list[int]) -> dict[str, list[float]]:
        sessions = self._sessions[name]
        return {precision: sessions.vector(precision, tokens).tolist() for precision in sessions.sessions}

    def query(self, name: str, precision: str, texts: list[list[int]]) -> float:
        return self._sessions[name].seconds(precision, texts)

    def encode(self, folder: str, titles: list[str], threads: int, output: str) -> dict[str, float]:
        """Elapsed and processor time of ``SentenceTransformer.encode`` with its defaults."""
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        if self._sentence_transformer is None:
            self._sentence_transformer = SentenceTransformer(folder, device="cpu")
            self._sentence_transformer.encode(titles[:64])
        begin, processor = time.perf_counter(), time.process_time()
        vectors = self._sentence_transformer.encode(titles)
        spent = {"elapsed": time.perf_counter() - begin, "processor": time.process_time() - processor}
        np.save(output, vectors)
        return spent

    def start_training(self, folder: str, threads: int, pairs: list[list[str]]) -> float:
        """The loss of a batch."""
        self._trainer = Trainer(folder, threads)
        return self._trainer.loss(pairs)

    def train(self, batches: list[list[list[str]]]) -> dict[str, float]:
        """Elapsed and processor time of a step on each of the batches."""
        begin, processor = time.perf_counter(), time.process_time()
        self._trainer.steps(batches)
        return {"elapsed": time.perf_counter() - begin, "processor": time.process_time() - processor}

    def versions(self) -> str:
        import importlib.metadata

        names = ("onnxruntime", "sentence-transformers", "torch")
        return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def main() -> None:
    peers = Peers()
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        method, arguments = json.loads(line)
        stdout, sys.stdout = sys.stdout, sys.stderr  # libraries print
        try:
            answer: Any = getattr(peers, method)(**arguments)
        except ImportError as error:
            answer = {"error": str(error)}
        finally:
            sys.stdout = stdout
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
