// The Python module dpsr.tokenizer_cc._tokenizer: the core with Python's strings and NumPy's arrays.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tokenizer_cc/core/bags/tokenizer.h"
#include "tokenizer_cc/core/bags/vocabulary_builder.h"
#include "tokenizer_cc/core/buffer.h"
#include "tokenizer_cc/core/text/normalizer.h"
#include "tokenizer_cc/core/text/unicode_tables.h"
#include "tokenizer_cc/pybind/encoding.h"
#include "tokenizer_cc/pybind/subwords_pybind.h"
#include "tokenizer_cc/pybind/terms_pybind.h"

namespace py = pybind11;

namespace dpsr {
namespace {

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

py::array DocumentFrequencies(const py::object& self) {
  const auto& tokenizer = self.cast<const Tokenizer&>();
  return ViewOf(tokenizer.document_frequencies(), tokenizer.vocabulary_size(), self);
}

py::array Kinds(const py::object& self) {
  const auto& tokenizer = self.cast<const Tokenizer&>();
  return ViewOf(tokenizer.kinds(), tokenizer.vocabulary_size(), self);
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
  return Loaded<Tokenizer>(std::move(tokenizer), error);
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
      .def(py::init(&FromBytes<Tokenizer>), py::arg("content"))
      .def_static("load", &Load<Tokenizer>, py::arg("path"))
      .def("encode", &Encode<Tokenizer>, py::arg("text"))
      .def("encode_batch", &EncodeBatch<Tokenizer>, py::arg("texts"))
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

  BindSubwords(module);
  BindTerms(module);
}

}  // namespace dpsr
