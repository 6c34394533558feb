// libFuzzer over Load and Encode: whatever the bytes, nothing is read or written out of bounds, and ids are in range.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "tokenizer_cc/core/bags/model_file.h"
#include "tokenizer_cc/core/bags/tokenizer.h"
#include "tokenizer_cc/core/bags/vocabulary_builder.h"
#include "tokenizer_cc/core/hashing.h"

namespace {

using dpsr::Buffer;
using dpsr::ModelBytes;
using dpsr::ModelHeader;
using dpsr::Tokenizer;

void Check(bool condition) {
  if (!condition) std::abort();
}

void EncodeAndCheck(const Tokenizer& tokenizer, std::string_view text) {
  Tokenizer::Workspace workspace;
  Buffer<int32_t> ids;
  tokenizer.Encode(text, &workspace, &ids);
  for (size_t i = 0; i < ids.size(); ++i) Check(ids.data()[i] >= 1 && ids.data()[i] < tokenizer.num_ids());
  Check(tokenizer.Tokens(text).size() == ids.size());
}

ModelBytes SmallModel() {
  dpsr::VocabularyBuilder builder({100, 1, 7, true, true}, 1, 1'000);
  builder.Add({"stainless steel sink 33x22", "steel 1.5 手机 café", "incomprehensibilities 한국어"});
  ModelBytes model;
  Check(builder.Build(&model).empty());
  return model;
}

// Overwrites a model at places that the input names, and signs it: damage that the checksum does not show.
ModelBytes Damaged(const ModelBytes& model, const uint8_t* data, size_t size) {
  std::string content(model.view());
  for (; size >= 4; data += 4, size -= 4) {
    const size_t place =
        sizeof(dpsr::FileHeader) + (data[0] | data[1] << 8) % (content.size() - sizeof(dpsr::FileHeader));
    std::memcpy(content.data() + place, data + 2, place + 2 <= content.size() ? 2 : 1);
  }
  const auto* bytes = reinterpret_cast<const uint8_t*>(content.data());
  const dpsr::Checksum checksum =
      dpsr::ComputeChecksum(bytes + sizeof(dpsr::FileHeader), content.size() - sizeof(dpsr::FileHeader));
  const uint64_t words[2] = {checksum.high, checksum.low};
  std::memcpy(content.data() + offsetof(ModelHeader, checksum), words, sizeof(words));
  return ModelBytes(content);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const ModelBytes* const small = new ModelBytes(SmallModel());
  static const auto* const good = [] {
    std::string error;
    return new std::shared_ptr<const Tokenizer>(Tokenizer::FromBytes(ModelBytes(small->view()), &error));
  }();
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  std::string error;
  switch (data[0] % 3) {
    case 0:
      EncodeAndCheck(**good, rest);
      break;
    case 1:
      Tokenizer::FromBytes(ModelBytes(rest), &error);
      break;
    default: {
      const size_t patches = std::min<size_t>(rest.size(), 16);
      const auto tokenizer = Tokenizer::FromBytes(Damaged(*small, data + 1, patches), &error);
      if (tokenizer != nullptr) EncodeAndCheck(*tokenizer, rest.substr(patches));
    }
  }
  return 0;
}
