// The Python module dpsr.tokenizer_cc._tokenizer: the core with Python's strings and NumPy's arrays.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer_cc/core/bags/tokenizer.h"
#include "tokenizer_cc/core/bags/vocabulary_builder.h"
#include "tokenizer_cc/core/buffer.h"
#include "tokenizer_cc/core/text/normalizer.h"
#include "tokenizer_cc/core/text/unicode_tables.h"

namespace py = pybind11;

namespace dpsr {
namespace {

// Views of Python strings, which it keeps alive and which Python never changes: they may be read without the GIL.
class Texts {
 public:
  // Any sequence of str and bytes.
  explicit Texts(const py::handle& sequence)
      : items_(py::reinterpret_steal<py::object>(PySequence_Tuple(sequence.ptr()))) {
    if (!items_) throw py::error_already_set();
    const auto size = static_cast<size_t>(PyTuple_GET_SIZE(items_.ptr()));
    views_.reserve(size);
    for (size_t i = 0; i < size; ++i) {
      PyObject* const item = PyTuple_GET_ITEM(items_.ptr(), static_cast<Py_ssize_t>(i));
      if (!Add(item)) {
        throw py::type_error("texts[" + std::to_string(i) + "] is a " + Py_TYPE(item)->tp_name +
                             "; expected str or bytes");
      }
    }
  }

  static Texts One(const py::handle& text) {
    Texts one;
    if (!one.Add(text.ptr())) {
      throw py::type_error(std::string("text is a ") + Py_TYPE(text.ptr())->tp_name + "; expected str or bytes");
    }
    return one;
  }

  const std::vector<std::string_view>& views() const { return views_; }

 private:
  Texts() = default;

  bool Add(PyObject* text) {
    if (PyBytes_Check(text)) {
      views_.emplace_back(PyBytes_AS_STRING(text), static_cast<size_t>(PyBytes_GET_SIZE(text)));
      return true;
    }
    if (!PyUnicode_Check(text)) return false;
    Py_ssize_t size = 0;
    const char* bytes = PyUnicode_AsUTF8AndSize(text, &size);
    if (bytes == nullptr) {
      // Lone surrogates: their encoding is invalid UTF-8, which is read as U+FFFD.
      PyErr_Clear();
      auto encoded = py::reinterpret_steal<py::object>(PyUnicode_AsEncodedString(text, "utf-8", "surrogatepass"));
      if (!encoded) throw py::error_already_set();
      bytes = PyBytes_AS_STRING(encoded.ptr());
      size = PyBytes_GET_SIZE(encoded.ptr());
      encoded_.push_back(std::move(encoded));
    }
    views_.emplace_back(bytes, static_cast<size_t>(size));
    return true;
  }

  py::object items_;
  std::vector<py::object> encoded_;
  std::vector<std::string_view> views_;
};

// Hands the memory over to NumPy.
template <class T>
py::array_t<T> ToArray(Buffer<T>* buffer) {
  const auto size = static_cast<py::ssize_t>(buffer->size());
  T* const memory = buffer->Release().release();
  const py::capsule owner(memory, [](void* owned) { std::free(owned); });
  return py::array_t<T>(size, memory, owner);
}

Tokenizer::Workspace* ThreadWorkspace() {
  thread_local Tokenizer::Workspace workspace;
  return &workspace;
}

std::shared_ptr<Tokenizer> Loaded(std::shared_ptr<const Tokenizer> tokenizer, const std::string& error) {
  if (tokenizer == nullptr) throw py::value_error(error);
  return std::const_pointer_cast<Tokenizer>(tokenizer);  // pybind11 knows no const; every method bound is
}

std::shared_ptr<Tokenizer> FromBytes(const py::bytes& content) {
  std::string error;
  auto tokenizer = Tokenizer::FromBytes(ModelBytes(std::string_view(content)), &error);
  return Loaded(std::move(tokenizer), error);
}

std::shared_ptr<Tokenizer> Load(const std::string& path) {
  std::string error;
  std::shared_ptr<const Tokenizer> tokenizer;
  {
    const py::gil_scoped_release release;
    tokenizer = Tokenizer::Load(path, &error);
  }
  return Loaded(std::move(tokenizer), path + ": " + error);
}

py::array_t<int32_t> Encode(const Tokenizer& tokenizer, const py::handle& text) {
  const Texts texts = Texts::One(text);
  Buffer<int32_t> ids;
  {
    const py::gil_scoped_release release;
    tokenizer.Encode(texts.views()[0], ThreadWorkspace(), &ids);
  }
  return ToArray(&ids);
}

py::tuple EncodeBatch(const Tokenizer& tokenizer, const py::handle& sequence) {
  const Texts texts(sequence);
  Buffer<int32_t> ids;
  Buffer<int64_t> splits;
  {
    const py::gil_scoped_release release;
    splits.Reserve(texts.views().size() + 1);
    int64_t* split = splits.data();
    *split++ = 0;
    for (const std::string_view text : texts.views()) {
      tokenizer.Encode(text, ThreadWorkspace(), &ids);
      *split++ = static_cast<int64_t>(ids.size());
    }
    splits.Advance(texts.views().size() + 1);
  }
  return py::make_tuple(ToArray(&ids), ToArray(&splits));
}

py::list Tokens(const Tokenizer& tokenizer, const py::handle& text) {
  py::list tokens;
  for (const Token& token : tokenizer.Tokens(Texts::One(text).views()[0])) {
    const auto id = static_cast<uint32_t>(token.id);
    const bool known = id <= tokenizer.vocabulary_size();
    tokens.append(py::make_tuple(py::str(token.text), static_cast<int>(token.kind), token.id,
                                 known ? tokenizer.vocabulary().document_frequency(id) : 0));
  }
  return tokens;
}

// A view that keeps the tokenizer alive.
py::array_t<int64_t> DocumentFrequencies(const py::object& self) {
  const auto& tokenizer = self.cast<const Tokenizer&>();
  py::array_t<int64_t> array(tokenizer.vocabulary_size(), tokenizer.document_frequencies(), self);
  array.attr("flags").attr("writeable") = false;
  return array;
}

py::array_t<uint8_t> Kinds(const py::object& self) {
  const auto& tokenizer = self.cast<const Tokenizer&>();
  py::array_t<uint8_t> array(tokenizer.vocabulary_size(), tokenizer.kinds(), self);
  array.attr("flags").attr("writeable") = false;
  return array;
}

std::unique_ptr<VocabularyBuilder> MakeBuilder(uint64_t max_vocabulary, uint64_t min_count, uint32_t oov_buckets,
                                               bool bigrams, bool trigrams, size_t threads, size_t max_counted_bigrams,
                                               const std::optional<uint64_t>& max_words,
                                               const std::optional<uint64_t>& max_bigrams,
                                               const std::optional<uint64_t>& max_trigrams) {
  const TokenizerConfig config{max_vocabulary, min_count, oov_buckets, bigrams, trigrams};
  const std::string problem = config.Problem();
  if (!problem.empty()) throw py::value_error(problem);
  if (threads < 1) throw py::value_error("threads = 0, expected at least 1");
  if (max_counted_bigrams < 1) throw py::value_error("max_counted_bigrams = 0, expected at least 1");
  const KindLimits limits{max_words.value_or(KindLimits::kNone), max_bigrams.value_or(KindLimits::kNone),
                          max_trigrams.value_or(KindLimits::kNone)};
  return std::make_unique<VocabularyBuilder>(config, threads, max_counted_bigrams, limits);
}

void Add(VocabularyBuilder& builder, const py::handle& sequence) {
  const Texts texts(sequence);
  const py::gil_scoped_release release;
  builder.Add(texts.views());
}

std::shared_ptr<Tokenizer> Build(const VocabularyBuilder& builder) {
  std::string error;
  std::shared_ptr<const Tokenizer> tokenizer;
  {
    const py::gil_scoped_release release;
    ModelBytes model;
    error = builder.Build(&model);
    if (error.empty()) tokenizer = Tokenizer::FromBytes(std::move(model), &error);
  }
  return Loaded(std::move(tokenizer), error);
}

py::bytes Normalize(const py::handle& text) {
  thread_local Normalizer normalizer;
  Buffer<uint8_t> normalized;
  normalizer.Normalize(Texts::One(text).views()[0], &normalized);
  return py::bytes(reinterpret_cast<const char*>(normalized.data()), normalized.size());
}

}  // namespace

PYBIND11_MODULE(_tokenizer, module) {
  module.doc() = "The C++ core of the tokenizer; use dpsr.tokenizer_cc.";
  module.attr("UNICODE_VERSION") = unicode::kVersion;
  module.def("normalize", &Normalize, py::arg("text"));

  py::class_<Tokenizer, std::shared_ptr<Tokenizer>>(module, "Tokenizer")
      .def(py::init(&FromBytes), py::arg("content"))
      .def_static("load", &Load, py::arg("path"))
      .def("encode", &Encode, py::arg("text"))
      .def("encode_batch", &EncodeBatch, py::arg("texts"))
      .def("tokens", &Tokens, py::arg("text"))
      .def_property_readonly("content", [](const Tokenizer& self) { return py::bytes(self.bytes()); })
      .def_property_readonly("document_frequencies", &DocumentFrequencies)
      .def_property_readonly("fingerprint", &Tokenizer::fingerprint)
      .def_property_readonly("kinds", &Kinds)
      .def_property_readonly("num_documents", &Tokenizer::num_documents)
      .def_property_readonly("num_ids", &Tokenizer::num_ids)
      .def_property_readonly("vocabulary_size", &Tokenizer::vocabulary_size);

  py::class_<VocabularyBuilder>(module, "VocabularyBuilder")
      .def(py::init(&MakeBuilder), py::kw_only(), py::arg("max_vocabulary"), py::arg("min_count"),
           py::arg("oov_buckets"), py::arg("bigrams"), py::arg("trigrams"), py::arg("threads"),
           py::arg("max_counted_bigrams"), py::arg("max_words"), py::arg("max_bigrams"), py::arg("max_trigrams"))
      .def("add", &Add, py::arg("texts"))
      .def("build", &Build)
      .def_property_readonly("bigram_undercount", &VocabularyBuilder::bigram_undercount);
}

}  // namespace dpsr
