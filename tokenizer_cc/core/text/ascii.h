// Runs of ASCII, eight bytes at a time.

#ifndef DPSR_TOKENIZER_CC_CORE_TEXT_ASCII_H_
#define DPSR_TOKENIZER_CC_CORE_TEXT_ASCII_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "tokenizer_cc/core/buffer.h"

namespace dpsr {

// The first byte of [p, end) that is not ASCII, or end.
inline const uint8_t* AsciiEnd(const uint8_t* p, const uint8_t* end) {
  constexpr uint64_t kHighBits = 0x8080808080808080u;
  for (; end - p >= 8; p += 8) {
    uint64_t block;
    std::memcpy(&block, p, sizeof(block));
    if ((block & kHighBits) != 0) break;
  }
  while (p != end && *p < 0x80) ++p;
  return p;
}

// Appends ASCII in lower case; plain arithmetic, so that compilers vectorize it.
inline void AppendLower(const uint8_t* p, const uint8_t* end, Buffer<uint8_t>* out) {
  const auto size = static_cast<size_t>(end - p);
  out->Reserve(size);
  uint8_t* target = out->end();
  for (size_t i = 0; i < size; ++i) {
    const uint8_t is_upper = static_cast<uint8_t>(p[i] - 'A') < 26;
    target[i] = static_cast<uint8_t>(p[i] + (is_upper << 5));
  }
  out->Advance(size);
}

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_TEXT_ASCII_H_
