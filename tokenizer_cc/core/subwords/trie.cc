#include "tokenizer_cc/core/subwords/trie.h"

#include <algorithm>
#include <deque>

namespace dpsr {
namespace {

using Key = std::pair<std::string, int32_t>;

constexpr uint32_t kBlock = 256;
// Cells of older blocks are given up: the search for a place stays short, and few cells are lost.
constexpr uint32_t kOpenBlocks = 64;

// Finds places for the children of each node among the free cells, which are a list in the order of their places.
class Builder {
 public:
  explicit Builder(const std::vector<Key>& keys) : keys_(keys) {
    AddBlock();
    Take(0);
    units_[0].parent = Trie::kNoParent;
  }

  std::vector<TrieUnit> Build() {
    nodes_.push_back({0, 0, keys_.size(), 0});
    while (!nodes_.empty()) {
      const Node node = nodes_.front();
      nodes_.pop_front();
      Place(node);
    }
    return std::move(units_);
  }

 private:
  // Keys [begin, end), which share their first `depth` bytes, below a state.
  struct Node {
    uint32_t state;
    size_t begin, end, depth;
  };

  void Place(Node node) {
    while (node.begin != node.end && keys_[node.begin].first.size() == node.depth) {
      units_[node.state].value = keys_[node.begin++].second;
    }
    if (node.begin == node.end) return;
    children_.clear();
    for (size_t i = node.begin; i != node.end;) {
      const uint8_t byte = ByteAt(i, node.depth);
      const size_t first = i;
      while (i != node.end && ByteAt(i, node.depth) == byte) ++i;
      children_.push_back({byte, first, i});
    }
    const uint32_t base = FindBase();
    units_[node.state].base = base;
    for (const Child& child : children_) {
      const uint32_t state = base ^ child.byte;
      Take(state);
      units_[state].parent = node.state;
      nodes_.push_back({state, child.begin, child.end, node.depth + 1});
    }
  }

  uint8_t ByteAt(size_t key, size_t depth) const { return static_cast<uint8_t>(keys_[key].first[depth]); }

  uint32_t FindBase() {
    for (uint32_t cell = first_free_; cell != kNone; cell = next_[cell]) {
      const uint32_t base = cell ^ children_[0].byte;
      const auto is_free = [&](const Child& child) { return free_[base ^ child.byte]; };
      if (std::all_of(children_.begin(), children_.end(), is_free)) return base;
    }
    const auto base = static_cast<uint32_t>(units_.size());
    AddBlock();
    return base;
  }

  void AddBlock() {
    const auto begin = static_cast<uint32_t>(units_.size());
    if (begin >= kOpenBlocks * kBlock) {
      const uint32_t closed = begin - kOpenBlocks * kBlock;
      for (uint32_t cell = closed; cell < closed + kBlock; ++cell) {
        if (free_[cell]) Unlink(cell);
      }
    }
    units_.resize(begin + kBlock, {0, Trie::kNoParent, -1});
    free_.resize(begin + kBlock, true);
    next_.resize(begin + kBlock, kNone);
    previous_.resize(begin + kBlock, kNone);
    for (uint32_t cell = begin; cell < begin + kBlock; ++cell) {
      previous_[cell] = last_free_;
      (last_free_ == kNone ? first_free_ : next_[last_free_]) = cell;
      last_free_ = cell;
    }
  }

  void Take(uint32_t cell) { Unlink(cell); }

  void Unlink(uint32_t cell) {
    free_[cell] = false;
    (previous_[cell] == kNone ? first_free_ : next_[previous_[cell]]) = next_[cell];
    (next_[cell] == kNone ? last_free_ : previous_[next_[cell]]) = previous_[cell];
  }

  struct Child {
    uint8_t byte;
    size_t begin, end;
  };
  static constexpr uint32_t kNone = 0xFFFFFFFF;

  const std::vector<Key>& keys_;
  std::vector<TrieUnit> units_;
  std::deque<Node> nodes_;
  std::vector<Child> children_;
  std::vector<bool> free_;
  std::vector<uint32_t> next_, previous_;
  uint32_t first_free_ = kNone, last_free_ = kNone;
};

}  // namespace

uint32_t Trie::Walk(std::string_view text, uint32_t state) const {
  for (const char byte : text) {
    state = Child(state, static_cast<uint8_t>(byte));
    if (state == 0) return 0;
  }
  return state;
}

std::pair<int32_t, size_t> Trie::LongestPrefix(const uint8_t* p, const uint8_t* end) const {
  std::pair<int32_t, size_t> longest = {-1, 0};
  uint32_t state = 0;
  for (const uint8_t* q = p; q != end; ++q) {
    state = Child(state, *q);
    if (state == 0) break;
    if (value(state) >= 0) longest = {value(state), static_cast<size_t>(q - p) + 1};
  }
  return longest;
}

bool Trie::IsSound(uint64_t values) const {
  if (size_ == 0 || size_ % kBlock != 0 || size_ > kNoParent) return false;
  bool sound = units_[0].parent == kNoParent;
  for (size_t i = 0; i < size_; ++i) {
    const TrieUnit& unit = units_[i];
    sound &= unit.base < size_ && unit.value >= -1 && (unit.value < 0 || static_cast<uint64_t>(unit.value) < values);
  }
  return sound;
}

std::vector<TrieUnit> Trie::Build(std::vector<Key> keys) {
  std::stable_sort(keys.begin(), keys.end(), [](const Key& a, const Key& b) { return a.first < b.first; });
  keys.erase(keys.begin(), std::find_if(keys.begin(), keys.end(), [](const Key& key) { return !key.first.empty(); }));
  return Builder(keys).Build();
}

}  // namespace dpsr
