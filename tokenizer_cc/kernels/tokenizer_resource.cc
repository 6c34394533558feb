#include "tokenizer_cc/kernels/tokenizer_resource.h"

#include <cstring>
#include <iterator>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "tensorflow/core/platform/errors.h"
#include "tensorflow/core/platform/file_system.h"

namespace dpsr {
namespace {

// The tokenizers of this process, by fingerprint, as long as someone uses them.
class SharedTokenizers {
 public:
  static SharedTokenizers& Get() {
    static auto* const shared = new SharedTokenizers;
    return *shared;
  }

  // The one of these that came first.
  std::shared_ptr<const Tokenizer> Share(std::shared_ptr<const Tokenizer> tokenizer) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto entry = tokenizers_.begin(); entry != tokenizers_.end();) {
      entry = entry->second.expired() ? tokenizers_.erase(entry) : std::next(entry);
    }
    std::weak_ptr<const Tokenizer>& known = tokenizers_[tokenizer->fingerprint()];
    if (std::shared_ptr<const Tokenizer> first = known.lock();
        first != nullptr && first->bytes() == tokenizer->bytes()) {
      return first;
    }
    known = tokenizer;
    return tokenizer;
  }

 private:
  std::mutex mutex_;
  std::unordered_map<std::string, std::weak_ptr<const Tokenizer>> tokenizers_;
};

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

}  // namespace

absl::Status LoadTokenizer(tensorflow::Env* env, const std::string& path, std::shared_ptr<const Tokenizer>* tokenizer) {
  ModelBytes model;
  TF_RETURN_IF_ERROR(ReadModel(env, path, &model));
  std::string error;
  std::shared_ptr<const Tokenizer> loaded = Tokenizer::FromBytes(std::move(model), &error);
  if (loaded == nullptr) return absl::InvalidArgumentError(absl::StrCat(path, ": ", error));
  *tokenizer = SharedTokenizers::Get().Share(std::move(loaded));
  return absl::OkStatus();
}

absl::Status TokenizerResource::Load(tensorflow::Env* env, const std::string& path) {
  std::shared_ptr<const Tokenizer> loaded;
  TF_RETURN_IF_ERROR(LoadTokenizer(env, path, &loaded));
  const std::lock_guard<std::mutex> lock(mutex_);
  if (tokenizer_ != nullptr && tokenizer_ != loaded) {
    return absl::FailedPreconditionError(absl::StrCat(path, ": its fingerprint is ", loaded->fingerprint(),
                                                      ", but this tokenizer already has ", tokenizer_->fingerprint(),
                                                      "; give each model file a shared_name of its own"));
  }
  tokenizer_ = std::move(loaded);
  return absl::OkStatus();
}

std::shared_ptr<const Tokenizer> TokenizerResource::tokenizer() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return tokenizer_;
}

std::string TokenizerResource::DebugString() const {
  const std::shared_ptr<const Tokenizer> loaded = tokenizer();
  return absl::StrCat("dpsr tokenizer ", loaded == nullptr ? "(not loaded)" : loaded->fingerprint());
}

int64_t TokenizerResource::MemoryUsed() const {
  const std::shared_ptr<const Tokenizer> loaded = tokenizer();
  return static_cast<int64_t>(sizeof(*this) + (loaded == nullptr ? 0 : loaded->bytes().size()));
}

}  // namespace dpsr
