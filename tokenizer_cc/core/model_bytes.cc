#include "tokenizer_cc/core/model_bytes.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "model files are little-endian and used in place"
#endif

namespace dpsr {

ModelBytes::ModelBytes(size_t size) : words_(new uint64_t[(size + 7) / 8]()), size_(size) {}

ModelBytes::ModelBytes(std::string_view content)
    : words_(new uint64_t[(content.size() + 7) / 8]), size_(content.size()) {
  if (!content.empty()) std::memcpy(words_.get(), content.data(), content.size());
}

std::string ModelBytes::Read(const std::string& path, ModelBytes* model) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), &std::fclose);
  struct stat status;
  if (file == nullptr || fstat(fileno(file.get()), &status) != 0) return std::strerror(errno);
  if (!S_ISREG(status.st_mode)) return "not a regular file";
  const auto size = static_cast<size_t>(status.st_size);
  model->words_.reset(new uint64_t[(size + 7) / 8]);
  model->size_ = std::fread(model->words_.get(), 1, size, file.get());
  return std::ferror(file.get()) ? std::strerror(errno) : "";
}

std::string Quoted(const char* text, size_t size) {
  std::string quoted = "'";
  for (size_t i = 0; i < size && text[i] != '\0'; ++i) quoted += text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
  return quoted + "'";
}

std::string CheckFile(const ModelBytes& model, const FileKind& kind) {
  if (model.size() == 0) return std::string("the file is empty; write it again with ") + kind.saver;
  const size_t known = model.size() < sizeof(kind.magic) ? model.size() : sizeof(kind.magic);
  if (std::memcmp(model.data(), kind.magic, known) != 0) {
    return std::string("not a ") + kind.name + ": it does not start with " + std::string(kind.magic, 7) + "; " +
           kind.hint;
  }
  const auto truncated = [&](uint64_t expected) {
    return "truncated: " + std::to_string(model.size()) + " bytes, expected " + std::to_string(expected) +
           "; copy the file again";
  };
  if (model.size() < kind.header_bytes) return truncated(kind.header_bytes);
  FileHeader header;
  std::memcpy(&header, model.data(), sizeof(header));
  if (header.format_version > kind.format_version) {
    return "format version " + std::to_string(header.format_version) + " is newer than version " +
           std::to_string(kind.format_version) + ", the newest that this build reads; upgrade dpsr";
  }
  if (header.format_version != kind.format_version || header.header_bytes != kind.header_bytes) {
    return "corrupt: format version " + std::to_string(header.format_version) + " with a header of " +
           std::to_string(header.header_bytes) + " bytes does not exist";
  }
  if (model.size() < header.file_bytes) return truncated(header.file_bytes);
  if (model.size() > header.file_bytes) {
    return "corrupt: " + std::to_string(model.size()) + " bytes, expected " + std::to_string(header.file_bytes);
  }
  const Checksum found = ComputeChecksum(model.data() + sizeof(header), model.size() - sizeof(header));
  if (!(found == Checksum{header.checksum[0], header.checksum[1]})) {
    return "corrupt: the checksum does not match the content; copy the file again";
  }
  return "";
}

void Sign(const FileKind& kind, ModelBytes* model) {
  const Checksum checksum = ComputeChecksum(model->data() + sizeof(FileHeader), model->size() - sizeof(FileHeader));
  FileHeader header = {{}, kind.format_version, kind.header_bytes, model->size(), {checksum.high, checksum.low}};
  std::memcpy(header.magic, kind.magic, sizeof(header.magic));
  std::memcpy(model->data(), &header, sizeof(header));
}

std::string FingerprintOf(const ModelBytes& model) {
  FileHeader header;
  std::memcpy(&header, model.data(), sizeof(header));
  char digits[33];
  std::snprintf(digits, sizeof(digits), "%016llx%016llx", static_cast<unsigned long long>(header.checksum[0]),
                static_cast<unsigned long long>(header.checksum[1]));
  return digits;
}

}  // namespace dpsr
