#include "tokenizer_cc/pybind/terms_pybind.h"

#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "tokenizer_cc/core/terms/analyzer.h"
#include "tokenizer_cc/core/terms/query_key.h"
#include "tokenizer_cc/core/terms/term_tokenizer.h"
#include "tokenizer_cc/core/terms/vocabulary_builder.h"
#include "tokenizer_cc/pybind/encoding.h"

namespace py = pybind11;

namespace dpsr {
namespace {

py::str ToStr(std::string_view text) { return py::str(text.data(), text.size()); }

py::list Analyze(const py::handle& text) {
  thread_local TermAnalyzer analyzer;
  analyzer.Analyze(Texts::One(text).views()[0]);
  py::list terms;
  for (const Term& term : analyzer.terms()) terms.append(ToStr(analyzer.view(term)));
  return terms;
}

py::array QueryKeys(const py::handle& sequence) {
  const Texts texts(sequence);
  Buffer<int64_t> keys;
  {
    const py::gil_scoped_release release;
    thread_local QueryKeyer keyer;
    keys.Reserve(texts.views().size());
    int64_t* key = keys.data();
    for (const std::string_view text : texts.views()) *key++ = static_cast<int64_t>(keyer.Key(text));
    keys.Advance(texts.views().size());
  }
  return ToArray(&keys);
}

py::tuple EncodeQueries(const TermTokenizer& tokenizer, const py::handle& sequence) {
  const Texts texts(sequence);
  Buffer<int32_t> ids;
  Buffer<float> weights;
  Buffer<int64_t> splits;
  {
    const py::gil_scoped_release release;
    splits.Reserve(texts.views().size() + 1);
    int64_t* split = splits.data();
    *split++ = 0;
    for (const std::string_view text : texts.views()) {
      tokenizer.EncodeQuery(text, ThreadWorkspace<TermTokenizer>(), &ids, &weights);
      *split++ = static_cast<int64_t>(ids.size());
    }
    splits.Advance(texts.views().size() + 1);
  }
  return py::make_tuple(ToArray(&ids), ToArray(&weights), ToArray(&splits));
}

py::str TextOf(const TermTokenizer& tokenizer, int64_t id) {
  if (id < 0 || id >= tokenizer.num_terms()) {
    throw py::index_error("id " + std::to_string(id) + ", expected 0 to " + std::to_string(tokenizer.num_terms() - 1));
  }
  return ToStr(tokenizer.text(static_cast<int32_t>(id)));
}

py::array DocumentFrequencies(const py::object& self) {
  const auto& tokenizer = self.cast<const TermTokenizer&>();
  return ViewOf(tokenizer.document_frequencies(), static_cast<size_t>(tokenizer.num_terms()), self);
}

std::unique_ptr<TermVocabularyBuilder> MakeBuilder(bool bigrams, uint32_t min_count, uint32_t min_bigram_count) {
  if (min_count < 1) throw py::value_error("min_count = 0, expected at least 1");
  if (min_bigram_count < 1) throw py::value_error("min_bigram_count = 0, expected at least 1");
  return std::make_unique<TermVocabularyBuilder>(TermConfig{bigrams, min_count, min_bigram_count});
}

void Add(TermVocabularyBuilder& builder, const py::handle& sequence) {
  const Texts texts(sequence);
  const py::gil_scoped_release release;
  builder.Add(texts.views());
}

std::shared_ptr<TermTokenizer> Build(const TermVocabularyBuilder& builder) {
  std::string error;
  std::shared_ptr<const TermTokenizer> tokenizer;
  {
    const py::gil_scoped_release release;
    ModelBytes model;
    error = builder.Build(&model);
    if (error.empty()) tokenizer = TermTokenizer::FromBytes(std::move(model), &error);
  }
  return Loaded<TermTokenizer>(std::move(tokenizer), error);
}

}  // namespace

void BindTerms(py::module_& module) {
  module.def("analyze", &Analyze, py::arg("text"));
  module.def("query_keys", &QueryKeys, py::arg("texts"));

  py::class_<TermTokenizer, std::shared_ptr<TermTokenizer>>(module, "TermTokenizer")
      .def(py::init(&FromBytes<TermTokenizer>), py::arg("content"))
      .def_static("load", &Load<TermTokenizer>, py::arg("path"))
      .def("encode", &Encode<TermTokenizer>, py::arg("text"))
      .def("encode_batch", &EncodeBatch<TermTokenizer>, py::arg("texts"))
      .def("encode_queries", &EncodeQueries, py::arg("texts"))
      .def("text", &TextOf, py::arg("id"))
      .def_property_readonly("bigrams", &TermTokenizer::bigrams)
      .def_property_readonly("content", [](const TermTokenizer& self) { return py::bytes(self.bytes()); })
      .def_property_readonly("document_frequencies", &DocumentFrequencies)
      .def_property_readonly("fingerprint", &TermTokenizer::fingerprint)
      .def_property_readonly("num_documents", &TermTokenizer::num_documents)
      .def_property_readonly("num_terms", &TermTokenizer::num_terms);

  py::class_<TermVocabularyBuilder>(module, "TermVocabularyBuilder")
      .def(py::init(&MakeBuilder), py::kw_only(), py::arg("bigrams"), py::arg("min_count"), py::arg("min_bigram_count"))
      .def("add", &Add, py::arg("texts"))
      .def("build", &Build);
}

}  // namespace dpsr
