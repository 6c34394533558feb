// A k-way merge of the heads' sorted lists with a set of the rows seen so far; O(m k) for each query with m lists,
// since m is a handful: comparing the heads of all lists beats a heap.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace dpsr {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

constexpr int32_t kNoRow = -1;
constexpr float kNoScore = std::numeric_limits<float>::lowest();

// Non-negative rows, by open addressing. Sized once, and emptied in the time of one memset.
class RowSet {
 public:
  // Empties the set and makes room for `rows` of them at a load of at most a half.
  void Reset(int64_t rows) {
    size_t slots = 16;
    bits_ = 4;
    while (slots < 2 * static_cast<size_t>(rows)) {
      slots *= 2;
      ++bits_;
    }
    slots_.assign(slots, kNoRow);
  }

  // Whether the row was not there yet.
  bool Insert(int32_t row) {
    const size_t mask = slots_.size() - 1;
    // Fibonacci hashing: the upper bits of the product depend on all bits of the row.
    size_t slot = (static_cast<uint64_t>(row) * 0x9E3779B97F4A7C15u) >> (64 - bits_);
    while (slots_[slot] != kNoRow) {
      if (slots_[slot] == row) return false;
      slot = (slot + 1) & mask;
    }
    slots_[slot] = row;
    return true;
  }

 private:
  std::vector<int32_t> slots_;
  int bits_ = 4;
};

struct Found {
  float score;
  int32_t row;
  int32_t head;
};

// What a merge needs besides its input; kept by a thread from query to query.
struct Workspace {
  RowSet seen;
  std::vector<int64_t> positions;
  std::vector<Found> found;
};

// The lists of one query.
struct Lists {
  const int32_t* rows;
  const float* scores;
  int64_t num_heads;
  int64_t per_head;
};

// The first position from `position` on that holds a row, or the end.
int64_t NextRow(const Lists& lists, int64_t head, int64_t position) {
  const int32_t* const rows = lists.rows + head * lists.per_head;
  while (position < lists.per_head && rows[position] < 0) ++position;
  return position;
}

// Moves a list past the entry that was taken from it; false where its scores are not sorted, or NaN.
bool Advance(const Lists& lists, int64_t head, float taken, int64_t* position) {
  *position = NextRow(lists, head, *position + 1);
  return *position == lists.per_head || lists.scores[head * lists.per_head + *position] <= taken;
}

// Fills workspace->found with the k best rows, and all others that tie with the last of them. Returns the head whose
// list is out of order, or -1.
int64_t Merge(const Lists& lists, int64_t k, Workspace* workspace) {
  std::vector<int64_t>& positions = workspace->positions;
  std::vector<Found>& found = workspace->found;
  positions.resize(lists.num_heads);
  found.clear();
  workspace->seen.Reset(lists.num_heads * lists.per_head);  // ties may take in all of them
  for (int64_t head = 0; head < lists.num_heads; ++head) {
    positions[head] = NextRow(lists, head, 0);
    if (positions[head] < lists.per_head) {
      const float score = lists.scores[head * lists.per_head + positions[head]];
      if (score != score) return head;
    }
  }
  while (true) {
    int64_t best = -1;
    float best_score = 0;
    for (int64_t head = 0; head < lists.num_heads; ++head) {
      if (positions[head] == lists.per_head) continue;
      const float score = lists.scores[head * lists.per_head + positions[head]];
      if (best < 0 || score > best_score) {
        best = head;
        best_score = score;
      }
    }
    if (best < 0) return -1;
    if (static_cast<int64_t>(found.size()) >= k && best_score < found.back().score) return -1;
    const int32_t row = lists.rows[best * lists.per_head + positions[best]];
    if (workspace->seen.Insert(row)) found.push_back({best_score, row, static_cast<int32_t>(best)});
    if (!Advance(lists, best, best_score, &positions[best])) return best;
  }
}

// The lists have no order among equal scores; the result has.
void OrderTies(std::vector<Found>* found) {
  for (auto first = found->begin(); first != found->end();) {
    auto last = first + 1;
    while (last != found->end() && last->score == first->score) ++last;
    if (last - first > 1) std::sort(first, last, [](const Found& a, const Found& b) { return a.row < b.row; });
    first = last;
  }
}

class MergeHeadsOp : public OpKernel {
 public:
  explicit MergeHeadsOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("k", &k_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor& rows = context->input(0);
    const Tensor& scores = context->input(1);
    OP_REQUIRES(context, rows.dims() == 3 && rows.shape() == scores.shape(),
                absl::InvalidArgumentError(absl::StrCat("rows have shape ", rows.shape().DebugString(), ", scores ",
                                                        scores.shape().DebugString(), "; expected both [B, m, n]")));
    const int64_t batch = rows.dim_size(0);
    Tensor* outputs[3];
    for (int i = 0; i < 3; ++i) {
      OP_REQUIRES_OK(context, context->allocate_output(i, TensorShape({batch, k_}), &outputs[i]));
    }
    int32_t* merged_rows = outputs[0]->flat<int32_t>().data();
    float* merged_scores = outputs[1]->flat<float>().data();
    int32_t* heads = outputs[2]->flat<int32_t>().data();
    thread_local Workspace workspace;
    Lists lists{rows.flat<int32_t>().data(), scores.flat<float>().data(), rows.dim_size(1), rows.dim_size(2)};
    const int64_t size = lists.num_heads * lists.per_head;
    for (int64_t query = 0; query < batch; ++query, lists.rows += size, lists.scores += size) {
      const int64_t unsorted = Merge(lists, k_, &workspace);
      OP_REQUIRES(context, unsorted < 0,
                  absl::InvalidArgumentError(absl::StrCat("scores of query ", query, ", head ", unsorted,
                                                          " are not sorted best first, or NaN; sort each list")));
      OrderTies(&workspace.found);
      const int64_t count = std::min<int64_t>(k_, static_cast<int64_t>(workspace.found.size()));
      for (int64_t i = 0; i < count; ++i) {
        *merged_rows++ = workspace.found[i].row;
        *merged_scores++ = workspace.found[i].score;
        *heads++ = workspace.found[i].head;
      }
      merged_rows = std::fill_n(merged_rows, k_ - count, kNoRow);
      merged_scores = std::fill_n(merged_scores, k_ - count, kNoScore);
      heads = std::fill_n(heads, k_ - count, kNoRow);
    }
  }

 private:
  int64_t k_ = 0;
};

REGISTER_KERNEL_BUILDER(Name("DpsrMergeHeads").Device(tensorflow::DEVICE_CPU), MergeHeadsOp);

}  // namespace
}  // namespace dpsr
