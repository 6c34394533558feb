// Loss of the rows of a step against their negatives, and its gradient, without a matrix of all scores: a block of rows
// is scored, masked, exponentiated and differentiated while its scores are in the cache.

#ifndef DPSR_OPS_CC_CORE_GROUP_LOSS_H_
#define DPSR_OPS_CC_CORE_GROUP_LOSS_H_

#include <cstdint>

#include "ops_cc/core/dense.h"

namespace dpsr {

enum class LossKind { kHinge, kSoftmax, kThreePart };

// A step of B rows with m heads of width d, R random negatives, and hard negatives of single rows.
struct GroupLoss {
  LossKind kind;
  float margin;                 // of the hinge
  float temperature;            // of the softmax
  float thresholds[3];          // least score of a positive, largest of a hard negative, largest of another item
  float attention_temperature;  // of the soft dot product

  int64_t rows;       // B
  int64_t heads;      // m
  int64_t dimension;  // d
  int64_t randoms;    // R
  int64_t group;      // rows whose positives are each other's negatives, a divisor of B; 0: no batch negatives

  const float* head_vectors;   // [B, m, d]
  const float* item_vectors;   // [B + R + H, d]: positives, random negatives, hard ones
  const int32_t* query_rows;   // [B]
  const int32_t* item_rows;    // [B + R]
  const float* corrections;    // [B + R], taken off the scores of an item; nullptr: none
  const bool* clicked;         // [B, B + R], true for no negative; nullptr: none
  const int64_t* hard_splits;  // [B + 1], the hard negatives of every row; nullptr: none
  const float* row_weights;    // [B], of the losses of the rows in their mean; nullptr: 1

  // The rows fall into strands, which depend on nothing that another strand does. A strand's gradient by the items
  // goes to a part of its own, and Reduce sums the parts in their order.
  int64_t StrandRows() const;
  int64_t NumStrands() const;
  // Floats of all parts together.
  int64_t PartsSize() const;

  // Adds the weighted losses of the strand's rows; writes head_gradient [B, m, d] of its rows, item_gradient of its
  // hard negatives, and its part of `parts`.
  double Run(int64_t strand, float* head_gradient, float* item_gradient, float* parts) const;

  // item_gradient of items `first` to `last` of the B + R positives and random negatives, after every strand.
  void Reduce(int64_t first, int64_t last, const float* parts, float* item_gradient) const;

 private:
  struct Block;
  struct Workspace;

  // Positives that a strand's rows may have a gradient by: its groups'.
  int64_t CoveredRows() const { return group > StrandRows() ? group : StrandRows(); }
  int64_t PartSize() const { return (CoveredRows() + randoms) * dimension; }
  int64_t CoveredFrom(int64_t strand) const;
  int64_t StrandsOfGroup() const;
  void StrandRange(int64_t strand, int64_t* first, int64_t* last) const;

  double RunBlock(const Block& block, Workspace* space, float* head_gradient, float* item_gradient) const;
  void Score(const Block& block, Workspace* space) const;
  void MaskClicked(const Block& block, Workspace* space) const;
  float OwnScore(const float* heads, int64_t stride, const float* item, float* derivatives) const;
  double Differentiate(const Block& block, Workspace* space) const;
  void Propagate(const Block& block, Workspace* space, float* head_gradient, float* item_gradient) const;
};

}  // namespace dpsr

#endif  // DPSR_OPS_CC_CORE_GROUP_LOSS_H_
