// The op around core/group_loss.h: checks, memory and threads.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ops_cc/core/group_loss.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/util/work_sharder.h"

namespace dpsr {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class GroupLossOp : public OpKernel {
 public:
  explicit GroupLossOp(OpKernelConstruction* context) : OpKernel(context) {
    std::string kind;
    std::vector<float> thresholds;
    OP_REQUIRES_OK(context, context->GetAttr("kind", &kind));
    loss_.kind = kind == "hinge" ? LossKind::kHinge : kind == "softmax" ? LossKind::kSoftmax : LossKind::kThreePart;
    OP_REQUIRES_OK(context, context->GetAttr("group_size", &loss_.group));
    OP_REQUIRES_OK(context, context->GetAttr("margin", &loss_.margin));
    OP_REQUIRES_OK(context, context->GetAttr("temperature", &loss_.temperature));
    OP_REQUIRES_OK(context, context->GetAttr("attention_temperature", &loss_.attention_temperature));
    OP_REQUIRES_OK(context, context->GetAttr("thresholds", &thresholds));
    OP_REQUIRES(context, thresholds.size() == 3,
                absl::InvalidArgumentError(absl::StrCat(thresholds.size(), " thresholds; expected 3")));
    OP_REQUIRES(context, loss_.temperature > 0 && loss_.attention_temperature > 0,
                absl::InvalidArgumentError(absl::StrCat("temperature = ", loss_.temperature,
                                                        ", attention_temperature = ", loss_.attention_temperature,
                                                        "; expected both above 0")));
    std::copy(thresholds.begin(), thresholds.end(), loss_.thresholds);
  }

  void Compute(OpKernelContext* context) override {
    GroupLoss loss = loss_;
    OP_REQUIRES_OK(context, Read(context, &loss));
    Tensor *value, *head_gradient, *vector_gradient;
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({}), &value));
    OP_REQUIRES_OK(context, context->allocate_output(1, context->input(0).shape(), &head_gradient));
    OP_REQUIRES_OK(context, context->allocate_output(2, context->input(1).shape(), &vector_gradient));
    Tensor parts;
    OP_REQUIRES_OK(context, context->allocate_temp(tensorflow::DT_FLOAT, TensorShape({loss.PartsSize()}), &parts));
    float* const by_head = head_gradient->flat<float>().data();
    float* const by_item = vector_gradient->flat<float>().data();
    float* const part = parts.flat<float>().data();

    std::vector<double> losses(loss.NumStrands());
    const int64_t items = loss.group + loss.randoms, width = loss.heads * loss.dimension;
    const auto& workers = *context->device()->tensorflow_cpu_worker_threads();
    // In the units of Shard, which are about nanoseconds: three products, at a careful 50 multiply-adds each.
    const int64_t cost = loss.StrandRows() * (1 + items) * width * 3 / 50;
    tensorflow::Shard(workers.num_threads, workers.workers, losses.size(), cost, [&](int64_t first, int64_t last) {
      for (int64_t strand = first; strand < last; ++strand) losses[strand] = loss.Run(strand, by_head, by_item, part);
    });
    tensorflow::Shard(workers.num_threads, workers.workers, loss.rows + loss.randoms,
                      1 + static_cast<int64_t>(losses.size()) * loss.dimension / 8,
                      [&](int64_t first, int64_t last) { loss.Reduce(first, last, part, by_item); });
    double total = 0.0;
    for (const double each : losses) total += each;
    value->scalar<float>()() = static_cast<float>(loss.rows == 0 ? 0.0 : total / static_cast<double>(loss.rows));
  }

 private:
  // Points `loss` to the inputs, after checking that their shapes fit each other.
  static absl::Status Read(OpKernelContext* context, GroupLoss* loss) {
    const Tensor &heads = context->input(0), &vectors = context->input(1), &query_rows = context->input(2),
                 &item_rows = context->input(3), &corrections = context->input(4), &clicked = context->input(5),
                 &splits = context->input(6), &row_weights = context->input(7);
    if (heads.dims() != 3 || vectors.dims() != 2 || query_rows.dims() != 1 || item_rows.dims() != 1 ||
        heads.dim_size(2) != vectors.dim_size(1) || heads.dim_size(1) == 0 ||
        heads.dim_size(0) != query_rows.NumElements()) {
      return absl::InvalidArgumentError(
          absl::StrCat("heads have shape ", heads.shape().DebugString(), ", vectors ", vectors.shape().DebugString(),
                       ", query_rows ", query_rows.shape().DebugString(), ", item_rows ",
                       item_rows.shape().DebugString(), "; expected [B, m, d], [B + R + H, d], [B] and [B + R]"));
    }
    loss->rows = heads.dim_size(0);
    loss->heads = heads.dim_size(1);
    loss->dimension = heads.dim_size(2);
    loss->randoms = item_rows.NumElements() - loss->rows;
    const int64_t num_items = item_rows.NumElements(), hard = vectors.dim_size(0) - num_items;
    if (loss->randoms < 0 || hard < 0) {
      return absl::InvalidArgumentError(absl::StrCat("there are ", loss->rows, " rows, ", num_items, " item_rows and ",
                                                     vectors.dim_size(0), " vectors; expected B, B + R and B + R + H"));
    }
    if (loss->group > 0 && loss->rows % loss->group != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("a batch of ", loss->rows, " rows is not a multiple of the group size ", loss->group));
    }
    if (corrections.NumElements() != 0 && corrections.NumElements() != num_items) {
      return absl::InvalidArgumentError(absl::StrCat("there are ", corrections.NumElements(), " corrections for ",
                                                     num_items, " items; expected one for each, or none"));
    }
    if (clicked.NumElements() != 0 && clicked.shape() != TensorShape({loss->rows, num_items})) {
      return absl::InvalidArgumentError(absl::StrCat("clicked has shape ", clicked.shape().DebugString(),
                                                     "; expected [", loss->rows, ",", num_items, "] or [0,0]"));
    }
    if (row_weights.NumElements() != 0 && row_weights.NumElements() != loss->rows) {
      return absl::InvalidArgumentError(absl::StrCat("there are ", row_weights.NumElements(), " row_weights for ",
                                                     loss->rows, " rows; expected one for each, or none"));
    }
    TF_RETURN_IF_ERROR(CheckSplits(splits, loss->rows, hard));
    loss->head_vectors = heads.flat<float>().data();
    loss->item_vectors = vectors.flat<float>().data();
    loss->query_rows = query_rows.flat<int32_t>().data();
    loss->item_rows = item_rows.flat<int32_t>().data();
    loss->corrections = corrections.NumElements() == 0 ? nullptr : corrections.flat<float>().data();
    loss->clicked = clicked.NumElements() == 0 ? nullptr : clicked.flat<bool>().data();
    loss->row_weights = row_weights.NumElements() == 0 ? nullptr : row_weights.flat<float>().data();
    loss->hard_splits = hard == 0 ? nullptr : splits.flat<int64_t>().data();
    return absl::OkStatus();
  }

  static absl::Status CheckSplits(const Tensor& splits, int64_t rows, int64_t hard) {
    if (splits.dims() == 1 && splits.NumElements() == 0 && hard == 0) return absl::OkStatus();
    if (splits.dims() != 1 || splits.NumElements() != rows + 1) {
      return absl::InvalidArgumentError(absl::StrCat("hard_splits have shape ", splits.shape().DebugString(), " for ",
                                                     hard, " hard negatives; expected [", rows + 1,
                                                     "], or [0] where there are none"));
    }
    const auto values = splits.flat<int64_t>();
    bool sorted = values(0) == 0 && values(rows) == hard;
    for (int64_t i = 0; i < rows; ++i) sorted &= values(i) <= values(i + 1);
    if (sorted) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("hard_splits go from ", values(0), " to ", values(rows),
                                                   "; expected to rise from 0 to ", hard,
                                                   ", the number of hard negatives"));
  }

  GroupLoss loss_{};
};

REGISTER_KERNEL_BUILDER(Name("DpsrGroupLoss").Device(tensorflow::DEVICE_CPU), GroupLossOp);

}  // namespace
}  // namespace dpsr
