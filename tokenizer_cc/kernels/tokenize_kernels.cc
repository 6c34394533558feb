// Thin adapters from the ops of tokenize_ops.cc to the core.

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/framework/resource_op_kernel.h"
#include "tensorflow/core/lib/core/threadpool.h"
#include "tokenizer_cc/core/bags/tokenizer.h"
#include "tokenizer_cc/core/buffer.h"
#include "tokenizer_cc/kernels/tokenizer_resource.h"

namespace dpsr {
namespace {

using tensorflow::DEVICE_CPU;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::tstring;

class TokenizerHandleOp : public tensorflow::ResourceOpKernel<TokenizerResource> {
 public:
  using ResourceOpKernel::ResourceOpKernel;

 private:
  absl::Status CreateResource(TokenizerResource** resource) override {
    *resource = new TokenizerResource;
    return absl::OkStatus();
  }
};

class AnonymousTokenizerOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    Tensor handle(tensorflow::DT_RESOURCE, TensorShape({}));
    handle.scalar<tensorflow::ResourceHandle>()() =
        tensorflow::ResourceHandle::MakeRefCountingHandle(new TokenizerResource, context->device()->name());
    context->set_output(0, handle);
  }
};

class TokenizerLoadOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    const Tensor& path = context->input(1);
    OP_REQUIRES(context, path.dims() == 0,
                absl::InvalidArgumentError("model_path must be a scalar, found shape " + path.shape().DebugString()));
    tensorflow::core::RefCountPtr<TokenizerResource> resource;
    OP_REQUIRES_OK(context, LookupResource(context, tensorflow::HandleFromInput(context, 0), &resource));
    OP_REQUIRES_OK(context, resource->Load(context->env(), path.scalar<tstring>()()));
  }
};

// A run of texts and what they became.
struct Shard {
  int64_t begin, end;
  Buffer<int32_t> ids;
};

// Fills the two outputs of the ops that tokenize.
class Encoding {
 public:
  static void Compute(OpKernelContext* context, const Tokenizer& tokenizer, const Tensor& texts) {
    OP_REQUIRES(context, texts.dims() == 1,
                absl::InvalidArgumentError("texts must be a vector, found shape " + texts.shape().DebugString()));
    Tensor* row_splits = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(1, TensorShape({texts.NumElements() + 1}), &row_splits));
    int64_t* const splits = row_splits->vec<int64_t>().data();
    const auto strings = texts.vec<tstring>();

    const auto& pool = *context->device()->tensorflow_cpu_worker_threads();
    std::vector<Shard> shards = CutIntoShards(strings, pool.num_threads);
    const auto encode = [&](Shard* shard) { EncodeShard(tokenizer, strings, shard, splits); };
    if (shards.size() == 1) {
      encode(&shards[0]);
    } else {
      const auto run = [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) encode(&shards[i]);
      };
      using SchedulingParams = tensorflow::thread::ThreadPool::SchedulingParams;
      pool.workers->ParallelFor(static_cast<int64_t>(shards.size()), SchedulingParams::Fixed(1), run);
    }
    Concatenate(context, shards, splits);
  }

 private:
  using Strings = tensorflow::TTypes<tstring>::ConstVec;

  // Less text than this is done before another thread has woken up.
  static constexpr int64_t kFewestShardBytes = 16 << 10;

  static std::vector<Shard> CutIntoShards(const Strings& texts, int num_threads) {
    int64_t bytes = 0;
    for (int64_t i = 0; i < texts.size(); ++i) bytes += static_cast<int64_t>(texts(i).size());
    // More shards than threads, so that a slow thread holds up little.
    const int64_t most = num_threads == 1 ? 1 : 4 * int64_t{num_threads};
    const int64_t count = std::clamp<int64_t>(std::min(bytes / kFewestShardBytes, texts.size()), 1, most);
    std::vector<Shard> shards(count);
    for (int64_t i = 0; i < count; ++i) {
      shards[i].begin = texts.size() * i / count;
      shards[i].end = texts.size() * (i + 1) / count;
    }
    return shards;
  }

  // Row splits count from the shard's begin here.
  static void EncodeShard(const Tokenizer& tokenizer, const Strings& texts, Shard* shard, int64_t* splits) {
    thread_local Tokenizer::Workspace workspace;
    for (int64_t i = shard->begin; i < shard->end; ++i) {
      const tstring& text = texts(i);
      tokenizer.Encode({text.data(), text.size()}, &workspace, &shard->ids);
      splits[i + 1] = static_cast<int64_t>(shard->ids.size());
    }
  }

  static void Concatenate(OpKernelContext* context, const std::vector<Shard>& shards, int64_t* splits) {
    int64_t total = 0;
    for (const Shard& shard : shards) total += static_cast<int64_t>(shard.ids.size());
    Tensor* values = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({total}), &values));
    int32_t* target = values->vec<int32_t>().data();
    splits[0] = 0;
    int64_t before = 0;
    for (const Shard& shard : shards) {
      if (shard.ids.size() != 0) std::memcpy(target + before, shard.ids.data(), shard.ids.size() * sizeof(int32_t));
      for (int64_t i = shard.begin; i < shard.end; ++i) splits[i + 1] += before;
      before += static_cast<int64_t>(shard.ids.size());
    }
  }
};

class TokenizeOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    tensorflow::core::RefCountPtr<TokenizerResource> resource;
    OP_REQUIRES_OK(context, LookupResource(context, tensorflow::HandleFromInput(context, 0), &resource));
    const std::shared_ptr<const Tokenizer> tokenizer = resource->tokenizer();
    OP_REQUIRES(context, tokenizer != nullptr,
                absl::FailedPreconditionError("the tokenizer is not loaded; run its initializer first"));
    Encoding::Compute(context, *tokenizer, context->input(1));
  }
};

// Loads its file when it runs first, on the machine where it runs.
class TokenizeWithFileOp : public OpKernel {
 public:
  explicit TokenizeWithFileOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("model_path", &path_));
    OP_REQUIRES_OK(context, context->GetAttr("fingerprint", &fingerprint_));
  }

  void Compute(OpKernelContext* context) override {
    OP_REQUIRES_OK(context, Load(context->env()));
    Encoding::Compute(context, *tokenizer_, context->input(0));
  }

 private:
  absl::Status Load(tensorflow::Env* env) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (tokenizer_ != nullptr) return absl::OkStatus();
    std::shared_ptr<const Tokenizer> loaded;
    TF_RETURN_IF_ERROR(LoadTokenizer(env, path_, &loaded));
    if (loaded->fingerprint() != fingerprint_) {
      return absl::FailedPreconditionError(absl::StrCat(path_, ": its fingerprint is ", loaded->fingerprint(),
                                                        ", expected ", fingerprint_,
                                                        "; this machine sees another dataset than the one that made "
                                                        "the graph, or the file was written anew since"));
    }
    tokenizer_ = std::move(loaded);
    return absl::OkStatus();
  }

  std::string path_, fingerprint_;
  std::mutex mutex_;
  // Set once.
  std::shared_ptr<const Tokenizer> tokenizer_;
};

REGISTER_KERNEL_BUILDER(Name("DpsrTokenizerHandle").Device(DEVICE_CPU), TokenizerHandleOp);
REGISTER_KERNEL_BUILDER(Name("DpsrTokenizerLoad").Device(DEVICE_CPU), TokenizerLoadOp);
REGISTER_KERNEL_BUILDER(Name("DpsrAnonymousTokenizer").Device(DEVICE_CPU), AnonymousTokenizerOp);
REGISTER_KERNEL_BUILDER(Name("DpsrTokenize").Device(DEVICE_CPU), TokenizeOp);
REGISTER_KERNEL_BUILDER(Name("DpsrTokenizeWithFile").Device(DEVICE_CPU), TokenizeWithFileOp);

}  // namespace
}  // namespace dpsr
