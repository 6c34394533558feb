// Joins the lists that several searchers found for one query into its best rows, each once, and lets the clicks of the
// same query count with the joined score as their prior.

#ifndef DPSR_OPS_CC_CORE_FUSION_FUSION_H_
#define DPSR_OPS_CC_CORE_FUSION_FUSION_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace dpsr {

// What a list gives for a row.
struct RankedList {
  const int32_t* rows;  // negative ones, wherever they stand, are passed over
  const float* scores;
  int64_t size;
};

// How the scores of a row that several lists hold become one.
enum class Combine { kSum, kFirst };

// Clicks of the query: log(count + weight * p), where p of a row is exp(score / temperature) over the sum of all joined
// rows. Rows without clicks count 0.
struct Clicks {
  RankedList counts;  // scores are counts, not negative
  float weight;
  float temperature;
};

struct Fused {
  float score;
  int32_t row;
  int32_t lists;  // bit l: list l holds the row
  int32_t place;  // in the first list that holds it
};

// Keeps its memory from query to query; not for two threads at once.
class Fusion {
 public:
  // The k best rows, best first, ties by lower row; fewer where the lists hold fewer. Scores are numbers; infinite ones
  // that cancel out make the lowest float. Valid until the next call.
  // `clicks` may be null.
  const std::vector<Fused>& Join(const std::vector<RankedList>& lists, Combine combine, const Clicks* clicks,
                                 int64_t k);

 private:
  // The place of a row in fused_; a new one is put behind the others.
  Fused* Place(int32_t row);
  // The place of a row, or null.
  Fused* Find(int32_t row);
  size_t SlotOf(int32_t row) const;
  void CountClicks(const Clicks& clicks);

  std::vector<int32_t> slots_;  // places in fused_ by open addressing; -1: empty
  int bits_ = 0;
  std::vector<Fused> fused_;
  std::vector<float> counts_;
};

}  // namespace dpsr

#endif  // DPSR_OPS_CC_CORE_FUSION_FUSION_H_
