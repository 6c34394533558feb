// Registers the kernels of term_ops.cc.

#include "tokenizer_cc/core/terms/query_key.h"
#include "tokenizer_cc/core/terms/term_tokenizer.h"
#include "tokenizer_cc/kernels/encoding_ops.h"

namespace dpsr {
namespace {

using tensorflow::DEVICE_CPU;

// Weighted ids of one run of queries.
struct QueryShard {
  int64_t begin, end;
  Buffer<int32_t> ids;
  Buffer<float> weights;
};

class QueryTermsOp : public tensorflow::OpKernel {
 public:
  using tensorflow::OpKernel::OpKernel;

  void Compute(tensorflow::OpKernelContext* context) override {
    tensorflow::core::RefCountPtr<ModelResource<TermTokenizer>> resource;
    OP_REQUIRES_OK(context, LookupResource(context, tensorflow::HandleFromInput(context, 0), &resource));
    const std::shared_ptr<const TermTokenizer> model = resource->model();
    OP_REQUIRES(context, model != nullptr,
                absl::FailedPreconditionError("the tokenizer is not loaded; run its initializer first"));
    const tensorflow::Tensor& texts = context->input(1);
    OP_REQUIRES(context, texts.dims() == 1,
                absl::InvalidArgumentError("texts must be a vector, found shape " + texts.shape().DebugString()));
    tensorflow::Tensor* row_splits = nullptr;
    OP_REQUIRES_OK(context,
                   context->allocate_output(2, tensorflow::TensorShape({texts.NumElements() + 1}), &row_splits));
    int64_t* const splits = row_splits->vec<int64_t>().data();

    const auto& pool = *context->device()->tensorflow_cpu_worker_threads();
    const int64_t count = std::clamp<int64_t>(texts.NumElements() / kFewestShardTexts, 1, 4 * pool.num_threads);
    std::vector<QueryShard> shards(count);
    const auto run = [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        shards[i].begin = texts.NumElements() * i / count;
        shards[i].end = texts.NumElements() * (i + 1) / count;
        EncodeShard(*model, texts, &shards[i], splits);
      }
    };
    if (count == 1) {
      run(0, 1);
    } else {
      using SchedulingParams = tensorflow::thread::ThreadPool::SchedulingParams;
      pool.workers->ParallelFor(count, SchedulingParams::Fixed(1), run);
    }
    Concatenate(context, shards, splits);
  }

 private:
  // Fewer queries are done before another thread has woken up.
  static constexpr int64_t kFewestShardTexts = 16;

  // Row splits count from the shard's begin here.
  static void EncodeShard(const TermTokenizer& model, const tensorflow::Tensor& texts, QueryShard* shard,
                          int64_t* splits) {
    thread_local TermTokenizer::Workspace workspace;
    const auto strings = texts.vec<tensorflow::tstring>();
    for (int64_t i = shard->begin; i < shard->end; ++i) {
      model.EncodeQuery({strings(i).data(), strings(i).size()}, &workspace, &shard->ids, &shard->weights);
      splits[i + 1] = static_cast<int64_t>(shard->ids.size());
    }
  }

  static void Concatenate(tensorflow::OpKernelContext* context, const std::vector<QueryShard>& shards,
                          int64_t* splits) {
    int64_t total = 0;
    for (const QueryShard& shard : shards) total += static_cast<int64_t>(shard.ids.size());
    tensorflow::Tensor *values = nullptr, *weights = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, tensorflow::TensorShape({total}), &values));
    OP_REQUIRES_OK(context, context->allocate_output(1, tensorflow::TensorShape({total}), &weights));
    int32_t* id = values->vec<int32_t>().data();
    float* weight = weights->vec<float>().data();
    int64_t before = 0;
    splits[0] = 0;
    for (const QueryShard& shard : shards) {
      const size_t size = shard.ids.size();
      id = std::copy_n(shard.ids.data(), size, id);
      weight = std::copy_n(shard.weights.data(), size, weight);
      for (int64_t i = shard.begin; i < shard.end; ++i) splits[i + 1] += before;
      before += static_cast<int64_t>(size);
    }
  }
};

class QueryKeysOp : public tensorflow::OpKernel {
 public:
  using tensorflow::OpKernel::OpKernel;

  void Compute(tensorflow::OpKernelContext* context) override {
    const tensorflow::Tensor& texts = context->input(0);
    OP_REQUIRES(context, texts.dims() == 1,
                absl::InvalidArgumentError("texts must be a vector, found shape " + texts.shape().DebugString()));
    tensorflow::Tensor* keys = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, texts.shape(), &keys));
    thread_local QueryKeyer keyer;
    const auto strings = texts.vec<tensorflow::tstring>();
    for (int64_t i = 0; i < texts.NumElements(); ++i) {
      keys->vec<int64_t>()(i) = static_cast<int64_t>(keyer.Key({strings(i).data(), strings(i).size()}));
    }
  }
};

REGISTER_KERNEL_BUILDER(Name("DpsrTermsHandle").Device(DEVICE_CPU), ModelHandleOp<TermTokenizer>);
REGISTER_KERNEL_BUILDER(Name("DpsrTermsLoad").Device(DEVICE_CPU), ModelLoadOp<TermTokenizer>);
REGISTER_KERNEL_BUILDER(Name("DpsrAnonymousTerms").Device(DEVICE_CPU), AnonymousModelOp<TermTokenizer>);
REGISTER_KERNEL_BUILDER(Name("DpsrTerms").Device(DEVICE_CPU), EncodeOp<TermTokenizer>);
REGISTER_KERNEL_BUILDER(Name("DpsrQueryTerms").Device(DEVICE_CPU), QueryTermsOp);
REGISTER_KERNEL_BUILDER(Name("DpsrQueryKeys").Device(DEVICE_CPU), QueryKeysOp);

}  // namespace
}  // namespace dpsr
