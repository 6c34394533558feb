// SentencePiece's precompiled character map, as the Precompiled normalizer of `tokenizers` applies it.

#ifndef DPSR_TOKENIZER_CC_CORE_SUBWORDS_PRECOMPILED_H_
#define DPSR_TOKENIZER_CC_CORE_SUBWORDS_PRECOMPILED_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "tokenizer_cc/core/buffer.h"

namespace dpsr {

// The map is a double array of SentencePiece's format (its size in bytes as 32 bits, then its units), whose values are
// places of NUL-terminated strings behind it. A view of it.
//
// Each grapheme cluster of fewer than 6 bytes becomes, as a whole, the string of the shortest key that it begins with;
// otherwise, and where there is no such key, each of its code points does, by itself.
class Precompiled {
 public:
  Precompiled() = default;
  explicit Precompiled(std::string_view charsmap);

  // Whether the units are as many as it says and the strings are UTF-8; places are checked as they are read.
  static bool IsSound(std::string_view charsmap);

  void Apply(std::string_view text, Buffer<uint8_t>* out) const;

 private:
  // What the shortest key that the text begins with becomes.
  std::optional<std::string_view> Find(const uint8_t* p, const uint8_t* end) const;
  uint32_t UnitAt(size_t place) const;
  void ApplyToCluster(const uint8_t* p, const uint8_t* end, Buffer<uint8_t>* out) const;

  std::string_view units_, strings_;
  // Whether the map leaves an ASCII character as it is.
  std::array<bool, 128> keeps_{};
};

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_SUBWORDS_PRECOMPILED_H_
