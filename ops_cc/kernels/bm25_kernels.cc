// The ops around core/bm25: checks and threads.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ops_cc/core/bm25/build.h"
#include "ops_cc/core/bm25/earlier.h"
#include "ops_cc/core/bm25/search.h"
#include "ops_cc/core/embedding_bag.h"
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

constexpr int kArrays = 11;

absl::Status WantShape(const char* name, const Tensor& tensor, const TensorShape& expected) {
  if (tensor.shape() == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, " has shape ", tensor.shape().DebugString(), "; expected ", expected.DebugString()));
}

// A vector of a size, or of another that stands for none.
absl::Status WantVector(const char* name, const Tensor& tensor, int64_t size) {
  if (tensor.dims() == 1 && tensor.NumElements() == 0) return absl::OkStatus();
  return WantShape(name, tensor, TensorShape({size}));
}

template <typename T>
const T* DataOrNone(const Tensor& tensor) {
  return tensor.NumElements() == 0 ? nullptr : tensor.flat<T>().data();
}

constexpr const char* kArrayNames[] = {"rows",         "places",  "priors",     "range_starts",
                                       "range_values", "idf",     "term_lists", "list_weights",
                                       "list_starts",  "entries", "postings"};

// Reads the arrays of an index; array(i) is the tensor of kArrayNames[i].
template <typename Array>
absl::Status ReadIndex(const Array& array, Bm25Index* index) {
  for (int i = 0; i < kArrays; ++i) {
    const TensorShape& shape = array(i).shape();
    const bool matrix = i == 4 || i == 8 || i == 9;
    if (shape.dims() != (matrix ? 2 : 1) || (matrix && shape.dim_size(1) != 2)) {
      return absl::InvalidArgumentError(absl::StrCat(kArrayNames[i], " has shape ", shape.DebugString(), "; expected ",
                                                     matrix ? "[n, 2]" : "a vector"));
    }
  }
  for (const int i : {3, 6, 8}) {
    if (array(i).dim_size(0) == 0) {
      return absl::InvalidArgumentError(absl::StrCat(kArrayNames[i], " are empty; expected one start and one end"));
    }
  }
  index->num_documents = array(0).NumElements();
  index->num_ranges = array(4).dim_size(0);
  index->num_terms = array(5).NumElements();
  index->num_lists = array(7).NumElements();
  index->num_entries = array(9).dim_size(0);
  index->num_postings = array(10).NumElements();
  TF_RETURN_IF_ERROR(WantShape("places", array(1), TensorShape({index->num_documents})));
  TF_RETURN_IF_ERROR(WantVector("priors", array(2), index->num_documents));
  TF_RETURN_IF_ERROR(WantShape("range_starts", array(3), TensorShape({index->num_ranges + 1})));
  TF_RETURN_IF_ERROR(WantShape("term_lists", array(6), TensorShape({index->num_terms + 1})));
  TF_RETURN_IF_ERROR(WantShape("list_starts", array(8), TensorShape({index->num_lists + 1, 2})));
  index->rows = array(0).template flat<int32_t>().data();
  index->places = array(1).template flat<int32_t>().data();
  index->priors = DataOrNone<float>(array(2));
  index->range_starts = array(3).template flat<int32_t>().data();
  index->range_values = array(4).template flat<float>().data();
  index->idf = array(5).template flat<float>().data();
  index->term_lists = array(6).template flat<int32_t>().data();
  index->list_weights = array(7).template flat<float>().data();
  index->list_starts = array(8).template flat<int64_t>().data();
  index->entries = array(9).template flat<uint16_t>().data();
  index->postings = array(10).template flat<uint16_t>().data();
  const std::string problem = IndexProblem(*index);
  return problem.empty() ? absl::OkStatus()
                         : absl::InvalidArgumentError(absl::StrCat("the index is damaged: ", problem));
}

constexpr char kDamaged[] = "the earlier index is damaged";

class Bm25BuildOp : public OpKernel {
 public:
  explicit Bm25BuildOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("num_terms", &num_terms_));
    OP_REQUIRES_OK(context, context->GetAttr("k1", &k1_));
    OP_REQUIRES_OK(context, context->GetAttr("b", &b_));
    OP_REQUIRES_OK(context, context->GetAttr("average_length", &average_length_));
  }

  void Compute(OpKernelContext* context) override {
    Bm25Source source{};
    Bm25Earlier earlier{};
    OP_REQUIRES_OK(context, ReadSource(context, &source));
    OP_REQUIRES_OK(context, ReadEarlier(context, &earlier, &source));
    const std::string problem = SourceProblem(source);
    OP_REQUIRES(context, problem.empty(), absl::InvalidArgumentError(problem));
    const Bm25Builder builder(source);
    OP_REQUIRES(context, !builder.damaged(), absl::InvalidArgumentError(kDamaged));
    const int64_t num_ranges = static_cast<int64_t>(builder.range_starts().size()) - 1;
    OP_REQUIRES(context, num_ranges <= kMostRanges,
                absl::InvalidArgumentError(absl::StrCat("the documents make ", num_ranges, " ranges; expected at most ",
                                                        kMostRanges, "; choose weights of fewer different lengths")));
    std::vector<Bm25Part> parts(builder.num_parts());
    OneByOne(context, builder.num_parts(), [&](int64_t first, int64_t last) {
      for (int64_t part = first; part < last; ++part) parts[part] = builder.Encode(part);
    });
    for (const Bm25Part& part : parts) OP_REQUIRES(context, !part.damaged, absl::InvalidArgumentError(kDamaged));
    OP_REQUIRES_OK(context, WriteDocuments(context, source, builder));
    OP_REQUIRES_OK(context, WriteLists(context, &parts));
  }

 private:
  absl::Status ReadSource(OpKernelContext* context, Bm25Source* source) const {
    OpInputList offsets, terms;
    TF_RETURN_IF_ERROR(context->input_list("offsets", &offsets));
    TF_RETURN_IF_ERROR(context->input_list("terms", &terms));
    const int fields = offsets.size();
    const Tensor &weights = context->input(2 * fields), &priors = context->input(2 * fields + 1),
                 &idf = context->input(2 * fields + 2);
    if (offsets[0].dims() != 1 || offsets[0].NumElements() == 0) {
      return absl::InvalidArgumentError("offsets are no vector of one more than documents");
    }
    const int64_t documents = offsets[0].NumElements() - 1;
    TF_RETURN_IF_ERROR(WantShape("weights", weights, TensorShape({fields})));
    TF_RETURN_IF_ERROR(WantVector("priors", priors, documents));
    TF_RETURN_IF_ERROR(WantVector("idf", idf, num_terms_));
    for (int field = 0; field < fields; ++field) {
      TF_RETURN_IF_ERROR(WantShape("offsets", offsets[field], TensorShape({documents + 1})));
      TF_RETURN_IF_ERROR(WantShape("terms", terms[field], TensorShape({terms[field].NumElements()})));
      source->fields.push_back({offsets[field].flat<int64_t>().data(), terms[field].flat<int32_t>().data(),
                                terms[field].NumElements(), weights.flat<float>()(field)});
    }
    source->num_documents = documents;
    source->num_terms = num_terms_;
    source->k1 = k1_;
    source->b = b_;
    source->priors = DataOrNone<float>(priors);
    source->idf = DataOrNone<float>(idf);
    source->average_length = average_length_;
    return absl::OkStatus();
  }

  // What comes with an earlier index: its arrays, the lengths of its ranges, the documents of its rows, its terms.
  absl::Status ReadEarlier(OpKernelContext* context, Bm25Earlier* earlier, Bm25Source* source) const {
    OpInputList inputs;
    TF_RETURN_IF_ERROR(context->input_list("earlier", &inputs));
    if (inputs.size() == 0) return absl::OkStatus();
    using tensorflow::DT_FLOAT, tensorflow::DT_INT32, tensorflow::DT_INT64, tensorflow::DT_UINT16;
    const tensorflow::DataTypeVector types = {DT_INT32, DT_INT32, DT_FLOAT,  DT_INT32,  DT_FLOAT, DT_FLOAT, DT_INT32,
                                              DT_FLOAT, DT_INT64, DT_UINT16, DT_UINT16, DT_FLOAT, DT_INT32, DT_INT32};
    tensorflow::DataTypeVector found;
    for (const Tensor& input : inputs) found.push_back(input.dtype());
    if (found != types) {
      return absl::InvalidArgumentError(absl::StrCat("earlier has types ", tensorflow::DataTypeVectorString(found),
                                                     "; expected ", tensorflow::DataTypeVectorString(types)));
    }
    TF_RETURN_IF_ERROR(ReadIndex([&](int i) -> const Tensor& { return inputs[i]; }, &earlier->index));
    const Tensor &lengths = inputs[kArrays], &documents = inputs[kArrays + 1], &terms = inputs[kArrays + 2];
    TF_RETURN_IF_ERROR(WantShape("range_lengths", lengths, TensorShape({earlier->index.num_ranges})));
    TF_RETURN_IF_ERROR(WantShape("documents", documents, TensorShape({earlier->index.num_documents})));
    TF_RETURN_IF_ERROR(WantShape("earlier_terms", terms, TensorShape({num_terms_})));
    earlier->range_lengths = lengths.flat<float>().data();
    earlier->documents = documents.flat<int32_t>().data();
    earlier->terms = terms.flat<int32_t>().data();
    source->earlier = earlier;
    return absl::OkStatus();
  }

  template <typename T>
  static absl::Status Write(OpKernelContext* context, int output, const TensorShape& shape, T** data) {
    Tensor* tensor = nullptr;
    TF_RETURN_IF_ERROR(context->allocate_output(output, shape, &tensor));
    *data = tensor->flat<T>().data();
    return absl::OkStatus();
  }

  static absl::Status WriteDocuments(OpKernelContext* context, const Bm25Source& source, const Bm25Builder& builder) {
    const int64_t documents = source.num_documents;
    const int64_t ranges = static_cast<int64_t>(builder.range_starts().size()) - 1;
    int32_t *rows = nullptr, *places = nullptr, *starts = nullptr;
    float *priors = nullptr, *values = nullptr, *length = nullptr, *lengths = nullptr;
    TF_RETURN_IF_ERROR(Write(context, 0, TensorShape({documents}), &rows));
    TF_RETURN_IF_ERROR(Write(context, 1, TensorShape({documents}), &places));
    TF_RETURN_IF_ERROR(Write(context, 2, TensorShape({source.priors == nullptr ? 0 : documents}), &priors));
    TF_RETURN_IF_ERROR(Write(context, 3, TensorShape({ranges + 1}), &starts));
    TF_RETURN_IF_ERROR(Write(context, 4, TensorShape({ranges, 2}), &values));
    TF_RETURN_IF_ERROR(Write(context, kArrays, TensorShape({ranges}), &lengths));
    TF_RETURN_IF_ERROR(Write(context, kArrays + 1, TensorShape({}), &length));
    std::copy(builder.rows().begin(), builder.rows().end(), rows);
    for (int64_t place = 0; place < documents; ++place) places[rows[place]] = static_cast<int32_t>(place);
    if (source.priors != nullptr) {
      for (int64_t place = 0; place < documents; ++place) priors[place] = source.priors[rows[place]];
    }
    std::copy(builder.range_starts().begin(), builder.range_starts().end(), starts);
    std::copy(builder.range_values().begin(), builder.range_values().end(), values);
    std::copy(builder.range_lengths().begin(), builder.range_lengths().end(), lengths);
    *length = builder.average_length();
    return absl::OkStatus();
  }

  // Frees every part once it is written.
  static absl::Status WriteLists(OpKernelContext* context, std::vector<Bm25Part>* parts) {
    int64_t num_terms = 0, num_lists = 0, num_entries = 0, num_postings = 0;
    for (const Bm25Part& part : *parts) {
      num_terms += static_cast<int64_t>(part.idf.size());
      num_lists += static_cast<int64_t>(part.list_weights.size());
      num_entries += static_cast<int64_t>(part.entries.size()) / 2;
      num_postings += static_cast<int64_t>(part.postings.size());
    }
    if (num_lists > INT32_MAX) return absl::InvalidArgumentError("more lists than 32 bits number");
    float *idf = nullptr, *weights = nullptr;
    int32_t* lists = nullptr;
    int64_t* starts = nullptr;
    uint16_t *entries = nullptr, *postings = nullptr;
    TF_RETURN_IF_ERROR(Write(context, 5, TensorShape({num_terms}), &idf));
    TF_RETURN_IF_ERROR(Write(context, 6, TensorShape({num_terms + 1}), &lists));
    TF_RETURN_IF_ERROR(Write(context, 7, TensorShape({num_lists}), &weights));
    TF_RETURN_IF_ERROR(Write(context, 8, TensorShape({num_lists + 1, 2}), &starts));
    TF_RETURN_IF_ERROR(Write(context, 9, TensorShape({num_entries, 2}), &entries));
    TF_RETURN_IF_ERROR(Write(context, 10, TensorShape({num_postings}), &postings));
    *lists = 0;
    starts[0] = starts[1] = 0;
    for (Bm25Part& part : *parts) {
      const int64_t first_entry = starts[0], first_posting = starts[1];
      idf = std::copy(part.idf.begin(), part.idf.end(), idf);
      weights = std::copy(part.list_weights.begin(), part.list_weights.end(), weights);
      entries = std::copy(part.entries.begin(), part.entries.end(), entries);
      postings = std::copy(part.postings.begin(), part.postings.end(), postings);
      for (const int32_t count : part.lists) {
        lists[1] = lists[0] + count;
        ++lists;
      }
      for (size_t i = 0; i < part.list_ends.size(); i += 2, starts += 2) {
        starts[2] = first_entry + part.list_ends[i];
        starts[3] = first_posting + part.list_ends[i + 1];
      }
      part = {};
    }
    return absl::OkStatus();
  }

  int64_t num_terms_;
  float k1_, b_, average_length_;
};

// Inputs of a search and of the scores of given rows.
struct Bm25Inputs {
  Bm25Index index;
  int64_t num_queries;
  const int32_t* terms;
  const int64_t* row_splits;
  const float* weights;

  Bm25Query query(int64_t i) const {
    return {terms + row_splits[i], weights + row_splits[i], row_splits[i + 1] - row_splits[i]};
  }
};

absl::Status ReadInputs(OpKernelContext* context, Bm25Inputs* inputs) {
  TF_RETURN_IF_ERROR(ReadIndex([&](int i) -> const Tensor& { return context->input(i); }, &inputs->index));
  const Tensor &terms = context->input(kArrays), &row_splits = context->input(kArrays + 1),
               &weights = context->input(kArrays + 2);
  TF_RETURN_IF_ERROR(WantShape("terms", terms, TensorShape({terms.NumElements()})));
  TF_RETURN_IF_ERROR(WantShape("row_splits", row_splits, TensorShape({row_splits.NumElements()})));
  TF_RETURN_IF_ERROR(WantShape("weights", weights, terms.shape()));
  if (row_splits.NumElements() == 0) {
    return absl::InvalidArgumentError("row_splits are empty; expected one start and one end");
  }
  inputs->terms = terms.flat<int32_t>().data();
  inputs->row_splits = row_splits.flat<int64_t>().data();
  inputs->weights = weights.flat<float>().data();
  inputs->num_queries = row_splits.NumElements() - 1;
  const std::string problem = RowSplitsProblem(inputs->row_splits, inputs->num_queries, terms.NumElements());
  return problem.empty() ? absl::OkStatus() : absl::InvalidArgumentError(problem);
}

// Calls function(searcher, query) -> problem for every query; fails by the first problem that is met.
template <typename Function>
void EachQuery(OpKernelContext* context, int64_t num_queries, Function function) {
  std::mutex mutex;
  absl::Status status;
  std::atomic<bool> failed{false};
  if (num_queries == 0) return;
  OneByOne(context, num_queries, [&](int64_t first, int64_t last) {
    thread_local Bm25Searcher searcher;
    for (int64_t query = first; query < last && !failed; ++query) {
      const std::string problem = function(&searcher, query);
      if (problem.empty()) continue;
      failed = true;
      const std::lock_guard<std::mutex> lock(mutex);
      status.Update(absl::InvalidArgumentError(absl::StrCat("query ", query, ": ", problem)));
    }
  });
  OP_REQUIRES_OK(context, status);
}

class Bm25CountOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    Bm25Index index;
    OP_REQUIRES_OK(context, ReadIndex([&](int i) -> const Tensor& { return context->input(i); }, &index));
    const Tensor& kept = context->input(kArrays);
    OP_REQUIRES_OK(context, WantShape("kept", kept, TensorShape({index.num_documents})));
    Tensor* counts = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({index.num_terms}), &counts));
    const auto* const is_kept = reinterpret_cast<const uint8_t*>(kept.flat<bool>().data());
    int32_t* const found = counts->flat<int32_t>().data();
    std::atomic<bool> damaged{false};
    constexpr int64_t kTermsAtOnce = 1 << 12;
    OneByOne(context, (index.num_terms + kTermsAtOnce - 1) / kTermsAtOnce, [&](int64_t first, int64_t last) {
      const int64_t end = std::min(last * kTermsAtOnce, index.num_terms);
      if (!CountDocuments(index, is_kept, first * kTermsAtOnce, end, found)) damaged = true;
    });
    OP_REQUIRES(context, !damaged, absl::InvalidArgumentError("the index is damaged"));
  }
};

class Bm25SearchOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    Bm25Inputs inputs;
    OP_REQUIRES_OK(context, ReadInputs(context, &inputs));
    const Tensor &k_tensor = context->input(kArrays + 3), &allowed = context->input(kArrays + 4),
                 &removed = context->input(kArrays + 5);
    OP_REQUIRES_OK(context, WantShape("k", k_tensor, TensorShape({})));
    const int64_t k = k_tensor.scalar<int32_t>()(), bytes = (inputs.index.num_documents + 7) / 8;
    OP_REQUIRES(context, k >= 1, absl::InvalidArgumentError(absl::StrCat("k is ", k, "; expected at least 1")));
    const bool all = allowed.shape() == TensorShape({0, 0});
    if (!all) {
      const bool shared = allowed.dims() == 2 && allowed.dim_size(0) == 1;
      OP_REQUIRES_OK(context, WantShape("allowed", allowed, TensorShape({shared ? 1 : inputs.num_queries, bytes})));
    }
    OP_REQUIRES_OK(context, WantVector("removed", removed, bytes));

    Tensor *rows = nullptr, *scores = nullptr;
    const TensorShape shape({inputs.num_queries, k});
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &rows));
    OP_REQUIRES_OK(context, context->allocate_output(1, shape, &scores));
    int32_t* const found = rows->flat<int32_t>().data();
    float* const found_scores = scores->flat<float>().data();
    const int64_t stride = !all && allowed.dim_size(0) > 1 ? bytes : 0;
    EachQuery(context, inputs.num_queries, [&](Bm25Searcher* searcher, int64_t query) {
      const uint8_t* const own = all || bytes == 0 ? nullptr : allowed.flat<uint8_t>().data() + query * stride;
      return searcher->Search(inputs.index, inputs.query(query), {own, DataOrNone<uint8_t>(removed)}, k,
                              found + query * k, found_scores + query * k);
    });
  }
};

class Bm25ScoreOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    Bm25Inputs inputs;
    OP_REQUIRES_OK(context, ReadInputs(context, &inputs));
    const Tensor& candidates = context->input(kArrays + 3);
    const int64_t count = candidates.dims() == 2 ? candidates.dim_size(1) : 0;
    OP_REQUIRES_OK(context, WantShape("candidates", candidates, TensorShape({inputs.num_queries, count})));
    Tensor* output = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, candidates.shape(), &output));
    const int32_t* const rows = candidates.flat<int32_t>().data();
    float* const scores = output->flat<float>().data();
    EachQuery(context, inputs.num_queries, [&](Bm25Searcher* searcher, int64_t query) {
      return searcher->Score(inputs.index, inputs.query(query), rows + query * count, count, scores + query * count);
    });
  }
};

REGISTER_KERNEL_BUILDER(Name("DpsrBm25Build").Device(tensorflow::DEVICE_CPU), Bm25BuildOp);
REGISTER_KERNEL_BUILDER(Name("DpsrBm25Count").Device(tensorflow::DEVICE_CPU), Bm25CountOp);
REGISTER_KERNEL_BUILDER(Name("DpsrBm25Search").Device(tensorflow::DEVICE_CPU), Bm25SearchOp);
REGISTER_KERNEL_BUILDER(Name("DpsrBm25Score").Device(tensorflow::DEVICE_CPU), Bm25ScoreOp);

}  // namespace
}  // namespace dpsr
