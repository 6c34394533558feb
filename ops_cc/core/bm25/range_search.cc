#include "ops_cc/core/bm25/range_search.h"

#include <algorithm>
#include <cstring>

namespace dpsr {
namespace {

constexpr size_t kMostPrograms = 8;
// What is done in the time of adding one document of an array to a bitmap.
constexpr int64_t kProgramCost = 100;
constexpr int64_t kLookUpCost = 4;

bool Bit(const uint8_t* bits, int64_t i) { return bits[i >> 3] >> (i & 7) & 1; }

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
  if (spread_.size() < lists * kBitmapBytes) spread_.resize(lists * kBitmapBytes);
  if (values_.empty()) {
    values_.resize((ThresholdProgram::kFirstNode + ThresholdProgram::kMostNodes) * kBitmapBytes);
    std::fill_n(values_.begin() + ThresholdProgram::kAll * kBitmapBytes, kBitmapBytes, 0xFF);
  }
}

void RangeSearch::Search(int64_t range) {
  start_ = index_->range_starts[range];
  size_ = index_->range_starts[range + 1] - start_;
  const int64_t prior = index_->priors == nullptr ? 0 : query_->Steps(index_->range_values[2 * range + 1]);
  // Rows ascend within a range.
  need_ = std::max<int64_t>(1, top_.least_score(static_cast<uint32_t>(index_->rows[start_])) - prior);
  GroupLists();
  if (bound_ < need_) return;
  if (index_->range_values[2 * range] != norm_) {
    norm_ = index_->range_values[2 * range];
    programs_.clear();
    oldest_ = 0;
  }
  if (const Group* const group = TermToProbe()) {
    Probe(*group);
  } else if (const ThresholdProgram* const program = Program()) {
    Run(*program);
  } else {
    AddUp();
  }
  TakeFound();
}

void RangeSearch::GroupLists() {
  const std::vector<int32_t>& present = query_->present();
  groups_.clear();
  bound_ = 0;
  for (size_t i = 0; i < present.size(); ++i) {
    const QueryList& list = query_->lists()[present[i]];
    if (i == 0 || list.term != query_->lists()[present[i - 1]].term) {
      groups_.push_back({static_cast<int32_t>(i), static_cast<int32_t>(i), 0, 0});
    }
    Group& group = groups_.back();
    bound_ += std::max<int64_t>(list.value - group.most, 0);
    group.most = std::max<int64_t>(group.most, list.value);
    group.count += list.count;
    ++group.last;
  }
}

const RangeSearch::Group* RangeSearch::TermToProbe() const {
  const Group* fewest = nullptr;
  for (const Group& group : groups_) {
    if (bound_ - group.most < need_ && (fewest == nullptr || group.count < fewest->count)) fewest = &group;
  }
  if (fewest == nullptr) return nullptr;
  int64_t cost = kProgramCost;
  for (const int32_t i : query_->present()) {
    const QueryList& list = query_->lists()[i];
    if (!list.is_bitmap()) cost += list.count;
  }
  const int64_t looked_up = static_cast<int64_t>(query_->present().size()) - (fewest->last - fewest->first);
  return fewest->count * (1 + kLookUpCost * looked_up) <= cost ? fewest : nullptr;
}

void RangeSearch::Probe(const Group& group) {
  for (int32_t i = group.first; i < group.last; ++i) {
    const QueryList& list = query_->lists()[query_->present()[i]];
    if (list.value + bound_ - group.most < need_) continue;
    const auto look_up = [&](uint32_t offset) {
      const uint32_t sum = query_->Sum(offset);
      if (sum >= need_) Find(offset, sum);
    };
    if (list.is_bitmap()) {
      ForEachBit(list.data, ~uint32_t{0}, look_up);
    } else {
      for (int64_t j = 0; j < list.count; ++j) look_up(list.offset(j));
    }
  }
}

const ThresholdProgram* RangeSearch::Program() {
  if (query_->lists().size() > 64) return nullptr;
  uint64_t lists = 0;
  for (const int32_t i : query_->present()) lists |= uint64_t{1} << i;
  CachedProgram* cached = nullptr;
  for (CachedProgram& program : programs_) {
    if (program.lists == lists) cached = &program;
  }
  if (cached != nullptr && cached->need == need_ && !cached->usable) return nullptr;
  if (cached == nullptr || !cached->usable || !cached->program.Holds(need_)) {
    if (cached == nullptr && programs_.size() < kMostPrograms) {
      programs_.emplace_back();
      cached = &programs_.back();
    } else if (cached == nullptr) {
      cached = &programs_[oldest_++ % kMostPrograms];
    }
    std::vector<Contribution> contributions;
    for (const int32_t i : query_->present()) {
      contributions.push_back({i, query_->lists()[i].term, query_->lists()[i].value});
    }
    cached->lists = lists;
    cached->need = need_;
    cached->usable = cached->program.Compile(contributions, need_);
  }
  return cached->usable ? &cached->program : nullptr;
}

void RangeSearch::Run(const ThresholdProgram& program) {
  const uint32_t blocks = SpreadLists(program);
  kernels_.evaluate(program, bits_.data(), blocks, values_.data());
  ForEachBit(values_.data() + program.root() * kBitmapBytes, blocks,
             [&](uint32_t offset) { Find(offset, Sum(offset)); });
  for (const int32_t i : query_->present()) {
    bits_[i] = nullptr;
    QueryList& list = query_->lists()[i];
    for (; list.touched != 0; list.touched &= list.touched - 1) {
      std::memset(spread_.data() + i * kBitmapBytes + __builtin_ctz(list.touched) * kBlockBytes, 0, kBlockBytes);
    }
  }
}

// Returns the blocks that a document can be found in.
uint32_t RangeSearch::SpreadLists(const ThresholdProgram& program) {
  int64_t bound = 0;  // of documents in bitmaps alone
  for (const Group& group : groups_) {
    int64_t most = 0;
    for (int32_t i = group.first; i < group.last; ++i) {
      const int32_t number = query_->present()[i];
      const QueryList& list = query_->lists()[number];
      if (!list.is_bitmap()) continue;
      bits_[number] = list.data;
      most = std::max<int64_t>(most, list.value);
    }
    bound += most;
  }
  uint32_t touched = 0;
  for (const int32_t i : program.lists()) {
    QueryList& list = query_->lists()[i];
    if (list.is_bitmap()) continue;
    uint8_t* const bits = spread_.data() + i * kBitmapBytes;
    uint32_t blocks = 0;
    for (int64_t j = 0; j < list.count; ++j) {
      const uint32_t offset = list.offset(j);
      bits[offset >> 3] |= 1 << (offset & 7);
      blocks |= uint32_t{1} << (offset / kBlockDocuments);
    }
    bits_[i] = bits;
    list.touched = blocks;
    touched |= blocks;
  }
  if (bound < need_) return touched;
  const int64_t filled = (size_ + kBlockDocuments - 1) / kBlockDocuments;
  return filled == kBlocks ? ~uint32_t{0} : (uint32_t{1} << filled) - 1;
}

void RangeSearch::AddUp() {
  if (sums_.empty()) sums_.resize(kRangeDocuments);
  for (const int32_t i : query_->present()) {
    const QueryList& list = query_->lists()[i];
    if (list.is_bitmap()) {
      kernels_.add(list.data, list.value, sums_.data());
    } else {
      for (int64_t j = 0; j < list.count; ++j) {
        int32_t& sum = sums_[list.offset(j)];
        sum = static_cast<int32_t>(static_cast<uint32_t>(sum) + list.value);  // wraps where the index is damaged
      }
    }
  }
  uint8_t* const found = values_.data() + ThresholdProgram::kFirstNode * kBitmapBytes;
  kernels_.compare(sums_.data(), static_cast<int32_t>(need_), found);
  ForEachBit(found, ~uint32_t{0}, [&](uint32_t offset) { Find(offset, static_cast<uint32_t>(sums_[offset])); });
  std::fill(sums_.begin(), sums_.end(), 0);
}

uint32_t RangeSearch::Sum(uint32_t offset) const {
  uint32_t sum = 0;
  for (const int32_t i : query_->present()) {
    const QueryList& list = query_->lists()[i];
    const bool contained = bits_[i] == nullptr ? list.Contains(offset) : Bit(bits_[i], offset);
    sum += contained ? static_cast<uint32_t>(list.value) : 0;
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

template <typename Function>
void RangeSearch::ForEachBit(const uint8_t* bits, uint32_t blocks, Function function) const {
  for (; blocks != 0; blocks &= blocks - 1) {
    const int64_t first = __builtin_ctz(blocks) * kBlockBytes;
    for (int64_t byte = first; byte < first + kBlockBytes; byte += 8) {
      uint64_t word;
      std::memcpy(&word, bits + byte, sizeof(word));
      for (; word != 0; word &= word - 1) function(static_cast<uint32_t>(8 * byte + __builtin_ctzll(word)));
    }
  }
}

}  // namespace dpsr
