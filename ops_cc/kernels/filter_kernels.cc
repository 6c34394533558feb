// The ops around core/filters and core/row_search: checks and threads.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ops_cc/core/embedding_bag.h"
#include "ops_cc/core/filters/filters.h"
#include "ops_cc/core/row_search/row_search.h"
#include "ops_cc/kernels/one_by_one.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace dpsr {
namespace {

using tensorflow::OpInputList;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

// The columns of a catalogue, and what the queries of a request ask of them.
struct Request {
  Catalogue catalogue;
  OpInputList wanted_ids, low, high;
  int64_t batch;

  Filter filter(int64_t query) const {
    std::vector<int32_t> ids(catalogue.categories.size());
    std::vector<Range> ranges(catalogue.numbers.size());
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = wanted_ids[static_cast<int>(i)].flat<int32_t>()(query);
    for (size_t i = 0; i < ranges.size(); ++i) {
      ranges[i] = {low[static_cast<int>(i)].flat<float>()(query), high[static_cast<int>(i)].flat<float>()(query)};
    }
    return Filter(catalogue, ids, ranges);
  }
};

absl::Status WantVectors(const char* name, const OpInputList& list, int64_t size) {
  for (int i = 0; i < list.size(); ++i) {
    if (list[i].dims() != 1 || (size >= 0 && list[i].NumElements() != size)) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, " of column ", i, " have shape ", list[i].shape().DebugString(), "; expected ",
                       size >= 0 ? absl::StrCat("[", size, "]") : std::string("a vector")));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadRequest(OpKernelContext* context, Request* request) {
  OpInputList ids, id_splits, id_rows, numbers, sorted, number_rows;
  TF_RETURN_IF_ERROR(context->input_list("ids", &ids));
  TF_RETURN_IF_ERROR(context->input_list("id_splits", &id_splits));
  TF_RETURN_IF_ERROR(context->input_list("id_rows", &id_rows));
  TF_RETURN_IF_ERROR(context->input_list("numbers", &numbers));
  TF_RETURN_IF_ERROR(context->input_list("sorted_numbers", &sorted));
  TF_RETURN_IF_ERROR(context->input_list("number_rows", &number_rows));
  TF_RETURN_IF_ERROR(context->input_list("wanted_ids", &request->wanted_ids));
  TF_RETURN_IF_ERROR(context->input_list("low", &request->low));
  TF_RETURN_IF_ERROR(context->input_list("high", &request->high));
  if (ids.size() + numbers.size() == 0) return absl::InvalidArgumentError("there is no column to filter by");
  const int64_t items = (ids.size() > 0 ? ids[0] : numbers[0]).NumElements();
  request->batch = (ids.size() > 0 ? request->wanted_ids[0] : request->low[0]).NumElements();
  TF_RETURN_IF_ERROR(WantVectors("ids", ids, items));
  TF_RETURN_IF_ERROR(WantVectors("numbers", numbers, items));
  TF_RETURN_IF_ERROR(WantVectors("wanted_ids", request->wanted_ids, request->batch));
  TF_RETURN_IF_ERROR(WantVectors("low", request->low, request->batch));
  TF_RETURN_IF_ERROR(WantVectors("high", request->high, request->batch));
  TF_RETURN_IF_ERROR(WantVectors("id_splits", id_splits, -1));
  TF_RETURN_IF_ERROR(WantVectors("id_rows", id_rows, -1));
  Catalogue& catalogue = request->catalogue;
  catalogue.num_items = items;
  for (int i = 0; i < ids.size(); ++i) {
    const int64_t splits = id_splits[i].NumElements();
    if (splits == 0) return absl::InvalidArgumentError(absl::StrCat("id_splits of column ", i, " are empty"));
    catalogue.categories.push_back({ids[i].flat<int32_t>().data(), id_splits[i].flat<int32_t>().data(),
                                    id_rows[i].flat<int32_t>().data(), splits - 1, id_rows[i].NumElements()});
  }
  for (int i = 0; i < numbers.size(); ++i) {
    if (sorted[i].dims() != 1 || sorted[i].shape() != number_rows[i].shape()) {
      return absl::InvalidArgumentError(absl::StrCat("number_rows of column ", i, " have shape ",
                                                     number_rows[i].shape().DebugString(), "; expected ",
                                                     sorted[i].shape().DebugString(), " as sorted_numbers"));
    }
    catalogue.numbers.push_back({numbers[i].flat<float>().data(), sorted[i].flat<float>().data(),
                                 number_rows[i].flat<int32_t>().data(), sorted[i].NumElements()});
  }
  return absl::OkStatus();
}

class MatchingRowsOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    Request request;
    OP_REQUIRES_OK(context, ReadRequest(context, &request));
    const Tensor& most_tensor = context->input(context->num_inputs() - 1);
    OP_REQUIRES(context, most_tensor.dims() == 0,
                absl::InvalidArgumentError(
                    absl::StrCat("most has shape ", most_tensor.shape().DebugString(), "; expected a scalar")));
    const int64_t most = most_tensor.scalar<int64_t>()();
    Tensor *row_splits = nullptr, *matching = nullptr, *rows = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(1, TensorShape({request.batch + 1}), &row_splits));
    OP_REQUIRES_OK(context, context->allocate_output(2, TensorShape({request.batch}), &matching));
    int64_t* const counts = matching->flat<int64_t>().data();
    std::vector<std::vector<int32_t>> lists(static_cast<size_t>(request.batch));
    OneByOne(context, request.batch, [&](int64_t first, int64_t last) {
      for (int64_t query = first; query < last; ++query) {
        counts[query] = request.filter(query).List(most, &lists[static_cast<size_t>(query)]);
        if (counts[query] > most) lists[static_cast<size_t>(query)].clear();
      }
    });
    int64_t* const splits = row_splits->flat<int64_t>().data();
    splits[0] = 0;
    for (int64_t query = 0; query < request.batch; ++query) {
      splits[query + 1] = splits[query] + static_cast<int64_t>(lists[static_cast<size_t>(query)].size());
    }
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({splits[request.batch]}), &rows));
    int32_t* row = rows->flat<int32_t>().data();
    for (const std::vector<int32_t>& list : lists) row = std::copy(list.begin(), list.end(), row);
  }
};

class MatchingBitsOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    Request request;
    OP_REQUIRES_OK(context, ReadRequest(context, &request));
    const int64_t bytes = (request.catalogue.num_items + 7) / 8;
    Tensor* bits = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({request.batch, bytes}), &bits));
    uint8_t* const data = bits->flat<uint8_t>().data();
    OneByOne(context, request.batch, [&](int64_t first, int64_t last) {
      for (int64_t query = first; query < last; ++query) request.filter(query).Bits(data + query * bytes);
    });
  }
};

class KeepMatchingOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    Request request;
    OP_REQUIRES_OK(context, ReadRequest(context, &request));
    const Tensor& rows = context->input(context->num_inputs() - 1);
    OP_REQUIRES(context, rows.dims() >= 1 && rows.dim_size(0) == request.batch,
                absl::InvalidArgumentError(absl::StrCat("rows have shape ", rows.shape().DebugString(), "; expected [",
                                                        request.batch, ", ...]")));
    Tensor* output = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, rows.shape(), &output));
    if (request.batch == 0) return;
    const int64_t size = rows.NumElements() / request.batch;
    const int32_t* row = rows.flat<int32_t>().data();
    int32_t* kept = output->flat<int32_t>().data();
    for (int64_t query = 0; query < request.batch; ++query) {
      const Filter filter = request.filter(query);
      for (int64_t i = 0; i < size; ++i, ++row) *kept++ = filter.Matches(*row) ? *row : -1;
    }
  }
};

template <typename T>
class BestOfRowsOp : public OpKernel {
 public:
  explicit BestOfRowsOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("k", &k_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor &vectors = context->input(0), &heads = context->input(1), &rows = context->input(2),
                 &row_splits = context->input(3);
    OP_REQUIRES(
        context,
        vectors.dims() == 2 && heads.dims() == 3 && heads.dim_size(2) == vectors.dim_size(1) && heads.dim_size(1) >= 1,
        absl::InvalidArgumentError(absl::StrCat("vectors have shape ", vectors.shape().DebugString(), ", heads ",
                                                heads.shape().DebugString(), "; expected [N, d] and [B, m, d]")));
    const int64_t batch = heads.dim_size(0), num_heads = heads.dim_size(1), width = vectors.dim_size(1);
    OP_REQUIRES(context, row_splits.dims() == 1 && row_splits.NumElements() == batch + 1 && rows.dims() == 1,
                absl::InvalidArgumentError(absl::StrCat("row_splits have shape ", row_splits.shape().DebugString(),
                                                        "; expected [", batch + 1, "] and a vector of rows")));
    const int64_t* const splits = row_splits.flat<int64_t>().data();
    const int32_t* const listed = rows.flat<int32_t>().data();
    const std::string problem = RowSplitsProblem(splits, batch, rows.NumElements());
    OP_REQUIRES(context, problem.empty(), absl::InvalidArgumentError(problem));
    for (int64_t i = 0; i < rows.NumElements(); ++i) {
      OP_REQUIRES(
          context, listed[i] >= 0 && listed[i] < vectors.dim_size(0),
          absl::InvalidArgumentError(absl::StrCat("row ", listed[i], "; expected 0 to ", vectors.dim_size(0) - 1)));
    }
    Tensor* outputs[3];
    for (int i = 0; i < 3; ++i) {
      OP_REQUIRES_OK(context, context->allocate_output(i, TensorShape({batch, k_}), &outputs[i]));
    }
    int32_t* const best_rows = outputs[0]->flat<int32_t>().data();
    float* const scores = outputs[1]->flat<float>().data();
    int32_t* const best_heads = outputs[2]->flat<int32_t>().data();
    std::fill_n(best_rows, batch * k_, int32_t{-1});
    std::fill_n(scores, batch * k_, std::numeric_limits<float>::lowest());
    std::fill_n(best_heads, batch * k_, int32_t{-1});
    const RowVectors data = Vectors(vectors.flat<T>().data(), width);
    OneByOne(context, batch, [&](int64_t first, int64_t last) {
      thread_local RowSearch search;
      for (int64_t query = first; query < last; ++query) {
        int64_t place = query * k_;
        for (const ScoredRow& each :
             search.Search(data, listed + splits[query], splits[query + 1] - splits[query],
                           heads.flat<float>().data() + query * num_heads * width, num_heads, k_)) {
          best_rows[place] = each.row;
          scores[place] = each.score;
          best_heads[place++] = each.head;
        }
      }
    });
  }

 private:
  static RowVectors Vectors(const float* data, int64_t width) { return {data, nullptr, width}; }
  static RowVectors Vectors(const int8_t* data, int64_t width) { return {nullptr, data, width}; }

  int64_t k_;
};

REGISTER_KERNEL_BUILDER(Name("DpsrMatchingRows").Device(tensorflow::DEVICE_CPU), MatchingRowsOp);
REGISTER_KERNEL_BUILDER(Name("DpsrMatchingBits").Device(tensorflow::DEVICE_CPU), MatchingBitsOp);
REGISTER_KERNEL_BUILDER(Name("DpsrKeepMatching").Device(tensorflow::DEVICE_CPU), KeepMatchingOp);
REGISTER_KERNEL_BUILDER(Name("DpsrBestOfRows").Device(tensorflow::DEVICE_CPU).TypeConstraint<float>("T"),
                        BestOfRowsOp<float>);
REGISTER_KERNEL_BUILDER(Name("DpsrBestOfRows").Device(tensorflow::DEVICE_CPU).TypeConstraint<int8_t>("T"),
                        BestOfRowsOp<int8_t>);

}  // namespace
}  // namespace dpsr
