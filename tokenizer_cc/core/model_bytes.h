// The bytes of a model file, and the checks that all kinds of them share.

#ifndef DPSR_TOKENIZER_CC_CORE_MODEL_BYTES_H_
#define DPSR_TOKENIZER_CC_CORE_MODEL_BYTES_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "tokenizer_cc/core/hashing.h"

namespace dpsr {

// The bytes of a model, aligned for direct use.
class ModelBytes {
 public:
  ModelBytes() = default;
  // Zeroed bytes.
  explicit ModelBytes(size_t size);
  explicit ModelBytes(std::string_view content);

  // Reads a whole file. Returns what went wrong; empty if nothing.
  static std::string Read(const std::string& path, ModelBytes* model);

  const uint8_t* data() const { return reinterpret_cast<const uint8_t*>(words_.get()); }
  uint8_t* data() { return reinterpret_cast<uint8_t*>(words_.get()); }
  size_t size() const { return size_; }
  std::string_view view() const { return {reinterpret_cast<const char*>(data()), size_}; }

 private:
  std::unique_ptr<uint64_t[]> words_;
  size_t size_ = 0;
};

// How every model file begins.
struct FileHeader {
  char magic[8];
  uint32_t format_version;
  uint32_t header_bytes;
  uint64_t file_bytes;
  uint64_t checksum[2];  // of everything behind this field
};
static_assert(sizeof(FileHeader) == 40);

// What the beginning of a kind of file has to be.
struct FileKind {
  char magic[8];
  uint32_t format_version;
  uint32_t header_bytes;
  const char* name;   // "tokenizer model"
  const char* saver;  // what writes such a file
  const char* hint;   // which file to give instead of another kind
};

inline uint64_t RoundUp8(uint64_t bytes) { return (bytes + 7) & ~uint64_t{7}; }
// A text of a file in quotes, up to its NUL, for a message.
std::string Quoted(const char* text, size_t size);
// Checks kind, version, size and checksum. Returns what is wrong and what to do; empty if nothing.
std::string CheckFile(const ModelBytes& model, const FileKind& kind);
// Fills in the file header of a model whose other bytes are final.
void Sign(const FileKind& kind, ModelBytes* model);
// 32 hexadecimal digits of the checksum of a signed model.
std::string FingerprintOf(const ModelBytes& model);

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_MODEL_BYTES_H_
