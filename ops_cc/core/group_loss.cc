#include "ops_cc/core/group_loss.h"

#include <algorithm>
#include <cmath>

namespace dpsr {
namespace {

// Rows whose scores are in the cache together, and rows whose gradient by the items has one part.
constexpr int64_t kBlockRows = 64;
constexpr int64_t kStrandRows = 128;

float* Sized(Floats* floats, int64_t size) {
  if (floats->size() < static_cast<size_t>(size)) floats->resize(size);
  return floats->data();
}

}  // namespace

// Some rows of one group.
struct GroupLoss::Block {
  int64_t first;   // row
  int64_t rows;    // at most kBlockRows
  int64_t stride;  // rows, padded to lanes
  int64_t group_first;
  int64_t group_items;  // positives of the group that are negatives; 0 without batch negatives
  float* part;          // gradient by the covered positives, then by the random negatives
  float* group_part;    // of the first of the group
  float* own_part;      // of the positive of the first row
};

struct GroupLoss::Workspace {
  PackedMatrix group_items, random_items, left;
  Floats heads;      // [m * stride, d], a head after the other
  Floats products;   // [items, m * stride]
  Floats scores;     // [items, stride]; with one head the products
  Floats gradients;  // [m * stride, d]
  Floats lanes;      // [8, stride]
  Floats own;        // derivatives of own scores by their products, [1 + hard, m] of every row
  Floats hard;       // scores of hard negatives, then derivatives of the loss by them
  std::vector<int32_t> positive_rows, query_rows;

  float *score, *positive, *positive_gradient, *factor, *shift, *sums, *counts, *counted;
};

int64_t GroupLoss::StrandRows() const {
  const int64_t most = group == 0 || group >= kStrandRows ? kStrandRows : kStrandRows / group * group;
  return std::max<int64_t>(std::min(rows, most), 1);
}

int64_t GroupLoss::StrandsOfGroup() const { return (group + StrandRows() - 1) / StrandRows(); }

int64_t GroupLoss::NumStrands() const {
  if (rows == 0) return 0;
  if (group > StrandRows()) return rows / group * StrandsOfGroup();
  return (rows + StrandRows() - 1) / StrandRows();
}

int64_t GroupLoss::PartsSize() const { return NumStrands() * PartSize(); }

int64_t GroupLoss::CoveredFrom(int64_t strand) const {
  return group > StrandRows() ? strand / StrandsOfGroup() * group : strand * StrandRows();
}

void GroupLoss::StrandRange(int64_t strand, int64_t* first, int64_t* last) const {
  const int64_t covered = CoveredFrom(strand);
  *first = group > StrandRows() ? covered + strand % StrandsOfGroup() * StrandRows() : covered;
  *last = std::min({*first + StrandRows(), covered + CoveredRows(), rows});
}

double GroupLoss::Run(int64_t strand, float* head_gradient, float* item_gradient, float* parts) const {
  thread_local Workspace space;
  const DenseKernels& dense = Dense();
  int64_t first, last;
  StrandRange(strand, &first, &last);
  const int64_t covered = CoveredFrom(strand);
  float* const part = parts + strand * PartSize();
  std::fill(part, part + PartSize(), 0.0f);
  if (randoms > 0) {
    dense.pack({item_vectors + rows * dimension, dimension, 1}, randoms, dimension, &space.random_items);
  }
  double loss = 0.0;
  int64_t packed_group = -1;
  for (int64_t row = first; row < last;) {
    Block block{};
    block.first = row;
    const int64_t group_first = group == 0 ? row : row / group * group;
    const int64_t group_last = group == 0 ? last : group_first + group;
    block.rows = std::min({kBlockRows, last - row, group_last - row});
    block.stride = PaddedToLanes(block.rows);
    block.group_first = group_first;
    block.group_items = group;
    block.part = part;
    block.group_part = part + (group_first - covered) * dimension;
    block.own_part = part + (row - covered) * dimension;
    if (group > 0 && packed_group != group_first) {
      dense.pack({item_vectors + group_first * dimension, dimension, 1}, group, dimension, &space.group_items);
      packed_group = group_first;
    }
    loss += RunBlock(block, &space, head_gradient, item_gradient);
    row += block.rows;
  }
  return loss;
}

double GroupLoss::RunBlock(const Block& block, Workspace* space, float* head_gradient, float* item_gradient) const {
  const int64_t columns = heads * block.stride, items = block.group_items + randoms;
  Sized(&space->products, items * columns);
  Sized(&space->gradients, columns * dimension);
  float* lanes = Sized(&space->lanes, 7 * block.stride);
  for (float** each : {&space->positive, &space->positive_gradient, &space->factor, &space->shift, &space->sums,
                       &space->counts, &space->counted}) {
    *each = lanes;
    lanes += block.stride;
  }
  std::fill(space->lanes.data(), lanes, 0.0f);
  space->score = heads == 1 ? space->products.data() : Sized(&space->scores, items * block.stride);
  Score(block, space);
  if (clicked != nullptr) MaskClicked(block, space);
  const double loss = Differentiate(block, space);
  if (heads > 1) {
    Dense().scale_heads(space->products.data(), items, heads, block.stride, space->score);
  }
  Propagate(block, space, head_gradient, item_gradient);
  return loss;
}

// Scores of the negatives, masked, and the derivatives by their products.
void GroupLoss::Score(const Block& block, Workspace* space) const {
  const DenseKernels& dense = Dense();
  const int64_t stride = block.stride, columns = heads * stride;
  float* const copy = Sized(&space->heads, columns * dimension);
  std::fill(copy, copy + columns * dimension, 0.0f);
  for (int64_t i = 0; i < block.rows; ++i) {
    for (int64_t head = 0; head < heads; ++head) {
      const float* const from = head_vectors + ((block.first + i) * heads + head) * dimension;
      std::copy(from, from + dimension, copy + (head * stride + i) * dimension);
    }
  }
  space->positive_rows.assign(stride, -1);
  space->query_rows.assign(stride, -1);
  std::copy_n(item_rows + block.first, block.rows, space->positive_rows.begin());
  std::copy_n(query_rows + block.first, block.rows, space->query_rows.begin());

  dense.pack({copy, 1, dimension}, dimension, columns, &space->left);
  NegativeMask mask{space->positive_rows.data(), space->query_rows.data(), nullptr, nullptr, nullptr};
  int64_t before = 0;
  const int64_t firsts[] = {block.group_first, rows}, counts[] = {block.group_items, randoms};
  for (int part = 0; part < 2; ++part) {
    const int64_t first = firsts[part], count = counts[part];
    if (count == 0) continue;
    float* const products = space->products.data() + before * columns;
    float* const scores = space->score + before * stride;
    dense.multiply({item_vectors + first * dimension, dimension, 1}, count, space->left, 0, dimension, false, products,
                   columns);
    if (heads > 1) dense.combine_heads(products, count, heads, stride, attention_temperature, scores);
    mask.item_rows = item_rows + first;
    mask.item_queries = part == 0 ? query_rows + first : nullptr;
    mask.corrections = corrections == nullptr ? nullptr : corrections + first;
    dense.mask(scores, count, stride, mask);
    before += count;
  }
}

void GroupLoss::MaskClicked(const Block& block, Workspace* space) const {
  for (int64_t i = 0; i < block.rows; ++i) {
    const bool* const row = clicked + (block.first + i) * (rows + randoms);
    for (int64_t j = 0; j < block.group_items; ++j) {
      if (row[block.group_first + j]) space->score[j * block.stride + i] = kMasked;
    }
    for (int64_t j = 0; j < randoms; ++j) {
      if (row[rows + j]) space->score[(block.group_items + j) * block.stride + i] = kMasked;
    }
  }
}

// The score of a row for one item, and its derivatives by the m products.
float GroupLoss::OwnScore(const float* row_heads, int64_t stride, const float* item, float* derivatives) const {
  if (heads == 1) {
    derivatives[0] = 1.0f;
    return Dense().dot(row_heads, item, dimension);
  }
  float best = 0.0f, total = 0.0f, weighted = 0.0f;
  for (int64_t head = 0; head < heads; ++head) {
    derivatives[head] = Dense().dot(row_heads + head * stride * dimension, item, dimension);
    if (head == 0 || derivatives[head] > best) best = derivatives[head];
  }
  for (int64_t head = 0; head < heads; ++head) {
    const float weight = std::exp((derivatives[head] - best) / attention_temperature);
    total += weight;
    weighted += weight * derivatives[head];
  }
  const float score = weighted / total;
  for (int64_t head = 0; head < heads; ++head) {
    const float weight = std::exp((derivatives[head] - best) / attention_temperature) / total;
    derivatives[head] = weight * (1.0f + (derivatives[head] - score) / attention_temperature);
  }
  return score;
}

// The losses of the block's rows; turns scores into derivatives of the loss by them, over `factor` of the row.
double GroupLoss::Differentiate(const Block& block, Workspace* space) const {
  const DenseKernels& dense = Dense();
  const int64_t stride = block.stride, items = block.group_items + randoms;
  const float share_of_row = 1.0f / static_cast<float>(rows), inverse = 1.0f / temperature;
  const int64_t first_hard = hard_splits == nullptr ? 0 : hard_splits[block.first];
  const int64_t num_hard = hard_splits == nullptr ? 0 : hard_splits[block.first + block.rows] - first_hard;
  float* const hard = Sized(&space->hard, num_hard);
  float* derivatives = Sized(&space->own, (block.rows + num_hard) * heads);
  const auto hard_of = [&](int64_t i, int64_t* from, int64_t* to) {
    *from = hard_splits == nullptr ? 0 : hard_splits[block.first + i] - first_hard;
    *to = hard_splits == nullptr ? 0 : hard_splits[block.first + i + 1] - first_hard;
  };
  for (int64_t i = 0; i < block.rows; ++i, derivatives += heads) {
    const float* const own = space->heads.data() + i * dimension;
    const float score = OwnScore(own, stride, item_vectors + (block.first + i) * dimension, derivatives);
    space->positive[i] = score - (corrections == nullptr ? 0.0f : corrections[block.first + i]);
    int64_t from, to;
    for (hard_of(i, &from, &to); from < to; ++from) {
      derivatives += heads;
      hard[from] = OwnScore(own, stride, item_vectors + (rows + randoms + first_hard + from) * dimension, derivatives);
    }
  }

  if (kind == LossKind::kSoftmax) {
    for (int64_t i = 0; i < block.rows; ++i) {
      int64_t from, to;
      space->shift[i] = space->positive[i];
      for (hard_of(i, &from, &to); from < to; ++from) space->shift[i] = std::max(space->shift[i], hard[from]);
    }
    dense.maximum(space->score, items, stride, space->shift);
    dense.exponentials(space->score, items, stride, space->shift, inverse, space->sums);
  } else {
    for (int64_t i = 0; i < block.rows; ++i) {
      space->shift[i] = kind == LossKind::kHinge ? space->positive[i] - margin : thresholds[2];
    }
    dense.excesses(space->score, items, stride, space->shift, space->sums, space->counts, space->counted);
  }

  double loss = 0.0;
  for (int64_t i = 0; i < block.rows; ++i) {
    int64_t from, to;
    hard_of(i, &from, &to);
    const float weight = row_weights == nullptr ? 1.0f : row_weights[block.first + i], mean = weight * share_of_row;
    const float positive = space->positive[i];
    if (kind == LossKind::kSoftmax) {
      float others = space->sums[i];
      for (int64_t j = from; j < to; ++j) others += hard[j] = std::exp((hard[j] - space->shift[i]) * inverse);
      const float logit = (positive - space->shift[i]) * inverse, total = others + std::exp(logit);
      loss += weight * (std::log(total) - logit);
      space->factor[i] = inverse * mean / total;
      space->positive_gradient[i] = -others * space->factor[i];
      for (int64_t j = from; j < to; ++j) hard[j] *= space->factor[i];
    } else if (kind == LossKind::kHinge) {
      float sum = space->sums[i], count = space->counts[i];
      for (int64_t j = from; j < to; ++j) {
        const float excess = hard[j] - space->shift[i];
        const bool within = excess <= 0.0f;
        if (!within) sum += excess, count += 1.0f;
        hard[j] = within ? 0.0f : mean;
      }
      loss += weight * sum;
      space->factor[i] = mean;
      space->positive_gradient[i] = -count * mean;
    } else {
      const float lack = thresholds[0] - positive, counted = std::max(space->counted[i], 1.0f);
      const float share = to > from ? 1.0f / static_cast<float>(to - from) : 0.0f;
      float sum = 0.0f;
      for (int64_t j = from; j < to; ++j) {
        const float excess = hard[j] - thresholds[1];
        const bool within = excess <= 0.0f;
        if (!within) sum += excess;
        hard[j] = within ? 0.0f : share * mean;
      }
      const bool enough = lack <= 0.0f;
      loss += weight * ((enough ? 0.0f : lack) + space->sums[i] / counted + share * sum);
      space->factor[i] = mean / counted;
      space->positive_gradient[i] = enough ? 0.0f : -mean;
    }
  }
  return loss;
}

// From the derivatives by the products to the gradients by heads and items.
void GroupLoss::Propagate(const Block& block, Workspace* space, float* head_gradient, float* item_gradient) const {
  const DenseKernels& dense = Dense();
  const int64_t stride = block.stride, columns = heads * stride, items = block.group_items + randoms;
  float* const gradients = space->gradients.data();
  const float* products = space->products.data();
  if (items == 0) std::fill(gradients, gradients + columns * dimension, 0.0f);
  if (block.group_items > 0) {
    dense.multiply({products, 1, columns}, columns, space->group_items, 0, block.group_items, false, gradients,
                   dimension);
  }
  if (randoms > 0) {
    dense.multiply({products + block.group_items * columns, 1, columns}, columns, space->random_items, 0, randoms,
                   block.group_items > 0, gradients, dimension);
  }
  const float* derivatives = space->own.data();
  const float* hard = space->hard.data();
  for (int64_t i = 0; i < block.rows; ++i) {
    const int64_t row = block.first + i;
    for (int64_t head = 0; head < heads; ++head) {
      const float* const from = gradients + (head * stride + i) * dimension;
      float* const to = head_gradient + (row * heads + head) * dimension;
      for (int64_t k = 0; k < dimension; ++k) to[k] = space->factor[i] * from[k];
    }
    const auto add_own = [&](float gradient, const float* item, float* by_item) {
      for (int64_t head = 0; head < heads; ++head) {
        const float by_product = gradient * derivatives[head];
        dense.add_scaled(by_product, item, dimension, head_gradient + (row * heads + head) * dimension);
        dense.add_scaled(by_product, space->heads.data() + (head * stride + i) * dimension, dimension, by_item);
      }
      derivatives += heads;
    };
    add_own(space->positive_gradient[i], item_vectors + row * dimension, block.own_part + i * dimension);
    if (hard_splits == nullptr) continue;
    for (int64_t j = hard_splits[row]; j < hard_splits[row + 1]; ++j) {
      float* const by_item = item_gradient + (rows + randoms + j) * dimension;
      std::fill(by_item, by_item + dimension, 0.0f);
      add_own(*hard++, item_vectors + (rows + randoms + j) * dimension, by_item);
    }
  }

  float* const scaled = space->heads.data();  // read for the last time above
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t i = 0; i < stride; ++i) {
      float* const each = scaled + (head * stride + i) * dimension;
      for (int64_t k = 0; k < dimension; ++k) each[k] *= space->factor[i];
    }
  }
  dense.pack({scaled, dimension, 1}, columns, dimension, &space->left);
  if (block.group_items > 0) {
    dense.multiply({products, columns, 1}, block.group_items, space->left, 0, columns, true, block.group_part,
                   dimension);
  }
  if (randoms > 0) {
    dense.multiply({products + block.group_items * columns, columns, 1}, randoms, space->left, 0, columns, true,
                   block.part + CoveredRows() * dimension, dimension);
  }
}

void GroupLoss::Reduce(int64_t first, int64_t last, const float* parts, float* item_gradient) const {
  const int64_t strands = NumStrands(), of_group = group > StrandRows() ? StrandsOfGroup() : 1;
  for (int64_t item = first; item < last; ++item) {
    float* const sum = item_gradient + item * dimension;
    std::fill(sum, sum + dimension, 0.0f);
    int64_t strand = 0, end = strands, place = CoveredRows() + item - rows;
    if (item < rows) {
      strand = item / CoveredRows() * of_group;
      end = strand + of_group;
      place = item % CoveredRows();
    }
    for (; strand < end; ++strand) {
      Dense().add_scaled(1.0f, parts + strand * PartSize() + place * dimension, dimension, sum);
    }
  }
}

}  // namespace dpsr
