// Which documents of a range reach a score, as a function of bits: one bitmap a list, one result bit a document.
//
// The documents of a list all get one contribution, so "the sum of contributions is at least `need`" is a threshold
// function of the lists. It is compiled into a decision diagram whose nodes are evaluated for hundreds of documents at
// once by AND and OR: the function is monotone, which leaves no negations. A document is in one list of a term at most.

#ifndef DPSR_OPS_CC_CORE_BM25_THRESHOLD_H_
#define DPSR_OPS_CC_CORE_BM25_THRESHOLD_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace dpsr {

// A list of a query's term.
struct Contribution {
  int32_t list;
  int32_t term;
  int32_t value;  // positive
};

// value(node) = value(low) OR the branches' bits(list) AND value(child).
struct ThresholdBranch {
  int32_t list;
  int32_t child;
};
struct ThresholdNode {
  int32_t low;
  int32_t first_branch;
  int32_t last_branch;
};

class ThresholdProgram {
 public:
  // Values that no node has.
  static constexpr int32_t kNone = 0;
  static constexpr int32_t kAll = 1;
  static constexpr int32_t kFirstNode = 2;
  static constexpr int64_t kMostNodes = 48;

  // Lists of one term stand together; `need` is positive. Returns false, and has no meaning, where more than kMostNodes
  // were needed. Terms in the order of descending contributions need the fewest.
  bool Compile(const std::vector<Contribution>& contributions, int64_t need);

  // Whether this is the program for another need as well.
  bool Holds(int64_t need) const { return above_ < need && need <= most_; }

  // Nodes are numbered from kFirstNode, children before parents.
  const std::vector<ThresholdNode>& nodes() const { return nodes_; }
  const std::vector<ThresholdBranch>& branches() const { return branches_; }
  int32_t root() const { return root_; }
  // The lists of branches, each once.
  const std::vector<int32_t>& lists() const { return lists_; }

 private:
  // A node for the lists of this term and those after it, and the needs (above, most] that it is the same for.
  struct Part {
    int32_t term;
    int32_t node;
    int64_t above;
    int64_t most;
  };
  struct Term {
    int32_t first;
    int32_t last;
    int64_t rest;  // most that this term and those after it contribute
  };

  Part Find(int32_t term, int64_t need);

  std::vector<Contribution> contributions_;
  std::vector<Term> terms_;
  std::vector<Part> parts_;
  std::vector<ThresholdBranch> open_;  // of nodes that are being made
  std::vector<ThresholdNode> nodes_;
  std::vector<ThresholdBranch> branches_;
  std::vector<int32_t> lists_;
  int32_t root_ = kNone;
  int64_t above_ = 0;
  int64_t most_ = 0;
};

}  // namespace dpsr

#endif  // DPSR_OPS_CC_CORE_BM25_THRESHOLD_H_
