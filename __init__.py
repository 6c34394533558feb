"""Deep Personalized and Semantic Retrieval: from a click log to one TF Serving servable.

Importing this package does not import TensorFlow. Its packages are

* ``dpsr.config``: the typed TOML configuration;
* ``dpsr.tokenizer_cc``: the C++ tokenizer (Python module and TensorFlow op);
* ``dpsr.data``, ``dpsr.model``, ``dpsr.evaluation``, ``dpsr.indexing``: from log to servable;
* ``dpsr.serving``: the server and its client.
"""

__version__ = "0.1.0"
