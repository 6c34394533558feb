#include "tokenizer_cc/pybind/terms_pybind.h"

#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer_cc/core/hashing.h"
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

void Add(TermVocabularyBuilder& builder, const py::args& fields) {
  std::vector<Texts> held;
  held.reserve(fields.size());
  std::vector<std::vector<std::string_view>> views;
  for (const py::handle& texts : fields) {
    held.emplace_back(texts);
    views.push_back(held.back().views());
    if (views.back().size() != views[0].size()) {
      throw py::value_error("fields of " + std::to_string(views[0].size()) + " and " +
                            std::to_string(views.back().size()) + " texts, expected as many of each");
    }
  }
  const py::gil_scoped_release release;
  builder.Add(views);
}

using Int32Array = py::array_t<int32_t, py::array::c_style>;

void AddCounts(TermVocabularyBuilder& builder, const TermTokenizer& tokenizer, const Int32Array& counts,
               uint64_t num_documents) {
  if (tokenizer.bigrams() || builder.bigrams()) {
    throw py::value_error("counts of a vocabulary with bigrams, of which it has not all; add the texts");
  }
  if (counts.ndim() != 1 || counts.size() != tokenizer.num_terms()) {
    throw py::value_error(std::to_string(counts.size()) + " counts, expected " + std::to_string(tokenizer.num_terms()) +
                          ", one for each term");
  }
  const py::gil_scoped_release release;
  builder.Add(tokenizer, counts.data(), num_documents);
}

py::array IdsOf(const TermTokenizer& tokenizer, const TermTokenizer& other) {
  Buffer<int32_t> ids;
  {
    const py::gil_scoped_release release;
    const auto count = static_cast<size_t>(other.num_terms());
    ids.Reserve(count);
    for (size_t id = 0; id < count; ++id) ids.data()[id] = tokenizer.FindWord(other.text(static_cast<int32_t>(id)));
    ids.Advance(count);
  }
  return ToArray(&ids);
}

py::array TextHashes(const py::array_t<int64_t, py::array::c_style>& offsets,
                     const py::array_t<uint8_t, py::array::c_style>& bytes) {
  const int64_t* const begins = offsets.data();
  const int64_t size = bytes.size(), texts = offsets.size() - 1;
  if (texts < 0 || begins[0] < 0 || begins[texts] > size) throw py::value_error("offsets beyond the bytes");
  for (int64_t i = 0; i < texts; ++i) {
    if (begins[i] > begins[i + 1]) throw py::value_error("offsets descend at text " + std::to_string(i));
  }
  Buffer<uint64_t> hashes;
  {
    const py::gil_scoped_release release;
    hashes.Reserve(static_cast<size_t>(texts));
    for (int64_t i = 0; i < texts; ++i) {
      hashes.data()[i] = HashBytes(bytes.data() + begins[i], static_cast<size_t>(begins[i + 1] - begins[i]));
    }
    hashes.Advance(static_cast<size_t>(texts));
  }
  return ToArray(&hashes);
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
  module.def("text_hashes", &TextHashes, py::arg("offsets"), py::arg("bytes"));

  py::class_<TermTokenizer, std::shared_ptr<TermTokenizer>>(module, "TermTokenizer")
      .def(py::init(&FromBytes<TermTokenizer>), py::arg("content"))
      .def_static("load", &Load<TermTokenizer>, py::arg("path"))
      .def("encode", &Encode<TermTokenizer>, py::arg("text"))
      .def("encode_batch", &EncodeBatch<TermTokenizer>, py::arg("texts"))
      .def("encode_queries", &EncodeQueries, py::arg("texts"))
      .def("ids_of", &IdsOf, py::arg("other"))
      .def("text", &TextOf, py::arg("id"))
      .def_property_readonly("bigrams", &TermTokenizer::bigrams)
      .def_property_readonly("content", [](const TermTokenizer& self) { return py::bytes(self.bytes()); })
      .def_property_readonly("document_frequencies", &DocumentFrequencies)
      .def_property_readonly("fingerprint", &TermTokenizer::fingerprint)
      .def_property_readonly("num_documents", &TermTokenizer::num_documents)
      .def_property_readonly("num_terms", &TermTokenizer::num_terms);

  py::class_<TermVocabularyBuilder>(module, "TermVocabularyBuilder")
      .def(py::init(&MakeBuilder), py::kw_only(), py::arg("bigrams"), py::arg("min_count"), py::arg("min_bigram_count"))
      .def("add", &Add)
      .def("add_counts", &AddCounts, py::arg("tokenizer"), py::arg("counts"), py::arg("num_documents"))
      .def("build", &Build);
}

}  // namespace dpsr
