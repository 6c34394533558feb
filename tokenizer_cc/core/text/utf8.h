// UTF-8, decoded as Python's bytes.decode("utf-8", errors="replace") does.

#ifndef DPSR_TOKENIZER_CC_CORE_TEXT_UTF8_H_
#define DPSR_TOKENIZER_CC_CORE_TEXT_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace dpsr {

inline constexpr uint32_t kReplacement = 0xFFFD;

struct Decoded {
  uint32_t code_point;
  uint32_t bytes;  // how many were read, at least 1
};

// Reads one code point of [p, end), which is not empty. Invalid UTF-8 becomes U+FFFD, one for each maximal subpart:
// the longest prefix of a well-formed sequence, or else one byte.
inline Decoded DecodeReplacing(const uint8_t* p, const uint8_t* end) {
  const uint32_t lead = p[0];
  if (lead < 0x80) return {lead, 1};
  const auto left = static_cast<size_t>(end - p);
  const auto continues = [&](size_t i) { return i < left && (p[i] & 0xC0) == 0x80; };
  if (lead < 0xC2 || lead > 0xF4) return {kReplacement, 1};
  if (lead < 0xE0) {
    if (!continues(1)) return {kReplacement, 1};
    return {(lead & 0x1F) << 6 | (p[1] & 0x3Fu), 2};
  }
  // The second byte excludes overlong forms, surrogates and what lies above U+10FFFF.
  if (!continues(1)) return {kReplacement, 1};
  const uint8_t second = p[1];
  if (lead < 0xF0) {
    if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F)) return {kReplacement, 1};
    if (!continues(2)) return {kReplacement, 2};
    return {(lead & 0x0F) << 12 | (second & 0x3Fu) << 6 | (p[2] & 0x3Fu), 3};
  }
  if ((lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F)) return {kReplacement, 1};
  if (!continues(2)) return {kReplacement, 2};
  if (!continues(3)) return {kReplacement, 3};
  return {(lead & 0x07) << 18 | (second & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu), 4};
}

// Reads one code point of well-formed UTF-8.
inline Decoded DecodeValid(const uint8_t* p) {
  const uint32_t lead = p[0];
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {(lead & 0x1F) << 6 | (p[1] & 0x3Fu), 2};
  if (lead < 0xF0) return {(lead & 0x0F) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu), 3};
  return {(lead & 0x07) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu), 4};
}

// Whether `decoded`, read at `p`, stands for bytes that are no UTF-8; U+FFFD itself does not.
inline bool IsInvalid(const uint8_t* p, Decoded decoded) {
  return decoded.code_point == kReplacement && (decoded.bytes != 3 || p[0] != 0xEF);
}

inline bool IsContinuation(uint8_t byte) { return (byte & 0xC0) == 0x80; }

inline bool IsWellFormed(std::string_view text) {
  const auto* p = reinterpret_cast<const uint8_t*>(text.data());
  for (const uint8_t* const end = p + text.size(); p != end;) {
    const Decoded decoded = DecodeReplacing(p, end);
    if (IsInvalid(p, decoded)) return false;
    p += decoded.bytes;
  }
  return true;
}

// The number of code points of well-formed UTF-8.
inline size_t CountCodePoints(std::string_view text) {
  size_t count = 0;
  for (const char byte : text) count += !IsContinuation(static_cast<uint8_t>(byte));
  return count;
}

// Writes a code point at `out`, which has room for 4 bytes; returns how many it took.
inline uint32_t EncodeUtf8(uint32_t code_point, uint8_t* out) {
  if (code_point < 0x80) {
    out[0] = static_cast<uint8_t>(code_point);
    return 1;
  }
  if (code_point < 0x800) {
    out[0] = static_cast<uint8_t>(0xC0 | code_point >> 6);
    out[1] = static_cast<uint8_t>(0x80 | (code_point & 0x3F));
    return 2;
  }
  if (code_point < 0x10000) {
    out[0] = static_cast<uint8_t>(0xE0 | code_point >> 12);
    out[1] = static_cast<uint8_t>(0x80 | (code_point >> 6 & 0x3F));
    out[2] = static_cast<uint8_t>(0x80 | (code_point & 0x3F));
    return 3;
  }
  out[0] = static_cast<uint8_t>(0xF0 | code_point >> 18);
  out[1] = static_cast<uint8_t>(0x80 | (code_point >> 12 & 0x3F));
  out[2] = static_cast<uint8_t>(0x80 | (code_point >> 6 & 0x3F));
  out[3] = static_cast<uint8_t>(0x80 | (code_point & 0x3F));
  return 4;
}

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_TEXT_UTF8_H_
