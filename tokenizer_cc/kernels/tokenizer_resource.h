// The tokenizer as a TensorFlow resource.

#ifndef DPSR_TOKENIZER_CC_KERNELS_TOKENIZER_RESOURCE_H_
#define DPSR_TOKENIZER_CC_KERNELS_TOKENIZER_RESOURCE_H_

#include <memory>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "tensorflow/core/framework/resource_base.h"
#include "tensorflow/core/platform/env.h"
#include "tokenizer_cc/core/bags/tokenizer.h"

namespace dpsr {

// Reads a model file, or joins what the process already holds of the same content.
absl::Status LoadTokenizer(tensorflow::Env* env, const std::string& path, std::shared_ptr<const Tokenizer>* tokenizer);

// Holds a tokenizer once it is loaded. Thread-safe.
class TokenizerResource : public tensorflow::ResourceBase {
 public:
  // As LoadTokenizer. Loading the same content again changes nothing; loading another is an error.
  absl::Status Load(tensorflow::Env* env, const std::string& path);
  // Null before Load.
  std::shared_ptr<const Tokenizer> tokenizer() const;

  std::string DebugString() const override;
  int64_t MemoryUsed() const override;

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const Tokenizer> tokenizer_;
};

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_KERNELS_TOKENIZER_RESOURCE_H_
