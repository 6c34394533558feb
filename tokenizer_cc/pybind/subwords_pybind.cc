#include "tokenizer_cc/pybind/subwords_pybind.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "tokenizer_cc/core/subwords/model_builder.h"
#include "tokenizer_cc/core/subwords/subword_tokenizer.h"
#include "tokenizer_cc/pybind/encoding.h"

namespace py = pybind11;

namespace dpsr {
namespace {

// As Python has them: kind, flags and the two texts of a step; id, flags and text of an added token.
using PyStep = std::tuple<uint32_t, uint32_t, std::string, std::string>;
using PyAddedToken = std::tuple<int32_t, uint32_t, std::string>;
using PyMerge = std::tuple<uint32_t, uint32_t, uint32_t>;

std::shared_ptr<SubwordTokenizer> Build(uint32_t kind, std::vector<std::string> names,
                                        std::vector<std::pair<std::string, int32_t>> pieces,
                                        const std::vector<bool>& continues, std::vector<double> scores,
                                        const std::vector<PyMerge>& merges, const std::vector<PyAddedToken>& added,
                                        const std::vector<PyStep>& steps, const std::vector<int32_t>& roles,
                                        std::string prefix, uint32_t max_word_characters, bool fuse_unknown,
                                        bool ignore_merges, double unknown_score) {
  if (roles.size() != kRoles) throw py::value_error("expected an id of each role");
  SubwordSpec spec;
  spec.kind = static_cast<SubwordKind>(kind);
  spec.names = std::move(names);
  spec.pieces = std::move(pieces);
  spec.continues.assign(continues.begin(), continues.end());
  spec.scores = std::move(scores);
  for (const auto& [left, right, merged] : merges) {
    spec.merges.push_back({left, right, static_cast<uint32_t>(spec.merges.size()), merged});
  }
  for (const auto& [id, flags, text] : added) spec.added.push_back({{id, flags}, text});
  for (const auto& [step, flags, first, second] : steps) {
    spec.steps.push_back({static_cast<StepKind>(step), flags, first, second});
  }
  std::copy(roles.begin(), roles.end(), spec.roles);
  spec.prefix = std::move(prefix);
  spec.max_word_characters = max_word_characters;
  spec.fuse_unknown = fuse_unknown;
  spec.ignore_merges = ignore_merges;
  spec.unknown_score = unknown_score;

  std::shared_ptr<const SubwordTokenizer> tokenizer;
  std::string error;
  {
    const py::gil_scoped_release release;
    ModelBytes model;
    error = BuildSubwordModel(spec, &model);
    if (error.empty()) tokenizer = SubwordTokenizer::FromBytes(std::move(model), &error);
  }
  return Loaded<SubwordTokenizer>(std::move(tokenizer), error);
}

py::bytes Normalize(const SubwordTokenizer& tokenizer, const py::handle& text) {
  Buffer<uint8_t> normalized;
  tokenizer.Normalize(Texts::One(text).views()[0], ThreadWorkspace<SubwordTokenizer>(), &normalized);
  return py::bytes(reinterpret_cast<const char*>(normalized.data()), normalized.size());
}

py::list Names(const SubwordTokenizer& tokenizer) {
  py::list names;
  for (int64_t id = 0; id < tokenizer.num_ids(); ++id) {
    const std::string_view name = tokenizer.name(id);
    names.append(py::reinterpret_steal<py::object>(
        PyUnicode_DecodeUTF8(name.data(), static_cast<Py_ssize_t>(name.size()), "replace")));
  }
  return names;
}

py::list Roles(const SubwordTokenizer& tokenizer) {
  py::list roles;
  for (int role = 0; role < kRoles; ++role) roles.append(tokenizer.role(static_cast<SubwordRole>(role)));
  return roles;
}

py::array ContinuesWord(const py::object& self) {
  const auto& tokenizer = self.cast<const SubwordTokenizer&>();
  return ViewOf(tokenizer.continues_word(), static_cast<size_t>(tokenizer.num_ids()), self);
}

}  // namespace

void BindSubwords(py::module_& module) {
  py::class_<SubwordTokenizer, std::shared_ptr<SubwordTokenizer>>(module, "SubwordTokenizer")
      .def(py::init(&FromBytes<SubwordTokenizer>), py::arg("content"))
      .def_static("load", &Load<SubwordTokenizer>, py::arg("path"))
      .def_static("build", &Build, py::kw_only(), py::arg("kind"), py::arg("names"), py::arg("pieces"),
                  py::arg("continues"), py::arg("scores"), py::arg("merges"), py::arg("added"), py::arg("steps"),
                  py::arg("roles"), py::arg("prefix"), py::arg("max_word_characters"), py::arg("fuse_unknown"),
                  py::arg("ignore_merges"), py::arg("unknown_score"))
      .def("encode", &Encode<SubwordTokenizer>, py::arg("text"))
      .def("encode_batch", &EncodeBatch<SubwordTokenizer>, py::arg("texts"))
      .def("normalize", &Normalize, py::arg("text"))
      .def_property_readonly("content", [](const SubwordTokenizer& self) { return py::bytes(self.bytes()); })
      .def_property_readonly("continues_word", &ContinuesWord)
      .def_property_readonly("fingerprint", &SubwordTokenizer::fingerprint)
      .def_property_readonly("kind", [](const SubwordTokenizer& self) { return static_cast<uint32_t>(self.kind()); })
      .def_property_readonly("names", &Names)
      .def_property_readonly("num_ids", &SubwordTokenizer::num_ids)
      .def_property_readonly("roles", &Roles);
}

}  // namespace dpsr
