#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ops_cc/core/fusion/fusion.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace dpsr {
namespace {

using tensorflow::OpInputList;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

constexpr int kMostLists = 31;  // a bit of an int32 each

// One row of each list.
RankedList RowOf(const Tensor& rows, const Tensor& scores, int64_t query) {
  const int64_t size = rows.dim_size(1);
  return {rows.flat<int32_t>().data() + query * size, scores.flat<float>().data() + query * size, size};
}

// Whether no row of a list has a score that is NaN.
bool IsOrdered(const RankedList& list) {
  for (int64_t i = 0; i < list.size; ++i) {
    if (list.rows[i] >= 0 && list.scores[i] != list.scores[i]) return false;
  }
  return true;
}

class FuseOp : public OpKernel {
 public:
  explicit FuseOp(OpKernelConstruction* context) : OpKernel(context) {
    std::string combine;
    int lists = 0;
    OP_REQUIRES_OK(context, context->GetAttr("k", &k_));
    OP_REQUIRES_OK(context, context->GetAttr("combine", &combine));
    OP_REQUIRES_OK(context, context->GetAttr("N", &lists));
    OP_REQUIRES(context, lists <= kMostLists,
                absl::InvalidArgumentError(absl::StrCat(lists, " lists; at most ", kMostLists, " can be joined")));
    combine_ = combine == "sum" ? Combine::kSum : Combine::kFirst;
  }

  void Compute(OpKernelContext* context) override {
    OpInputList rows, scores;
    OP_REQUIRES_OK(context, context->input_list("rows", &rows));
    OP_REQUIRES_OK(context, context->input_list("scores", &scores));
    const int count = rows.size();
    const Tensor& clicked_rows = context->input(2 * count);
    const Tensor& clicks = context->input(2 * count + 1);
    const int64_t batch = rows[0].dims() == 2 ? rows[0].dim_size(0) : -1;
    for (int list = 0; list <= count; ++list) {
      const Tensor& of_rows = list < count ? rows[list] : clicked_rows;
      const Tensor& of_scores = list < count ? scores[list] : clicks;
      OP_REQUIRES(
          context, of_rows.dims() == 2 && of_rows.shape() == of_scores.shape() && of_rows.dim_size(0) == batch,
          absl::InvalidArgumentError(absl::StrCat(list < count ? absl::StrCat("list ", list) : std::string("clicks"),
                                                  ": rows have shape ", of_rows.shape().DebugString(), ", scores ",
                                                  of_scores.shape().DebugString(), "; expected [", batch, ", n]")));
    }
    float parameters[2];
    for (int i = 0; i < 2; ++i) {
      const Tensor& given = context->input(2 * count + 2 + i);
      OP_REQUIRES(context, given.dims() == 0 && given.scalar<float>()() > 0.0f,
                  absl::InvalidArgumentError(absl::StrCat(i == 0 ? "prior_weight" : "temperature", " is ",
                                                          given.DebugString(), "; expected a scalar above 0")));
      parameters[i] = given.scalar<float>()();
    }
    Tensor* outputs[4];
    for (int i = 0; i < 4; ++i) {
      OP_REQUIRES_OK(context, context->allocate_output(i, TensorShape({batch, k_}), &outputs[i]));
    }
    int32_t* fused_rows = outputs[0]->flat<int32_t>().data();
    float* fused_scores = outputs[1]->flat<float>().data();
    int32_t* lists = outputs[2]->flat<int32_t>().data();
    int32_t* places = outputs[3]->flat<int32_t>().data();
    thread_local Fusion fusion;
    std::vector<RankedList> of_query(count);
    for (int64_t query = 0; query < batch; ++query) {
      for (int list = 0; list < count; ++list) {
        of_query[list] = RowOf(rows[list], scores[list], query);
        OP_REQUIRES(context, IsOrdered(of_query[list]),
                    absl::InvalidArgumentError(absl::StrCat("a score of query ", query, ", list ", list, " is NaN")));
      }
      const Clicks of_clicks{RowOf(clicked_rows, clicks, query), parameters[0], parameters[1]};
      const std::vector<Fused>& fused =
          fusion.Join(of_query, combine_, of_clicks.counts.size > 0 ? &of_clicks : nullptr, k_);
      for (const Fused& each : fused) {
        *fused_rows++ = each.row;
        *fused_scores++ = each.score;
        *lists++ = each.lists;
        *places++ = each.place;
      }
      const int64_t missing = k_ - static_cast<int64_t>(fused.size());
      fused_rows = std::fill_n(fused_rows, missing, int32_t{-1});
      fused_scores = std::fill_n(fused_scores, missing, std::numeric_limits<float>::lowest());
      lists = std::fill_n(lists, missing, int32_t{0});
      places = std::fill_n(places, missing, int32_t{-1});
    }
  }

 private:
  int64_t k_ = 0;
  Combine combine_ = Combine::kSum;
};

REGISTER_KERNEL_BUILDER(Name("DpsrFuse").Device(tensorflow::DEVICE_CPU), FuseOp);

}  // namespace
}  // namespace dpsr
