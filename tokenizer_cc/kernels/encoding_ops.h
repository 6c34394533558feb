// Ops over a tokenizer of a model file, thin adapters to the core: a registration names the op and the tokenizer.

#ifndef DPSR_TOKENIZER_CC_KERNELS_ENCODING_OPS_H_
#define DPSR_TOKENIZER_CC_KERNELS_ENCODING_OPS_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/framework/resource_op_kernel.h"
#include "tensorflow/core/lib/core/threadpool.h"
#include "tokenizer_cc/core/buffer.h"
#include "tokenizer_cc/kernels/model_resource.h"

namespace dpsr {

template <class Model>
class ModelHandleOp : public tensorflow::ResourceOpKernel<ModelResource<Model>> {
 public:
  using tensorflow::ResourceOpKernel<ModelResource<Model>>::ResourceOpKernel;

 private:
  absl::Status CreateResource(ModelResource<Model>** resource) override {
    *resource = new ModelResource<Model>;
    return absl::OkStatus();
  }
};

template <class Model>
class AnonymousModelOp : public tensorflow::OpKernel {
 public:
  using tensorflow::OpKernel::OpKernel;

  void Compute(tensorflow::OpKernelContext* context) override {
    tensorflow::Tensor handle(tensorflow::DT_RESOURCE, tensorflow::TensorShape({}));
    handle.scalar<tensorflow::ResourceHandle>()() =
        tensorflow::ResourceHandle::MakeRefCountingHandle(new ModelResource<Model>, context->device()->name());
    context->set_output(0, handle);
  }
};

template <class Model>
class ModelLoadOp : public tensorflow::OpKernel {
 public:
  using tensorflow::OpKernel::OpKernel;

  void Compute(tensorflow::OpKernelContext* context) override {
    const tensorflow::Tensor& path = context->input(1);
    OP_REQUIRES(context, path.dims() == 0,
                absl::InvalidArgumentError("model_path must be a scalar, found shape " + path.shape().DebugString()));
    tensorflow::core::RefCountPtr<ModelResource<Model>> resource;
    OP_REQUIRES_OK(context, LookupResource(context, tensorflow::HandleFromInput(context, 0), &resource));
    OP_REQUIRES_OK(context, resource->Load(context->env(), path.scalar<tensorflow::tstring>()()));
  }
};

// A run of texts and what they became.
struct Shard {
  int64_t begin, end;
  Buffer<int32_t> ids;
};

// Fills the two outputs of the ops that encode.
template <class Model>
class Encoding {
 public:
  static void Compute(tensorflow::OpKernelContext* context, const Model& model, const tensorflow::Tensor& texts) {
    OP_REQUIRES(context, texts.dims() == 1,
                absl::InvalidArgumentError("texts must be a vector, found shape " + texts.shape().DebugString()));
    tensorflow::Tensor* row_splits = nullptr;
    OP_REQUIRES_OK(context,
                   context->allocate_output(1, tensorflow::TensorShape({texts.NumElements() + 1}), &row_splits));
    int64_t* const splits = row_splits->vec<int64_t>().data();
    const auto strings = texts.vec<tensorflow::tstring>();

    const auto& pool = *context->device()->tensorflow_cpu_worker_threads();
    std::vector<Shard> shards = CutIntoShards(strings, pool.num_threads);
    const auto encode = [&](Shard* shard) { EncodeShard(model, strings, shard, splits); };
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
  using Strings = tensorflow::TTypes<tensorflow::tstring>::ConstVec;

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
  static void EncodeShard(const Model& model, const Strings& texts, Shard* shard, int64_t* splits) {
    thread_local typename Model::Workspace workspace;
    for (int64_t i = shard->begin; i < shard->end; ++i) {
      const tensorflow::tstring& text = texts(i);
      model.Encode({text.data(), text.size()}, &workspace, &shard->ids);
      splits[i + 1] = static_cast<int64_t>(shard->ids.size());
    }
  }

  static void Concatenate(tensorflow::OpKernelContext* context, const std::vector<Shard>& shards, int64_t* splits) {
    int64_t total = 0;
    for (const Shard& shard : shards) total += static_cast<int64_t>(shard.ids.size());
    tensorflow::Tensor* values = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, tensorflow::TensorShape({total}), &values));
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

template <class Model>
class EncodeOp : public tensorflow::OpKernel {
 public:
  using tensorflow::OpKernel::OpKernel;

  void Compute(tensorflow::OpKernelContext* context) override {
    tensorflow::core::RefCountPtr<ModelResource<Model>> resource;
    OP_REQUIRES_OK(context, LookupResource(context, tensorflow::HandleFromInput(context, 0), &resource));
    const std::shared_ptr<const Model> model = resource->model();
    OP_REQUIRES(context, model != nullptr,
                absl::FailedPreconditionError("the tokenizer is not loaded; run its initializer first"));
    Encoding<Model>::Compute(context, *model, context->input(1));
  }
};

// Loads its file when it runs first, on the machine where it runs.
template <class Model>
class EncodeWithFileOp : public tensorflow::OpKernel {
 public:
  explicit EncodeWithFileOp(tensorflow::OpKernelConstruction* context) : tensorflow::OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("model_path", &path_));
    OP_REQUIRES_OK(context, context->GetAttr("fingerprint", &fingerprint_));
  }

  void Compute(tensorflow::OpKernelContext* context) override {
    OP_REQUIRES_OK(context, Load(context->env()));
    Encoding<Model>::Compute(context, *model_, context->input(0));
  }

 private:
  absl::Status Load(tensorflow::Env* env) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (model_ != nullptr) return absl::OkStatus();
    std::shared_ptr<const Model> loaded;
    TF_RETURN_IF_ERROR(LoadModel(env, path_, &loaded));
    if (loaded->fingerprint() != fingerprint_) {
      return absl::FailedPreconditionError(absl::StrCat(path_, ": its fingerprint is ", loaded->fingerprint(),
                                                        ", expected ", fingerprint_,
                                                        "; this machine sees another dataset than the one that made "
                                                        "the graph, or the file was written anew since"));
    }
    model_ = std::move(loaded);
    return absl::OkStatus();
  }

  std::string path_, fingerprint_;
  std::mutex mutex_;
  // Set once.
  std::shared_ptr<const Model> model_;
};

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_KERNELS_ENCODING_OPS_H_
