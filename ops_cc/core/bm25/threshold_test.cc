// Threshold programs against adding up the contributions of every set of lists.

#include "ops_cc/core/bm25/threshold.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace dpsr {
namespace {

// Evaluates one document, which is in the lists whose bits are set.
bool Evaluate(const ThresholdProgram& program, uint32_t lists) {
  std::vector<bool> values = {false, true};
  for (const ThresholdNode& node : program.nodes()) {
    bool value = values[node.low];
    for (int32_t i = node.first_branch; i < node.last_branch; ++i) {
      const ThresholdBranch& branch = program.branches()[i];
      value = value || ((lists >> branch.list & 1) != 0 && values[branch.child]);
    }
    values.push_back(value);
  }
  return values[program.root()];
}

TEST(ThresholdProgramTest, IsTrueWhereContributionsReachTheNeed) {
  std::mt19937 random(1);
  for (int repeat = 0; repeat < 300; ++repeat) {
    std::vector<Contribution> contributions;
    int64_t total = 0;
    for (int32_t term = 0; term < 1 + repeat % 5; ++term) {
      for (uint32_t layer = 0; layer < 1 + random() % 2; ++layer) {
        const int32_t value = 1 + static_cast<int32_t>(random() % (repeat % 2 == 0 ? 4 : 1000));
        contributions.push_back({static_cast<int32_t>(contributions.size()), term, value});
        total += value;
      }
    }
    ThresholdProgram program;
    const int64_t compiled_for = 1 + static_cast<int64_t>(random() % total);
    if (!program.Compile(contributions, compiled_for)) continue;
    ASSERT_TRUE(program.Holds(compiled_for));
    for (int64_t need = 1; need <= total + 1; ++need) {
      if (!program.Holds(need)) continue;
      for (uint32_t lists = 0; lists < 1u << contributions.size(); ++lists) {
        int64_t sum = 0;
        std::vector<int> of_term(8);
        for (const Contribution& each : contributions) {
          if ((lists >> each.list & 1) == 0) continue;
          sum += each.value;
          ++of_term[each.term];
        }
        // A document is in one list of a term.
        if (*std::max_element(of_term.begin(), of_term.end()) > 1) continue;
        ASSERT_EQ(Evaluate(program, lists), sum >= need);
      }
    }
  }
}

TEST(ThresholdProgramTest, GivesUpWhereItWouldBeLong) {
  std::vector<Contribution> contributions;
  int64_t total = 0;
  for (int32_t term = 0; term < 30; ++term) {
    contributions.push_back({term, term, 1000 + 37 * term * term});
    total += contributions.back().value;
  }
  ThresholdProgram program;
  EXPECT_FALSE(program.Compile(contributions, total / 2));
  EXPECT_TRUE(program.Compile(contributions, total));
}

}  // namespace
}  // namespace dpsr
