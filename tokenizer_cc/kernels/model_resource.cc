#include "tokenizer_cc/kernels/model_resource.h"

#include <cstring>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "tensorflow/core/platform/file_system.h"

namespace dpsr {

absl::Status ReadModel(tensorflow::Env* env, const std::string& path, ModelBytes* model) {
  tensorflow::uint64 size = 0;
  TF_RETURN_IF_ERROR(env->GetFileSize(path, &size));
  std::unique_ptr<tensorflow::RandomAccessFile> file;
  TF_RETURN_IF_ERROR(env->NewRandomAccessFile(path, &file));
  *model = ModelBytes(size);
  absl::string_view content;
  char* const bytes = reinterpret_cast<char*>(model->data());
  TF_RETURN_IF_ERROR(file->Read(0, content, absl::MakeSpan(bytes, size)));
  // A file system may answer with memory of its own.
  if (content.data() != bytes) std::memcpy(bytes, content.data(), content.size());
  return absl::OkStatus();
}

}  // namespace dpsr
