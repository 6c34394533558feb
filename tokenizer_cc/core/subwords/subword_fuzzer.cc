// libFuzzer over Load and Encode of subwords: whatever the bytes, nothing is read or written out of bounds, and ids are
// in range.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer_cc/core/subwords/specs.h"
#include "tokenizer_cc/core/subwords/subword_tokenizer.h"
#include "tokenizer_cc/core/text/utf8.h"

namespace {

using dpsr::Buffer;
using dpsr::ModelBytes;
using dpsr::StepKind;
using dpsr::SubwordTokenizer;

void Check(bool condition) {
  if (!condition) std::abort();
}

void EncodeAndCheck(const SubwordTokenizer& tokenizer, std::string_view text) {
  static SubwordTokenizer::Workspace workspace;
  Buffer<int32_t> ids;
  tokenizer.Encode(text, &workspace, &ids);
  for (size_t i = 0; i < ids.size(); ++i) Check(ids.data()[i] >= 0 && ids.data()[i] < tokenizer.num_ids());
  Buffer<uint8_t> normalized;
  tokenizer.Normalize(text, &workspace, &normalized);
  Check(dpsr::IsWellFormed({reinterpret_cast<const char*>(normalized.data()), normalized.size()}));
}

// A character map that makes "X" of a cluster that begins with "a".
std::string Charsmap() {
  std::vector<uint32_t> units(512);
  units[0] = 256 << 10;
  units[256 ^ 'a'] = 'a' | 1 << 8 | 128 << 10;
  units[256 ^ 'a' ^ 128] = 1u << 31;
  const auto bytes = static_cast<uint32_t>(4 * units.size());
  std::string charsmap(reinterpret_cast<const char*>(&bytes), 4);
  charsmap.append(reinterpret_cast<const char*>(units.data()), bytes);
  return charsmap + std::string("X\0é", 5);
}

std::vector<ModelBytes> SmallModels() {
  dpsr::SubwordSpec all_steps = dpsr::UnigramSpec();
  all_steps.steps = {{StepKind::kPrecompiled, 0, Charsmap(), ""},
                     {StepKind::kForm, 0, "", ""},
                     {StepKind::kStripAccents, 0, "", ""},
                     {StepKind::kStrip, 3, "", ""},
                     {StepKind::kReplace, 0, "手", "机a"},
                     {StepKind::kPrepend, 0, "b", ""},
                     {StepKind::kDigits, 1, "", ""},
                     {StepKind::kPunctuationSplit, 0, "", ""},
                     {StepKind::kMetaspace, dpsr::kSplitWords, "▁", ""}};
  all_steps.added.push_back({{7, dpsr::kNormalized | dpsr::kSingleWord | dpsr::kStripAfter}, "X"});
  std::vector<ModelBytes> models;
  for (const dpsr::SubwordSpec& spec : {dpsr::WordPieceSpec(), dpsr::UnigramSpec(), dpsr::BpeSpec(), all_steps}) {
    models.emplace_back();
    Check(dpsr::BuildSubwordModel(spec, &models.back()).empty());
  }
  return models;
}

// Overwrites a model at places that the input names, and signs it: damage that the checksum does not show.
ModelBytes Damaged(const ModelBytes& model, const uint8_t* data, size_t size) {
  ModelBytes damaged(model.view());
  for (; size >= 4; data += 4, size -= 4) {
    const size_t room = model.size() - sizeof(dpsr::FileHeader) - 2;
    const size_t place = sizeof(dpsr::FileHeader) + (data[0] | data[1] << 8) % room;
    std::memcpy(damaged.data() + place, data + 2, 2);
  }
  dpsr::Sign(dpsr::kSubwordFile, &damaged);
  return damaged;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto* const models = new std::vector<ModelBytes>(SmallModels());
  static const auto* const good = [] {
    auto* const tokenizers = new std::vector<std::shared_ptr<const SubwordTokenizer>>;
    std::string error;
    for (const ModelBytes& model : *models) {
      tokenizers->push_back(SubwordTokenizer::FromBytes(ModelBytes(model.view()), &error));
    }
    return tokenizers;
  }();
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  const size_t which = data[0] / 3 % models->size();
  std::string error;
  switch (data[0] % 3) {
    case 0:
      EncodeAndCheck(*(*good)[which], rest);
      break;
    case 1:
      SubwordTokenizer::FromBytes(ModelBytes(rest), &error);
      break;
    default: {
      const size_t patches = std::min<size_t>(rest.size(), 16);
      const auto tokenizer = SubwordTokenizer::FromBytes(Damaged((*models)[which], data + 1, patches), &error);
      if (tokenizer != nullptr) EncodeAndCheck(*tokenizer, rest.substr(patches));
    }
  }
  return 0;
}
