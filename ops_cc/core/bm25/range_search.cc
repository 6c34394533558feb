#include "ops_cc/core/bm25/range_search.h"

#include <algorithm>
#include <cstring>

namespace dpsr {
namespace {

constexpr size_t kMostPrograms = 8;
constexpr size_t kMostLists = 64;  // of a program
constexpr uint32_t kAllBlocks = ~uint32_t{0};

// In the time of setting one bit of a bitmap: running a program, and looking a document up in one list.
constexpr int64_t kProgramCost = 100;
constexpr int64_t kLookUpCost = 8;
// Longer lists are worth a bitmap.
constexpr int32_t kShortList = 8;

bool Bit(const uint8_t* bits, int64_t i) { return bits[i >> 3] >> (i & 7) & 1; }

template <typename Function>
void ForEachBit(const uint8_t* bits, uint32_t blocks, Function function) {
  for (; blocks != 0; blocks &= blocks - 1) {
    const int64_t first = __builtin_ctz(blocks) * kBlockBytes;
    for (int64_t byte = first; byte < first + kBlockBytes; byte += 8) {
      uint64_t word;
      std::memcpy(&word, bits + byte, sizeof(word));
      for (; word != 0; word &= word - 1) function(static_cast<uint32_t>(8 * byte + __builtin_ctzll(word)));
    }
  }
}

}  // namespace

void RangeSearch::Open(const Bm25Index& index, const Bm25Filter& filter, int64_t k, uint32_t reached,
                       QueryLists* query) {
  index_ = &index;
  filter_ = filter;
  query_ = query;
  top_.Reset(k, reached);
  norm_ = -1;
  const size_t lists = query->lists().size();
  bits_.assign(lists, nullptr);
  most_.assign(query->num_terms(), 0);
  if (spread_.size() < lists * kBitmapBytes) spread_.resize(lists * kBitmapBytes);
  if (values_.empty()) {
    values_.resize((ThresholdProgram::kFirstNode + ThresholdProgram::kMostNodes) * kBitmapBytes);
    std::fill_n(values_.begin() + ThresholdProgram::kAll * kBitmapBytes, kBitmapBytes, 0xFF);
    programs_.resize(kMostPrograms);
  }
}

void RangeSearch::Search(int64_t range) {
  start_ = index_->range_starts[range];
  size_ = index_->range_starts[range + 1] - start_;
  const int64_t prior = index_->priors == nullptr ? 0 : query_->Steps(index_->range_values[2 * range + 1]);
  // Rows ascend within a range.
  need_ = std::max<int64_t>(1, top_.least_score(static_cast<uint32_t>(index_->rows[start_])) - prior);
  SortLists();
  if (lists_[0].bound < need_) return;
  if (index_->range_values[2 * range] != norm_) {
    norm_ = index_->range_values[2 * range];
    num_programs_ = 0;
  }
  SearchLists();
  TakeFound();
}

void RangeSearch::SortLists() {
  lists_.clear();
  for (const int32_t number : query_->present()) {
    QueryList& list = query_->lists()[number];
    lists_.push_back({&list, number, list.count, 0, list.is_bitmap() ? list.data : nullptr});
    most_[list.term] = 0;
  }
  std::sort(lists_.begin(), lists_.end(), [](const Present& a, const Present& b) { return a.count < b.count; });
  int64_t bound = 0;
  for (size_t i = lists_.size(); i-- > 0;) {
    int64_t& most = most_[lists_[i].list->term];
    bound += std::max<int64_t>(lists_[i].list->value - most, 0);
    most = std::max<int64_t>(most, lists_[i].list->value);
    lists_[i].bound = bound;
  }
}

void RangeSearch::SearchLists() {
  int64_t cost_of_program = kProgramCost, cost_of_probing = 0;
  for (const Present& present : lists_) cost_of_program += present.bits == nullptr ? present.count : 0;
  size_t essential = 0;
  for (; essential < lists_.size() && lists_[essential].bound >= need_; ++essential) {
    cost_of_probing += lists_[essential].count * (1 + kLookUpCost * static_cast<int64_t>(lists_.size() - 1));
  }
  if (cost_of_probing <= cost_of_program) return Probe(essential);
  size_t first = 0;
  while (first < essential && lists_[first].count <= kShortList) ++first;
  if (first == essential) return Probe(essential);
  const ThresholdProgram* const program = Program(first);
  if (program == nullptr) return AddUp();
  Probe(first);
  Run(*program, first);
}

// Finds the documents of the lists before the last.
void RangeSearch::Probe(size_t last) {
  for (size_t i = 0; i < last; ++i) {
    if (lists_[i].bits != nullptr) {
      ForEachBit(lists_[i].bits, kAllBlocks, [&](uint32_t offset) { LookUp(i, offset); });
    } else {
      for (int32_t j = 0; j < lists_[i].count; ++j) LookUp(i, lists_[i].list->offset(j));
    }
  }
}

// A document of the list `from`, unless it is in one before, where it has been looked up already.
void RangeSearch::LookUp(size_t from, uint32_t offset) {
  for (size_t i = 0; i < from; ++i) {
    if (lists_[i].list->Contains(offset)) return;
  }
  uint32_t sum = static_cast<uint32_t>(lists_[from].list->value);
  for (size_t i = from + 1; i < lists_.size(); ++i) {
    if (sum + lists_[i].bound < need_) return;
    if (lists_[i].list->Contains(offset)) sum += static_cast<uint32_t>(lists_[i].list->value);
  }
  if (sum >= need_) Find(offset, sum);
}

// Of the lists from `first` on; nullptr where there are too many.
const ThresholdProgram* RangeSearch::Program(size_t first) {
  if (query_->lists().size() > kMostLists) return nullptr;
  uint64_t lists = 0;
  for (size_t i = first; i < lists_.size(); ++i) lists |= uint64_t{1} << lists_[i].number;
  const auto last = programs_.begin() + num_programs_;
  auto cached = std::find_if(programs_.begin(), last, [&](const CachedProgram& each) { return each.lists == lists; });
  if (cached == last) {
    cached = num_programs_ < kMostPrograms ? last : programs_.begin() + oldest_++ % kMostPrograms;
    num_programs_ = std::min(num_programs_ + 1, kMostPrograms);
  } else if (cached->usable ? cached->program.Holds(need_) : cached->need == need_) {
    return cached->usable ? &cached->program : nullptr;
  }
  contributions_.clear();
  for (const int32_t number : query_->present()) {
    const QueryList& list = query_->lists()[number];
    if (lists >> number & 1) contributions_.push_back({number, list.term, list.value});
  }
  cached->lists = lists;
  cached->need = need_;
  cached->usable = cached->program.Compile(contributions_, need_);
  return cached->usable ? &cached->program : nullptr;
}

// Finds the documents that are in none of the lists before `first`.
void RangeSearch::Run(const ThresholdProgram& program, size_t first) {
  const uint32_t blocks = SpreadLists(program, first);
  kernels_.evaluate(program, bits_.data(), blocks, values_.data());
  uint8_t* const found = values_.data() + program.root() * kBitmapBytes;
  for (size_t i = 0; i < first; ++i) {
    for (int32_t j = 0; j < lists_[i].count; ++j) {
      const uint32_t offset = lists_[i].list->offset(j);
      found[offset >> 3] &= ~(1 << (offset & 7));
    }
  }
  ForEachBit(found, blocks, [&](uint32_t offset) { Find(offset, Sum(first, offset)); });
  for (size_t i = first; i < lists_.size(); ++i) {
    uint8_t* const bits = spread_.data() + lists_[i].number * kBitmapBytes;
    for (uint32_t& touched = lists_[i].list->touched; touched != 0; touched &= touched - 1) {
      std::memset(bits + __builtin_ctz(touched) * kBlockBytes, 0, kBlockBytes);
    }
  }
}

// Makes bitmaps of the program's lists. Returns the blocks that a document can be found in.
uint32_t RangeSearch::SpreadLists(const ThresholdProgram& program, size_t first) {
  size_t bitmaps = lists_.size();  // stand at the end
  while (bitmaps > first && lists_[bitmaps - 1].bits != nullptr) {
    --bitmaps;
    bits_[lists_[bitmaps].number] = lists_[bitmaps].bits;
  }
  uint32_t all_touched = 0;
  for (size_t i = first; i < bitmaps; ++i) {
    Present& present = lists_[i];
    if (!std::binary_search(program.lists().begin(), program.lists().end(), present.number)) continue;
    uint8_t* const bits = spread_.data() + present.number * kBitmapBytes;
    uint32_t touched = 0;
    for (int32_t j = 0; j < present.count; ++j) {
      const uint32_t offset = present.list->offset(j);
      bits[offset >> 3] |= 1 << (offset & 7);
      touched |= uint32_t{1} << (offset / kBlockDocuments);
    }
    bits_[present.number] = present.bits = bits;
    present.list->touched = touched;
    all_touched |= touched;
  }
  if (bitmaps == lists_.size() || lists_[bitmaps].bound < need_) return all_touched;
  const int64_t filled = (size_ + kBlockDocuments - 1) / kBlockDocuments;
  return filled == kBlocks ? kAllBlocks : (uint32_t{1} << filled) - 1;
}

void RangeSearch::AddUp() {
  if (sums_.empty()) sums_.resize(kRangeDocuments);
  for (const Present& present : lists_) {
    if (present.bits != nullptr) {
      kernels_.add(present.bits, present.list->value, sums_.data());
      continue;
    }
    for (int32_t j = 0; j < present.count; ++j) {
      int32_t& sum = sums_[present.list->offset(j)];
      sum = static_cast<int32_t>(static_cast<uint32_t>(sum) + present.list->value);  // wraps in a damaged index
    }
  }
  uint8_t* const found = values_.data() + ThresholdProgram::kFirstNode * kBitmapBytes;
  kernels_.compare(sums_.data(), static_cast<int32_t>(need_), found);
  ForEachBit(found, kAllBlocks, [&](uint32_t offset) { Find(offset, static_cast<uint32_t>(sums_[offset])); });
  std::fill(sums_.begin(), sums_.end(), 0);
}

uint32_t RangeSearch::Sum(size_t first, uint32_t offset) const {
  uint32_t sum = 0;
  for (size_t i = first; i < lists_.size(); ++i) {
    const Present& present = lists_[i];
    const bool contained = present.bits == nullptr ? present.list->Contains(offset) : Bit(present.bits, offset);
    sum += static_cast<uint32_t>(present.list->value) & (0 - static_cast<uint32_t>(contained));
  }
  return sum;
}

// What is looked up about a document is far away in the memory, so it is asked for now and read at the range's end.
void RangeSearch::Find(uint32_t offset, uint32_t sum) {
  if (offset >= size_) return;
  const int64_t place = start_ + offset;
  __builtin_prefetch(index_->rows + place);
  if (index_->priors != nullptr) __builtin_prefetch(index_->priors + place);
  found_.push_back({place, sum});
}

void RangeSearch::TakeFound() {
  for (const Found& found : found_) {
    const uint32_t row = static_cast<uint32_t>(index_->rows[found.place]);
    const int64_t prior = index_->priors == nullptr ? 0 : query_->Steps(index_->priors[found.place]);
    if (row >= index_->num_documents || !top_.Admits(found.sum + prior, row)) continue;
    if (filter_.allowed != nullptr && !Bit(filter_.allowed, row)) continue;
    if (filter_.removed != nullptr && Bit(filter_.removed, row)) continue;
    top_.Push(found.sum + prior, row);
  }
  found_.clear();
}

}  // namespace dpsr
