#include "tokenizer_cc/core/subwords/bpe.h"

#include <algorithm>

#include "tokenizer_cc/core/text/utf8.h"

namespace dpsr {
namespace {

constexpr uint32_t kNoSymbol = 0xFFFFFFFF;

// Orders a heap whose top is the candidate of the lowest rank, of these the leftmost.
bool Later(const Bpe::Candidate& a, const Bpe::Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
}

}  // namespace

Bpe::Bpe(const SubwordSections& model)
    : pieces_(model.trie(kPieces)),
      inside_(pieces_.Walk(model.text(kPrefix))),
      has_inside_(inside_ != 0 || model.text(kPrefix).empty()),
      merges_(model.data<Merge>(kMerges)),
      slots_(model.size<Merge>(kMerges)),
      unknown_(model.header().roles[kUnk]),
      fuse_unknown_(model.header().fuse_unknown != 0),
      ignore_merges_(model.header().ignore_merges != 0) {}

const Merge* Bpe::FindMerge(int32_t left, int32_t right) const {
  const auto first = static_cast<uint32_t>(left), second = static_cast<uint32_t>(right);
  for (size_t i = SlotOf(first, second, slots_); merges_[i].left != kNoMerge; i = i + 1 == slots_ ? 0 : i + 1) {
    if (merges_[i].left == first && merges_[i].right == second) return merges_ + i;
  }
  return nullptr;
}

void Bpe::Characters(std::string_view word, Buffer<Symbol>* symbols) const {
  symbols->Clear();
  symbols->Reserve(word.size());
  bool after_unknown = false;
  for (size_t begin = 0; begin < word.size();) {
    const auto* p = reinterpret_cast<const uint8_t*>(word.data()) + begin;
    const uint32_t bytes = DecodeValid(p).bytes;
    const bool reachable = begin == 0 || has_inside_;
    const uint32_t state = reachable ? pieces_.Walk(word.substr(begin, bytes), begin == 0 ? 0 : inside_) : 0;
    const int32_t id = state == 0 ? -1 : pieces_.value(state);
    if (id < 0 && after_unknown && fuse_unknown_) {
      (symbols->end() - 1)->bytes += bytes;
    } else {
      const auto place = static_cast<uint32_t>(symbols->size());
      *symbols->end() = {id < 0 ? unknown_ : id, bytes, place == 0 ? kNoSymbol : place - 1, place + 1};
      symbols->Advance(1);
    }
    after_unknown = id < 0;
    begin += bytes;
  }
  (symbols->end() - 1)->next = kNoSymbol;
}

void Bpe::Push(const Symbol* symbols, uint32_t left, Buffer<Candidate>* candidates) const {
  if (left == kNoSymbol || symbols[left].next == kNoSymbol) return;
  const Symbol& right = symbols[symbols[left].next];
  const Merge* const merge = FindMerge(symbols[left].id, right.id);
  if (merge == nullptr) return;
  const Candidate candidate = {merge->rank, left, merge->merged};
  candidates->Append(&candidate, 1);
  std::push_heap(candidates->data(), candidates->end(), Later);
}

void Bpe::MergeAll(Workspace* workspace) const {
  Symbol* const symbols = workspace->symbols.data();
  Buffer<Candidate>* const candidates = &workspace->candidates;
  candidates->Clear();
  for (uint32_t i = 0; i < workspace->symbols.size(); ++i) Push(symbols, i, candidates);
  while (candidates->size() != 0) {
    std::pop_heap(candidates->data(), candidates->end(), Later);
    candidates->Truncate(candidates->size() - 1);
    const Candidate top = *candidates->end();
    Symbol& left = symbols[top.left];
    if (left.bytes == 0 || left.next == kNoSymbol) continue;
    // What was to be merged may have been merged with others since.
    Symbol& right = symbols[left.next];
    const Merge* const merge = FindMerge(left.id, right.id);
    if (merge == nullptr || merge->merged != top.merged) continue;
    left.id = static_cast<int32_t>(top.merged);
    left.bytes += right.bytes;
    right.bytes = 0;
    left.next = right.next;
    if (right.next != kNoSymbol) symbols[right.next].previous = top.left;
    Push(symbols, left.previous, candidates);
    Push(symbols, top.left, candidates);
  }
}

void Bpe::Encode(std::string_view word, Workspace* workspace, Buffer<int32_t>* ids) const {
  if (ignore_merges_) {
    const uint32_t state = pieces_.Walk(word);
    const int32_t id = state == 0 ? -1 : pieces_.value(state);
    if (id >= 0) return ids->Append(&id, 1);
  }
  Characters(word, &workspace->symbols);
  MergeAll(workspace);
  ids->Reserve(workspace->symbols.size());
  for (uint32_t i = 0; i != kNoSymbol; i = workspace->symbols.data()[i].next) {
    *ids->end() = workspace->symbols.data()[i].id;
    ids->Advance(1);
  }
}

}  // namespace dpsr
