// The wire format of Protocol Buffers: read in place, and written. The reader is strict: what it reads, every parser
// reads the same way.

#ifndef DPSR_SERVING_ENGINE_NATIVE_WIRE_H_
#define DPSR_SERVING_ENGINE_NATIVE_WIRE_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "tokenizer_cc/core/text/utf8.h"

namespace dpsr::serving {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the wire's order of bytes is taken for this machine's");

enum class WireType : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

// The tag before a field, as it stands in a message. One byte: none of the fields that are read has a number above 15.
constexpr uint8_t Tag(int field, WireType type) { return static_cast<uint8_t>(field << 3 | static_cast<int>(type)); }

// Cursor over a message. A method returns false, and the cursor is good for nothing any more, where the message ends
// too early or has another form than the one that every writer gives it.
class WireReader {
 public:
  explicit WireReader(std::string_view message) : next_(message.data()), end_(message.data() + message.size()) {}

  bool done() const { return next_ == end_; }
  // Bytes to read.
  size_t left() const { return static_cast<size_t>(end_ - next_); }

  // One byte; that of a longer tag is no field's.
  bool ReadTag(uint8_t* tag) { return ReadFixed(tag); }

  // A number of up to 64 bits in its shortest form.
  bool ReadVarint(uint64_t* value) {
    *value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      uint8_t byte = 0;
      if (!ReadFixed(&byte)) return false;
      if (shift == 63 && byte > 1) return false;  // beyond 64 bits, which parsers drop
      if (shift > 0 && byte == 0) return false;   // a longer form than needed
      *value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }

  bool ReadInt64(int64_t* value) {
    uint64_t bits = 0;
    if (!ReadVarint(&bits)) return false;
    *value = static_cast<int64_t>(bits);
    return true;
  }

  // Larger numbers, which parsers cut to 32 bits, are refused.
  bool ReadInt32(int32_t* value) {
    int64_t wide = 0;
    if (!ReadInt64(&wide)) return false;
    *value = static_cast<int32_t>(wide);
    return *value == wide;
  }

  bool ReadBool(bool* value) {
    uint64_t bits = 0;
    if (!ReadVarint(&bits)) return false;
    *value = bits != 0;
    return true;
  }

  // A value of fixed width.
  template <typename T>
  bool ReadFixed(T* value) {
    if (left() < sizeof(T)) return false;
    std::memcpy(value, next_, sizeof(T));
    next_ += sizeof(T);
    return true;
  }

  // A field of type bytes, or a message.
  bool ReadBytes(std::string_view* bytes) {
    uint64_t size = 0;
    if (!ReadVarint(&size) || size > left()) return false;
    *bytes = std::string_view(next_, static_cast<size_t>(size));
    next_ += size;
    return true;
  }

  // A field of type string, which is UTF-8.
  bool ReadText(std::string_view* text) { return ReadBytes(text) && IsWellFormed(*text); }

 private:
  const char* next_;
  const char* end_;
};

inline void AppendVarint(uint64_t value, std::string* out) {
  for (; value >= 0x80; value >>= 7) out->push_back(static_cast<char>(value | 0x80));
  out->push_back(static_cast<char>(value));
}

// A field of type bytes or string, or a message.
inline void AppendBytes(uint8_t tag, std::string_view bytes, std::string* out) {
  out->push_back(static_cast<char>(tag));
  AppendVarint(bytes.size(), out);
  out->append(bytes);
}

}  // namespace dpsr::serving

#endif  // DPSR_SERVING_ENGINE_NATIVE_WIRE_H_
